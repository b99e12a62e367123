// What the host of a replay asks about the heap while it is in use: figures, and how much of a range of pages serves blocks.

import { Heap, KIND_LARGE, Span } from "./layout";
import { bindHeap, heap, theHeap } from "./instance";
import { addressOf, entryOf, tagOf } from "./page-map";
import { freeRunAt } from "./free-run";

export function bindHost(base: usize): void {
  bindHeap(base);
}

/** Pages of 8 KiB the heap has claimed, its metadata included. They are never given back. */
export function ownedPages(): u32 {
  return atomic.load<u32>(heap, offsetof<Heap>("ownedPages"));
}

export function spansRebound(): u32 {
  return theHeap().spansRebound;
}

export function pagesMoved(): u32 {
  return theHeap().pagesMoved;
}

export function pagesMovedInUse(): u32 {
  return theHeap().pagesMovedInUse;
}

export function badCalls(kind: u32): u32 {
  return atomic.load<u32>(heap + ((kind - 1) << 2), offsetof<Heap>("badCalls0"));
}

/** Pages of [first, first + pages) in spans in use. Nothing is locked: the answer may be stale by what others do meanwhile. */
export function pagesInUse(first: u32, pages: u32): u32 {
  const end = first + pages;
  let used: u32 = 0;
  for (let page = first; page < end;) {
    const free = freeRunAt(page);
    const large = free ? 0 : largeSpanAt(page);
    if (free == 0) used += large ? min(large, end - page) : <u32>(tagOf(addressOf(page)) != 0);
    page += max(1, max(free, large));
  }
  return used;
}

/** Pages of the large span that starts at `page`, 0 if none does. */
function largeSpanAt(page: u32): u32 {
  const header = <usize>entryOf(page);
  if (header == 0 || (header & 1) != 0) return 0;
  const span = changetype<Span>(header);
  return span.start == page && atomic.load<u32>(header) >> 16 == KIND_LARGE ? span.pages : 0;
}
