// Invariants, asserted by the debug build where they have just been made true, and absent from the others. The walk (inspect.ts)
// checks the whole heap when it is still; these trap at once, in the thread and call that broke something.

import { Arena, CacheList, CachedBlock, ClassInfo, Heap, MAX_NODES, SPAN_HEADER, Span, Thread } from "./layout";
import { cacheList, heap, remoteList, sentinel, theHeap } from "./instance";
import { CLASSES } from "./size-class";
import { arenaOf, classOfTag, endOfPages, nodeOfPage, tagOf } from "./page-map";

function expectThat(holds: bool): void {
  if (!holds) unreachable();
}

/** popcount(bitmap) = blocks - free. Under the span's central lock. */
export function assertSpan(header: usize, info: ClassInfo): void {
  let outside: u32 = 0;
  for (let word: u32 = 0; word < info.blocks; word += 64) outside += <u32>popcnt(load<u64>(header + (word >> 3), SPAN_HEADER));
  expectThat(outside == info.blocks - changetype<Span>(header).free);
}

/** A run that has been filed lies on one node. Under pageHeapLock. */
export function assertRun(start: u32, pages: u32, node: u32): void {
  expectThat(pages != 0 && start + pages <= endOfPages());
  for (let page = start; page < start + pages; ++page) expectThat(nodeOfPage(page) == node);
}

/** Σ Arena.freePages = Heap.freePages and Σ Arena.ownedPages = Heap.ownedPages >= metadata + free; no growth is under way. Under pageHeapLock. */
export function assertPageHeap(): void {
  const h = theHeap();
  let free: u32 = 0;
  let owned: u32 = 0;
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = arenaOf(node);
    if (!arena) continue;
    free += changetype<Arena>(arena).freePages;
    owned += changetype<Arena>(arena).ownedPages;
  }
  expectThat(free == h.freePages && owned == h.ownedPages && h.metadataPages + free <= owned);
  expectThat(h.metaNext <= h.metaEnd && atomic.load<u32>(heap, offsetof<Heap>("growPages")) == 0);
}

/** A cache list: depth = 1 + depth of next, all of its class, the sentinel last. */
export function assertCacheList(t: usize, c: u32): void {
  let block: usize = changetype<CacheList>(cacheList(t, c)).head;
  for (let depth = changetype<CachedBlock>(block).depth; block != sentinel(); --depth) {
    expectThat(changetype<CachedBlock>(block).depth == depth && classOfTag(tagOf(block)) == c);
    block = changetype<CachedBlock>(block).next;
  }
}

/** A thread that leaves keeps nothing. */
export function assertEmpty(t: usize): void {
  expectThat(changetype<Thread>(t).carry == 0);
  for (let c: u32 = 1; c < CLASSES; ++c) expectThat(<usize>load<u32>(cacheList(t, c)) == sentinel());
  for (let node: u32 = 0; node <= MAX_NODES; ++node) expectThat(load<u32>(remoteList(t, node)) == 0);
}
