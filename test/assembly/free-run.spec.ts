// Free runs: best fit, cut, joined within a node and never across nodes; and a random sequence against a model.

import { Arena, EXACT_RUNS } from "../../assembly/layout";
import { nextRandom, theHeap } from "../../assembly/instance";
import { arenaOf, endOfPages, nodeOfPage, pageOf } from "../../assembly/page-map";
import {
  fileFree,
  fileRun,
  findMixed,
  freeRunAt,
  freeRunCovering,
  freeRunEndingAt,
  takeRange,
  takeRoomy,
  takeRun,
} from "../../assembly/free-run";
import { grow } from "../../assembly/page-source";
import { makeArena } from "../../assembly/metadata";
import { placePage } from "../../assembly/page-heap";
import { BASE, END, check, expectSound, fresh, freshGrowing } from "./rig";

/** First page of the one free run of a fresh heap. */
function firstFree(): u32 {
  let page = pageOf(BASE);
  while (!freeRunAt(page)) ++page;
  return page;
}

function freeOn(node: u32): u32 {
  return changetype<Arena>(arenaOf(node)).freePages;
}

/** Takes pages of node 0 one length after the other, each kept from the next by a page that stays taken: their firsts. */
function takeApart(lengths: u32[]): u32[] {
  const firsts: u32[] = [];
  for (let i = 0; i < lengths.length; ++i) {
    firsts.push(takeRun(0, lengths[i] + 1));
    check(firsts[i] != 0, "no pages");
  }
  return firsts;
}

describe("free runs", () => {
  it("begin as one", () => {
    fresh();
    const first = firstFree();
    expect<u32>(freeRunAt(first)).toBe(pageOf(END) - first);
    expect<u32>(freeRunEndingAt(pageOf(END) - 1)).toBe(pageOf(END) - first);
    expect<u32>(theHeap().freePages).toBe(pageOf(END) - first);
    expect<u32>(freeOn(0)).toBe(theHeap().freePages);
    expect<u32>(freeRunCovering((first + pageOf(END)) / 2)).toBe(first);
    expect<u32>(freeRunCovering(first - 1)).toBe(0);
    expectSound();
  });

  it("are cut, and joined with both neighbours again", () => {
    fresh();
    const before = theHeap().freePages;
    const first = firstFree();
    const a = takeRun(0, 3);
    const b = takeRun(0, 5);
    const c = takeRun(0, 2);
    expect<u32>(a).toBe(first);
    expect<u32>(b).toBe(a + 3);
    expect<u32>(c).toBe(b + 5);
    expect<u32>(theHeap().freePages).toBe(before - 10);
    expect<u32>(freeRunAt(a)).toBe(0);
    fileFree(a, 3);
    expect<u32>(freeRunAt(a)).toBe(3);
    expect<u32>(freeRunEndingAt(a + 2)).toBe(3);
    fileFree(c, 2);
    expect<u32>(freeRunAt(c)).toBe(before - 8);
    fileFree(b, 5);
    expect<u32>(freeRunAt(a)).toBe(before);
    expect<u32>(freeRunAt(b)).toBe(0);
    expect<u32>(freeRunAt(c)).toBe(0);
    expect<u32>(freeRunCovering(c)).toBe(a);
    expect<u32>(theHeap().freePages).toBe(before);
    expectSound();
  });

  it("fit best: the shortest that will do, whatever its length", () => {
    fresh();
    const lengths: u32[] = [40, 1, 64, 3, 65, 2, 63, 20];
    const firsts = takeApart(lengths);
    for (let i = 0; i < lengths.length; ++i) fileFree(firsts[i], lengths[i]);
    const order: u32[] = [1, 2, 3, 20, 40, 63, 64, 65];
    for (let i = 0; i < order.length; ++i) {
      const which = lengths.indexOf(order[i]);
      expect<u32>(takeRun(0, order[i])).toBe(firsts[which]);
    }
    for (let i = 0; i < lengths.length; ++i) fileFree(firsts[i], lengths[i] + 1);
    expectSound();
  });

  it("fit best among long ones too, the lowest of several", () => {
    fresh(1);
    const long = EXACT_RUNS + 2;
    const firsts = takeApart([long, long + 1, long]);
    fileFree(firsts[2], long);
    fileFree(firsts[1], long + 1);
    fileFree(firsts[0], long);
    expect<u32>(takeRun(0, long - 1)).toBe(firsts[0]);
    expect<u32>(takeRun(0, long)).toBe(firsts[2]);
    expect<u32>(takeRun(0, long)).toBe(firsts[1]);
    fileFree(firsts[0], long - 1);
    fileFree(firsts[0] + long, 1);
    fileFree(firsts[1], long);
    fileFree(firsts[1] + long + 1, 1);
    fileFree(firsts[2], long + 1);
    expectSound();
  });

  it("have room for what grows where they are six times as long: in the middle, or near the start", () => {
    fresh(1);
    const near = takeRoomy(0, 2);
    expect<u32>(near).toBe(firstFree() + 12);
    fileFree(near, 2);
    const lengths: u32[] = [EXACT_RUNS + 2, 100, EXACT_RUNS + 40, 30];
    const firsts = takeApart(lengths);
    const rest = takeRun(0, theHeap().freePages);
    expect<u32>(takeRoomy(0, 1)).toBe(0);
    expect<u32>(takeRoomy(1, 1)).toBe(0);
    fileFree(firsts[3], 30);
    expect<u32>(takeRoomy(0, 6)).toBe(0);
    expect<u32>(takeRoomy(0, 5)).toBe(firsts[3] + 12);
    fileFree(firsts[1], 100);
    expect<u32>(takeRoomy(0, 16)).toBe(firsts[1] + 42);
    fileFree(firsts[0], EXACT_RUNS + 2);
    fileFree(firsts[2], EXACT_RUNS + 40);
    expect<u32>(takeRoomy(0, 22)).toBe(firsts[2] + 73);
    fileFree(firsts[2] + 73, 22);
    fileFree(firsts[1] + 42, 16);
    fileFree(firsts[3] + 12, 5);
    for (let i = 0; i < lengths.length; ++i) fileFree(firsts[i] + lengths[i], 1);
    fileFree(rest, pageOf(END) - rest);
    expectSound();
  });

  it("are kept for a block like the largest there was, if that was most of the heap", () => {
    fresh(1);
    const h = theHeap();
    const most = h.freePages;
    h.largestSpan = most;
    expect<u32>(takeRoomy(0, 5)).toBe(0);
    h.largestSpan = most - 100;
    expect<u32>(takeRoomy(0, 5)).not.toBe(0);
  });

  it("serve all there is, and no more", () => {
    fresh();
    const all = theHeap().freePages;
    expect<u32>(takeRun(0, all + 1)).toBe(0);
    expect<u32>(takeRun(0, all)).toBe(pageOf(END) - all);
    expect<u32>(takeRun(0, 1)).toBe(0);
    expect<u32>(theHeap().freePages).toBe(0);
    fileFree(pageOf(END) - all, all);
    expectSound();
  });

  it("have none on a node without an arena", () => {
    fresh();
    expect<u32>(takeRun(3, 1)).toBe(0);
    expectSound();
  });
});

describe("free runs at the end of the memory", () => {
  it("are cut from the front for a few pages, from the end for many", () => {
    freshGrowing();
    expect<bool>(grow(0, 200, false)).toBe(true);
    const end = endOfPages();
    const length = freeRunEndingAt(end - 1);
    const many = takeRun(0, 150);
    const few = takeRun(0, length - 150);
    expect<u32>(many).toBe(end - 150);
    expect<u32>(few).toBe(end - length);
    fileFree(few, length - 150);
    const one = takeRun(0, 1);
    expect<bool>(one < many).toBe(true);
    fileFree(many, 150);
    expect<bool>(freeRunEndingAt(end - 1) >= 150).toBe(true);
    fileFree(one, 1);
    expectSound();
  });
});

describe("free runs of several nodes", () => {
  it("are filed by the true node of each page, and never join across nodes", () => {
    fresh();
    expect<usize>(makeArena(1)).not.toBe(0);
    expect<usize>(makeArena(2)).not.toBe(0);
    const page = takeRun(0, 10);
    for (let i: u32 = 2; i < 5; ++i) placePage(page + i, 1);
    placePage(page + 9, 2);
    fileFree(page, 10);
    expect<u32>(freeRunAt(page)).toBe(2);
    expect<u32>(freeRunAt(page + 2)).toBe(3);
    expect<u32>(freeRunAt(page + 5)).toBe(4);
    expect<u32>(freeRunAt(page + 9)).toBe(1);
    expect<bool>(freeRunAt(page + 10) > 0).toBe(true);
    expect<u32>(freeOn(1)).toBe(3);
    expect<u32>(freeOn(2)).toBe(1);
    expect<u32>(takeRun(1, 4)).toBe(0);
    expect<u32>(takeRun(1, 3)).toBe(page + 2);
    fileRun(page + 2, 3, 1);
    expectSound();
  });

  it("are found across nodes, over those of a mask only", () => {
    fresh();
    expect<usize>(makeArena(1)).not.toBe(0);
    const guard = takeRun(0, 1);
    const page = takeRun(0, 6);
    const end = takeRun(0, 1);
    placePage(page + 3, 1);
    fileFree(page, 6);
    const all = pageOf(END);
    expect<u32>(findMixed(page, all, 6, 0b11)).toBe(page);
    expect<u32>(findMixed(page, end, 4, 0b01)).toBe(0);
    expect<u32>(findMixed(page, end, 3, 0b01)).toBe(page);
    expect<u32>(findMixed(page, end, 1, 0b10)).toBe(page + 3);
    expect<u32>(findMixed(page, all, 7, 0b11)).toBe(end + 1);
    takeRange(page, 6);
    expect<u32>(findMixed(page, end, 1, 0b11)).toBe(0);
    expect<u32>(freeOn(1)).toBe(0);
    fileFree(guard, 8);
    expectSound();
  });

  it("are taken by range, whole or in part", () => {
    fresh();
    expect<usize>(makeArena(1)).not.toBe(0);
    const page = takeRun(0, 8);
    for (let i: u32 = 0; i < 4; ++i) placePage(page + i, 1);
    fileFree(page, 8);
    const before = theHeap().freePages;
    takeRange(page, 6);
    expect<u32>(theHeap().freePages).toBe(before - 6);
    expect<u32>(freeRunAt(page)).toBe(0);
    expect<bool>(freeRunAt(page + 6) >= 2).toBe(true);
    fileFree(page, 6);
    expectSound();
  });
});

// ---- a random sequence and its model: state[i] of page i is taken or the node it is free on

const TAKEN: u8 = 255;
const NODES: u32 = 3;

/** Length of the model's run of one state from `page` on. */
function runOf(state: StaticArray<u8>, page: i32): i32 {
  let end = page + 1;
  while (end < state.length && state[end] == state[page]) ++end;
  return end - page;
}

/** Shortest free run of at least `pages` on `node` in the model, 0 if there is none. */
function shortest(state: StaticArray<u8>, node: u8, pages: i32): i32 {
  let best = 0;
  for (let page = 0; page < state.length;) {
    const length = runOf(state, page);
    if (state[page] == node && length >= pages && (best == 0 || length < best)) best = length;
    page += length;
  }
  return best;
}

function random(below: u32): u32 {
  return <u32>(nextRandom() % below);
}

describe("a random sequence", () => {
  it("of takes, frees and moves between nodes is what a plain array says", () => {
    fresh();
    for (let node: u32 = 1; node < NODES; ++node) expect<usize>(makeArena(node)).not.toBe(0);
    const first = firstFree();
    const state = new StaticArray<u8>(pageOf(END) - first);
    for (let step = 0; step < 4000; ++step) {
      if (step & 1) {
        const node = <u8>random(NODES);
        const pages = <i32>random(step % 16 == 1 ? 200 : 12) + 1;
        const length = shortest(state, node, pages);
        const page = takeRun(node, pages);
        check((page != 0) == (length != 0), "found, or not, wrongly");
        if (page == 0) continue;
        const at = <i32>(page - first);
        check(state[at] == node && runOf(state, at) == length, "not the best fit");
        check(at == 0 || state[at - 1] != node, "not from the start of a run");
        for (let i = at; i < at + pages; ++i) state[i] = TAKEN;
      } else {
        const at = <i32>random(state.length);
        if (state[at] != TAKEN) continue;
        const pages = min<i32>(runOf(state, at), <i32>random(30) + 1);
        const node = <u8>random(NODES);
        // Some move first, so that what is freed is of several nodes.
        for (let i = at; i < at + pages; ++i) if ((i / 3) & 1) placePage(first + i, node);
        fileFree(first + at, pages);
        for (let i = at; i < at + pages; ++i) state[i] = <u8>nodeOfPage(first + i);
      }
      if (step % 50 == 0) compare(state, first);
    }
    for (let at = 0; at < state.length; ++at) if (state[at] == TAKEN) fileFree(first + at, 1);
    expectSound();
  });
});

function compare(state: StaticArray<u8>, first: u32): void {
  let free: u32 = 0;
  for (let at = 0; at < state.length;) {
    const length = runOf(state, at);
    if (state[at] != TAKEN) {
      check(freeRunAt(first + at) == <u32>length, "another length at the start");
      check(freeRunEndingAt(first + at + length - 1) == <u32>length, "another length at the end");
      free += length;
    } else {
      check(freeRunAt(first + at) == 0 && freeRunEndingAt(first + at + length - 1) == 0, "a run of taken pages");
    }
    at += length;
  }
  check(free == theHeap().freePages, "another number of free pages");
}
