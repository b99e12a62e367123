// Blocks on their way: remote lists, queues, frees put off; and what a rebind does to blocks in caches and in use.

import { Arena, DEFERRED, Heap } from "../../assembly/layout";
import { bindThread, cacheList, heap, lengthOf, remoteList, self, theHeap, theThread, thread } from "../../assembly/instance";
import { classOf, classInfo } from "../../assembly/size-class";
import { arenaOf, nodeOfTag, pageOf, tagOf } from "../../assembly/page-map";
import { REMOTE_COST, costOf, takeRemote } from "../../assembly/remote";
import { drainNode, returnCarry } from "../../assembly/thread-cache";
import { free, malloc, mallocOnNode, malloc_trim } from "../../assembly/malloc";
import { rebind } from "../../assembly/topology";
import { nodeOf, settle } from "../../assembly/control";
import { END, another, become, expectOnly, expectSound, fresh } from "./rig";

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
    const consumer = another(8, 1); // goes on as a thread of node 1, the producer
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
});

describe("frees put off", () => {
  it("wait while the page heap's lock is out of reach, and are done with the next large block", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 3; ++i) blocks.push(malloc(100_000));
    const lock = heap + offsetof<Heap>("pageHeapLock");
    atomic.store<u32>(lock, 99 << 1);
    bindThread(thread, self, false);
    for (let i = 0; i < 3; ++i) free(blocks[i]);
    expect<u32>(listed(DEFERRED)).toBe(<u32>blocks[2]);
    expect<usize>(malloc(100_000)).toBe(0);
    atomic.store<u32>(lock, 0);
    expectOnly([]);
    const block = malloc(100_000);
    expect<u32>(listed(DEFERRED)).toBe(0);
    expectOnly([block]);
  });
});

describe("rebind", () => {
  it("makes cached blocks remote, and they leave the cache", () => {
    twoNodes();
    const blocks: usize[] = [];
    for (let i = 0; i < 100; ++i) blocks.push(malloc(200));
    for (let i = 0; i < 50; ++i) free(blocks[i]);
    expect<bool>(lengthOf(cacheList(thread, classOf(200))) > 0).toBe(true);
    expect<i32>(rebind(0, pageOf(END), 1)).toBe(0);
    settle();
    expect<u32>(lengthOf(cacheList(thread, classOf(200)))).toBe(0);
    for (let i = 50; i < 100; ++i) expect<u32>(nodeOfTag(tagOf(blocks[i]))).toBe(1);
    expectOnly(blocks.slice(50));
    for (let i = 50; i < 100; ++i) free(blocks[i]);
    expectOnly([]);
    malloc_trim(0);
    expect<u32>(theHeap().freePages + theHeap().metadataPages).toBe(theHeap().ownedPages);
  });

  it("cuts free runs where nodes meet, and joins them where they agree again", () => {
    fresh();
    const first = pageOf(END) - 100;
    for (let i: u32 = 0; i < 50; ++i) {
      expect<i32>(rebind(first + i * 2, 1, 1 + (i & 1))).toBe(0);
      if (i % 10 == 0) expectSound();
    }
    expectSound();
    expect<i32>(rebind(first, 100, 3)).toBe(0);
    expectSound();
    expect<u32>(changetype<Arena>(arenaOf(3)).freePages).toBe(100);
  });

  it("gives the pages of a released span to the nodes they lie on", () => {
    fresh();
    const block = malloc(20 * 8192);
    expect<i32>(rebind(pageOf(block), 5, 1)).toBe(0);
    expect<i32>(rebind(pageOf(block) + 5, 5, 2)).toBe(0);
    expect<i32>(nodeOf(block)).toBe(1);
    expectOnly([block]);
    free(block);
    expect<u32>(changetype<Arena>(arenaOf(1)).freePages).toBe(5);
    expect<u32>(changetype<Arena>(arenaOf(2)).freePages).toBe(5);
    expectOnly([]);
  });

  it("reaches every span, small and large, that has a page in the range", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 300; ++i) blocks.push(malloc(i * 40));
    for (let i = 0; i < 300; i += 3) free(blocks[i]);
    const live = blocks.filter((_, i) => i % 3 != 0);
    let node: u32 = 0;
    for (let page: u32 = 0; page < pageOf(END); page += 37) {
      expect<i32>(rebind(page, 41, ++node % 4)).toBe(0);
      expectOnly(live);
    }
    for (let i = 0; i < live.length; ++i) {
      memory.fill(live[i], 0x11, 8);
      free(live[i]);
    }
    expectOnly([]);
  });
});
