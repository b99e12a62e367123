// The walk, second part: every page of the heap is metadata, in one free run or in one span in use, and the page map,
// the tags, the span headers and the free headers say the same.

import {
  CENTRAL_LISTS,
  LONG_BITS,
  PAGE_FRESH,
  PAGE_LONG_HEADERS,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_SHIFT,
  PAGE_SHORT_HEADERS,
  PAGE_SIZE,
  PAGE_TOUCHED,
  SHORT_BITS,
  SPAN_HEADER,
  Span,
} from "./layout";
import { theHeap } from "./instance";
import { addressOf, pageOf, tagFor } from "./page-map";
import { classOfLabel, nodeOfLabel } from "./page-heap";
import {
  arenaAt,
  centralAt,
  countOutside,
  endPage,
  entryAt,
  firstPage,
  flagsAt,
  headersIn,
  infoOf,
  inMemory,
  isHeader,
  isLabel,
  isSmall,
  nodeAt,
  runAt,
  spanStarting,
  tagOfPage,
} from "./inspect-map";
import { Problem, Word, expectEqual, mark, problem } from "./inspect-problem";

/** Pages never touched that are looked at for bytes other than 0: to read more would make the system back them all. */
const FRESH_PAGES: u32 = 1024;
let freshLeft: u32 = 0;

/** Checks every page, and the totals over all nodes. */
export function checkPages(): void {
  const h = theHeap();
  const end = endPage();
  let owned: u32 = 0;
  let free: u32 = 0;
  let metadata: u32 = 0;
  let runEnd: u32 = 0; // page after the last free run, if that is this page
  freshLeft = FRESH_PAGES;
  for (let page: u32 = 0; page < end;) {
    const flags = flagsAt(page);
    let pages: u32 = 1;
    checkFlags(page, flags);
    if (flags & PAGE_METADATA) {
      ++metadata;
      expectEqual(Problem.PAGE_ENTRY, page, entryAt(page), 0);
      expectEqual(Problem.PAGE_TAG, page, tagOfPage(page), 0);
    } else if (flags & PAGE_OWNED) {
      const run = runAt(page);
      const header = spanStarting(page);
      if (run) {
        if (page != 0 && runEnd == page && nodeAt(page - 1) == nodeAt(page)) problem(Problem.RUN_SPLIT, page, 0, 0);
        checkRun(page, run);
        free += run;
        pages = run;
        runEnd = page + run;
      } else if (header != 0) {
        pages = checkSpan(header, page);
      } else {
        problem(entryAt(page) ? Problem.SPAN_ENTRY : Problem.PAGE_ADRIFT, page, entryAt(page), 0);
      }
    } else {
      expectEqual(Problem.PAGE_ENTRY, page, entryAt(page), 0);
      expectEqual(Problem.PAGE_TAG, page, tagOfPage(page), 0);
    }
    if (flags & PAGE_OWNED) owned += pages;
    page += pages;
  }
  expectEqual(Problem.TOTAL, Word.OWNED_PAGES, owned, h.ownedPages);
  expectEqual(Problem.TOTAL, Word.FREE_PAGES, free, h.freePages);
  expectEqual(Problem.TOTAL, Word.METADATA_PAGES, metadata, h.metadataPages);
  if (owned > h.limitPages) problem(Problem.TOTAL, Word.LIMIT_PAGES, owned, h.limitPages);
}

function checkFlags(page: u32, flags: u32): void {
  if (flags == 0) return;
  const headers = flags & (PAGE_SHORT_HEADERS | PAGE_LONG_HEADERS);
  const known = PAGE_OWNED | PAGE_TOUCHED | PAGE_METADATA | PAGE_SHORT_HEADERS | PAGE_LONG_HEADERS | PAGE_FRESH;
  const both = PAGE_SHORT_HEADERS | PAGE_LONG_HEADERS;
  if (
    (flags & ~known) != 0 ||
    (flags & PAGE_OWNED) == 0 ||
    page < firstPage() ||
    headers == both ||
    (headers != 0 && (flags & PAGE_METADATA) == 0)
  ) {
    problem(Problem.PAGE_FLAGS, page, flags, 0);
  }
  if (arenaAt(nodeAt(page)) == 0) problem(Problem.PAGE_NODE, page, nodeAt(page), 0);
}

/** A free run: whole, of one node, untagged; and what nobody has touched is zero. */
function checkRun(first: u32, pages: u32): void {
  mark(addressOf(first), pages << PAGE_SHIFT);
  const last = first + pages - 1;
  const node = nodeAt(first);
  if (entryAt(last) != ((pages << 2) | (pages == 1 ? 1 : 3))) problem(Problem.RUN_RANGE, first, pages, entryAt(last));
  for (let page = first; page <= last; ++page) {
    const flags = flagsAt(page);
    if (page != first) checkFlags(page, flags);
    if ((flags & (PAGE_OWNED | PAGE_METADATA)) != PAGE_OWNED) problem(Problem.RUN_RANGE, first, pages, page);
    if (nodeAt(page) != node) problem(Problem.RUN_NODE, page, nodeAt(page), node);
    if (page != first && page != last) expectEqual(Problem.PAGE_ENTRY, page, entryAt(page), 0);
    expectEqual(Problem.PAGE_TAG, page, tagOfPage(page), 0);
    if ((flags & PAGE_TOUCHED) == 0 && freshLeft != 0) {
      --freshLeft;
      checkZero(page);
    }
  }
}

function checkZero(page: u32): void {
  const at = addressOf(page);
  for (let i: u32 = 0; i < PAGE_SIZE; i += 8) {
    if (load<u64>(at + i)) return problem(Problem.PAGE_NOT_ZERO, page, i, 0);
  }
}

/** A span in use, from its header; how many pages to go on by. */
function checkSpan(header: usize, first: u32): u32 {
  const span = changetype<Span>(header);
  const label = span.label;
  const pages = span.pages;
  const small = isSmall(header);
  if (pages == 0 || pages > endPage() - first || (small && pages != <u32>infoOf(header).pages)) {
    problem(Problem.SPAN_RANGE, <u32>header, first, pages);
    return 1;
  }
  const home = small ? centralAt(nodeOfLabel(label), classOfLabel(label)) : arenaAt(nodeOfLabel(label));
  if (home == 0) problem(Problem.SPAN_LABEL, <u32>header, label, 0);
  const last = first + pages - 1;
  const tag = small ? tagFor(nodeOfLabel(label), classOfLabel(label)) : 0;
  for (let page = first; page <= last; ++page) {
    const flags = flagsAt(page);
    if (page != first) checkFlags(page, flags);
    if ((flags & (PAGE_OWNED | PAGE_METADATA)) != PAGE_OWNED) problem(Problem.SPAN_RANGE, <u32>header, first, pages);
    else if ((flags & PAGE_TOUCHED) == 0) problem(Problem.PAGE_USED_UNTOUCHED, page, flags, 0);
    expectEqual(Problem.PAGE_TAG, page, tagOfPage(page), tag);
    expectEqual(Problem.PAGE_ENTRY, page, entryAt(page), small || page == first || page == last ? <u32>header : 0);
  }
  if (small) checkSmall(header);
  return pages;
}

/** The counts of a small span, and that the bits beyond its blocks are clear. */
function checkSmall(header: usize): void {
  const span = changetype<Span>(header);
  const blocks = infoOf(header).blocks;
  const bits = headersIn(pageOf(header)) == SPAN_HEADER + LONG_BITS / 8 ? LONG_BITS : SHORT_BITS;
  if (blocks > SHORT_BITS != (bits == LONG_BITS)) return problem(Problem.SPAN_LABEL, <u32>header, span.label, bits);
  const outside = countOutside(header);
  let set: u32 = 0;
  for (let word: u32 = 0; word < bits >> 6; ++word) set += <u32>popcnt(load<u64>(header + (word << 3), SPAN_HEADER));
  if (set != outside) problem(Problem.SPAN_BITS, <u32>header, set, outside);
  expectEqual(Problem.SPAN_FREE, <u32>header, blocks - outside, span.free);
  const list = listFor(blocks - outside);
  if (span.list != list) problem(Problem.SPAN_LIST, <u32>header, list, span.list);
}

/** 1 + occupancy list for a span with so many free blocks, 0 for a full one. */
export function listFor(free: u32): u32 {
  return free ? 1 + min<u32>(31 - clz(free), CENTRAL_LISTS - 1) : 0;
}

/** Every header in use is one that the page map leads to; all others are in their pool. */
export function checkHeaders(): void {
  let shortFree: u32 = 0;
  let longFree: u32 = 0;
  for (let page = firstPage(); page < endPage(); ++page) {
    const size = headersIn(page);
    if (!size) continue;
    const from = addressOf(page);
    for (let at = from; at + size <= from + PAGE_SIZE; at += size) {
      const span = changetype<Span>(at);
      if (span.label == 0) {
        if (size == SPAN_HEADER + LONG_BITS / 8) ++longFree;
        else ++shortFree;
      } else if (!isLabel(span.label)) {
        problem(Problem.SPAN_LABEL, <u32>at, span.label, 0);
      } else if (span.start >= endPage() || spanStarting(span.start) != at) {
        problem(Problem.SPAN_UNMAPPED, <u32>at, span.label, span.start);
      }
    }
  }
  checkPool(theHeap().shortHeaders, SPAN_HEADER + SHORT_BITS / 8, shortFree);
  checkPool(theHeap().longHeaders, SPAN_HEADER + LONG_BITS / 8, longFree);
}

/** A list that ends names no header twice, so it is right if it has as many as there are. */
function checkPool(head: u32, size: u32, free: u32): void {
  let count: u32 = 0;
  for (let at: usize = head; at != 0; at = changetype<Span>(at).next) {
    if (!inMemory(at, size) || !isHeader(at) || headersIn(pageOf(at)) != size || changetype<Span>(at).label != 0) {
      return problem(Problem.POOL_LINK, <u32>at, size, 0);
    }
    if (++count > free) break;
  }
  expectEqual(Problem.POOL_COUNT, size, free, count);
}

// ---- per node

/** Pages that lie on `node`. */
export function pagesOn(node: u32): u32 {
  let count: u32 = 0;
  const end = endPage();
  for (let page = firstPage(); page < end; ++page) {
    if (nodeAt(page) == node && (flagsAt(page) & PAGE_OWNED) != 0) ++count;
  }
  return count;
}

/** Steps from `page` to the next thing: over a whole free run or span, or one page. */
export function stepFrom(page: u32): u32 {
  const run = runAt(page);
  if (run) return run;
  const header = spanStarting(page);
  if (!header) return 1;
  const pages = changetype<Span>(header).pages;
  return pages != 0 && pages <= endPage() - page ? pages : 1;
}

/** Number of free runs that lie on `node`. */
export function runsOn(node: u32): u32 {
  let count: u32 = 0;
  const end = endPage();
  for (let page = firstPage(); page < end; page += stepFrom(page)) {
    if (nodeAt(page) == node && runAt(page) != 0) ++count;
  }
  return count;
}
