// Bad calls: each is named, counted in the heap, and does nothing else.

import { Heap, PAGE_SIZE } from "../../assembly/layout";
import { heap, theHeap } from "../../assembly/instance";
import { MAX_SMALL } from "../../assembly/size-class";
import {
  NOT_LIVE,
  INTERIOR_OF_LARGE,
  MISALIGNED,
  OUTSIDE_HEAP,
  PAGE_NOT_IN_USE,
  OVERFLOWN,
  reportBadCall,
  takeBadCall,
} from "../../assembly/bad-call";
import { free, malloc, malloc_usable_size, realloc } from "../../assembly/malloc";
import { errno } from "../../assembly/control";
import { badCalls } from "../../assembly/inspect";
import { BASE, END, expectOnly, expectSound, fresh, freshGrowing } from "./rig";

/** A free of `block` is the bad call `kind`, and counted as one. */
function expectBad(block: usize, kind: i32): void {
  const before = badCalls(kind);
  free(block);
  expect<i32>(takeBadCall()).toBe(kind);
  expect<u32>(badCalls(kind)).toBe(before + 1);
}

describe("a bad free", () => {
  it("is outside the heap: below it, beyond it, at the ends of 4 GiB", () => {
    fresh();
    const blocks: usize[] = [8, BASE - 8, END, END + 12, 0x8000_0000, 0xffff_fff8, 0xffff_ffff];
    for (let i = 0; i < blocks.length; ++i) expectBad(blocks[i], OUTSIDE_HEAP);
    expectOnly([]);
  });

  it("is of a page that is not in use: free, or metadata", () => {
    fresh();
    expectBad(BASE, PAGE_NOT_IN_USE);
    expectBad(END - PAGE_SIZE, PAGE_NOT_IN_USE);
    expectBad(END - 8, PAGE_NOT_IN_USE);
    const block = malloc(100_000);
    free(block);
    expectBad(block, PAGE_NOT_IN_USE); // a double free
    expectOnly([]);
  });

  it("is inside a large block", () => {
    fresh();
    const block = malloc(100_000);
    const inside: usize[] = [block + 8, block + 1, block + PAGE_SIZE, block + 100_000, block + 13 * PAGE_SIZE - 1];
    for (let i = 0; i < inside.length; ++i) expectBad(inside[i], INTERIOR_OF_LARGE);
    expectBad(block + 13 * PAGE_SIZE, PAGE_NOT_IN_USE);
    expectOnly([block]);
    free(block);
    expect<i32>(takeBadCall()).toBe(0);
    expectOnly([]);
  });

  it("is misaligned: no small block starts there", () => {
    fresh();
    const block = malloc(100);
    for (let i: usize = 1; i < 8; ++i) expectBad(block + i, MISALIGNED);
    expectOnly([block]);
  });

  it("is found between heaps' pages and somebody else's", () => {
    freshGrowing();
    const block = malloc(1 << 20);
    expect<i32>(memory.grow(1)).not.toBe(-1);
    const theirs = (<usize>memory.size() - 1) << 16;
    const next = malloc(1 << 20);
    expectBad(theirs, OUTSIDE_HEAP);
    expectOnly([block, next]);
  });

  it("of nothing is none", () => {
    fresh();
    free(0);
    expect<i32>(takeBadCall()).toBe(0);
    expect<u32>(theHeap().badCalls0).toBe(0);
  });
});

describe("other calls", () => {
  it("with a bad pointer are counted too, and answer nothing", () => {
    fresh();
    const block = malloc(MAX_SMALL + 1);
    expect<usize>(malloc_usable_size(block + 8)).toBe(0);
    expect<i32>(takeBadCall()).toBe(INTERIOR_OF_LARGE);
    expect<usize>(malloc_usable_size(0)).toBe(0);
    expect<i32>(takeBadCall()).toBe(0);
    expect<usize>(realloc(END, 8)).toBe(0);
    expect<i32>(takeBadCall()).toBe(OUTSIDE_HEAP);
    expect<usize>(realloc(END, 0)).toBe(0);
    expect<i32>(takeBadCall()).toBe(OUTSIDE_HEAP);
    expect<bool>(errno() != 0).toBe(true);
    expectOnly([block]);
  });
});

describe("the counters", () => {
  it("are one for each kind, beside each other and nothing else", () => {
    fresh();
    const reaped = theHeap().reaped;
    for (let kind = OUTSIDE_HEAP; kind <= OVERFLOWN; ++kind) {
      for (let i = 0; i < kind; ++i) reportBadCall(kind);
      expect<i32>(takeBadCall()).toBe(kind);
    }
    for (let kind = OUTSIDE_HEAP; kind <= OVERFLOWN; ++kind) expect<u32>(badCalls(kind)).toBe(kind);
    expect<u32>(badCalls(0)).toBe(0);
    expect<u32>(badCalls(OVERFLOWN + 1)).toBe(0);
    expect<u32>(theHeap().reaped).toBe(reaped);
    expect<u32>(atomic.load<u32>(heap + offsetof<Heap>("reapLock"))).toBe(0);
    expectSound();
  });

  it("keep the last kind until it is asked for", () => {
    fresh();
    reportBadCall(MISALIGNED);
    reportBadCall(NOT_LIVE);
    expect<i32>(takeBadCall()).toBe(NOT_LIVE);
    expect<i32>(takeBadCall()).toBe(0);
  });
});
