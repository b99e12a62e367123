// Large blocks: whole pages, aligned, resized where they are, mixed of several nodes, and frees that are put off.

import { DEFERRED, Heap, KIND_LARGE, PAGE_LIMIT, PAGE_SIZE, PAGE_TOUCHED, RemoteList, Span, Arena } from "../../assembly/layout";
import { EBUSY, ENOMEM, heap, remoteList, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL } from "../../assembly/size-class";
import { flagsOf, nodeOfPage, pageOf, arenaOf } from "../../assembly/page-map";
import { makeArena } from "../../assembly/metadata";
import { labelOf, loadLabel, spanAt } from "../../assembly/page-heap";
import { allocateLarge, allocateLargeOnNode, freeDeferred, largeSpan, pagesFor, resizeLarge } from "../../assembly/large";
import { calloc, free, malloc, malloc_usable_size, mallocOnNode, malloc_trim, memalign, realloc } from "../../assembly/malloc";
import { POLICY_BIND, POLICY_DEFAULT, POLICY_INTERLEAVE } from "../../assembly/policy";
import { rebind, setNodeLimit } from "../../assembly/topology";
import { errno, nodeOf, setPolicy, settle } from "../../assembly/control";
import { takeBadCall } from "../../assembly/bad-call";
import {
  BASE,
  ELSEWHERE,
  END,
  allowBlocking,
  check,
  expectEmpty,
  expectOnly,
  expectSound,
  fresh,
  freshGrowing,
  freshSpread,
  makeHeaders,
} from "./rig";

function pageHeapLock(): usize {
  return heap + offsetof<Heap>("pageHeapLock");
}

/** Sum of the bytes of a block. */
function sum(block: usize, size: usize): u64 {
  let all: u64 = 0;
  for (let i: usize = 0; i < size; ++i) all += load<u8>(block + i);
  return all;
}

describe("a large block", () => {
  it("is as many pages as its size asks for", () => {
    expect<u32>(pagesFor(1)).toBe(1);
    expect<u32>(pagesFor(PAGE_SIZE)).toBe(1);
    expect<u32>(pagesFor(PAGE_SIZE + 1)).toBe(2);
    expect<u32>(pagesFor(0xffff_ffff)).toBe(PAGE_LIMIT + 1);
    fresh();
    const blocks: usize[] = [];
    for (let size: usize = MAX_SMALL + 1; size < 200_000; size += 7777) {
      const block = malloc(size);
      expect<usize>(block & (PAGE_SIZE - 1)).toBe(0);
      expect<usize>(malloc_usable_size(block)).toBe((size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1));
      expect<u32>(loadLabel(largeSpan(block))).toBe(labelOf(KIND_LARGE, 0, 0));
      blocks.push(block);
      if (blocks.length > 5) free(blocks.shift());
    }
    expectOnly(blocks);
  });

  it("is counted when it comes and when it goes", () => {
    fresh();
    const block = malloc(100_000);
    expect<u64>(theThread().largeAllocations).toBe(1);
    free(block);
    expect<u64>(theThread().largeFrees).toBe(1);
    free(block); // a bad call
    expect<u64>(theThread().largeFrees).toBe(1);
    expect<i32>(takeBadCall()).not.toBe(0);
    expectOnly([]);
  });

  it("is aligned to whatever power of two there is room for, and gives the rest back", () => {
    fresh();
    makeHeaders();
    for (let alignment: usize = PAGE_SIZE; alignment <= 1 << 20; alignment <<= 1) {
      const before = theHeap().freePages;
      const block = memalign(alignment, 100_000);
      expect<usize>(block).not.toBe(0);
      expect<usize>(block & (alignment - 1)).toBe(0);
      expect<u32>(before - theHeap().freePages).toBe(pagesFor(100_000));
      expectOnly([block]);
      free(block);
    }
    expect<usize>(memalign(1 << 22, 100_000)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<usize>(memalign(0x8000_0000, 100_000)).toBe(0);
    expect<usize>(allocateLarge(PAGE_LIMIT, PAGE_LIMIT, false)).toBe(0);
    expect<usize>(allocateLarge(-1, 2, false)).toBe(0);
    expectEmpty();
  });
});

describe("calloc", () => {
  it("zeroes what was written to before", () => {
    fresh();
    const block = malloc(100_000);
    memory.fill(block, 0x55, 100_000);
    free(block);
    const zeroed = calloc(10, 12_000);
    expect<u64>(sum(zeroed, malloc_usable_size(zeroed))).toBe(0);
    expectOnly([zeroed]);
  });

  it("leaves fresh pages alone: they are zero", () => {
    fresh();
    makeHeaders();
    const page = pageOf(END) - 1;
    expect<u32>(flagsOf(page) & PAGE_TOUCHED).toBe(0);
    store<u8>(END - 1, 7); // nobody may do this, so it shows who writes here
    const block = calloc(theHeap().freePages, PAGE_SIZE);
    expect<usize>(block).not.toBe(0);
    expect<u8>(load<u8>(END - 1)).toBe(7);
    expect<u32>(flagsOf(page) & PAGE_TOUCHED).toBe(PAGE_TOUCHED);
    free(block);
    const again = calloc(theHeap().freePages, PAGE_SIZE);
    expect<u8>(load<u8>(END - 1)).toBe(0);
    expectOnly([again]);
  });

  it("calloc zeroes what was used before, in a block that is partly new", () => {
    fresh();
    makeHeaders();
    const used = malloc(100_000);
    memory.fill(used, 0xff, 100_000);
    free(used);
    const block = calloc(1, 300_000);
    expect<usize>(block).toBe(used);
    for (let i: usize = 0; i < 300_000; ++i) check(load<u8>(block + i) == 0, "not zero");
    expectOnly([block]);
  });
});

describe("resizing", () => {
  it("is done in place where the pages behind are free, and back", () => {
    fresh();
    makeHeaders();
    const block = malloc(100_000);
    memory.fill(block, 0x77, 100_000);
    expect<usize>(realloc(block, 300_000)).toBe(block);
    expect<usize>(malloc_usable_size(block)).toBe(37 * PAGE_SIZE);
    expect<u64>(sum(block, 100_000)).toBe(0x77 * 100_000);
    expectOnly([block]);
    expect<usize>(realloc(block, 70_000)).toBe(block);
    expect<usize>(malloc_usable_size(block)).toBe(9 * PAGE_SIZE);
    expect<usize>(realloc(block, 70_001)).toBe(block);
    expectOnly([block]);
    free(block);
    expectEmpty();
  });

  it("moves the block where they are not", () => {
    fresh();
    makeHeaders();
    const block = malloc(100_000);
    const next = malloc(100_000);
    memory.fill(block, 0x77, 100_000);
    const moved = realloc(block, 200_000);
    expect<usize>(moved).not.toBe(block);
    expect<u64>(sum(moved, 100_000)).toBe(0x77 * 100_000);
    expectOnly([moved, next]);
  });

  it("moves it to a small block when that will do", () => {
    fresh();
    const block = malloc(100_000);
    memory.fill(block, 0x77, 1000);
    const moved = realloc(block, 1000);
    expect<bool>(malloc_usable_size(moved) < 2000).toBe(true);
    expect<u64>(sum(moved, 1000)).toBe(0x77 * 1000);
    expectOnly([moved]);
  });

  it("is refused, or put off, while the lock is out of reach", () => {
    fresh();
    const block = malloc(100_000);
    const header = spanAt(pageOf(block));
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    expect<bool>(resizeLarge(header, 20)).toBe(false);
    expect<bool>(resizeLarge(header, 2)).toBe(true); // it stays longer than it need be
    expect<bool>(resizeLarge(header, 13)).toBe(true);
    atomic.store<u32>(pageHeapLock(), 0);
    expect<u32>(changetype<Span>(header).pages).toBe(13);
    expectOnly([block]);
  });
});

describe("large blocks of several nodes", () => {
  it("are made of adjacent runs when no node has one long enough", () => {
    freshSpread();
    setStripes();
    const block = malloc(40 * PAGE_SIZE);
    expect<usize>(block).not.toBe(0);
    let nodes: u32 = 0;
    for (let i: u32 = 0; i < 40; ++i) nodes |= 1 << nodeOfPage(pageOf(block) + i);
    expect<u32>(popcnt(nodes)).toBeGreaterThan(1);
    expectOnly([block]);
    free(block);
    expectSound();
  });

  it("carry the label of the node most of them lies on", () => {
    fresh();
    makeHeaders();
    for (let node: u32 = 1; node < 3; ++node) expect<usize>(makeArena(node)).not.toBe(0);
    const block = malloc(100_000);
    const first = pageOf(block);
    free(block);
    expect<i32>(rebind(first, 150, 1)).toBe(0);
    expect<i32>(rebind(first + 150, pageOf(END) - first - 150, 2)).toBe(0);
    expect<usize>(malloc(400 * PAGE_SIZE)).toBe(block);
    expect<i32>(nodeOf(block)).toBe(1);
    expect<u32>(loadLabel(spanAt(first))).toBe(labelOf(KIND_LARGE, 2, 0));
    expectOnly([block]);
  });

  it("serve small sizes too where no node has room for a span", () => {
    fresh();
    for (let page = pageOf(BASE); page < pageOf(END); ++page) expect<i32>(rebind(page, 1, page & 3)).toBe(0);
    expect<i32>(setPolicy(POLICY_BIND, 0b1111)).toBe(0);
    expect<usize>(malloc(20_000)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<i32>(setPolicy(POLICY_DEFAULT, 0)).toBe(0);
    const block = malloc(20_000);
    expect<usize>(block).not.toBe(0);
    expect<bool>(malloc_usable_size(block) >= 20_000).toBe(true);
    expectOnly([block]);
    free(block);
    expectOnly([]);
  });

  it("are refused where the node is strict", () => {
    freshSpread();
    setStripes();
    expect<usize>(allocateLargeOnNode(0, 40)).toBe(0);
    expect<i32>(setPolicy(POLICY_BIND, 0b0001)).toBe(0);
    expect<usize>(malloc(40 * PAGE_SIZE)).toBe(0);
    const block = allocateLargeOnNode(1, 5);
    expect<i32>(nodeOf(block)).toBe(1);
    expectOnly([block]);
  });

  it("are spread page by page where the policy interleaves and the pages are new", () => {
    freshGrowing();
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1011)).toBe(0);
    const block = malloc(300 * PAGE_SIZE);
    const counts = new StaticArray<u32>(4);
    for (let i: u32 = 0; i < 300; ++i) {
      const node = nodeOfPage(pageOf(block) + i);
      counts[node] += 1;
    }
    expect<u32>(counts[2]).toBe(0);
    expect<bool>(counts[0] > 80 && counts[1] > 80 && counts[3] > 80).toBe(true);
    expectOnly([block]);
    free(block);
    expectSound();
  });
});

/** Every eighth page of the heap's free ones goes round the nodes, so that no run is longer than 8. */
function setStripes(): void {
  let node: u32 = 0;
  for (let page: u32 = pageOf(heap); page < pageOf(END); page += 8) check(rebind(page, 8, node++ & 3) == 0, "rebind");
  settle();
}

describe("frees put off", () => {
  it("wait while the lock is out of reach, and are done with the next large block", () => {
    fresh();
    const blocks: usize[] = [malloc(100_000), malloc(100_000), malloc(100_000)];
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    for (let i = 0; i < 3; ++i) free(blocks[i]);
    expect<u32>(changetype<RemoteList>(remoteList(thread, DEFERRED)).head).toBe(<u32>blocks[2]);
    expect<usize>(malloc(100_000)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    expect<bool>(freeDeferred(thread)).toBe(false);
    atomic.store<u32>(pageHeapLock(), 0);
    expectOnly([]);
    const block = malloc(100_000);
    expect<u32>(changetype<RemoteList>(remoteList(thread, DEFERRED)).head).toBe(0);
    expectOnly([block]);
  });

  it("can be done at any time", () => {
    fresh();
    const block = malloc(100_000);
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    free(block);
    atomic.store<u32>(pageHeapLock(), 0);
    const before = theHeap().freePages;
    expect<bool>(freeDeferred(thread)).toBe(true);
    expect<u32>(theHeap().freePages).toBe(before + 13);
    expect<bool>(freeDeferred(thread)).toBe(true);
    expectEmpty();
  });
});

/** Pages of large blocks on `node`. */
function pagesOn(node: u32, blocks: usize[]): u32 {
  let count: u32 = 0;
  for (let i = 0; i < blocks.length; ++i) {
    const first = pageOf(blocks[i]);
    const pages = changetype<Span>(spanAt(first)).pages;
    for (let page = first; page < first + pages; ++page) count += u32(nodeOfPage(page) == node);
  }
  return count;
}

describe("interleaved large blocks", () => {
  it("an interleaved large block out of free memory is spread where its pages are new", () => {
    fresh();
    makeHeaders();
    for (let node: u32 = 0; node < 4; ++node) free(mallocOnNode(100, node));
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    const block = malloc(320 * PAGE_SIZE);
    for (let node: u32 = 0; node < 4; ++node) {
      const count = pagesOn(node, [block]);
      check(count >= 64 && count <= 96, "a node has too many pages or too few");
    }
    expectOnly([block]);
  });

  it("small beside a turn take even turns, each a hit", () => {
    freshGrowing();
    for (let node: u32 = 0; node < 4; ++node) free(mallocOnNode(100, node));
    let hits: u64 = 0;
    for (let node: u32 = 0; node < 4; ++node) hits += changetype<Arena>(arenaOf(node)).numaHit;
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    const blocks: usize[] = [];
    for (let i = 0; i < 200; ++i) blocks.push(malloc(7 * PAGE_SIZE));
    for (let node: u32 = 0; node < 4; ++node) {
      const count = pagesOn(node, blocks);
      check(count >= 300 && count <= 400, "a node has too many pages or too few");
      hits -= changetype<Arena>(arenaOf(node)).numaHit;
    }
    expect<u64>(-hits).toBe(200);
    expectOnly(blocks);
  });

  it("leave runs that small spans can be made of", () => {
    fresh();
    makeHeaders();
    for (let node: u32 = 0; node < 4; ++node) free(mallocOnNode(100, node));
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    free(malloc((theHeap().freePages - 16) * PAGE_SIZE));
    expect<i32>(setPolicy(POLICY_DEFAULT, 0)).toBe(0);
    malloc_trim(0);
    const all = theHeap().freePages;
    const blocks: usize[] = [];
    for (let block = malloc(20_000); block != 0; block = malloc(20_000)) blocks.push(block);
    check(<u32>blocks.length * 20_000 > (all * PAGE_SIZE * 3) / 4, "a quarter of the memory is out of reach");
    expectOnly(blocks);
  });

  it("that grow are spread again", () => {
    freshGrowing();
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    const block = realloc(malloc(5 * PAGE_SIZE), 320 * PAGE_SIZE);
    for (let node: u32 = 0; node < 4; ++node) check(pagesOn(node, [block]) >= 48, "a node has too few pages");
    expectOnly([block]);
  });

  it("an interleaved large block goes to no node beyond its limit", () => {
    fresh();
    makeHeaders();
    for (let node: u32 = 0; node < 4; ++node) free(mallocOnNode(100, node));
    const limit = changetype<Arena>(arenaOf(1)).ownedPages + 3;
    expect<i32>(setNodeLimit(1, limit)).toBe(0);
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b0011)).toBe(0);
    const block = malloc(40 * PAGE_SIZE);
    expect<usize>(block).not.toBe(0);
    expect<u32>(changetype<Arena>(arenaOf(1)).ownedPages).toBe(limit);
    expectOnly([block]);
  });
});
