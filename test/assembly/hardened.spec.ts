// The malloc family with guards: bugs of the program that it finds, and that it is the same family otherwise.
// Placement at random needs a build of its own (HARDENED_BUILD), the guards do not.

import { CachedBlock, PAGE_SIZE } from "../../assembly/layout";
import { EINVAL, ENOMEM, thread } from "../../assembly/instance";
import { MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import { flushCache } from "../../assembly/thread-cache";
import {
  aligned_alloc,
  calloc,
  free,
  malloc,
  mallocOnNode,
  malloc_usable_size,
  memalign,
  posix_memalign,
  realloc,
} from "../../assembly/hardened";
import { errno, nodeOf } from "../../assembly/control";
import {
  INTERIOR_OF_LARGE,
  INTERIOR_OF_SMALL,
  NOT_LIVE,
  OUTSIDE_HEAP,
  OVERFLOWN,
  PAGE_NOT_IN_USE,
  takeBadCall,
} from "../../assembly/bad-call";
import { END, check, expectEmpty, expectOnly, fresh, freshSpread } from "./rig";

/** Freeing `block` is the bad call `kind`, and nothing happens. */
function expectBad(block: usize, kind: i32): void {
  free(block);
  expect<i32>(takeBadCall()).toBe(kind);
}

/** Sizes at the ends of classes, and beyond them. */
function sizes(): usize[] {
  const all: usize[] = [0, 1, 7, 8, 9];
  for (let size: usize = 16; size <= 1 << 17; size <<= 1) for (let i: usize = 0; i < 17; i += 4) all.push(size - i);
  return all;
}

describe("the hardened family", () => {
  it("serves every size, and knows exactly what was asked for", () => {
    fresh();
    const all = sizes();
    for (let i = 0; i < all.length; ++i) {
      const block = malloc(all[i]);
      check(block != 0 && malloc_usable_size(block) == all[i], "another size");
      memory.fill(block, 0xee, all[i]);
      check(malloc_usable_size(block) == all[i], "not all of it is the program's");
      expectOnly([block]);
      free(block);
    }
    expect<i32>(takeBadCall()).toBe(0);
    expectEmpty();
  });

  it("zeroes, aligns, keeps and places as the plain one does", () => {
    freshSpread();
    const zeroed = calloc(30, 30);
    for (let i: usize = 0; i < 900; ++i) check(load<u8>(zeroed + i) == 0, "not zero");
    const aligned = memalign(256, 100);
    expect<usize>(aligned & 255).toBe(0);
    const page = aligned_alloc(PAGE_SIZE, 100);
    expect<usize>(page & (PAGE_SIZE - 1)).toBe(0);
    const out = malloc(8);
    expect<i32>(posix_memalign(out, 64, 10)).toBe(0);
    const there = mallocOnNode(100, 3);
    expect<i32>(nodeOf(there)).toBe(3);
    memory.fill(there, 0x44, 100);
    const moved = realloc(there, 5000);
    for (let i: usize = 0; i < 100; ++i) check(load<u8>(moved + i) == 0x44, "not kept");
    const back = realloc(moved, 50);
    for (let i: usize = 0; i < 50; ++i) check(load<u8>(back + i) == 0x44, "not kept");
    expect<usize>(realloc(back, 0)).toBe(0);
    free(0);
    expect<i32>(takeBadCall()).toBe(0);
    expectOnly([zeroed, aligned, page, out, load<u32>(out)]);
  });

  it("refuses what cannot be, with room for the guards or without", () => {
    fresh();
    const out = malloc(4);
    const huge: usize[] = [0xffff_ffff, 0xffff_fff8, 0xffff_0000, 0xfffe_0001, 0x8000_0000];
    for (let i = 0; i < huge.length; ++i) {
      expect<usize>(malloc(huge[i])).toBe(0);
      expect<i32>(errno()).toBe(ENOMEM);
      expect<usize>(calloc(1, huge[i])).toBe(0);
      expect<usize>(memalign(64, huge[i])).toBe(0);
      expect<usize>(mallocOnNode(huge[i], 0)).toBe(0);
    }
    expect<usize>(calloc(0x1_0001, 0x1_0000)).toBe(0);
    expect<usize>(memalign(3, 8)).toBe(0);
    expect<i32>(posix_memalign(out, 2, 8)).toBe(EINVAL);
    expectOnly([out]);
  });
});

describe("the guards find", () => {
  it("the inside of a small block, and the tail of its span", () => {
    fresh();
    const block = malloc(1000);
    for (let i: usize = 1; i < 1000; i += 37) expectBad(block + i, INTERIOR_OF_SMALL);
    const info = classInfo(classOf(1000 + 8));
    const first = block & ~(PAGE_SIZE - 1);
    if (info.pages == 1 && info.blocks * info.size < PAGE_SIZE) expectBad(first + info.blocks * info.size, INTERIOR_OF_SMALL);
    expectOnly([block]);
  });

  it("a block freed twice, wherever it is by then", () => {
    fresh();
    const kept = malloc(100);
    const block = malloc(100);
    free(block);
    expectBad(block, NOT_LIVE); // in the cache
    expect<bool>(flushCache(thread)).toBe(true);
    expectBad(block, NOT_LIVE); // in its span
    expect<usize>(realloc(block, 10)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    expect<usize>(malloc_usable_size(block)).toBe(0);
    expect<i32>(takeBadCall()).toBe(NOT_LIVE);
    free(kept);
    expectEmpty();
    expectBad(block, PAGE_NOT_IN_USE); // its span is gone
  });

  it("a block that was never handed out", () => {
    fresh();
    const block = malloc(100);
    const size = classInfo(classOf(100 + 8)).size;
    expectBad(block + size, NOT_LIVE);
    expectOnly([block]);
  });

  it("what was written beyond the end of a block, be it a byte", () => {
    fresh();
    const all = sizes();
    for (let i = 0; i < all.length; ++i) {
      const block = malloc(all[i]);
      const end = block + all[i];
      const before = load<u8>(end);
      store<u8>(end, ~before);
      expectBad(block, OVERFLOWN);
      store<u8>(end, before);
      free(block);
      check(takeBadCall() == 0, "not repaired");
    }
    expectEmpty();
  });

  it("what ran far beyond the end, over size and seal", () => {
    fresh();
    const block = malloc(100);
    memory.fill(block + 100, 0, classInfo(classOf(108)).size - 100);
    expectBad(block, OVERFLOWN);
    expect<usize>(realloc(block, 200)).toBe(0);
    expect<i32>(takeBadCall()).toBe(OVERFLOWN);
    expectOnly([block]);
  });

  it("what the plain family finds", () => {
    fresh();
    expectBad(8, OUTSIDE_HEAP);
    expectBad(END + 8, OUTSIDE_HEAP);
    const block = malloc(100_000);
    expectBad(block + 8, INTERIOR_OF_LARGE);
    free(block);
    expectBad(block, PAGE_NOT_IN_USE);
    expectOnly([]);
  });
});

describe("a freed block", () => {
  it("is poison but for the links of lists", () => {
    fresh();
    const kept = malloc(MAX_SMALL / 4);
    const block = malloc(200);
    memory.fill(block, 0x11, 200);
    free(block);
    const poison = load<u8>(block + 8);
    expect<u8>(poison).not.toBe(0x11);
    for (let i: usize = offsetof<CachedBlock>(); i < 200; ++i) check(load<u8>(block + i) == poison, "not poison");
    free(kept);
    expectEmpty();
  });
});
