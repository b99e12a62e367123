// Metadata: pages that hold the heap's own structs. Zero when handed out, never given back; span headers are
// recycled. All of it under pageHeapLock.

import {
  ARENA_SIZE,
  ARENAS,
  Arena,
  Heap,
  LONG_HEADER,
  PAGE_LONG_HEADERS,
  PAGE_SHORT_HEADERS,
  PAGE_SIZE,
  SHORT_BITS,
  SHORT_HEADER,
  Span,
} from "./layout";
import { heap, theHeap } from "./instance";
import { addressOf, arenaOf, endOfPages, flagsOf, pageOf, setFlags } from "./page-map";
import { grow, takeMetadataPage } from "./page-source";

/** One page of metadata, zero; 0 if there is none. */
function takePage(): u32 {
  let page = takeMetadataPage();
  const nodes = theHeap().nodes;
  for (let node: u32 = 0; node < nodes && !page; ++node) {
    if (arenaOf(node) && grow(node, 1, true)) page = takeMetadataPage();
  }
  return page;
}

/** `bytes` (at most a page, a multiple of 64) of zeros, aligned to 64; 0 if there is no memory. */
export function metadata(bytes: u32): usize {
  const h = theHeap();
  if (h.metaNext + bytes > h.metaEnd) {
    const page = takePage();
    if (!page) return 0;
    // A death between these stores leaves an empty range, never a wrong one.
    atomic.store<u32>(heap, 0, offsetof<Heap>("metaEnd"));
    atomic.store<u32>(heap, <u32>addressOf(page), offsetof<Heap>("metaNext"));
    atomic.store<u32>(heap, <u32>addressOf(page) + PAGE_SIZE, offsetof<Heap>("metaEnd"));
  }
  const at = h.metaNext;
  h.metaNext = at + bytes;
  return at;
}

/** Arena of `node`, made now if need be; 0 if there is no memory for it. */
export function makeArena(node: u32): usize {
  let arena = arenaOf(node);
  if (!arena) {
    arena = metadata(ARENA_SIZE);
    if (!arena) return 0;
    changetype<Arena>(arena).node = node;
    atomic.store<u32>(heap + ((<usize>node) << 2), <u32>arena, ARENAS);
  }
  return arena;
}

function poolOf(long: bool): usize {
  return heap + (long ? offsetof<Heap>("longHeaders") : offsetof<Heap>("shortHeaders"));
}

/** A span header for up to `blocks` blocks, its bitmap zero; 0 if there is no memory. */
export function takeHeader(blocks: u32): usize {
  const long = blocks > SHORT_BITS;
  const pool = poolOf(long);
  const size = long ? LONG_HEADER : SHORT_HEADER;
  if (load<u32>(pool) == 0) {
    const page = takePage();
    if (!page) return 0;
    setFlags(page, flagsOf(page) | (long ? PAGE_LONG_HEADERS : PAGE_SHORT_HEADERS));
    for (let at = addressOf(page); at + size <= addressOf(page + 1); at += size) poolHeader(at, long);
  }
  const header = <usize>load<u32>(pool);
  store<u32>(pool, changetype<Span>(header).next);
  memory.fill(header, 0, size);
  return header;
}

export function poolHeader(header: usize, long: bool): void {
  const pool = poolOf(long);
  changetype<Span>(header).next = load<u32>(pool);
  store<u32>(pool, <u32>header);
}

/** The span header after `at`, in use or not; `at` = 0 for the first; 0 after the last. */
export function nextHeader(at: usize): usize {
  let page = pageOf(heap);
  if (at) {
    const size = isLongHeader(at) ? LONG_HEADER : SHORT_HEADER;
    page = pageOf(at);
    at += size;
    if (at + size <= addressOf(page + 1)) return at;
    ++page;
  }
  const end = endOfPages();
  for (; page < end; ++page) if ((flagsOf(page) & (PAGE_SHORT_HEADERS | PAGE_LONG_HEADERS)) != 0) return addressOf(page);
  return 0;
}

/** Whether the header belongs to the pool of long bitmaps. */
export function isLongHeader(header: usize): bool {
  return (flagsOf(pageOf(header)) & PAGE_LONG_HEADERS) != 0;
}
