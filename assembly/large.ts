// Blocks beyond the largest class: spans of whole pages, straight from the page heap.

import {
  DEFERRED,
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
import { nearest, remoteList, theHeap, theThread, thread } from "./instance";
import { acquirePageHeap, releasePageHeap } from "./lock";
import { carryChain } from "./batches";
import { addressOf, flagsOf, hasRoom, nodeOfPage, pageOf } from "./page-map";
import { fileFree, takeRoomy } from "./free-run";
import { makeArena } from "./metadata";
import {
  cutSpan,
  extendSpan,
  growMixed,
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

export function pagesFor(size: usize): u32 {
  return <u32>((<u64>size + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

/** A block of `pages` pages on the nodes that this thread prefers, then on others it allows; where it may grow if it `grows`. 0 = none. */
export function allocateLarge(pages: u32, alignPages: u32, grows: bool): usize {
  const record = theThread();
  let target = nextTarget(thread, GRANULE);
  const allowed = allowedNodes(record);
  const want = pages + alignPages - 1;
  if (want < pages || want > PAGE_LIMIT || !acquirePageHeap()) return 0;
  // Growing keeps the block whole on its node, but only while there is not so much free memory that the largest block would still fit; and never one
  // that is large beside the heap.
  const owned = theHeap().ownedPages;
  const spare = want <= owned >> 4 ? (owned >> 3) + theHeap().largestSpan : 0;
  const growFirst = theHeap().freePages < want + spare || record.policy == POLICY_BIND;
  let node = target;
  let page: u32 = 0;
  if ((allowed >> target) & 1) {
    if (grows && !isInterleaving(record)) page = takeRoomy(target, want); // of interleaved pages none can be added
    if (!page) page = takePages(target, want, growFirst);
  }
  if (!page) charge(record, -1); // a node that has none has had its turn
  if (!page && record.policy != POLICY_BIND) {
    page = takeMixedPages(want, allowed);
    node = MIXED;
  }
  for (let i: u32 = 0; i < MAX_NODES && !page; ++i) {
    node = nearest(thread, i);
    if ((allowed >> node) & 1) page = takePages(node, want, true);
  }
  if (isDefined(GUEST_BUILD) && !page && record.policy != POLICY_BIND && growMixed(want)) {
    page = takeMixedPages(want, allowed);
    node = MIXED;
  }
  if (page != 0 && isInterleaving(record)) {
    node = MIXED;
    if (spread(page, want)) target = MIXED;
  }
  const block = cutOut(page, pages, alignPages, node, target);
  releasePageHeap();
  return block;
}

/** A block of `pages` pages strictly on `node`; 0 = none. */
export function allocateLargeOnNode(node: u32, pages: u32): usize {
  if (!acquirePageHeap()) return 0;
  const block = cutOut(takePages(node, pages, true), pages, 1, node, node);
  releasePageHeap();
  return block;
}

/** Stands for the node of pages that may lie on several. */
const MIXED: u32 = MAX_NODES;
/** Pages of a large block that follow each other on a node where it is interleaved: one by one, they would leave free runs of one page. */
const GRANULE: u32 = 16;

/**
 * Makes a span of `pages` pages, aligned, out of `pages + alignPages - 1` taken ones of `node` and frees the others; counts it, as a hit if
 * `intended` is MIXED too.
 */
function cutOut(page: u32, pages: u32, alignPages: u32, node: u32, intended: u32): usize {
  if (!page) return 0;
  const start = (page + alignPages - 1) & ~(alignPages - 1);
  if (start > page) fileFree(page, start - page);
  const over = page + alignPages - 1 - start;
  if (over) fileFree(start + pages, over);
  if (node == MIXED) node = majority(start, start + pages);
  if (!makeSpan(start, pages, labelOf(KIND_LARGE, node, 0), 0)) return 0;
  theThread().largeAllocations += 1;
  countNode(theThread(), node, intended == MIXED ? node : intended, 1);
  return addressOf(start);
}

/**
 * Interleaves taken pages that nobody has touched, within the limits of nodes: they lie where they are first used. Others lie where they do,
 * as all frames of a virtual machine. Whether most lie where their turn was.
 */
function spread(page: u32, pages: u32): bool {
  let hits: u32 = 0;
  for (let i = page; i < page + pages; ++i) {
    const node = nextTarget(thread, GRANULE);
    if (!isDefined(GUEST_BUILD) && (flagsOf(i) & PAGE_TOUCHED) == 0) {
      const arena = makeArena(node);
      if (arena != 0 && hasRoom(arena, 1)) placePage(i, node);
      else charge(theThread(), -1);
    }
    if (nodeOfPage(i) == node) {
      charge(theThread(), 1);
      ++hits;
    }
  }
  return hits > pages >> 1;
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
  const locked = acquirePageHeap();
  // What is read of a live block stays as it is without the lock; of others, only what is wrong with them may be told wrongly.
  const header = largeSpan(block);
  if (header) {
    if (changetype<Span>(header).free) reportBadCall(PAGE_NOT_IN_USE);
    else if (locked) freeSpan(t, header);
    else defer(t, header, block);
  }
  if (locked) releasePageHeap();
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
  if (!returnCarry(t) || !acquirePageHeap()) return false;
  while (changetype<RemoteList>(list).head) {
    const block = changetype<RemoteList>(list).head;
    const next = load<u32>(block);
    carryChain(t, block, 0);
    store<u64>(list, <u64>next);
    const header = largeSpan(block);
    if (header) freeSpan(t, header);
    atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
  }
  releasePageHeap();
  return true;
}

/** Makes the large block at `block` `pages` pages long where it is; false if it must move. */
export function resizeLarge(header: usize, pages: u32): bool {
  const have = changetype<Span>(header).pages;
  if (pages == have) return true;
  if (!acquirePageHeap()) return pages < have;
  let done = true;
  if (pages < have) cutSpan(header, pages);
  else done = !isInterleaving(theThread()) && extendSpan(header, pages); // the pages behind are of one node
  releasePageHeap();
  return done;
}
