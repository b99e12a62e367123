// What tests of this thread's caches have in common.

import { CacheList, PAGE_SHIFT } from "../../assembly/layout";
import { cacheList, lengthOf, theHeap, thread } from "../../assembly/instance";
import { CLASSES, classInfo, classOf } from "../../assembly/size-class";
import { free, malloc } from "../../assembly/malloc";
import { check } from "./rig";

export function listOf(size: usize): CacheList {
  return changetype<CacheList>(cacheList(thread, classOf(size)));
}
export function cached(size: usize): u32 {
  return lengthOf(cacheList(thread, classOf(size)));
}

/** What all cached blocks of this thread weigh, and what their limits allow. */
export function weigh(limits: bool): u32 {
  let bytes: u32 = 0;
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const list = cacheList(thread, c);
    bytes += (limits ? changetype<CacheList>(list).limit : lengthOf(list)) * classInfo(c).size;
  }
  return bytes;
}

/** A quarter of what the heap owns, and 128 KiB: what all caches together may hold. */
export function share(): u32 {
  return (theHeap().ownedPages << PAGE_SHIFT) / 4 + 128 * 1024;
}

export function allocate(size: usize, count: i32): usize[] {
  const blocks: usize[] = [];
  for (let i = 0; i < count; ++i) {
    const block = malloc(size);
    check(block != 0, "no block");
    blocks.push(block);
  }
  return blocks;
}

export function freeAll(blocks: usize[]): void {
  for (let i = 0; i < blocks.length; ++i) free(blocks[i]);
}
