// What the host of a replay asks about the heap while it is in use: figures, and how much of a range of pages serves blocks.

import { Heap, Span } from "./layout";
import { bindHeap, heap, theHeap } from "./instance";
import { freeRunAt } from "./free-run";
import { spanAt, spanStart } from "./page-heap";

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
  for (let page = spanStart(first); page < end;) {
    const header = spanAt(page);
    const length = max<u32>(1, header ? changetype<Span>(header).pages : freeRunAt(page));
    const stop = min(page + length, end);
    if (header != 0 && stop > first) used += stop - max(page, first);
    page += length;
  }
  return used;
}
