// Remote frees: lists of a thread, queues of a node, and the way of a block from the one over the other to its span.

import { Arena } from "../../assembly/layout";
import { remoteList, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, pageOf } from "../../assembly/page-map";
import { REMOTE_COST, costOf, handOver, takeRemote } from "../../assembly/remote";
import { drainNode, returnCarry } from "../../assembly/thread-cache";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import { rebind } from "../../assembly/topology";
import { settle } from "../../assembly/control";
import { ELSEWHERE, END, KEY, allowBlocking, another, become, expectEmpty, expectOnly, expectSound, fresh, freshSpread } from "./rig";

/** Two nodes, the second with 256 pages. */
function twoNodes(): void {
  fresh(2);
  expect<i32>(rebind(pageOf(END) - 256, 256, 1)).toBe(0);
  settle();
}

function queue(node: u32): u32 {
  return changetype<Arena>(arenaOf(node)).queueHead;
}
function listed(node: u32): u32 {
  return load<u32>(remoteList(thread, node));
}

describe("the cost of a block", () => {
  it("is such that a list is at most 64 blocks and about 16 KiB", () => {
    expect<bool>(costOf(8) * 63 < REMOTE_COST + costOf(8)).toBe(true);
    expect<bool>(costOf(8) * 64 >= REMOTE_COST).toBe(true);
    for (let size: u32 = 8; size <= MAX_SMALL; size <<= 1) {
      const blocks = (REMOTE_COST + costOf(size) - 1) / costOf(size);
      expect<bool>(blocks == 1 || (blocks - 1) * size <= 16384).toBe(true);
    }
  });
});

describe("remote frees", () => {
  it("are handed over when their cost calls for it, small blocks in larger batches", () => {
    twoNodes();
    const sizes: usize[] = [8, 100, 1000, 8192, 32768];
    for (let i = 0; i < sizes.length; ++i) {
      const size = sizes[i];
      const each = costOf(classInfo(classOf(size)).size);
      const batch = (REMOTE_COST + each - 1) / each;
      const blocks: usize[] = [];
      for (let n: u32 = 0; n < batch; ++n) blocks.push(mallocOnNode(size, 1));
      for (let n: u32 = 0; n < batch; ++n) {
        expect<u32>(queue(1)).toBe(0);
        free(blocks[n]);
        expectOnly(blocks.slice(n + 1));
      }
      expect<u32>(listed(1)).toBe(0);
      expect<u32>(queue(1)).toBe(<u32>blocks[batch - 1]);
      expect<bool>(takeRemote(thread, 1)).toBe(true);
      expect<bool>(returnCarry(thread)).toBe(true);
      expectOnly([]);
    }
  });

  it("are taken from a queue batch by batch, and all by a drain", () => {
    twoNodes();
    const blocks: usize[] = [];
    for (let i = 0; i < 1000; ++i) blocks.push(mallocOnNode(64, 1));
    for (let i = 0; i < 1000; ++i) free(blocks[i]);
    const head = queue(1);
    expect<u32>(head).not.toBe(0);
    expect<bool>(takeRemote(thread, 1)).toBe(true);
    expect<u32>(theThread().carry).toBe(head);
    expect<u32>(queue(1)).not.toBe(0);
    expectSound();
    expect<bool>(drainNode(thread, 1)).toBe(true);
    expect<u32>(queue(1)).toBe(0);
    expectOnly([]);
  });

  it("serve their node's thread again: what it hands out comes back through the queue", () => {
    twoNodes();
    const consumer = another(KEY + 1, 1); // goes on as a thread of node 1, the producer
    const producer = thread;
    let most: u32 = 0;
    for (let round = 0; round < 200; ++round) {
      become(producer);
      const blocks: usize[] = [];
      for (let i = 0; i < 200; ++i) blocks.push(malloc(100));
      become(consumer);
      for (let i = 0; i < 200; ++i) free(blocks[i]);
      const used = theHeap().ownedPages - theHeap().freePages;
      if (round == 20) most = used;
      if (round > 20 && used > most + 8) expect<u32>(used).toBe(most, "it grows");
    }
    expectOnly([]);
  });

  it("wait in the list of their node, each apart from the others", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let node: u32 = 1; node < 4; ++node) {
      const block = mallocOnNode(100, node);
      free(block);
      blocks.push(block);
    }
    for (let node: u32 = 1; node < 4; ++node) expect<u32>(listed(node)).toBe(<u32>blocks[node - 1]);
    expect<u32>(listed(0)).toBe(0);
    expect<u64>(theThread().remoteFrees).toBe(3);
    expectOnly([]);
  });

  it("stay in their list while the queue's lock is out of reach", () => {
    freshSpread();
    const block = mallocOnNode(100, 2);
    free(block);
    allowBlocking(false);
    const lock = arenaOf(2) + offsetof<Arena>("queueLock");
    atomic.store<u32>(lock, ELSEWHERE);
    expect<bool>(handOver(thread, 2)).toBe(false);
    expect<u32>(listed(2)).toBe(<u32>block);
    expect<u32>(queue(2)).toBe(0);
    expect<u32>(theThread().carry).toBe(0);
    atomic.store<u32>(lock, 0);
    expectOnly([]);
    expect<bool>(handOver(thread, 2)).toBe(true);
    expect<u32>(listed(2)).toBe(0);
    expect<u32>(queue(2)).toBe(<u32>block);
    expectOnly([]);
  });

  it("of several threads meet in one queue, the latest batch on top", () => {
    freshSpread();
    const a = mallocOnNode(100, 2);
    const b = mallocOnNode(100, 2);
    free(a);
    expect<bool>(handOver(thread, 2)).toBe(true);
    another(KEY + 1, 1);
    free(b);
    expect<bool>(handOver(thread, 2)).toBe(true);
    expect<bool>(takeRemote(thread, 2)).toBe(true);
    expect<u32>(theThread().carry).toBe(<u32>b);
    expectOnly([]);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<bool>(takeRemote(thread, 2)).toBe(true);
    expect<u32>(theThread().carry).toBe(<u32>a);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<bool>(takeRemote(thread, 2)).toBe(false);
    expectEmpty();
  });

  it("of nothing are nothing", () => {
    fresh();
    expect<bool>(handOver(thread, 0)).toBe(true);
    expect<bool>(handOver(thread, 3)).toBe(true); // no arena, and nothing to hand over
    expect<bool>(takeRemote(thread, 0)).toBe(false);
    expect<bool>(takeRemote(thread, 3)).toBe(false);
    expect<bool>(drainNode(thread, 3)).toBe(true);
    expectSound();
  });
});
