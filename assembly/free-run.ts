// Free runs of pages: per node, a list for each exact length and one for all longer ones. All of it under pageHeapLock.
//
// A run lies within one true node, is as long as it can be, is described by the page map's entries of its first
// and last page, and links to its list in its own first bytes; so freeing never needs memory.

import { ARENA_BINS, Arena, EXACT_RUNS, FreeRun, PAGE_METADATA, PAGE_OWNED, PAGE_TOUCHED, Span } from "./layout";
import { theHeap } from "./instance";
import { addressOf, arenaOf, endOfPages, entryOf, flagsOf, nodeOfPage, pageOf, setEntry, setFlags } from "./page-map";
import { assertRun } from "./invariants";

/** Runs of at least this many pages are long. */
const LONG_RUN: u32 = 8;

function binOf(arena: usize, pages: u32): usize {
  return arena + (min<u32>(pages - 1, EXACT_RUNS) << 2);
}

function markNonempty(arena: usize, pages: u32, nonempty: bool): void {
  if (pages > EXACT_RUNS) return;
  const at = arena + (((pages - 1) >> 6) << 3);
  const bit = (<u64>1) << ((pages - 1) & 63);
  const bits = load<u64>(at, offsetof<Arena>("nonempty0"));
  store<u64>(at, nonempty ? bits | bit : bits & ~bit, offsetof<Arena>("nonempty0"));
}

/** Lists the run [start, start + pages) of `node` as it is. */
function insert(start: u32, pages: u32, node: u32): void {
  const arena = arenaOf(node);
  const bin = binOf(arena, pages);
  const head = load<u32>(bin, ARENA_BINS);
  const at = addressOf(start);
  const run = changetype<FreeRun>(at);
  setFlags(start, PAGE_OWNED | PAGE_TOUCHED);
  run.next = head;
  run.previous = 0;
  if (head) changetype<FreeRun>(<usize>head).previous = <u32>at;
  store<u32>(bin, <u32>at, ARENA_BINS);
  setEntry(start + pages - 1, (pages << 2) | 3);
  setEntry(start, (pages << 2) | 1);
  markNonempty(arena, pages, true);
  changetype<Arena>(arena).freePages += pages;
  theHeap().freePages += pages;
  if (isDefined(DEBUG_BUILD)) assertRun(start, pages, node);
}

/**
 * Takes a run off the lists of `node`. The entries of its ends stay: whoever makes them ends of something else writes them, and
 * whoever makes them inner pages clears them.
 */
export function remove(start: u32, pages: u32, node: u32): void {
  const arena = arenaOf(node);
  const bin = binOf(arena, pages);
  const run = changetype<FreeRun>(addressOf(start));
  const next = run.next;
  const previous = run.previous;
  if (next) changetype<FreeRun>(<usize>next).previous = previous;
  if (previous) {
    changetype<FreeRun>(<usize>previous).next = next;
  } else {
    store<u32>(bin, next, ARENA_BINS);
    if (!next) markNonempty(arena, pages, false);
  }
  changetype<Arena>(arena).freePages -= pages;
  theHeap().freePages -= pages;
}

/** Length of the free run that starts at `page`, 0 if none does. */
export function freeRunAt(page: u32): u32 {
  const entry = entryOf(page);
  return (entry & 3) == 1 ? entry >> 2 : 0;
}

/** Length of the free run that ends at `page`, 0 if none does. */
export function freeRunEndingAt(page: u32): u32 {
  const entry = entryOf(page);
  return (entry & 3) == 3 || entry == ((1 << 2) | 1) ? entry >> 2 : 0;
}

/** Start of the free run that covers `page`; 0 if none does. */
export function freeRunCovering(page: u32): u32 {
  const at = entryAtOrBefore(page);
  if (freeRunAt(at)) return at;
  return at == page && freeRunEndingAt(at) != 0 ? at + 1 - freeRunEndingAt(at) : 0;
}

/** The page at or before `page` that has an entry, or is metadata or not the heap's. */
export function entryAtOrBefore(page: u32): u32 {
  while (entryOf(page) == 0 && isPlain(page)) --page;
  return page;
}

/** Whether the page is the heap's and not metadata. */
export function isPlain(page: u32): bool {
  return (flagsOf(page) & (PAGE_OWNED | PAGE_METADATA)) == PAGE_OWNED;
}

/** Files free pages that all lie on one node, joined with free neighbours of that node. */
export function fileRun(start: u32, pages: u32, node: u32): void {
  const before = freeRunEndingAt(start - 1);
  if (before && nodeOfPage(start - 1) == node) {
    remove(start - before, before, node);
    setEntry(start - 1, 0);
    setEntry(start, 0);
    start -= before;
    pages += before;
  }
  const after = freeRunAt(start + pages);
  if (after && nodeOfPage(start + pages) == node) {
    remove(start + pages, after, node);
    setEntry(start + pages - 1, 0);
    setEntry(start + pages, 0);
    pages += after;
  }
  insert(start, pages, node);
}

/** Files free pages, cut by their true nodes. */
export function fileFree(start: u32, pages: u32): void {
  const end = start + pages;
  while (start < end) {
    const node = nodeOfPage(start);
    // Where one node has all pages, there is nothing to look at.
    let cut = changetype<Arena>(arenaOf(node)).ownedPages == theHeap().ownedPages ? end : start + 1;
    while (cut < end && nodeOfPage(cut) == node) ++cut;
    fileRun(start, cut - start, node);
    start = cut;
  }
}

/** First page of the shortest listed run of at least `pages` on `node` (of several, the lowest of the long ones); 0 = none. */
export function bestFit(arena: usize, pages: u32): u32 {
  if (pages <= EXACT_RUNS) {
    const a = changetype<Arena>(arena);
    let low = a.nonempty0;
    let high = a.nonempty1;
    if (pages > 64) {
      low = 0;
      high &= ~(<u64>0) << (pages - 65);
    } else {
      low &= ~(<u64>0) << (pages - 1);
    }
    const n = low ? <u32>ctz(low) : high ? <u32>ctz(high) + 64 : EXACT_RUNS;
    if (n < EXACT_RUNS) return pageOf(load<u32>(arena + (n << 2), ARENA_BINS));
  }
  let best: u32 = 0;
  let bestPages: u32 = -1;
  for (let at: usize = load<u32>(arena, ARENA_BINS + EXACT_RUNS * 4); at; at = changetype<FreeRun>(at).next) {
    const start = pageOf(at);
    const length = freeRunAt(start);
    if (length >= pages && (length < bestPages || (length == bestPages && start < best))) {
      best = start;
      bestPages = length;
    }
  }
  return best;
}

/** First page of one of the shortest free runs of `node`, 0 if it has none. */
export function anyRun(node: u32): u32 {
  const arena = arenaOf(node);
  return arena ? bestFit(arena, 1) : 0;
}

/**
 * Takes `pages` adjacent free pages of `node` off the lists: their first page, or 0. At the end of the memory, long ones come last: short ones
 * that are wanted meanwhile lie before them, and a long run that is free again can be lengthened by growth.
 */
export function takeRun(node: u32, pages: u32): u32 {
  const arena = arenaOf(node);
  if (!arena) return 0;
  const start = bestFit(arena, pages);
  if (!start) return 0;
  const length = freeRunAt(start);
  const first = pages < LONG_RUN || start + length < endOfPages() ? start : start + length - pages;
  takeFrom(start, length, first, pages);
  return first;
}

/** Runs this many times as long as a block that grows have room for it; it has as much before it at most. */
const ROOM: u32 = 6;

/**
 * Takes `pages` pages out of a free run of `node` that is several times as long, where there is room to grow behind them and for what lies before
 * them: their first page, or 0 if there is no such run, or it is kept.
 */
export function takeRoomy(node: u32, pages: u32): u32 {
  const arena = arenaOf(node);
  if (!arena) return 0;
  const start = bestFit(arena, ROOM * pages);
  const length = freeRunAt(start);
  if (length == 0 || isKept(length, pages)) return 0;
  const first = start + min<u32>((length - pages) >> 1, ROOM * pages);
  takeFrom(start, length, first, pages);
  return first;
}

/** Pages that a run may have beyond a block before others get them. */
const SLACK: u32 = 63;

/** Whether a free run is not for others, who want `pages` of it: where most of the heap was one block, it may be again. */
export function isKept(length: u32, pages: u32): bool {
  const h = theHeap();
  return length < h.largestSpan + SLACK && length > pages + ((h.ownedPages * 3) >> 2);
}

/** Takes [first, first + pages) out of the listed run [start, start + length). */
function takeFrom(start: u32, length: u32, first: u32, pages: u32): void {
  const node = nodeOfPage(start);
  remove(start, length, node);
  if (first > start) insert(start, first - start, node);
  const end = first + pages;
  if (end < start + length) insert(end, start + length - end, node);
  // Taken pages are no neighbours of free ones, though no span holds them yet.
  setEntry(first, 0);
  setEntry(end - 1, 0);
}

/** Takes free pages [first, first + pages), of any nodes, off the lists; `first` must start a run. */
export function takeRange(first: u32, pages: u32): void {
  const end = first + pages;
  while (first < end) {
    const length = freeRunAt(first);
    const count = min<u32>(length, end - first);
    takeFrom(first, length, first, count);
    first += count;
  }
}

/**
 * First page of `pages` adjacent free pages, from the start of a run on, over the nodes of `mask`; 0 = none.
 * Looks at every run and span from `from` to `to`.
 */
export function findMixed(from: u32, to: u32, pages: u32, mask: u32): u32 {
  let start: u32 = 0;
  let have: u32 = 0;
  for (let page = from; page < to;) {
    const length = freeRunAt(page);
    if (length != 0 && ((mask >> nodeOfPage(page)) & 1) != 0) {
      if (have == 0) start = page;
      have += length;
      if (have >= pages) return start;
    } else {
      have = 0;
    }
    page += length ? length : usedAt(page);
  }
  return 0;
}

/** Pages to skip from `page`, which no free run starts at: the span that starts there, or one page. */
function usedAt(page: u32): u32 {
  const entry = entryOf(page);
  if (!entry) return 1;
  const span = changetype<Span>(<usize>entry);
  return (entry & 1) == 0 && span.start == page ? span.pages : 1;
}
