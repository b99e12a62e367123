// Memory policies: which nodes blocks come from under each of Linux's modes, small and large.

import { Heap, Thread } from "../../assembly/layout";
import { heap, nearest, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL } from "../../assembly/size-class";
import { pageOf } from "../../assembly/page-map";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import {
  POLICY_BIND,
  POLICY_DEFAULT,
  POLICY_INTERLEAVE,
  POLICY_LOCAL,
  POLICY_PREFERRED,
  POLICY_PREFERRED_MANY,
  POLICY_WEIGHTED_INTERLEAVE,
  charge,
  nextTarget,
} from "../../assembly/policy";
import { rebind, setDistance, setNodes, setVcpuNode } from "../../assembly/topology";
import { errno, moveThread, nodeOf, setPolicy, setWeight, settle, threadNode } from "../../assembly/control";
import { END, expectOnly, expectSound, fresh } from "./rig";

/** Four nodes of 64 pages and more each; node 0 has the rest. */
function spread(): void {
  fresh();
  for (let node: u32 = 1; node < 4; ++node) expect<i32>(rebind(pageOf(END) - 64 * node, 64, node)).toBe(0);
  settle();
}

/** Where the next block should come from; it is taken. */
function oneTarget(): u32 {
  const node = nextTarget(thread, 1);
  charge(theThread(), 1);
  return node;
}

/** Nodes of `count` blocks of `size`, as a mask; the blocks are freed. */
function nodesOf(size: usize, count: i32): u32 {
  const blocks: usize[] = [];
  let nodes: u32 = 0;
  for (let i = 0; i < count; ++i) {
    const block = malloc(size);
    expect<usize>(block).not.toBe(0);
    nodes |= 1 << nodeOf(block);
    blocks.push(block);
  }
  for (let i = 0; i < count; ++i) free(blocks[i]);
  return nodes;
}

describe("policy", () => {
  it("local and default: the node the thread runs on", () => {
    spread();
    for (let node: u32 = 0; node < 4; ++node) {
      expect<i32>(moveThread(node)).toBe(0);
      expect<i32>(threadNode()).toBe(node);
      expect<i32>(setPolicy(node & 1 ? POLICY_LOCAL : POLICY_DEFAULT, 0)).toBe(0);
      expect<u32>(nodesOf(100, 50)).toBe(1 << node);
      expect<u32>(nodesOf(40_000, 3)).toBe(1 << node);
    }
    expectOnly([]);
  });

  it("preferred: that node, and others when it is full", () => {
    spread();
    expect<i32>(setPolicy(POLICY_PREFERRED, 1 << 2)).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 2);
    expect<u32>(nodesOf(40_000, 3)).toBe(1 << 2);
    const blocks: usize[] = [];
    for (let i = 0; i < 40; ++i) blocks.push(malloc(40_000));
    let elsewhere: u32 = 0;
    for (let i = 0; i < 40; ++i) elsewhere |= 1 << nodeOf(blocks[i]);
    expect<u32>(elsewhere & ~(1 << 2)).not.toBe(0);
    expectOnly(blocks);
  });

  it("preferred many: the nearest node of the mask", () => {
    spread();
    expect<i32>(setDistance(0, 3, 15)).toBe(0);
    expect<i32>(setPolicy(POLICY_PREFERRED_MANY, (1 << 1) | (1 << 3))).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 3);
    expect<i32>(setDistance(0, 1, 12)).toBe(0);
    expect<u32>(nodesOf(100, 50)).toBe(1 << 1);
    expectSound();
  });

  it("bind: no other node, whatever happens", () => {
    spread();
    expect<i32>(setPolicy(POLICY_BIND, 1 << 1)).toBe(0);
    const blocks: usize[] = [];
    for (let block = malloc(5000); block != 0; block = malloc(5000)) blocks.push(block);
    expect<i32>(errno()).toBe(48);
    expect<usize>(malloc(MAX_SMALL + 1)).toBe(0);
    expect<bool>(blocks.length >= 60).toBe(true);
    for (let i = 0; i < blocks.length; ++i) expect<i32>(nodeOf(blocks[i])).toBe(1);
    expectOnly(blocks);
    expect<i32>(setPolicy(POLICY_DEFAULT, 0)).toBe(0);
    expect<usize>(malloc(5000)).not.toBe(0);
  });

  it("bind to several: the nearest first, then the others of the mask", () => {
    spread();
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
    spread();
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
    spread();
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
    spread();
    for (let node: u32 = 0; node < 4; ++node) {
      const small = mallocOnNode(200, node);
      const large = mallocOnNode(70_000, node);
      expect<i32>(nodeOf(small)).toBe(node);
      expect<i32>(nodeOf(large)).toBe(node);
      free(small);
      free(large);
    }
    expect<usize>(mallocOnNode(600_000, 3)).toBe(0);
    expect<i32>(errno()).toBe(48);
    expect<usize>(mallocOnNode(100, 4)).toBe(0);
    expect<i32>(errno()).toBe(28);
    expectOnly([]);
  });

  it("refuses modes, masks and weights that cannot be", () => {
    spread();
    expect<i32>(setPolicy(7, 1)).toBe(28);
    expect<i32>(setPolicy(POLICY_BIND, 0)).toBe(28);
    expect<i32>(setPolicy(POLICY_BIND, 1 << 4)).toBe(28);
    expect<i32>(setPolicy(POLICY_LOCAL, 1)).toBe(28);
    expect<i32>(setWeight(4, 1)).toBe(28);
    expect<i32>(setWeight(0, 0)).toBe(28);
    expect<i32>(setWeight(0, 256)).toBe(28);
    expect<i32>(moveThread(256)).toBe(28);
  });
});

describe("nodes that come and go", () => {
  it("vCPUs of a vanished node move to one that is left, and threads with them", () => {
    spread();
    expect<i32>(moveThread(3)).toBe(0);
    const block = malloc(100);
    expect<i32>(nodeOf(block)).toBe(3);
    expect<i32>(setNodes(2)).toBe(0);
    settle();
    expect<i32>(threadNode()).toBe(1);
    expect<u32>(theThread().home).toBe(1);
    expect<u32>(nodesOf(100, 30) & ~(<u32>3)).toBe(0);
    expect<i32>(nodeOf(block)).toBe(3); // its page is where it was
    free(block);
    expectOnly([]);
  });

  it("a policy that names only vanished nodes is as none", () => {
    spread();
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

  it("every change is an epoch of its own, and the order of nodes follows the distances", () => {
    spread();
    const before = theHeap().epoch;
    expect<i32>(setVcpuNode(0, 2)).toBe(0);
    expect<u32>(theHeap().epoch).not.toBe(before);
    expect<i32>(setDistance(2, 3, 11)).toBe(0);
    settle();
    expect<u32>(nearest(thread, 0)).toBe(2);
    expect<u32>(nearest(thread, 1)).toBe(3);
    expect<u32>(changetype<Thread>(thread).epoch).toBe(atomic.load<u32>(heap, offsetof<Heap>("epoch")));
    expect<u32>(theHeap().sequence & 1).toBe(0);
  });
});
