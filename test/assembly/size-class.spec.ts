// Size classes: each size is served by the smallest class that holds it, within the stated waste.

import {
  CLASS_INFO,
  LONG_BITS,
  MAX_CLASSES,
  NO_LEAF,
  PAGE_SHIFT,
  PAGE_SIZE,
  SIZE_TO_CLASS,
  SIZE_TO_CLASS_BYTES,
} from "../../assembly/layout";
import { heap } from "../../assembly/instance";
import { CLASSES, FINE, MAX_SMALL, classInfo, classOf, classOfFine, writeSizeClasses } from "../../assembly/size-class";
import { check, expectSound, fresh } from "./rig";

describe("size classes", () => {
  it("serve every size with the smallest class that holds it", () => {
    fresh();
    for (let size: u32 = 0; size <= MAX_SMALL; ++size) {
      const c = classOf(size);
      check(c > 0 && c < CLASSES, "no class");
      check(classInfo(c).size >= size, "too small");
      check(c == 1 || classInfo(c - 1).size < size, "a smaller one would do");
      if (size <= FINE) check(classOfFine(size) == c, "the fine table says otherwise");
    }
    expect<u32>(classInfo(CLASSES - 1).size).toBe(MAX_SMALL);
  });

  it("waste at most an eighth of a block from 128 bytes up, and less than 16 bytes below", () => {
    fresh();
    for (let size: u32 = 1; size <= MAX_SMALL; ++size) {
      const waste = classInfo(classOf(size)).size - size;
      if (size >= 128) check(waste * 8 <= size + waste, "more than an eighth");
      else check(waste < 16, "too much");
    }
  });

  it("are multiples of 8, from 16 bytes on of 16, so that blocks are aligned", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const size = classInfo(c).size;
      expect<u32>(size & (size < 16 ? 7 : 15)).toBe(0);
    }
  });

  it("cover the powers of two, for blocks aligned to them", () => {
    fresh();
    for (let size: u32 = 8; size <= MAX_SMALL; size <<= 1) expect<u32>(classInfo(classOf(size)).size).toBe(size);
  });
});

describe("spans of a class", () => {
  it("waste at most a sixteenth at their end, with no more blocks than a bitmap has bits", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      const bytes = (<u32>info.pages) << PAGE_SHIFT;
      check(info.blocks > 0 && info.blocks <= LONG_BITS, "blocks");
      check(info.blocks * info.size <= bytes, "more blocks than fit");
      check((bytes - info.blocks * info.size) * 16 <= bytes, "more than a sixteenth");
    }
  });

  it("find the index of every block by the reciprocal", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      for (let i: u32 = 0; i < info.blocks; ++i) {
        const start = i * info.size;
        check(<u32>((<u64>start * info.reciprocal) >> 32) == i, "another index at the start of a block");
      }
    }
  });

  it("move at most 64 KiB or four blocks between tiers at a time", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      check(info.batch > 0, "no blocks");
      check(info.batch == 4 || info.batch * info.size <= 8 * PAGE_SIZE, "too many");
      check(c == 1 || info.batch <= classInfo(c - 1).batch, "more than of the class below");
    }
  });
});

describe("the table", () => {
  it("is what was written, and nothing of it lies beyond its place", () => {
    fresh();
    for (let i: u32 = 0; i < SIZE_TO_CLASS_BYTES; ++i) check(load<u8>(heap + i, SIZE_TO_CLASS) < CLASSES, "no class");
    for (let c: u32 = CLASSES; c < MAX_CLASSES; ++c) expect<u32>(classInfo(c).size).toBe(0);
    expect<u32>(classInfo(0).size).toBe(0);
  });

  it("leaves its scratch as it was", () => {
    fresh();
    memory.fill(heap + CLASS_INFO, 0xff, SIZE_TO_CLASS - CLASS_INFO);
    memory.fill(heap + CLASS_INFO, 0, 16);
    for (let c: u32 = CLASSES; c < MAX_CLASSES; ++c) memory.fill(heap + CLASS_INFO + c * 16, 0, 16);
    writeSizeClasses(heap + NO_LEAF);
    expectSound(); // tables and the leaf of zeros are as they should be
  });
});
