// Size classes: which block serves a size. The table is written into the heap once, by create.

import { CLASS_INFO, ClassInfo, LONG_BITS, PAGE_SHIFT, SIZE_TO_CLASS } from "./layout";
import { heap } from "./instance";
import { CLASSES, MAX_SMALL, storeBatches, storePages, storeSizes } from "./size-class-table";

export { CLASSES, MAX_SMALL };

/** Sizes up to this one are looked up in steps of 8 bytes, larger ones in steps of 128. */
export const FINE: u32 = 1024;

/** Class of a size of at most FINE bytes. */
// @ts-ignore: decorator
@inline
export function classOfFine(size: usize): u32 {
  return load<u8>(heap + ((size + 7) >> 3), SIZE_TO_CLASS);
}

/** Class of a size of at most MAX_SMALL bytes. */
export function classOf(size: usize): u32 {
  return size <= FINE ? classOfFine(size) : load<u8>(heap + ((size + 127) >> 7), SIZE_TO_CLASS + (FINE >> 3) + 1);
}

export function classInfo(c: u32): ClassInfo {
  return changetype<ClassInfo>(heap + CLASS_INFO + ((<usize>c) << 4));
}

/** Writes the tables of the heap at `heap`. `scratch` is 1 KiB of zeros, and is zero again afterwards. */
export function writeSizeClasses(scratch: usize): void {
  storeSizes(scratch);
  storePages(scratch + 256);
  storeBatches(scratch + 512);
  for (let c: u32 = 1, below: u32 = 0; c < CLASSES; ++c) {
    const i: usize = c - 1;
    const size = (<u32>load<u16>(scratch + (i << 1))) << 3;
    const pages = load<u8>(scratch + i, 256);
    const info = classInfo(c);
    info.size = size;
    info.reciprocal = <u32>((((<u64>1) << 32) + size - 1) / size);
    info.pages = pages;
    info.batch = load<u8>(scratch + i, 512);
    info.blocks = min<u32>(((<u32>pages) << PAGE_SHIFT) / size, LONG_BITS);
    for (let s = below; s <= size; s += 8) {
      if (s <= FINE) store<u8>(heap + ((s + 7) >> 3), c, SIZE_TO_CLASS);
      else store<u8>(heap + ((s + 127) >> 7), c, SIZE_TO_CLASS + (FINE >> 3) + 1);
    }
    below = size + 8;
  }
  memory.fill(scratch, 0, 1024);
}
