// What an instance keeps to itself: the thread-locals that the hit paths read.

import { CachedBlock, MAX_CLASSES, MAX_NODES, THREAD_ORDER } from "../../assembly/layout";
import {
  NO_HOME,
  bindThread,
  cacheList,
  epochSeen,
  heap,
  homeTag,
  lengthOf,
  listBase,
  mayBlock,
  nearest,
  nextRandom,
  remoteList,
  self,
  sentinel,
  setHome,
  theHeap,
  thread,
  weightOf,
} from "../../assembly/instance";
import { CLASSES } from "../../assembly/size-class";
import { tagFor } from "../../assembly/page-map";
import { detach } from "../../assembly/reap";
import { free, malloc } from "../../assembly/malloc";
import { epoch, setWeight } from "../../assembly/control";
import { BASE, KEY, another, become, check, expectOnly, expectSound, fresh } from "./rig";

describe("an instance", () => {
  it("knows its heap, its thread and the epoch it has seen", () => {
    fresh();
    expect<usize>(heap).toBe(BASE);
    expect<u32>(theHeap().base).toBe(<u32>BASE);
    expect<u32>(self).toBe(1);
    expect<bool>(mayBlock).toBe(true);
    expect<u32>(epochSeen).toBe(epoch());
    expect<u32>(homeTag).toBe(tagFor(0, 1));
    expectSound();
  });

  it("reaches the cache list of a class from a tag of its home alone", () => {
    fresh();
    for (let node: u32 = 0; node < MAX_NODES; ++node) {
      setHome(tagFor(node, 1), epoch());
      for (let c: u32 = 1; c < MAX_CLASSES; ++c) check(listBase + tagFor(node, c) == cacheList(thread, c), "another list");
    }
    bindThread(0, 0, false);
  });

  it("has no home whose tag could be one while it is nobody's", () => {
    for (let node: u32 = 0; node < MAX_NODES; ++node) {
      for (let c: u32 = 0; c < MAX_CLASSES; ++c) check(tagFor(node, c) - NO_HOME >= tagFor(0, MAX_CLASSES), "a tag hits");
    }
    fresh();
    const block = malloc(100);
    expect<i32>(detach()).toBe(0);
    expect<u32>(homeTag).toBe(NO_HOME);
    expect<u32>(epochSeen).not.toBe(epoch());
    free(block); // nobody's: nothing happens
    expectOnly([block]);
  });

  it("takes turns with others in the same globals", () => {
    fresh();
    const first = another(KEY + 1, 1);
    const second = thread;
    expect<u32>(self).toBe(2);
    become(first);
    expect<u32>(self).toBe(1);
    expect<usize>(listBase + homeTag).toBe(cacheList(first, 1));
    become(second, false);
    expect<bool>(mayBlock).toBe(false);
    expectSound();
  });
});

describe("a record", () => {
  it("begins with empty lists, which end at a sentinel of zeros", () => {
    fresh();
    const end = changetype<CachedBlock>(sentinel());
    expect<u32>(end.next).toBe(0);
    expect<u32>(end.depth).toBe(0);
    for (let c: u32 = 0; c < CLASSES; ++c) check(lengthOf(cacheList(thread, c)) == 0, "not empty");
    for (let node: u32 = 0; node <= MAX_NODES; ++node) check(load<u64>(remoteList(thread, node)) == 0, "not empty");
  });

  it("has an order and a weight of nodes", () => {
    fresh();
    let seen: u32 = 0;
    for (let i: u32 = 0; i < theHeap().nodes; ++i) seen |= 1 << nearest(thread, i);
    expect<u32>(seen).toBe((1 << theHeap().nodes) - 1);
    expect<u32>(nearest(thread, 0)).toBe(load<u8>(thread, THREAD_ORDER));
    expect<i32>(setWeight(2, 9)).toBe(0);
    expect<u32>(weightOf(thread, 2)).toBe(9);
  });
});

describe("random bits", () => {
  it("are both values about as often in every place, and never the same twice", () => {
    const rounds = 2000;
    let before: u64 = 0;
    for (let bit: u64 = 0; bit < 64; ++bit) {
      let ones = 0;
      for (let i = 0; i < rounds; ++i) {
        const next = nextRandom();
        check(next != before, "the same twice");
        before = next;
        ones += <i32>((next >> bit) & 1);
      }
      check(ones > rounds / 2 - rounds / 8 && ones < rounds / 2 + rounds / 8, "a bit is biased");
    }
  });
});
