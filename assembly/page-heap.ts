// Page heap: spans out of free runs and back. All of it under pageHeapLock.

import {
  ARENA_BINS,
  Arena,
  EXACT_RUNS,
  Heap,
  KIND_SMALL,
  LEAF_PAGES,
  MAX_NODES,
  MAX_THREADS,
  PAGE_SHIFT,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_TOUCHED,
  Span,
  THREADS,
  HEAP_GROWS_ALONE,
} from "./layout";
import { heap, theHeap } from "./instance";
import { arenaOf, endOfPages, entryOf, flagsAt, flagsOf, nodeOfPage, setEntry, setNodeOfPage, setTag, tagFor } from "./page-map";
import { bestFit, entryAtOrBefore, fileFree, findMixed, freeRunAt, isKept, takeRange, takeRun } from "./free-run";
import { assertPageHeap } from "./invariants";
import { grow, recoverGrowth } from "./page-source";
import { growByMixedFrames } from "./frame-source";
import { isLongHeader, makeArena, nextHeader, poolHeader, takeHeader } from "./metadata";

// @ts-ignore: decorator
@inline
export function labelOf(kind: u32, node: u32, c: u32): u32 {
  return (kind << 16) | (node << 8) | c;
}
// @ts-ignore: decorator
@inline
export function kindOf(label: u32): u32 {
  return label >> 16;
}
// @ts-ignore: decorator
@inline
export function nodeOfLabel(label: u32): u32 {
  return (label >> 8) & 0xff;
}
// @ts-ignore: decorator
@inline
export function classOfLabel(label: u32): u32 {
  return label & 0xff;
}
export function loadLabel(span: usize): u32 {
  return atomic.load<u32>(span, offsetof<Span>("label"));
}
export function storeLabel(span: usize, label: u32): void {
  atomic.store<u32>(span, label, offsetof<Span>("label"));
}

/** The node most of the pages [first, end) lie on; of several, the first page's. */
export function majority(first: u32, end: u32): u32 {
  let best = nodeOfPage(first);
  let most = countOn(best, first, end);
  for (let node: u32 = 0; node < MAX_NODES && most <= (end - first) >> 1; ++node) {
    if (!arenaOf(node)) continue;
    const count = countOn(node, first, end);
    if (count > most) {
      most = count;
      best = node;
    }
  }
  return best;
}

function countOn(node: u32, first: u32, end: u32): u32 {
  let count: u32 = 0;
  for (let page = first; page < end; ++page) count += <u32>(nodeOfPage(page) == node);
  return count;
}

/** The page lies on `node` from now on; both nodes have arenas. */
export function placePage(page: u32, node: u32): void {
  changetype<Arena>(arenaOf(nodeOfPage(page))).ownedPages -= 1;
  setNodeOfPage(page, node);
  changetype<Arena>(arenaOf(node)).ownedPages += 1;
}

/** `pages` adjacent free pages on `node`, off the lists; 0 = none. Growth is the last resort if `growable`. */
export function takePages(node: u32, pages: u32, growable: bool): u32 {
  const arena = makeArena(node);
  if (!arena) return 0;
  if (isKept(freeRunAt(bestFit(arena, pages)), pages)) grow(node, pages, false); // if there is more to be had
  // Somebody else's growth may part ours from the free pages it was to lengthen: then once more.
  let page = takeRun(node, pages);
  for (let tries = 3; !page && growable && tries && grow(node, pages, false); --tries) page = takeRun(node, pages);
  return page;
}

/** Under a guest kernel: `pages` more adjacent free pages on whichever nodes, where no node has as many. */
export function growMixed(pages: u32): bool {
  for (let node: u32 = 0; node < theHeap().nodes; ++node) if (!makeArena(node)) return false;
  return growByMixedFrames(pages);
}

/** `pages` adjacent free pages of whichever nodes of `mask` have them; 0 = none. */
export function takeMixedPages(pages: u32, mask: u32): u32 {
  if (theHeap().freePages < pages) return 0;
  const page = findMixed(<u32>(heap >> PAGE_SHIFT), endOfPages(), pages, mask);
  if (page) takeRange(page, pages);
  return page;
}

/** Makes the taken pages a span; 0 (and the pages are free again) if there is no memory for its header. */
export function makeSpan(page: u32, pages: u32, label: u32, blocks: u32): usize {
  const header = takeHeader(blocks);
  if (!header) {
    fileFree(page, pages);
    return 0;
  }
  const span = changetype<Span>(header);
  span.start = page;
  span.pages = pages;
  span.free = blocks;
  touch(page, pages);
  setEntries(header, label);
  storeLabel(header, label);
  setTags(header, label);
  if (isDefined(DEBUG_BUILD)) assertPageHeap();
  return header;
}

/** A byte in each byte of a word: the flags of 8 pages are looked at together. */
const EACH: u64 = 0x0101_0101_0101_0101;

/** Flags of 8 pages in use that are not fresh: most large blocks find their pages so. */
const WRITTEN: u64 = EACH * (PAGE_OWNED | PAGE_TOUCHED);

/** Pages of a new span: those that nobody has touched before are fresh. */
function touch(page: u32, pages: u32): void {
  const end = page + pages;
  while (page < end) {
    const count = min<u32>(end - page, LEAF_PAGES - (page & (LEAF_PAGES - 1)));
    let at = flagsAt(page);
    const last = at + count;
    while (at < last) {
      if ((at & 7) == 0 && last - at >= 8) {
        const flags = load<u64>(at);
        if (flags != WRITTEN) store<u64>(at, WRITTEN | ((~flags & (EACH * PAGE_TOUCHED)) << 4));
        at += 8;
      } else {
        store<u8>(at, PAGE_OWNED | PAGE_TOUCHED | ((~load<u8>(at) & PAGE_TOUCHED) << 4));
        at += 1;
      }
    }
    page += count;
  }
}

function setEntries(header: usize, label: u32): void {
  const span = changetype<Span>(header);
  const last = span.start + span.pages - 1;
  setEntry(span.start, <u32>header);
  setEntry(last, <u32>header);
  if (kindOf(label) == KIND_SMALL) for (let page = span.start + 1; page < last; ++page) setEntry(page, <u32>header);
}

/** Tags of a small span's pages, from its label. */
export function setTags(header: usize, label: u32): void {
  if (kindOf(label) != KIND_SMALL) return;
  const span = changetype<Span>(header);
  const tag = tagFor(nodeOfLabel(label), classOfLabel(label));
  for (let i: u32 = 0; i < span.pages; ++i) setTag(span.start + i, tag);
}

/** Gives the span's pages back to their true nodes. */
export function releaseSpan(header: usize): void {
  const span = changetype<Span>(header);
  const start = span.start;
  const pages = span.pages;
  const small = kindOf(span.label) == KIND_SMALL;
  storeLabel(header, 0);
  setEntry(start, 0);
  setEntry(start + pages - 1, 0);
  if (small) {
    for (let i = start; i < start + pages; ++i) {
      setTag(i, 0);
      setEntry(i, 0);
    }
  }
  poolHeader(header, isLongHeader(header));
  const h = theHeap();
  h.largestSpan = max<u32>(h.largestSpan, pages);
  fileFree(start, pages);
  if (isDefined(DEBUG_BUILD)) assertPageHeap();
}

/** Gives the pages of a large span beyond its first `pages` back. */
export function cutSpan(header: usize, pages: u32): void {
  const span = changetype<Span>(header);
  const rest = span.pages - pages;
  setEntry(span.start + span.pages - 1, 0);
  atomic.store<u32>(header, pages, offsetof<Span>("pages"));
  setEntry(span.start + pages - 1, <u32>header);
  fileFree(span.start + pages, rest);
}

/** Lengthens a large span in place to `pages`, if free pages of its node follow it (or can be grown). */
export function extendSpan(header: usize, pages: u32): bool {
  const span = changetype<Span>(header);
  const end = span.start + span.pages;
  const more = pages - span.pages;
  const node = nodeOfLabel(span.label);
  const after = freeRunAt(end);
  if (after != 0 && nodeOfPage(end) != node) return false;
  if (after < more && (end + after < endOfPages() || !grow(node, more, false))) return false;
  if (freeRunAt(end) < more || nodeOfPage(end) != node) return false;
  takeRange(end, more);
  touch(end, more);
  setEntry(end - 1, 0);
  setEntry(end + more - 1, <u32>header);
  atomic.store<u32>(header, pages, offsetof<Span>("pages"));
  return true;
}

/**
 * Rebuilds everything under pageHeapLock that is not truth, after the death of its holder: free runs and their lists, header
 * pools, counts, and the page map of spans. Looks at every page of the memory.
 */
export function rebuildPageHeap(): void {
  const h = theHeap();
  recoverGrowth((h.flags & HEAP_GROWS_ALONE) != 0);
  h.shortHeaders = 0;
  h.longHeaders = 0;
  h.freePages = 0;
  h.metadataPages = 0;
  atomic.store<u32>(heap, 0, offsetof<Heap>("ownedPages"));
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = arenaOf(node);
    if (!arena) continue;
    const a = changetype<Arena>(arena);
    a.freePages = 0;
    a.ownedPages = 0;
    a.nonempty0 = 0;
    a.nonempty1 = 0;
    memory.fill(arena + ARENA_BINS, 0, (EXACT_RUNS + 1) * 4);
  }
  for (let at = nextHeader(0); at; at = nextHeader(at)) if (loadLabel(at) == 0) poolHeader(at, isLongHeader(at));
  atomic.store<u32>(heap, rebuildRuns(), offsetof<Heap>("ownedPages"));
  let records: u32 = 0;
  for (let slot: usize = 0; slot < MAX_THREADS; ++slot) records += <u32>(load<u32>(heap + (slot << 2), THREADS) != 0);
  atomic.store<u32>(heap, records, offsetof<Heap>("records"));
}

/** Files every page that is neither metadata nor in a span; the number of pages owned. */
function rebuildRuns(): u32 {
  const end = endOfPages();
  let owned: u32 = 0;
  let from: u32 = 0;
  for (let page: u32 = <u32>(heap >> PAGE_SHIFT); page <= end;) {
    // Beyond the last page there are no flags.
    const flags = flagsOf(page);
    const header = flags & PAGE_OWNED ? spanAt(page) : 0;
    const pages = header ? changetype<Span>(header).pages : 1;
    if ((flags & (PAGE_OWNED | PAGE_METADATA)) == PAGE_OWNED && !header) {
      if (!from) from = page;
      setTag(page, 0);
      setEntry(page, 0);
    } else {
      if (from) fileFree(from, page - from);
      from = 0;
      if (header) setEntries(header, changetype<Span>(header).label);
      if (flags & PAGE_METADATA) theHeap().metadataPages += 1;
    }
    if (flags & PAGE_OWNED) {
      for (let i = page; i < page + pages; ++i) changetype<Arena>(arenaOf(nodeOfPage(i))).ownedPages += 1;
      owned += pages;
    }
    page += pages;
  }
  return owned;
}

/** Header of the span in use that starts at `page`, 0 if none does. */
export function spanAt(page: u32): usize {
  const entry = <usize>entryOf(page);
  if (entry == 0 || (entry & 1) != 0) return 0;
  const span = changetype<Span>(entry);
  return span.label != 0 && span.start == page ? entry : 0;
}

/** The page at or before `page` at which a run or a span starts or ends, or that stands alone. */
export function spanStart(page: u32): u32 {
  const at = entryAtOrBefore(page);
  const header: usize = entryOf(at);
  return header != 0 && (header & 1) == 0 ? changetype<Span>(header).start : at;
}
