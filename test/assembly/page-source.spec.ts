// Where pages come from: the range given, then memory.grow, up to every limit; and what is done about a growth cut off by a death.

import { Arena, HEAP_GROWS_ALONE, Heap, PAGES_PER_GROWTH, PAGE_LIMIT, PAGE_TOUCHED } from "../../assembly/layout";
import { ENOMEM, heap, theHeap } from "../../assembly/instance";
import { RANK_PAGE_HEAP, acquire, release } from "../../assembly/lock";
import { addressOf, arenaOf, flagsOf, pageOf } from "../../assembly/page-map";
import { takeRun } from "../../assembly/free-run";
import { grow } from "../../assembly/page-source";
import { rebuildPageHeap } from "../../assembly/page-heap";
import { calloc, free, malloc, mallocOnNode, malloc_usable_size } from "../../assembly/malloc";
import { setNodeLimit } from "../../assembly/topology";
import { errno, nodeOf } from "../../assembly/control";
import { check, expectOnly, expectSound, freshGrowing, isSound } from "./rig";

/** Wasm pages, as pages of the heap. */
function memoryEnd(): u32 {
  return (<u32>memory.size()) << 3;
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
    freshGrowing();
    const before = memory.size();
    free(malloc(80_000));
    expect<i32>(memory.size()).toBe(before);
    expectSound();
  });

  it("grows by what memory.grow answers, wherever that is", () => {
    freshGrowing();
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
    freshGrowing();
    free(malloc(1 << 20));
    const owned = theHeap().ownedPages;
    const block = malloc(3 << 19);
    expect<usize>(block).not.toBe(0);
    expect<bool>(theHeap().ownedPages - owned < 128).toBe(true);
    expectOnly([block]);
  });

  it("knows fresh pages to be zero, and others not to be", () => {
    freshGrowing();
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
    freshGrowing(64);
    const block = malloc(300_000);
    expect<usize>(block).not.toBe(0);
    expect<usize>(malloc(300_000)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<bool>(theHeap().ownedPages <= 64).toBe(true);
    free(block);
    const again = malloc(300_000);
    expect<usize>(again).not.toBe(0);
    expectOnly([again]);
  });

  it("grows on when others grow the memory in between, and never takes theirs", () => {
    freshGrowing();
    const blocks: usize[] = [];
    const theirs: u32[] = [];
    for (let i = 0; i < 20; ++i) {
      expect<i32>(memory.grow(1)).not.toBe(-1);
      theirs.push(memoryEnd() - PAGES_PER_GROWTH);
      const block = malloc(200_000 + i * 50_000);
      expect<usize>(block).not.toBe(0);
      memory.fill(block, 0xaa, 200_000);
      blocks.push(block);
      if (i % 3 == 2) free(blocks.shift());
    }
    for (let i = 0; i < theirs.length; ++i) {
      for (let page = theirs[i]; page < theirs[i] + PAGES_PER_GROWTH; ++page) {
        check(flagsOf(page) == 0, "somebody else's");
        check(load<u64>(addressOf(page)) == 0, "written to");
      }
    }
    expectOnly(blocks);
    for (let i = 0; i < blocks.length; ++i) free(blocks[i]);
    expectOnly([]);
  });

  it("takes more at a time the more the heap owns", () => {
    freshGrowing();
    expect<usize>(malloc(64 << 20)).not.toBe(0);
    const owned = theHeap().ownedPages;
    while (theHeap().ownedPages == owned) expect<usize>(malloc(32_768)).not.toBe(0);
    expect<bool>(theHeap().ownedPages - owned >= owned / 256).toBe(true);
    expectSound();
  });

  it("takes only what is asked for where a limit leaves no room for more", () => {
    freshGrowing();
    expect<usize>(malloc(64 << 20)).not.toBe(0);
    theHeap().limitPages = theHeap().ownedPages + PAGES_PER_GROWTH;
    while (theHeap().freePages) takeRun(0, 1);
    expect<bool>(grow(0, PAGES_PER_GROWTH + 1, false)).toBe(false);
    expect<bool>(grow(0, 2, false)).toBe(true);
    expect<u32>(theHeap().ownedPages).toBe(theHeap().limitPages);
    expect<bool>(grow(0, 1, false)).toBe(false);
    expect<u32>(theHeap().growPages).toBe(0);
  });

  it("takes what all nodes need beyond a node's limit, and no more than that", () => {
    freshGrowing();
    const lock = heap + offsetof<Heap>("pageHeapLock");
    const block = mallocOnNode(16 << 20, 1);
    expect<usize>(block).not.toBe(0);
    expect<i32>(setNodeLimit(0, 1)).toBe(0);
    const before = theHeap().ownedPages;
    expect<bool>(acquire(lock, RANK_PAGE_HEAP)).toBe(true);
    expect<bool>(grow(0, 1, false)).toBe(false);
    expect<bool>(grow(0, 1, true)).toBe(true);
    release(lock, RANK_PAGE_HEAP);
    expect<u32>(theHeap().ownedPages).toBe(before + PAGES_PER_GROWTH);
    expectOnly([block]);
  });

  it("stops at the limit of a node, and takes from the next", () => {
    freshGrowing();
    expect<i32>(setNodeLimit(0, 32)).toBe(0);
    const block = malloc(1 << 20);
    expect<i32>(nodeOf(block)).toBe(1);
    expect<bool>(changetype<Arena>(arenaOf(0)).ownedPages <= 32).toBe(true);
    expectOnly([block]);
  });

  it("claims a dead thread's growth whose answer is known", () => {
    freshGrowing();
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
    freshGrowing(1 << 16, HEAP_GROWS_ALONE);
    let h = theHeap();
    let owned = h.ownedPages;
    h.growBefore = memoryEnd();
    h.growPages = 8;
    h.growGot = 0;
    memory.grow(1);
    rebuild();
    expect<u32>(h.ownedPages).toBe(owned + 8);
    expectSound();

    freshGrowing();
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
    freshGrowing();
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

// The last, since it leaves no memory to grow, not even for `expect`.
describe("the end of the memory", () => {
  it("is reached but for the last page below 4 GiB", () => {
    freshGrowing(PAGE_LIMIT + 1);
    const blocks = new StaticArray<usize>(100);
    let count = 0;
    let highest: usize = 0;
    for (let size: usize = 1 << 30; size >= 80_000; size >>= 1) {
      for (let block = malloc(size); block != 0; block = malloc(size)) {
        blocks[count++] = block;
        highest = max<usize>(highest, block);
      }
    }
    check(errno() == ENOMEM && memory.size() == 65536, "not all there is");
    check(flagsOf(PAGE_LIMIT - 1) != 0, "the last page but one");
    check(flagsOf(PAGE_LIMIT) == 0 && nodeOf(0xffff_ffff) == -1, "the last page is the heap's");
    const end = highest + malloc_usable_size(highest);
    check(end > 0xfff0_0000 && end <= addressOf(PAGE_LIMIT), "the end of a block");
    store<u8>(end - 1, 1);
    check(isSound(), "the walk");
    while (count) free(blocks[--count]);
    check(isSound(), "the walk");
  });
});
