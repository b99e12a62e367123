// Pages that are frames of a virtual machine: claimed and released by a byte each, on the right node, and put right after a death.

import { Arena, Heap, PAGE_OWNED, PAGE_TOUCHED } from "../../assembly/layout";
import { bindThread, heap, self, theHeap } from "../../assembly/instance";
import { RANK_PAGE_HEAP, acquire, release } from "../../assembly/lock";
import { arenaOf, flagsOf, nodeOfPage, pageOf, setFlags } from "../../assembly/page-map";
import { anyRun, takeRange } from "../../assembly/free-run";
import { growByFrames, recoverFrames, releaseFrames } from "../../assembly/frame-source";
import { makeArena } from "../../assembly/metadata";
import { growMixed, rebuildPageHeap } from "../../assembly/page-heap";
import { createInFrames } from "../../assembly/create";
import { attach } from "../../assembly/reap";
import { setNodeLimit } from "../../assembly/topology";
import { BASE, END, KEY, expectSound } from "./rig";

const FRAMES: u32 = pageOf(END);
/** The kernel's tables, below the heap. */
const OWNERS: usize = 8192;
const NODES: usize = OWNERS + FRAMES;
const TOUCHERS: usize = NODES + FRAMES;
const TRUTH: usize = TOUCHERS + FRAMES;
const FREE: u8 = 1 << 1;
const DIRTY: u8 = 1;
const MINE: u8 = 8 << 1;
/** The first frame beyond the range given. */
const FIRST: u32 = pageOf(BASE) + 16;

/** A heap of two nodes over 16 frames, on a machine whose other frames are free and on node 0. */
function fresh(limit: u32 = FRAMES): void {
  if (self) bindThread(0, 0, false);
  memory.fill(OWNERS, 0, END - OWNERS);
  memory.fill(OWNERS + pageOf(BASE), MINE, 16);
  memory.fill(OWNERS + FIRST, FREE, FRAMES - FIRST);
  store<u8>(TRUTH + 5, 1);
  const end = BASE + 16 * 8192;
  expect<i32>(createInFrames(BASE, end, limit, 2, FRAMES, 8, <u32>OWNERS, <u32>NODES, <u32>TOUCHERS, <u32>TRUTH)).toBe(0);
  expect<u32>(attach(BASE, KEY, 5, 1)).not.toBe(0);
}

function place(first: u32, count: u32, node: u8): void {
  memory.fill(NODES + first, node, count);
}

function lock(): void {
  expect<bool>(acquire(heap + offsetof<Heap>("pageHeapLock"), RANK_PAGE_HEAP)).toBe(true);
}

function unlock(): void {
  release(heap + offsetof<Heap>("pageHeapLock"), RANK_PAGE_HEAP);
}

/** As a reaper of the guest's build does it. */
function recoverAndRebuild(): void {
  recoverFrames();
  rebuildPageHeap();
}

function grow(node: u32, pages: u32): bool {
  lock();
  makeArena(node);
  const grown = growByFrames(node, pages, false);
  unlock();
  return grown;
}

/** Owner bytes and page map say the same of every frame. */
function expectAgreement(): void {
  let differ: u32 = 0;
  for (let frame: u32 = 0; frame < FRAMES; ++frame) {
    differ += <u32>(((load<u8>(OWNERS + frame) & ~DIRTY) == MINE) != ((flagsOf(frame) & PAGE_OWNED) != 0));
  }
  expect<u32>(differ).toBe(0);
  expectSound();
}

describe("frame source", () => {
  it("claims the first free frames of the node, and no others", () => {
    fresh();
    place(FIRST, 3, 1);
    store<u8>(OWNERS + FIRST + 5, 2 << 1); // the kernel's
    store<u8>(OWNERS + FIRST + 12, 9 << 1); // another heap's
    expect<bool>(grow(0, 6)).toBe(true);
    expect<u8>(load<u8>(OWNERS + FIRST + 3)).toBe(FREE);
    expect<u8>(load<u8>(OWNERS + FIRST + 6)).toBe(MINE);
    expect<u8>(load<u8>(OWNERS + FIRST + 11)).toBe(MINE);
    expect<u8>(load<u8>(OWNERS + FIRST + 13)).toBe(FREE);
    expect<u32>(theHeap().ownedPages).toBe(22);
    expect<bool>(grow(1, 2)).toBe(true);
    expect<u32>(nodeOfPage(FIRST)).toBe(1);
    expect<u32>(changetype<Arena>(arenaOf(1)).ownedPages).toBe(2);
    expectAgreement();
  });

  it("has none where no run is long enough", () => {
    fresh();
    for (let frame = FIRST; frame < FRAMES; frame += 4) store<u8>(OWNERS + frame, 2 << 1);
    expect<bool>(grow(0, 4)).toBe(false);
    expect<bool>(grow(0, 3)).toBe(true);
    expect<bool>(grow(1, 1)).toBe(false);
    expectAgreement();
  });

  it("finds a run that ends with the machine's last frame", () => {
    fresh();
    memory.fill(OWNERS + FIRST, 2 << 1, FRAMES - FIRST - 5);
    expect<bool>(grow(0, 6)).toBe(false);
    expect<bool>(grow(0, 5)).toBe(true);
    expect<u8>(load<u8>(OWNERS + FRAMES - 1)).toBe(MINE);
    expectAgreement();
  });

  it("keeps to the limits of the heap and of the node", () => {
    fresh(20);
    expect<bool>(grow(0, 5)).toBe(false);
    expect<bool>(grow(0, 4)).toBe(true);
    expect<bool>(grow(0, 1)).toBe(false);
    fresh();
    expect<i32>(setNodeLimit(0, 19)).toBe(0);
    expect<bool>(grow(0, 4)).toBe(false);
    expect<bool>(grow(0, 3)).toBe(true);
    expectAgreement();
  });

  it("claims frames of several nodes where no node has as many together, each on its own", () => {
    fresh();
    for (let frame = FIRST; frame < FRAMES; frame += 3) place(frame, 1, 1);
    store<u8>(OWNERS + FIRST + 1, 2 << 1); // the kernel's
    expect<bool>(grow(0, 4)).toBe(false);
    lock();
    expect<bool>(growMixed(7)).toBe(true);
    unlock();
    expect<u8>(load<u8>(OWNERS + FIRST)).toBe(FREE);
    expect<u8>(load<u8>(OWNERS + FIRST + 2)).toBe(MINE);
    expect<u8>(load<u8>(OWNERS + FIRST + 9)).toBe(FREE);
    expect<u32>(nodeOfPage(FIRST + 3)).toBe(1);
    expect<u32>(nodeOfPage(FIRST + 4)).toBe(0);
    expect<u32>(changetype<Arena>(arenaOf(1)).ownedPages).toBe(2);
    expect<u32>(theHeap().ownedPages).toBe(23);
    expectAgreement();
  });

  it("claims no frames of a node that the heap does not know", () => {
    fresh();
    place(FIRST, FRAMES - FIRST, 2);
    place(FIRST + 8, 4, 1);
    lock();
    expect<bool>(growMixed(5)).toBe(false);
    expect<bool>(growMixed(4)).toBe(true);
    unlock();
    expect<u32>(nodeOfPage(FIRST + 8)).toBe(1);
    expectAgreement();
  });

  it("takes more at a time the more it owns", () => {
    fresh();
    expect<bool>(grow(0, 256)).toBe(true);
    expect<u32>(theHeap().ownedPages).toBe(16 + 256 + 2);
    expect<bool>(grow(0, 1)).toBe(true);
    expect<u32>(theHeap().ownedPages).toBe(16 + 258 + 3);
  });

  it("knows which frames may hold old bytes", () => {
    fresh();
    store<u8>(OWNERS + FIRST + 1, FREE | DIRTY);
    expect<bool>(grow(0, 3)).toBe(true);
    expect<u32>(flagsOf(FIRST + 1) & PAGE_TOUCHED).toBe(PAGE_TOUCHED);
    expect<u32>(flagsOf(FIRST + 2) & PAGE_TOUCHED).toBe(0);
    expect<u8>(load<u8>(OWNERS + FIRST + 1)).toBe(MINE | DIRTY);
  });

  it("touches frames by the node its vCPU really runs on, once", () => {
    fresh();
    store<u8>(TOUCHERS + FIRST, 1);
    expect<bool>(grow(0, 2)).toBe(true);
    expect<u8>(load<u8>(TOUCHERS + FIRST)).toBe(1);
    expect<u8>(load<u8>(TOUCHERS + FIRST + 1)).toBe(2);
    expect<u8>(load<u8>(TOUCHERS + FIRST + 2)).toBe(0);
  });

  it("releases free pages, dirty, down to what is to be kept", () => {
    fresh();
    expect<bool>(grow(0, 400)).toBe(true);
    const free = theHeap().freePages;
    expect<u32>(releaseFrames(50)).toBe(free - 50);
    expect<u32>(theHeap().freePages).toBe(50);
    expectAgreement();
    expect<u32>(releaseFrames(0)).toBe(50);
    expect<u32>(changetype<Arena>(arenaOf(0)).ownedPages).toBe(theHeap().ownedPages);
    expect<u8>(load<u8>(OWNERS + FIRST + 300)).toBe(FREE | DIRTY);
    expectAgreement();
    expect<bool>(grow(0, 40)).toBe(true);
    expectAgreement();
  });

  it("claims what was claimed whole before a death, and releases the rest", () => {
    fresh();
    const h = theHeap();
    // Claimed, and died before the pages were made.
    lock();
    memory.fill(OWNERS + FIRST, MINE, 5);
    h.growBefore = FIRST;
    h.growGot = FIRST + 1;
    h.growNode = 0;
    h.growPages = 5;
    recoverAndRebuild();
    unlock();
    expect<u32>(h.growPages).toBe(0);
    expect<u32>(h.ownedPages).toBe(21);
    expectAgreement();
    // Claimed in part; a frame between is another's.
    lock();
    memory.fill(OWNERS + FIRST + 8, MINE, 2);
    store<u8>(OWNERS + FIRST + 10, 9 << 1);
    h.growBefore = FIRST + 8;
    h.growGot = 0;
    h.growPages = 4;
    recoverAndRebuild();
    unlock();
    expect<u32>(h.ownedPages).toBe(21);
    expect<u8>(load<u8>(OWNERS + FIRST + 8)).toBe(FREE | DIRTY);
    expect<u8>(load<u8>(OWNERS + FIRST + 10)).toBe(9 << 1);
    // Released in part: off the lists, the first page's flags gone.
    lock();
    const run = anyRun(0);
    takeRange(run, 4);
    setFlags(run, 0);
    h.growBefore = run;
    h.growPages = 4;
    recoverAndRebuild();
    unlock();
    expect<u32>(h.ownedPages).toBe(17);
    expectAgreement();
  });

  it("refuses a machine that does not cover the heap, and an owner beyond a byte", () => {
    fresh();
    const end = BASE + 16 * 8192;
    expect<i32>(createInFrames(BASE, end, FRAMES, 2, 20, 8, 8192, 8192, 8192, 8192)).toBe(28);
    expect<i32>(createInFrames(BASE, end, FRAMES, 2, FRAMES, 128, 8192, 8192, 8192, 8192)).toBe(28);
  });
});
