// Bad calls: what is wrong with a pointer handed to the heap. Counted in the heap, kept for the caller of this instance.

import { Heap } from "./layout";
import { heap, lastBadCall, setBadCall } from "./instance";

export const OUTSIDE_HEAP: i32 = 1;
export const PAGE_NOT_IN_USE: i32 = 2;
export const INTERIOR_OF_LARGE: i32 = 3;
export const MISALIGNED: i32 = 4;
// Found by the hardened build only:
export const INTERIOR_OF_SMALL: i32 = 5;
export const NOT_LIVE: i32 = 6;
export const OVERFLOWN: i32 = 7;

/** Counts a bad call; the call does nothing else. */
export function reportBadCall(kind: i32): void {
  setBadCall(kind);
  atomic.add<u32>(heap + ((<usize>kind - 1) << 2), 1, offsetof<Heap>("badCalls0"));
}

/** Kind of this instance's last bad call, 0 = none since the last question. */
export function takeBadCall(): i32 {
  const kind = lastBadCall;
  setBadCall(0);
  return kind;
}
