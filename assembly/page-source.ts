// Where pages come from: a range given at the start, then memory.grow. Others may grow the same memory, so only what
// memory.grow answers counts. Under a guest kernel they come from frame-source.ts instead. All of it under pageHeapLock.

import {
  Arena,
  Heap,
  LEAF_FLAGS,
  LEAF_NODES,
  LEAF_PAGES,
  LEAF_SHIFT,
  PAGE_LIMIT,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_TOUCHED,
  PAGES_PER_GROWTH,
  PAGE_SIZE,
  ROOT,
} from "./layout";
import { heap, theHeap } from "./instance";
import { addressOf, arenaOf, hasRoom, isOwnedLeaf, leafOf, nodeOfPage, setEntry, setFlags } from "./page-map";
import { fileFree, freeRunEndingAt, takeRun } from "./free-run";
import { growByFrames, recoverFrames } from "./frame-source";

/** Beside what is wanted, a growth takes 1/2^GROWTH_SHIFT of what the heap owns then. */
const GROWTH_SHIFT: u32 = 7;

/**
 * Grows the memory so that `node` has `pages` more adjacent free pages, counting those at the end of the memory.
 * False if a limit of the heap or of the memory stands against it, or one of the node; where it is `needed` by all nodes,
 * the node's binds only what would be taken beside it.
 */
export function grow(node: u32, pages: u32, needed: bool): bool {
  if (isDefined(GUEST_BUILD)) return growByFrames(node, pages, needed);
  const h = theHeap();
  const arena = arenaOf(node);
  const before = <u32>memory.size() * PAGES_PER_GROWTH;
  const tail = freeRunEndingAt(before - 1);
  const joined = tail != 0 && tail < pages && nodeOfPage(before - 1) == node;
  // A page for each leaf, if there should be no free one for it elsewhere.
  const want = (joined ? pages - tail : pages) + missingLeaves(before, pages, false);
  const generous = want + ((h.ownedPages + want) >> GROWTH_SHIFT);
  for (let i = 0; i < 2; ++i) {
    const count = roundUp(i == 0 ? generous : want);
    const owned = h.ownedPages + count;
    if (owned <= h.limitPages && (hasRoom(arena, count) || (needed && i != 0))) {
      h.growBefore = before;
      h.growNode = node;
      h.growGot = 0;
      atomic.store<u32>(heap, count, offsetof<Heap>("growPages"));
      const got = memory.grow(count / PAGES_PER_GROWTH);
      if (got >= 0) {
        atomic.store<u32>(heap, <u32>got * PAGES_PER_GROWTH + 1, offsetof<Heap>("growGot"));
        finishGrowth();
        return true;
      }
      atomic.store<u32>(heap, 0, offsetof<Heap>("growPages"));
    }
  }
  return false;
}

function roundUp(pages: u32): u32 {
  return (pages + PAGES_PER_GROWTH - 1) & ~(PAGES_PER_GROWTH - 1);
}

/** How many leaves `pages` pages from `first` miss. With `make`, those that free pages can be had for are made. */
function missingLeaves(first: u32, pages: u32, make: bool): u32 {
  let missing: u32 = 0;
  const last = min<u32>(first + pages, PAGE_LIMIT - 1) >> LEAF_SHIFT;
  for (let i = first >> LEAF_SHIFT; i <= last; ++i) {
    if (isOwnedLeaf(leafOf(i << LEAF_SHIFT))) continue;
    const page = make ? takeMetadataPage() : 0;
    if (page) atomic.store<u32>(heap + (i << 2), <u32>addressOf(page), ROOT);
    else ++missing;
  }
  return missing;
}

/** A free page as zeroed metadata; 0 if no node has one. */
export function takeMetadataPage(): u32 {
  const nodes = theHeap().nodes;
  let page: u32 = 0;
  for (let node: u32 = 0; node < nodes && !page; ++node) page = takeRun(node, 1);
  if (!page) return 0;
  memory.fill(addressOf(page), 0, PAGE_SIZE);
  setEntry(page, 0);
  markMetadata(page);
  return page;
}

/** Makes the pages of the growth that Heap.grow* describes the heap's. */
function finishGrowth(): void {
  const h = theHeap();
  const first = h.growGot - 1;
  const pages = min<u32>(first + h.growPages, PAGE_LIMIT) - first;
  // Out of free pages elsewhere, lest they part the new pages from the free ones before them.
  missingLeaves(first, pages, true);
  claim(first, pages, h.growNode);
  fileClaimed(first, pages);
  atomic.store<u32>(heap, h.ownedPages + pages, offsetof<Heap>("ownedPages"));
  changetype<Arena>(arenaOf(h.growNode)).ownedPages += pages;
  atomic.store<u32>(heap, 0, offsetof<Heap>("growPages"));
}

/**
 * Marks [first, first + pages), fresh and zero, as the heap's and on `node`. A missing leaf is made of the new
 * pages themselves, at a place that depends on its index only, so that a second run after a death changes nothing.
 */
export function claim(first: u32, pages: u32, node: u32): void {
  const end = min<u32>(first + pages, PAGE_LIMIT);
  const firstLeaf = first >> LEAF_SHIFT;
  const lastLeaf = (end - 1) >> LEAF_SHIFT;
  for (let i = firstLeaf; i <= lastLeaf; ++i) {
    if (!isOwnedLeaf(leafOf(i << LEAF_SHIFT))) {
      atomic.store<u32>(heap + (i << 2), <u32>addressOf(first + i - firstLeaf), ROOT);
    }
    const from = max<u32>(first, i << LEAF_SHIFT);
    const to = min<u32>(end, (i + 1) << LEAF_SHIFT);
    const at = leafOf(from) + (from & (LEAF_PAGES - 1));
    memory.fill(at + LEAF_NODES, <u8>node, to - from);
    memory.fill(at + LEAF_FLAGS, PAGE_OWNED, to - from);
  }
  for (let i = firstLeaf; i <= lastLeaf; ++i) {
    if (isLeafPage(first, first + i - firstLeaf)) markMetadata(first + i - firstLeaf);
  }
}

/** Whether `page` of the growth from `first` became a leaf. */
function isLeafPage(first: u32, page: u32): bool {
  return leafOf(((first >> LEAF_SHIFT) + page - first) << LEAF_SHIFT) == addressOf(page);
}

export function markMetadata(page: u32): void {
  setFlags(page, PAGE_OWNED | PAGE_METADATA | PAGE_TOUCHED);
  theHeap().metadataPages += 1;
}

/** Files what `claim` did not use itself, of pages below PAGE_LIMIT. */
export function fileClaimed(first: u32, pages: u32): void {
  const end = first + pages;
  let used = first;
  const leaves = ((end - 1) >> LEAF_SHIFT) - (first >> LEAF_SHIFT) + 1;
  for (let page = first; page < first + leaves; ++page) {
    if (isLeafPage(first, page)) {
      if (page > used) fileFree(used, page - used);
      used = page + 1;
    }
  }
  fileFree(used, end - used);
}

/** After the death of a thread that grew the memory: claims its pages if they are known to be the heap's, else reports them. */
export function recoverGrowth(exclusive: bool): void {
  if (isDefined(GUEST_BUILD)) {
    recoverFrames();
    return;
  }
  const h = theHeap();
  const pages = h.growPages;
  if (pages == 0) return;
  if (h.growGot == 0 && exclusive && <u32>memory.size() * PAGES_PER_GROWTH == h.growBefore + pages) {
    atomic.store<u32>(heap, h.growBefore + 1, offsetof<Heap>("growGot"));
  }
  if (h.growGot != 0) {
    claim(h.growGot - 1, pages, h.growNode);
  } else if (<u32>memory.size() * PAGES_PER_GROWTH >= h.growBefore + pages) {
    h.lostPages += pages;
  }
  atomic.store<u32>(heap, 0, offsetof<Heap>("growPages"));
}
