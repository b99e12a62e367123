// Blocks beyond the largest class: spans of whole pages, straight from the page heap.

import {
  Arena,
  DEFERRED,
  Heap,
  KIND_LARGE,
  MAX_NODES,
  PAGE_SHIFT,
  PAGE_FRESH,
  PAGE_SIZE,
  PAGE_TOUCHED,
  PAGE_LIMIT,
  RemoteList,
  Span,
  Thread,
} from "./layout";
import { heap, nearest, remoteList, theHeap } from "./instance";
import { RANK_PAGE_HEAP, acquire, release } from "./lock";
import { addressOf, flagsOf, hasRoom, pageOf } from "./page-map";
import { fileFree } from "./free-run";
import { makeArena } from "./metadata";
import {
  cutSpan,
  extendSpan,
  kindOf,
  labelOf,
  majority,
  makeSpan,
  placePage,
  releaseSpan,
  spanAt,
  spanStart,
  takeMixedPages,
  takePages,
} from "./page-heap";
import { POLICY_BIND, allowedNodes, charge, isInterleaving, nextTarget } from "./policy";
import { countNode, returnCarry } from "./thread-cache";
import { INTERIOR_OF_LARGE, OUTSIDE_HEAP, PAGE_NOT_IN_USE, reportBadCall } from "./bad-call";

function pageHeapLock(): usize {
  return heap + offsetof<Heap>("pageHeapLock");
}

export function pagesFor(size: usize): u32 {
  return <u32>((<u64>size + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

/** A block of `pages` pages on the nodes that thread `t` prefers, then on others it allows; 0 = none. */
export function allocateLarge(t: usize, pages: u32, alignPages: u32): usize {
  const record = changetype<Thread>(t);
  const target = nextTarget(t, 1);
  charge(record, 1);
  const allowed = allowedNodes(record);
  const want = pages + alignPages - 1;
  if (want < pages || want > PAGE_LIMIT || !acquire(pageHeapLock(), RANK_PAGE_HEAP)) return 0;
  // Growing keeps the block whole on its node, but only while there is not much free memory to be used up; and never one that is
  // large beside the heap.
  const owned = theHeap().ownedPages;
  const spare = want <= owned >> 4 ? owned >> 3 : 0;
  const growFirst = theHeap().freePages < want + spare || record.policy == POLICY_BIND;
  let page: u32 = 0;
  if (isInterleaving(record)) page = takeMixedPages(want, record.mask & allowed);
  if (!page && ((allowed >> target) & 1) != 0) page = takePages(target, want, growFirst);
  if (!page && record.policy != POLICY_BIND) page = takeMixedPages(want, allowed);
  for (let i: u32 = 0; i < MAX_NODES && !page; ++i) {
    const node = nearest(t, i);
    if ((allowed >> node) & 1) page = takePages(node, want, true);
  }
  if (page != 0 && isInterleaving(record)) spread(t, page, want);
  const block = cutOut(t, page, want, pages, alignPages, target);
  release(pageHeapLock(), RANK_PAGE_HEAP);
  return block;
}

/** A block of `pages` pages strictly on `node`; 0 = none. */
export function allocateLargeOnNode(t: usize, node: u32, pages: u32): usize {
  if (!acquire(pageHeapLock(), RANK_PAGE_HEAP)) return 0;
  const block = cutOut(t, takePages(node, pages, true), pages, pages, 1, node);
  release(pageHeapLock(), RANK_PAGE_HEAP);
  return block;
}

/** Makes a span of `pages` pages, aligned, out of `have` taken ones and frees the others; counts it. */
function cutOut(t: usize, page: u32, have: u32, pages: u32, alignPages: u32, intended: u32): usize {
  if (!page) return 0;
  const start = (page + alignPages - 1) & ~(alignPages - 1);
  if (start > page) fileFree(page, start - page);
  const end = page + have;
  if (start + pages < end) fileFree(start + pages, end - start - pages);
  const node = majority(start, start + pages);
  if (!makeSpan(start, pages, labelOf(KIND_LARGE, node, 0), 0)) return 0;
  changetype<Thread>(t).largeAllocations += 1;
  countNode(changetype<Thread>(t), node, intended, 1);
  return addressOf(start);
}

/**
 * Interleaves taken pages that nobody has touched, within the limits of nodes: they lie where they are first used. Frames of a virtual
 * machine lie where they do.
 */
function spread(t: usize, page: u32, pages: u32): void {
  if (isDefined(GUEST_BUILD)) return;
  for (let i = page; i < page + pages; ++i) {
    const node = nextTarget(t, 1);
    charge(changetype<Thread>(t), 1);
    const arena = makeArena(node);
    if ((flagsOf(i) & PAGE_TOUCHED) == 0 && arena != 0 && hasRoom(arena, 1, changetype<Arena>(arena).limitPages)) placePage(i, node);
  }
}

/** Zeroes those pages of a new block that somebody has written to before: fresh memory is zero. Without a lock: they are this thread's alone. */
export function zeroTouched(block: usize, pages: u32): void {
  const page = pageOf(block);
  for (let i = page; i < page + pages; ++i) {
    if ((flagsOf(i) & PAGE_FRESH) == 0) memory.fill(addressOf(i), 0, PAGE_SIZE);
  }
}

/** Span of the large block at `block`, 0 after reporting what is wrong with the pointer. */
export function largeSpan(block: usize): usize {
  const page = pageOf(block);
  const header = spanAt(page);
  if (header != 0 && addressOf(page) == block && kindOf(changetype<Span>(header).label) == KIND_LARGE) return header;
  if (flagsOf(page) == 0) reportBadCall(OUTSIDE_HEAP);
  else reportBadCall(isCovered(page) ? INTERIOR_OF_LARGE : PAGE_NOT_IN_USE);
  return 0;
}

/** Whether a span covers `page`. */
function isCovered(page: u32): bool {
  const header = spanAt(spanStart(page));
  return header != 0 && changetype<Span>(header).start + changetype<Span>(header).pages > page;
}

/** Frees a large block, now or, where its lock is out of reach, later. */
export function freeLarge(t: usize, block: usize): void {
  const locked = acquire(pageHeapLock(), RANK_PAGE_HEAP);
  // What is read of a live block stays as it is without the lock; of others, only what is wrong with them may be told wrongly.
  const header = largeSpan(block);
  if (header) {
    if (changetype<Span>(header).free) reportBadCall(PAGE_NOT_IN_USE);
    else if (locked) freeSpan(t, header);
    else defer(t, header, block);
  }
  if (locked) release(pageHeapLock(), RANK_PAGE_HEAP);
}

function freeSpan(t: usize, header: usize): void {
  releaseSpan(header);
  changetype<Thread>(t).largeFrees += 1;
}

function defer(t: usize, header: usize, block: usize): void {
  const list = remoteList(t, DEFERRED);
  store<u64>(block, load<u32>(list));
  store<u64>(list, <u64>block);
  // Last: a reaper frees what is on the list, marked or not.
  changetype<Span>(header).free = 1;
}

/** Frees the large blocks of record `t` whose free was put off. False if the lock is still out of reach. */
export function freeDeferred(t: usize): bool {
  const list = remoteList(t, DEFERRED);
  if (changetype<RemoteList>(list).head == 0) return true;
  if (!returnCarry(t) || !acquire(pageHeapLock(), RANK_PAGE_HEAP)) return false;
  while (changetype<RemoteList>(list).head) {
    const block: usize = changetype<RemoteList>(list).head;
    const next = load<u32>(block);
    changetype<Thread>(t).carryEnd = 0;
    atomic.store<u32>(t, <u32>block, offsetof<Thread>("carry"));
    store<u64>(list, <u64>next);
    const header = largeSpan(block);
    if (header) freeSpan(t, header);
    atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
  }
  release(pageHeapLock(), RANK_PAGE_HEAP);
  return true;
}

/** Makes the large block at `block` `pages` pages long where it is; false if it must move. */
export function resizeLarge(header: usize, pages: u32): bool {
  const have = changetype<Span>(header).pages;
  if (pages == have) return true;
  if (!acquire(pageHeapLock(), RANK_PAGE_HEAP)) return pages < have;
  let done = true;
  if (pages < have) cutSpan(header, pages);
  else done = extendSpan(header, pages);
  release(pageHeapLock(), RANK_PAGE_HEAP);
  return done;
}
