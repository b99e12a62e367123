// The thread cache: lists that know their depth, limits that start slowly and stay within the budget, and the carry.

import { Arena, CacheList, CachedBlock, Central, Heap } from "../../assembly/layout";
import { cacheList, heap, lengthOf, remoteList, sentinel, theHeap, theThread, thread } from "../../assembly/instance";
import { CLASSES, classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, pageOf } from "../../assembly/page-map";
import { centralOf, makeCentral, takeBatch, takeBlocks } from "../../assembly/central";
import { REMOTE_COST, costOf } from "../../assembly/remote";
import { emptyTransferCache, fetch, flushCache, refill, returnCarry, sortOut } from "../../assembly/thread-cache";
import { detach } from "../../assembly/reap";
import { free, malloc, malloc_trim, mallocOnNode } from "../../assembly/malloc";
import { rebind } from "../../assembly/topology";
import { settle } from "../../assembly/control";
import {
  BASE,
  ELSEWHERE,
  KEY,
  allowBlocking,
  another,
  become,
  check,
  expectEmpty,
  expectOnly,
  expectSound,
  fresh,
  freshGrowing,
  freshSpread,
} from "./rig";
import { allocate, cached, freeAll, listOf, share, weigh } from "./cache-rig";

describe("a cache list", () => {
  it("is a stack that knows its depth", () => {
    fresh();
    const blocks = allocate(48, 40);
    const before = cached(48);
    for (let i = 0; i < 3; ++i) {
      free(blocks[i]);
      expect<u32>(cached(48)).toBe(before + i + 1);
      expect<u32>(listOf(48).head).toBe(<u32>blocks[i]);
    }
    for (let i = 2; i >= 0; --i) expect<usize>(malloc(48)).toBe(blocks[i]);
    expectOnly(blocks);
  });

  it("ends at the sentinel, which nothing ever writes to", () => {
    fresh();
    for (let i = 0; i < 500; ++i) free(malloc(i * 3));
    freeAll(allocate(100, 500));
    expect<u64>(load<u64>(sentinel())).toBe(0);
    for (let at = <usize>listOf(100).head; at != sentinel(); at = load<u32>(at)) {
      check(changetype<CachedBlock>(at).depth > 0, "no depth");
    }
    expectOnly([]);
  });
});

describe("limits", () => {
  it("start at 0 and double until they are a batch, then grow by batches; half of them comes", () => {
    fresh();
    const c = classOf(16);
    const batch: u32 = classInfo(c).batch;
    const list = changetype<CacheList>(cacheList(thread, c));
    expect<u32>(list.limit).toBe(0);
    const blocks: usize[] = [];
    let before: u32 = 0;
    for (let i = 0; i < 12; ++i) {
      const refills = theThread().refills;
      while (theThread().refills == refills) blocks.push(malloc(16)); // to the next refill
      const limit = list.limit;
      expect<u32>(limit).toBe(before + min<u32>(before + 128 / 16, batch));
      expect<u32>(cached(16) + 1).toBe(min<u32>(limit >> 1, batch)); // what came, less the block that was asked for
      before = limit;
    }
    expectOnly(blocks);
  });

  it("give no two threads their first blocks of a class in one cache line", () => {
    const sizes: usize[] = [8, 16, 32, 64, 128, 1024];
    for (let i = 0; i < sizes.length; ++i) {
      fresh();
      const mine = malloc(sizes[i]);
      another(KEY + 1, 1);
      const other = malloc(sizes[i]);
      check(mine / 64 != other / 64, "two threads write to one line");
      check(sizes[i] > 64 || cached(sizes[i]) + 1 == <u32>(64 / classInfo(classOf(sizes[i])).size), "not what fills a line");
      expectOnly([mine, other]);
    }
  });

  it("rise with frees that find their list full, and half of it goes back when they may not", () => {
    fresh();
    const size: usize = 1024;
    const batch: u32 = classInfo(classOf(size)).batch;
    const blocks = allocate(size, 3000);
    let overflows = 0;
    while (blocks.length) {
      const limit = listOf(size).limit;
      const before = cached(size);
      free(blocks.pop());
      if (cached(size) == before + 1) continue;
      ++overflows;
      check(before >= limit, "given back with room left");
      check(cached(size) == before + 1 - min<u32>((before + 2) >> 1, batch), "not half, nor a batch");
    }
    expect<bool>(overflows > 3).toBe(true);
    expectOnly([]);
  });

  it("all together stay within a quarter of the heap", () => {
    fresh();
    for (let round = 0; round < 4; ++round) {
      for (let c: u32 = 1; c < CLASSES; ++c) {
        const size = classInfo(c).size;
        freeAll(allocate(size, min<i32>(200, 300_000 / size)));
        check(weigh(true) <= share(), "limits beyond the budget");
        check(weigh(false) <= share(), "blocks beyond the budget");
        check(theThread().capacity == weigh(true), "another capacity");
      }
    }
    expect<bool>(weigh(true) > share() / 2).toBe(true); // and use it
    expectOnly([]);
  });

  it("are shared by the most threads there were at a time", () => {
    fresh();
    const first = another(KEY + 1, 0);
    const second = thread;
    for (let i = 0; i < 2; ++i) {
      become(i ? second : first);
      for (let c: u32 = 1; c < CLASSES; c += 3) {
        const size = classInfo(c).size;
        freeAll(allocate(size, min<i32>(200, 300_000 / size)));
        check(weigh(true) <= share() / 2, "more than its part");
      }
    }
    expectOnly([]);
  });

  it("of a class too large for the budget stay 0, and its blocks go back at once", () => {
    fresh(1, BASE + 0x80000);
    for (let key: u32 = 1; key < 6; ++key) another(KEY + key, 0); // a budget of 43 KiB
    const size: usize = 65536;
    const block = malloc(size);
    expect<u32>(listOf(size).limit).toBe(0);
    free(block);
    expect<u32>(cached(size)).toBe(0);
    expectEmpty();
  });
});

/** Slow paths of one class, while all others are idle. */
function churn(): void {
  freeAll(allocate(20_000, 100));
}

function scavengeNow(): void {
  theThread().ticks = 511;
  expect<bool>(refill(thread, classOf(20_000))).toBe(true);
  expect<u32>(theThread().ticks).toBe(0);
  expect<bool>(flushCache(thread)).toBe(true);
}

describe("scavenging", () => {
  it("halves what was not used, again and again, until nothing is left", () => {
    fresh();
    freeAll(allocate(64, 300));
    const before = cached(64);
    expect<bool>(before > 0).toBe(true);
    let least = before;
    let scavenges = 0;
    for (let i = 0; i < 1000 && cached(64) != 0; ++i) {
      const ticks = theThread().ticks;
      churn();
      if (theThread().ticks >= ticks) continue;
      ++scavenges;
      check(cached(64) <= least, "an idle list grew");
      least = cached(64);
    }
    expect<u32>(cached(64)).toBe(0);
    expect<u32>(listOf(64).limit).toBe(0);
    expect<bool>(scavenges > 2).toBe(true); // by halves, not at a stroke
    expect<u32>(theThread().capacity).toBe(weigh(true));
    expectOnly([]);
  });

  it("returns batches that nobody has wanted since the last time, eight at most, whoever gave them", () => {
    fresh();
    const c = classOf(64);
    const central = changetype<Central>(makeCentral(0, c));
    freeAll(allocate(64, 30_000)); // more than the budget
    theThread().capacity -= listOf(64).limit * 64;
    expect<bool>(flushCache(thread)).toBe(true);
    listOf(64).limit = 0; // as if another thread had been here
    scavengeNow();
    const full = central.transferCount;
    expect<bool>(full > 20).toBe(true);
    expect<u32>(central.transferLow).toBe(full);
    // Three are wanted: what is left was not.
    for (let i = 0; i < 3; ++i) {
      expect<bool>(takeBatch(changetype<usize>(central), thread)).toBe(true);
      expect<bool>(returnCarry(thread)).toBe(true);
    }
    expect<u32>(central.transferLow).toBe(full - 3);
    scavengeNow();
    expect<u32>(central.transferCount).toBe(full - 3 - 8);
    // All but two are wanted, and come back.
    central.transferLow = 2;
    scavengeNow();
    expect<u32>(central.transferCount).toBe(full - 3 - 8 - 2);
    expect<u32>(theThread().carry).toBe(0);
    expect<u32>(theThread().capacity).toBe(weigh(true));
    expectOnly([]);
  });

  it("comes with every growth of the heap, however few slow paths there were", () => {
    freshGrowing();
    freeAll(allocate(64, 1000));
    const seen = theHeap().ownedPages;
    const kept: usize[] = [];
    let growths = 0;
    for (let owned = seen; growths < 3;) {
      kept.push(malloc(30_000));
      growths += <i32>(theHeap().ownedPages != owned);
      owned = theHeap().ownedPages;
    }
    const limit = listOf(64).limit;
    const before = cached(64);
    expect<bool>(before > 0).toBe(true);
    while (listOf(64).limit == limit) {
      kept.push(malloc(30_000));
      check(theThread().ticks < 400, "not by the growth");
    }
    expect<u32>(listOf(64).limit).toBe(limit >> 1);
    expect<bool>(cached(64) <= limit >> 1).toBe(true);
    expectOnly(kept);
  });

  it("sends remote frees on that were too few to go by themselves", () => {
    freshSpread();
    const block = mallocOnNode(100, 2);
    free(block);
    expect<u32>(load<u32>(remoteList(thread, 2))).toBe(<u32>block);
    for (let i = 0; i < 1000 && load<u32>(remoteList(thread, 2)) != 0; ++i) churn();
    expect<u32>(changetype<Arena>(arenaOf(2)).queueHead).toBe(<u32>block);
    expectOnly([]);
  });

  it("cuts every list back when more threads leave less to each", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) freeAll(allocate(classInfo(c).size, min<i32>(100, 100_000 / classInfo(c).size)));
    const first = another(KEY + 1, 0);
    for (let key: u32 = 2; key < 8; ++key) another(KEY + key, 0);
    become(first);
    expect<bool>(weigh(true) > share() / 8).toBe(true);
    for (let i = 0; i < 1000 && weigh(true) > share() / 8; ++i) churn();
    expect<bool>(weigh(true) <= share() / 8).toBe(true);
    expectOnly([]);
  });
});

describe("a refill", () => {
  it("takes a batch from the transfer cache when it wants one", () => {
    fresh();
    const c = classOf(64);
    freeAll(allocate(64, 30_000)); // more than the budget
    const central = changetype<Central>(centralOf(0, c));
    expect<bool>(central.transferCount > 0).toBe(true);
    const kept: usize[] = [];
    while (cached(64)) kept.push(malloc(64));
    const batches = central.transferCount;
    const head = central.transferHead;
    const block = malloc(64);
    kept.push(block);
    expect<u32>(<u32>block).toBe(head);
    expect<u32>(central.transferCount).toBe(batches - 1);
    expect<u32>(cached(64)).toBe(classInfo(c).batch - 1);
    expectOnly(kept);
  });

  it("makes a list of a batch again, however many blocks its first one has room to name", () => {
    const sizes: i32[] = [8, 16, 32, 64, 256];
    for (let i = 0; i < sizes.length; ++i) {
      fresh();
      const size = sizes[i];
      const c = classOf(size);
      freeAll(allocate(size, 1_700_000 / size)); // more than the budget
      const central = changetype<Central>(centralOf(0, c));
      check(central.transferCount > 0, "no batch");
      const kept: usize[] = [];
      while (cached(size)) kept.push(malloc(size));
      // The chain as whoever gave it left it, of blocks that nobody has.
      const chain: usize[] = [];
      for (let block = <usize>central.transferHead; block; block = load<u32>(block)) chain.push(block);
      expect<i32>(chain.length).toBe(classInfo(c).batch);
      while (central.transferCount) {
        kept.push(malloc(size));
        const head = <usize>listOf(size).head;
        for (let block = head, depth = lengthOf(cacheList(thread, c)); depth; --depth) {
          check(changetype<CachedBlock>(block).depth == depth, "a wrong depth");
          block = changetype<CachedBlock>(block).next;
        }
        while (cached(size)) kept.push(malloc(size));
      }
      for (let j = 0; j < chain.length; ++j) check(kept.includes(chain[j]), "a block of the chain is lost");
      expectOnly(kept);
    }
  });

  it("brings back what waits for its node in the remote queue", () => {
    freshSpread();
    const consumer = another(KEY + 1, 1);
    const producer = thread;
    const blocks = allocate(1000, 100);
    become(consumer);
    freeAll(blocks);
    expect<u32>(changetype<Arena>(arenaOf(1)).queueHead).not.toBe(0);
    become(producer);
    const t = theThread();
    const returned = t.returnedBlocks;
    const refills = t.refills;
    const kept: usize[] = [];
    while (changetype<Arena>(arenaOf(1)).queueHead) kept.push(malloc(1000));
    expect<bool>(t.returnedBlocks > returned).toBe(true);
    // A batch with every refill, not all of it when memory runs out.
    expect<bool>((t.refills - refills) * (REMOTE_COST / costOf(1000)) <= 100).toBe(true);
    expectOnly(kept);
  });

  it("spills to other nodes by distance, when its own is full", () => {
    freshSpread();
    const a = theThread();
    expect<bool>(refill(thread, classOf(100))).toBe(true);
    expect<u64>(a.localBlocks).toBe(a.refilledBlocks);
    const blocks = allocate(8000, 440);
    expect<bool>(a.localBlocks < a.refilledBlocks).toBe(true);
    expectOnly(blocks);
  });

  it("counts what it brings, and from where", () => {
    fresh();
    const t = theThread();
    const blocks = allocate(200, 333);
    expect<u64>(t.refilledBlocks).toBe(333 + cached(200));
    expect<u64>(t.localBlocks).toBe(t.refilledBlocks);
    expect<u64>(changetype<Arena>(arenaOf(0)).numaHit).toBe(t.refilledBlocks);
    expect<u64>(changetype<Arena>(arenaOf(0)).localNode).toBe(t.refilledBlocks);
    expect<u64>(changetype<Arena>(arenaOf(0)).numaMiss).toBe(0);
    expectOnly(blocks);
  });
});

describe("the carry", () => {
  it("names a chain in hand, and returns it to whichever spans it is of", () => {
    freshSpread();
    const a = mallocOnNode(64, 1);
    const b = mallocOnNode(500, 2);
    const c = malloc(64);
    store<u32>(a, <u32>b);
    store<u32>(b, <u32>c);
    store<u32>(c, 0);
    theThread().carry = <u32>a;
    expectOnly([]);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<u32>(theThread().carry).toBe(0);
    expectOnly([]);
  });

  it("is kept while its lock is out of reach, whatever else goes on", () => {
    freshSpread();
    const remote: usize[] = [];
    for (let i = 0; i < 80; ++i) remote.push(mallocOnNode(100, 2));
    const large = malloc(100_000);
    const central = makeCentral(0, classOf(64));
    expect<u32>(takeBlocks(central, thread, 5)).toBe(5);
    const carry = theThread().carry;
    atomic.store<u32>(central, ELSEWHERE);
    allowBlocking(false);
    freeAll(remote);
    const lock = heap + offsetof<Heap>("pageHeapLock");
    atomic.store<u32>(lock, ELSEWHERE);
    free(large); // put off
    atomic.store<u32>(lock, 0);
    for (let i = 0; i < 2000; ++i) free(malloc(200_000));
    for (let i = 0; i < 2000; ++i) free(malloc(i));
    expect<u32>(theThread().carry).toBe(carry);
    expect<bool>(flushCache(thread)).toBe(false);
    expect<i32>(detach()).not.toBe(0);
    atomic.store<u32>(central, 0);
    expectOnly([]);
    expect<i32>(detach()).toBe(0);
    expectOnly([]);
  });

  it("that leads nowhere, since the program wrote to a freed block, is dropped", () => {
    fresh();
    const block = malloc(100);
    theThread().carry = 64; // no block of anybody's
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<u32>(theThread().carry).toBe(0);
    expectOnly([block]);
  });
});

describe("emptying", () => {
  it("leaves nothing in the cache", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 200; ++i) blocks.push(malloc(i * 10));
    freeAll(blocks);
    expect<bool>(weigh(false) > 0).toBe(true);
    expect<bool>(flushCache(thread)).toBe(true);
    expect<u32>(weigh(false)).toBe(0);
    expectOnly([]);
    malloc_trim(0);
    expectEmpty();
  });

  it("leaves nothing in a transfer cache", () => {
    fresh();
    freeAll(allocate(64, 30_000)); // more than the budget
    const central = centralOf(0, classOf(64));
    expect<bool>(changetype<Central>(central).transferCount > 0).toBe(true);
    expect<bool>(emptyTransferCache(thread, central)).toBe(true);
    expect<u32>(changetype<Central>(central).transferCount).toBe(0);
    expectOnly([]);
  });

  it("of what is of other nodes only, lists of the home node stay", () => {
    fresh(2);
    freeAll(allocate(64, 100));
    freeAll(allocate(256, 100));
    const page = pageOf(listOf(256).head);
    expect<i32>(rebind(page, 1, 1)).toBe(0);
    const small = cached(64);
    expect<bool>(small > 0).toBe(true);
    settle(); // the new epoch sorts out
    expect<u32>(cached(64)).toBe(small);
    expect<u32>(cached(256)).toBe(0);
    expect<bool>(sortOut(thread)).toBe(true);
    expect<u32>(cached(64)).toBe(small);
    expectOnly([]);
  });

  it("a fetch takes no more than it was asked for, except in whole batches", () => {
    fresh();
    const c = classOf(64);
    for (let want: u32 = 1; want < classInfo(c).batch; want += 5) {
      expect<u32>(fetch(thread, c, 0, want)).toBe(want);
      expect<bool>(returnCarry(thread)).toBe(true);
    }
    expectEmpty();
    expectSound();
  });
});

describe("a scavenge cut short by a lock out of reach", () => {
  it("knows what its limits still allow", () => {
    fresh(1);
    freeAll(allocate(64, 200));
    const central = centralOf(0, classOf(64));
    allowBlocking(false);
    atomic.store<u32>(central, ELSEWHERE);
    theThread().ticks = 511;
    listOf(64).seen = listOf(64).head; // idle
    malloc(3000);
    atomic.store<u32>(central, 0);
    expect<u32>(theThread().ticks).toBe(0);
    expect<bool>(theThread().carry != 0).toBe(true);
    expect<u32>(theThread().capacity).toBe(weigh(true));
    expectSound();
  });
});
