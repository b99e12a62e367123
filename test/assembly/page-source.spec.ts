// Where pages come from: the range given, then memory.grow, up to every limit; and what is done about a growth cut off by a death.

import { Arena, HEAP_GROWS_ALONE, Heap, PAGE_TOUCHED } from "../../assembly/layout";
import { heap, theHeap } from "../../assembly/instance";
import { RANK_PAGE_HEAP, acquire, release } from "../../assembly/lock";
import { addressOf, arenaOf, flagsOf, pageOf } from "../../assembly/page-map";
import { rebuildPageHeap } from "../../assembly/page-heap";
import { calloc, free, malloc } from "../../assembly/malloc";
import { setNodeLimit } from "../../assembly/topology";
import { errno, nodeOf } from "../../assembly/control";
import { BASE, expectOnly, expectSound, fresh } from "./rig";

/** Wasm pages, as pages of the heap. */
function memoryEnd(): u32 {
  return (<u32>memory.size()) << 3;
}

/** A heap that is given 128 KiB and grows. */
function growing(limit: u32 = 1 << 16, flags: u32 = 0): void {
  fresh(4, BASE + 2 * 65536, limit, flags);
}

/** As the page heap is rebuilt: under its lock. */
function rebuild(): void {
  const lock = heap + offsetof<Heap>("pageHeapLock");
  expect<bool>(acquire(lock, RANK_PAGE_HEAP)).toBe(true);
  rebuildPageHeap();
  release(lock, RANK_PAGE_HEAP);
}

describe("page source", () => {
  it("uses the range it was given before it grows the memory", () => {
    growing();
    const before = memory.size();
    free(malloc(40_000));
    expect<i32>(memory.size()).toBe(before);
    expectSound();
  });

  it("grows by what memory.grow answers, wherever that is", () => {
    growing();
    const end = memoryEnd();
    const block = malloc(1 << 20);
    expect<u32>(pageOf(block) >= end).toBeTruthy();
    expect<i32>(nodeOf(block)).toBe(0);
    expect<i32>(memory.grow(1)).not.toBe(-1); // somebody else's page
    const other = memoryEnd() - 8;
    const next = malloc(2 << 20);
    expect<u32>(pageOf(next) > other).toBeTruthy();
    expect<i32>(nodeOf(addressOf(other))).toBe(-1);
    expectOnly([block, next]);
  });

  it("counts free pages at the end of the memory towards a growth", () => {
    growing();
    free(malloc(1 << 20));
    const owned = theHeap().ownedPages;
    const block = malloc(3 << 19);
    expect<usize>(block).not.toBe(0);
    expect<bool>(theHeap().ownedPages - owned < 128).toBe(true);
    expectOnly([block]);
  });

  it("knows fresh pages to be zero, and others not to be", () => {
    growing();
    const block = calloc(1, 100_000);
    expect<u32>(flagsOf(pageOf(block)) & PAGE_TOUCHED).toBe(PAGE_TOUCHED);
    memory.fill(block, 0xee, 100_000);
    free(block);
    const again = calloc(1, 120_000);
    let sum: u32 = 0;
    for (let i: usize = 0; i < 120_000; ++i) sum |= load<u8>(again + i);
    expect<u32>(sum).toBe(0);
    expectOnly([again]);
  });

  it("stops at the heap's limit, and serves again after a free", () => {
    growing(64);
    const block = malloc(300_000);
    expect<usize>(block).not.toBe(0);
    expect<usize>(malloc(300_000)).toBe(0);
    expect<i32>(errno()).toBe(48);
    expect<bool>(theHeap().ownedPages <= 64).toBe(true);
    free(block);
    const again = malloc(300_000);
    expect<usize>(again).not.toBe(0);
    expectOnly([again]);
  });

  it("stops at the limit of a node, and takes from the next", () => {
    growing();
    expect<i32>(setNodeLimit(0, 32)).toBe(0);
    const block = malloc(1 << 20);
    expect<i32>(nodeOf(block)).toBe(1);
    expect<bool>(changetype<Arena>(arenaOf(0)).ownedPages <= 32).toBe(true);
    expectOnly([block]);
  });

  it("claims a dead thread's growth whose answer is known", () => {
    growing();
    const h = theHeap();
    const owned = h.ownedPages;
    h.growBefore = memoryEnd();
    h.growPages = 16;
    h.growNode = 0;
    h.growGot = ((<u32>memory.grow(2)) << 3) + 1;
    rebuild();
    expect<u32>(h.ownedPages).toBe(owned + 16);
    expect<u32>(h.lostPages).toBe(0);
    expectSound();
  });

  it("claims one whose answer died with it only where nobody else grows the memory", () => {
    growing(1 << 16, HEAP_GROWS_ALONE);
    let h = theHeap();
    let owned = h.ownedPages;
    h.growBefore = memoryEnd();
    h.growPages = 8;
    h.growGot = 0;
    memory.grow(1);
    rebuild();
    expect<u32>(h.ownedPages).toBe(owned + 8);
    expectSound();

    growing();
    h = theHeap();
    owned = h.ownedPages;
    h.growBefore = memoryEnd();
    h.growPages = 8;
    h.growGot = 0;
    memory.grow(1);
    rebuild();
    expect<u32>(h.ownedPages).toBe(owned);
    expect<u32>(h.lostPages).toBe(8);
    expectSound();
  });

  it("forgets one that had not begun", () => {
    growing();
    const h = theHeap();
    h.growBefore = memoryEnd();
    h.growPages = 8;
    h.growGot = 0;
    rebuild();
    expect<u32>(h.lostPages).toBe(0);
    expect<u32>(h.growPages).toBe(0);
    expectSound();
  });
});
