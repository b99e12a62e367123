// Memory policies: which nodes blocks come from under each of Linux's modes, small and large.

import { MAX_NODES } from "../../assembly/layout";
import { EINVAL, ENOMEM, nearest, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL } from "../../assembly/size-class";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import {
  POLICY_BIND,
  POLICY_DEFAULT,
  POLICY_INTERLEAVE,
  POLICY_LOCAL,
  POLICY_PREFERRED,
  POLICY_PREFERRED_MANY,
  POLICY_WEIGHTED_INTERLEAVE,
  allowedNodes,
  charge,
  distanceOf,
  existingNodes,
  homeOf,
  nextTarget,
  writeOrder,
} from "../../assembly/policy";
import { rebind, setDistance, setNodes } from "../../assembly/topology";
import { pageOf } from "../../assembly/page-map";
import { errno, moveThread, nodeOf, setPolicy, setWeight, settle, threadNode } from "../../assembly/control";
import { END, check, expectOnly, expectSound, fresh, freshSpread, makeHeaders } from "./rig";

/** Where the next block should come from; it is taken. */
function oneTarget(): u32 {
  const node = nextTarget(thread, 1);
  charge(theThread(), 1);
  return node;
}

/** Allocates `count` blocks of `size`; the mask of their nodes. They are kept. */
function take(blocks: usize[], size: usize, count: i32): u32 {
  let nodes: u32 = 0;
  for (let i = 0; i < count; ++i) {
    const block = malloc(size);
    expect<usize>(block).not.toBe(0);
    nodes |= 1 << nodeOf(block);
    blocks.push(block);
  }
  return nodes;
}

/** As take, but the blocks are freed. */
function nodesOf(size: usize, count: i32): u32 {
  const blocks: usize[] = [];
  const nodes = take(blocks, size, count);
  for (let i = 0; i < count; ++i) free(blocks[i]);
  return nodes;
}

describe("policy", () => {
  it("local and default: the node the thread runs on", () => {
    freshSpread();
    for (let node: u32 = 0; node < 4; ++node) {
      expect<i32>(moveThread(node)).toBe(0);
      expect<i32>(threadNode()).toBe(node);
      expect<i32>(setPolicy(node & 1 ? POLICY_LOCAL : POLICY_DEFAULT, 0)).toBe(0);
      expect<u32>(nodesOf(100, 50)).toBe(1 << node);
      expect<u32>(nodesOf(80_000, 3)).toBe(1 << node);
    }
    expectOnly([]);
  });

  it("preferred: that node, and others when it is full", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_PREFERRED, 1 << 2)).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 2);
    expect<u32>(nodesOf(80_000, 3)).toBe(1 << 2);
    const blocks: usize[] = [];
    for (let i = 0; i < 40; ++i) blocks.push(malloc(80_000));
    let elsewhere: u32 = 0;
    for (let i = 0; i < 40; ++i) elsewhere |= 1 << nodeOf(blocks[i]);
    expect<u32>(elsewhere & ~(1 << 2)).not.toBe(0);
    expectOnly(blocks);
  });

  it("preferred many: the nearest node of the mask", () => {
    freshSpread();
    expect<i32>(setDistance(0, 3, 15)).toBe(0);
    expect<i32>(setPolicy(POLICY_PREFERRED_MANY, (1 << 1) | (1 << 3))).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 3);
    expect<i32>(setDistance(0, 1, 12)).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 1);
    expectSound();
  });

  it("bind: no other node, whatever happens", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_BIND, 1 << 1)).toBe(0);
    const blocks: usize[] = [];
    for (let block = malloc(5000); block != 0; block = malloc(5000)) blocks.push(block);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<usize>(malloc(MAX_SMALL + 1)).toBe(0);
    expect<bool>(blocks.length >= 60).toBe(true);
    for (let i = 0; i < blocks.length; ++i) expect<i32>(nodeOf(blocks[i])).toBe(1);
    expectOnly(blocks);
    expect<i32>(setPolicy(POLICY_DEFAULT, 0)).toBe(0);
    expect<usize>(malloc(5000)).not.toBe(0);
  });

  it("bind to several: the nearest first, then the others of the mask", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_BIND, (1 << 1) | (1 << 2))).toBe(0);
    const blocks: usize[] = [];
    let nodes: u32 = 0;
    for (let block = malloc(30_000); block != 0; block = malloc(30_000)) {
      if (nodes == 0) expect<i32>(nodeOf(block)).toBe(1);
      nodes |= 1 << nodeOf(block);
      blocks.push(block);
    }
    expect<u32>(nodes).toBe((1 << 1) | (1 << 2));
    expectOnly(blocks);
  });

  it("interleave: one after the other, over the mask only", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_INTERLEAVE, (1 << 0) | (1 << 2) | (1 << 3))).toBe(0);
    const first = oneTarget();
    const second = oneTarget();
    const third = oneTarget();
    expect<u32>((1 << first) | (1 << second) | (1 << third)).toBe((1 << 0) | (1 << 2) | (1 << 3));
    expect<u32>(oneTarget()).toBe(first);
    expect<u32>(nodesOf(30_000, 12)).toBe((1 << 0) | (1 << 2) | (1 << 3));
    expectOnly([]);
  });

  it("weighted interleave: as often as the weights say", () => {
    freshSpread();
    expect<i32>(setWeight(0, 5)).toBe(0);
    expect<i32>(setWeight(1, 2)).toBe(0);
    expect<i32>(setPolicy(POLICY_WEIGHTED_INTERLEAVE, (1 << 0) | (1 << 1) | (1 << 2))).toBe(0);
    const counts: u32[] = [0, 0, 0, 0];
    for (let i = 0; i < 80; ++i) {
      const target = oneTarget(); // `+=` would evaluate an index twice
      counts[target] += 1;
    }
    expect<u32>(counts[0]).toBe(50);
    expect<u32>(counts[1]).toBe(20);
    expect<u32>(counts[2]).toBe(10); // no weight is weight 1
    expect<u32>(counts[3]).toBe(0);
  });

  it("a strict allocation takes from its node or fails", () => {
    freshSpread();
    for (let node: u32 = 0; node < 4; ++node) {
      const small = mallocOnNode(200, node);
      const large = mallocOnNode(70_000, node);
      expect<i32>(nodeOf(small)).toBe(node);
      expect<i32>(nodeOf(large)).toBe(node);
      free(small);
      free(large);
    }
    expect<usize>(mallocOnNode(600_000, 3)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<usize>(mallocOnNode(100, 4)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    expectOnly([]);
  });

  it("that names only vanished nodes is as none, until they are back", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_PREFERRED, 1 << 3)).toBe(0);
    expect<i32>(setNodes(2)).toBe(0);
    settle();
    expect<u32>(theThread().home).toBe(0);
    expect<usize>(malloc(100)).not.toBe(0);
    expect<i32>(setNodes(4)).toBe(0);
    settle();
    expect<u32>(theThread().home).toBe(3);
    expectSound();
  });

  it("interleaving goes on evenly while blocks are freed and taken", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    const blocks: usize[] = [];
    take(blocks, 100, 200);
    const counts: i32[] = [0, 0, 0, 0];
    for (let i = 0; i < 20_000; ++i) {
      const at = (i * 7919) % 200;
      free(blocks[at]);
      blocks[at] = malloc(100);
      counts[nodeOf(blocks[at])] += 1;
    }
    for (let node = 0; node < 4; ++node) check(counts[node] >= 4900 && counts[node] <= 5100, "a node had more or fewer turns than others");
    expectOnly(blocks);
  });

  it("preferred many: when the nearest is full, the others of the mask come before nearer ones", () => {
    freshSpread();
    expect<i32>(setDistance(0, 1, 11)).toBe(0);
    expect<i32>(setDistance(0, 2, 12)).toBe(0);
    expect<i32>(setPolicy(POLICY_PREFERRED_MANY, (1 << 2) | (1 << 3))).toBe(0);
    const blocks: usize[] = [];
    const mask: u32 = (1 << 2) | (1 << 3);
    // 64 pages each, of 3 a span: node 2 is full before this ends.
    const nodes = take(blocks, 20_000, 36);
    expect<u32>(nodes).toBe(mask);
    expectOnly(blocks);
  });

  it("bound to a node whose pages are another's now and that has vanished, a thread gets nothing of what it had cached", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_BIND, 1 << 3)).toBe(0);
    free(malloc(100));
    expect<i32>(rebind(pageOf(END) - 64, 64, 0)).toBe(0);
    expect<i32>(setNodes(2)).toBe(0);
    expect<usize>(malloc(100)).toBe(0);
    expectOnly([]);
  });

  it("default: a mask of nodes that come later means nothing", () => {
    fresh(2);
    expect<i32>(setPolicy(POLICY_DEFAULT, 1 << 3)).toBe(0);
    expect<i32>(setNodes(4)).toBe(0);
    expect<u32>(nodesOf(100, 10)).toBe(1 << 0);
    expectOnly([]);
  });

  it("interleaving lets nothing that is freed wait without bound", () => {
    fresh();
    for (let node: u32 = 0; node < 4; ++node) free(mallocOnNode(100, node));
    const before = theHeap().freePages;
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b0001)).toBe(0);
    const blocks: usize[] = [];
    take(blocks, 64, 20_000);
    for (let i = 0; i < 20_000; ++i) free(blocks[i]);
    check(theHeap().freePages + 8 >= before, "what was freed waits");
    expectOnly([]);
  });

  it("bound to nodes that have vanished, a thread gets nothing: its own node's blocks neither", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_BIND, 1 << 3)).toBe(0);
    const mine = mallocOnNode(100, 0);
    const theirs = malloc(100);
    expect<i32>(nodeOf(theirs)).toBe(3);
    expect<i32>(setNodes(2)).toBe(0);
    settle();
    free(mine);
    expect<usize>(malloc(100)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    free(theirs);
    expectOnly([]);
  });
});

describe("nodes", () => {
  it("that exist are a mask of as many bits", () => {
    fresh();
    for (let nodes: u32 = 1; nodes <= MAX_NODES; ++nodes) {
      expect<i32>(setNodes(nodes)).toBe(0);
      expect<u32>(existingNodes()).toBe(<u32>(((<u64>1) << nodes) - 1));
    }
  });

  it("that a thread may use are all, but those of its mask where it is bound", () => {
    fresh();
    expect<u32>(allowedNodes(theThread())).toBe(0b1111);
    expect<i32>(setPolicy(POLICY_PREFERRED, 0b0100)).toBe(0);
    expect<u32>(allowedNodes(theThread())).toBe(0b1111);
    expect<i32>(setPolicy(POLICY_BIND, 0b10110)).toBe(0);
    expect<u32>(allowedNodes(theThread())).toBe(0b0110);
    expect<i32>(setNodes(2)).toBe(0);
    expect<u32>(allowedNodes(theThread())).toBe(0b0010);
  });

  it("are ordered each once, by distances that need not be symmetric", () => {
    fresh(8);
    for (let from: u32 = 0; from < 8; ++from) {
      for (let to: u32 = 0; to < 8; ++to) {
        if (from != to) check(setDistance(from, to, 11 + ((from * 5 + to * 3) % 7)) == 0, "refused");
      }
    }
    for (let node: u32 = 0; node < 8; ++node) {
      theThread().node = node;
      writeOrder(thread);
      expect<u32>(nearest(thread, 0)).toBe(node);
      let seen: u32 = 1 << node;
      for (let i: u32 = 1; i < 8; ++i) {
        const next = nearest(thread, i);
        const last = nearest(thread, i - 1);
        seen |= 1 << next;
        if (i == 1) continue;
        const further = distanceOf(node, next) - distanceOf(node, last);
        check(<i32>further > 0 || (further == 0 && next > last), "out of order");
      }
      expect<u32>(seen).toBe(0xff);
      for (let i: u32 = 8; i < MAX_NODES; ++i) check(nearest(thread, i) >= 8, "a node that exists, twice");
    }
  });

  it("of a mask give a thread its home: the nearest, wherever the thread is", () => {
    fresh();
    expect<i32>(setDistance(0, 3, 11)).toBe(0);
    expect<i32>(setPolicy(POLICY_PREFERRED_MANY, 0b1110)).toBe(0);
    expect<u32>(homeOf(theThread())).toBe(3);
    expect<i32>(moveThread(2)).toBe(0);
    expect<u32>(homeOf(theThread())).toBe(2);
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b0010)).toBe(0);
    expect<u32>(homeOf(theThread())).toBe(2); // interleaving caches what is its own
    expectSound();
  });

  it("interleaving does not reach pages of nodes that are gone", () => {
    fresh();
    makeHeaders();
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0b1111)).toBe(0);
    expect<i32>(rebind(0, pageOf(END), 3)).toBe(0);
    expect<i32>(setNodes(2)).toBe(0);
    const large = malloc(300_000);
    check(large == 0 || nodeOf(large) < 2, "on a node that is gone");
  });

  it("interleaving counts from where the policy is set: no block of the cache before", () => {
    freshSpread();
    for (let i = 0; i < 8; ++i) nodesOf(100, 50);
    expect<i32>(setPolicy(POLICY_INTERLEAVE, (1 << 1) | (1 << 2))).toBe(0);
    expect<u32>(nodesOf(100, 100)).toBe((1 << 1) | (1 << 2));
  });

  it("a strict allocation finds what is cached when there is nothing else", () => {
    fresh(1);
    const blocks: usize[] = [];
    for (let block = malloc(1000); block != 0; block = malloc(1000)) blocks.push(block);
    for (let i = 0; i < 60; ++i) free(blocks.pop());
    expect<usize>(mallocOnNode(1000, 0)).not.toBe(0);
  });
});
