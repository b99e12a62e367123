// Statistics: where every byte is that the heap owns. Each function reads the heap and leaves its figures in the globals below it,
// which the host reads by name (src/heap/inspect.ts says what each means). They are f64, so that a host reads plain numbers.

import {
  Arena,
  CacheList,
  CachedBlock,
  Central,
  DEFERRED,
  Heap,
  KIND_SMALL,
  MAX_NODES,
  MAX_THREADS,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_SIZE,
  SLOTS,
  SLOT_FREE,
  Span,
  THREADS,
  THREAD_SIZE,
  Thread,
} from "./layout";
import { cacheList, heap, remoteList, sentinel, theHeap } from "./instance";
import { addressOf } from "./page-map";
import { CLASSES, classInfo } from "./size-class";
import { kindOf, nodeOfLabel } from "./page-heap";
import {
  arenaAt,
  blockAt,
  blocksOf,
  centralAt,
  countOutside,
  endPage,
  firstPage,
  flagsAt,
  headersIn,
  inMetadata,
  infoOf,
  isLabel,
  nodeAt,
} from "./inspect-map";

// ---- the heap

export let committedBytes: f64 = 0;
export let reservedBytes: f64 = 0;
export let inUseBytes: f64 = 0;
export let inUseBlocks: f64 = 0;
export let threadCacheBytes: f64 = 0;
export let transferCacheBytes: f64 = 0;
export let centralFreeBytes: f64 = 0;
export let remoteBytes: f64 = 0;
export let pageHeapFreeBytes: f64 = 0;
export let metadataBytes: f64 = 0;
export let spanTailBytes: f64 = 0;
export let lostBytes: f64 = 0;
export let spans: f64 = 0;
export let spansRebound: f64 = 0;
export let pagesMoved: f64 = 0;
export let pagesMovedInUse: f64 = 0;
export let reapedThreads: f64 = 0;
export let epoch: f64 = 0;

/** Blocks left to look at: chains that others are changing may never end. */
let patience: u32 = 0;
/** Blocks and bytes of the chains looked at since the last reset. */
let chainBlocks: u32 = 0;
let chainBytes: f64 = 0;

export function heapStats(): void {
  const h = theHeap();
  committedBytes = bytesOf(atomic.load<u32>(heap, offsetof<Heap>("ownedPages")));
  reservedBytes = bytesOf(h.limitPages);
  pageHeapFreeBytes = bytesOf(h.freePages);
  metadataBytes = bytesOf(h.metadataPages);
  lostBytes = bytesOf(h.lostPages);
  spansRebound = h.spansRebound;
  pagesMoved = h.pagesMoved;
  pagesMovedInUse = h.pagesMovedInUse;
  reapedThreads = h.reaped;
  epoch = h.epoch;
  countSpans(-1);
  patience = <u32>inUseBlocks;
  chainBlocks = 0;
  chainBytes = 0;
  threadCacheBytes = 0;
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) {
    const record = recordAt(slot);
    if (record) threadCacheBytes += addCaches(record);
  }
  remoteBytes = chainBytes;
  transferCacheBytes = 0;
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = arenaAt(node);
    if (!arena) continue;
    remoteBytes += queued(arena);
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const central = centralAt(node, c);
      if (!central) continue;
      const info = classInfo(c);
      const blocks = changetype<Central>(central).transferCount * <u32>info.batch;
      chainBlocks += blocks;
      transferCacheBytes += <f64>blocks * <f64>info.size;
    }
  }
  inUseBytes = max<f64>(0, inUseBytes - threadCacheBytes - transferCacheBytes - remoteBytes);
  inUseBlocks = max<f64>(0, inUseBlocks - <f64>chainBlocks);
}

// @ts-ignore: decorator
@inline
function bytesOf(pages: u32): f64 {
  return <f64>pages * PAGE_SIZE;
}

/** Sums the spans labelled with `node`, or all: spans, bytes inside, outside and beyond the last block. */
function countSpans(node: i32): void {
  spans = 0;
  inUseBytes = 0;
  inUseBlocks = 0;
  centralFreeBytes = 0;
  spanTailBytes = 0;
  for (let page = firstPage(); page < endPage(); ++page) {
    const size = headersIn(page);
    if (!size) continue;
    const from = addressOf(page);
    for (let at = from; at + size <= from + PAGE_SIZE; at += size) {
      const span = changetype<Span>(at);
      const label = span.label;
      if (!isLabel(label) || (node >= 0 && nodeOfLabel(label) != <u32>node)) continue;
      spans += 1;
      if (kindOf(label) == KIND_SMALL) {
        const info = infoOf(at);
        const outside = countOutside(at);
        inUseBlocks += outside;
        inUseBytes += <f64>outside * <f64>info.size;
        centralFreeBytes += <f64>(blocksOf(at) - outside) * <f64>info.size;
        spanTailBytes += bytesOf(span.pages) - <f64>blocksOf(at) * <f64>info.size;
      } else {
        inUseBlocks += 1;
        inUseBytes += bytesOf(span.pages);
      }
    }
  }
}

/** Adds up a chain of blocks. */
function addChain(head: usize, end: usize): void {
  for (let at = head; at != 0 && at != end && patience != 0; at = load<u32>(at), --patience) {
    const size = blockAt(at);
    if (!size) return;
    chainBytes += size;
    ++chainBlocks;
  }
}

/** Bytes in the cache lists of a record; its other lists are added up as chains. */
function addCaches(record: usize): f64 {
  let cached: f64 = 0;
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const length = lengthAt(cacheList(record, c));
    chainBlocks += length;
    cached += <f64>length * <f64>classInfo(c).size;
  }
  for (let i: u32 = 0; i <= DEFERRED; ++i) addChain(load<u32>(remoteList(record, i)), 0);
  addChain(changetype<Thread>(record).carry, changetype<Thread>(record).carryEnd);
  return cached;
}

function lengthAt(list: usize): u32 {
  const head = <usize>changetype<CacheList>(list).head;
  return head != sentinel() && blockAt(head) != 0 ? changetype<CachedBlock>(head).depth : 0;
}

/** Bytes in the remote queue of an arena. */
function queued(arena: usize): f64 {
  const before = chainBytes;
  let batch = <usize>changetype<Arena>(arena).queueHead;
  while (batch != 0 && patience != 0) {
    addChain(batch, 0);
    batch = blockAt(batch) ? <usize>load<u32>(batch, 4) : 0;
  }
  return chainBytes - before;
}

// ---- one node

export let ownedPages: f64 = 0;
export let freePages: f64 = 0;
export let metadataPages: f64 = 0;
export let usedPages: f64 = 0;
export let limitPages: f64 = 0;
export let queuedBytes: f64 = 0;
export let numaHit: f64 = 0;
export let numaMiss: f64 = 0;
export let numaForeign: f64 = 0;
export let interleaveHit: f64 = 0;
export let localNode: f64 = 0;
export let otherNode: f64 = 0;

/** Figures of `node`, and `spans` labelled with it; false if it has never had an arena. */
export function nodeStats(node: u32): bool {
  const arena = arenaAt(node);
  if (!arena) return false;
  const a = changetype<Arena>(arena);
  let owned: u32 = 0;
  let metadata: u32 = 0;
  for (let page = firstPage(); page < endPage(); ++page) {
    const flags = flagsAt(page);
    if ((flags & PAGE_OWNED) == 0 || nodeAt(page) != node) continue;
    ++owned;
    metadata += <u32>((flags & PAGE_METADATA) != 0);
  }
  ownedPages = owned;
  freePages = a.freePages;
  metadataPages = metadata;
  usedPages = max<f64>(0, ownedPages - freePages - metadataPages);
  limitPages = a.limitPages;
  countSpans(node);
  patience = -1;
  queuedBytes = queued(arena);
  numaHit = counter(arena, offsetof<Arena>("numaHit"));
  numaMiss = counter(arena, offsetof<Arena>("numaMiss"));
  numaForeign = counter(arena, offsetof<Arena>("numaForeign"));
  interleaveHit = counter(arena, offsetof<Arena>("interleaveHit"));
  localNode = counter(arena, offsetof<Arena>("localNode"));
  otherNode = numaHit + numaMiss - localNode;
  return true;
}

function counter(arena: usize, offset: usize): f64 {
  return <f64>atomic.load<u64>(arena + offset);
}

// ---- one thread

export let key: f64 = 0;
export let generation: f64 = 0;
export let node: f64 = 0;
export let home: f64 = 0;
export let vcpu: f64 = 0;
export let policy: f64 = 0;
export let mask: f64 = 0;
export let cachedBytes: f64 = 0;
export let capacityBytes: f64 = 0;
export let outgoingBytes: f64 = 0;
export let refills: f64 = 0;
export let refilledBlocks: f64 = 0;
export let returnedBlocks: f64 = 0;
export let remoteFrees: f64 = 0;
export let largeAllocations: f64 = 0;
export let largeFrees: f64 = 0;
export let localBlocks: f64 = 0;
export let remoteBlocks: f64 = 0;

/** Figures of the thread in `slot`; false if there is none. */
export function threadStats(slot: u32): bool {
  const record = recordAt(slot);
  const word = slot < MAX_THREADS ? atomic.load<u64>(heap + ((<usize>slot) << 3), SLOTS) : 0;
  if (record == 0 || <u32>(word & 0xff) == SLOT_FREE) return false;
  const t = changetype<Thread>(record);
  key = <f64>(word >> 32);
  generation = <f64>((word >> 8) & 0xff_ffff);
  node = t.node;
  home = t.home;
  vcpu = t.vcpu;
  policy = t.policy;
  mask = t.mask;
  capacityBytes = t.capacity;
  refills = <f64>t.refills;
  refilledBlocks = <f64>t.refilledBlocks;
  returnedBlocks = <f64>t.returnedBlocks;
  remoteFrees = <f64>t.remoteFrees;
  largeAllocations = <f64>t.largeAllocations;
  largeFrees = <f64>t.largeFrees;
  localBlocks = <f64>t.localBlocks;
  remoteBlocks = refilledBlocks + largeAllocations - localBlocks;
  patience = -1;
  chainBytes = 0;
  cachedBytes = addCaches(record);
  outgoingBytes = chainBytes;
  return true;
}

/** Record of `slot`, 0 if it has none that can be read. */
function recordAt(slot: u32): usize {
  if (slot >= MAX_THREADS) return 0;
  const record = <usize>atomic.load<u32>(heap + ((<usize>slot) << 2), THREADS);
  return record != 0 && inMetadata(record, THREAD_SIZE) ? record : 0;
}
