// The inspector: figures that sum up, and a walk that finds what is wrong. What it says of every problem is tested at the host's side.

import { Arena, CacheList, CachedBlock, Central, KIND_SMALL, PAGE_SHIFT, Span } from "../../assembly/layout";
import { cacheList, heap, sentinel, theHeap, theThread, thread } from "../../assembly/instance";
import { classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, entryOf, nodeOfPage, pageOf, setEntry, setNodeOfPage, setTag, tagFor } from "../../assembly/page-map";
import { centralOf, spanOf } from "../../assembly/central";
import { handOver } from "../../assembly/remote";
import { free, malloc, mallocOnNode, malloc_usable_size } from "../../assembly/malloc";
import {
  bind,
  cachedBytes,
  capacityBytes,
  centralFreeBytes,
  committedBytes,
  freePages,
  heapStats,
  hold,
  inUseBlocks,
  inUseBytes,
  metadataBytes,
  nodeStats,
  ownedPages,
  pageHeapFreeBytes,
  queuedBytes,
  remoteBytes,
  spanTailBytes,
  threadCacheBytes,
  threadStats,
  transferCacheBytes,
  unaccounted,
  usedPages,
} from "../../assembly/inspect";

import { Problem, problems } from "../../assembly/inspect-problem";
import { BASE, END, KEY, another, expectOnly, expectProblem, expectSound, found, fresh, freshSpread } from "./rig";

describe("figures", () => {
  it("say of every byte committed where it is", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 300; ++i) blocks.push(malloc(i * 30));
    for (let i = 0; i < 40; ++i) blocks.push(mallocOnNode(i * 10, 2));
    blocks.push(malloc(90_000));
    while (blocks.length > 150) free(blocks.shift());
    let bytes: f64 = 0;
    for (let i = 0; i < blocks.length; ++i) bytes += <f64>malloc_usable_size(blocks[i]);
    heapStats();
    expect<f64>(inUseBytes).toBe(bytes);
    expect<f64>(inUseBlocks).toBe(<f64>blocks.length);
    expect<f64>(committedBytes).toBe(<f64>(theHeap().ownedPages << PAGE_SHIFT));
    const cached = threadCacheBytes + transferCacheBytes + remoteBytes;
    expect<f64>(cached + inUseBytes + centralFreeBytes + spanTailBytes + pageHeapFreeBytes + metadataBytes).toBe(committedBytes);
    expectOnly(blocks);
  });

  it("are sums over the nodes, and over the threads", () => {
    freshSpread();
    for (let i = 0; i < 50; ++i) free(malloc(64));
    another(KEY + 1, 1);
    for (let i = 0; i < 50; ++i) free(malloc(256));
    let owned: f64 = 0;
    let free0: f64 = 0;
    for (let node: u32 = 0; node < 4; ++node) {
      expect<bool>(nodeStats(node)).toBe(true);
      owned += ownedPages;
      free0 += freePages;
      expect<bool>(usedPages >= 0).toBe(true);
    }
    expect<f64>(owned).toBe(<f64>theHeap().ownedPages);
    expect<f64>(free0).toBe(<f64>theHeap().freePages);
    expect<bool>(nodeStats(4)).toBe(false);
    let cached: f64 = 0;
    for (let slot: u32 = 0; slot < 2; ++slot) {
      expect<bool>(threadStats(slot)).toBe(true);
      cached += cachedBytes;
      expect<bool>(capacityBytes >= cachedBytes).toBe(true);
    }
    expect<bool>(threadStats(2)).toBe(false);
    heapStats();
    expect<f64>(threadCacheBytes).toBe(cached);
  });

  it("know what is on its way to a node", () => {
    freshSpread();
    const block = mallocOnNode(1000, 1);
    const size = <f64>malloc_usable_size(block);
    free(block);
    heapStats();
    expect<f64>(remoteBytes).toBe(size);
    expect<bool>(handOver(thread, 1)).toBe(true);
    heapStats();
    expect<f64>(remoteBytes).toBe(size);
    expect<bool>(nodeStats(1)).toBe(true);
    expect<f64>(queuedBytes).toBe(size);
  });
});

describe("a heap to inspect", () => {
  it("is one of this version at its base", () => {
    fresh();
    expect<bool>(bind(BASE + 65536)).toBe(false);
    expect<bool>(bind(BASE + 8)).toBe(false);
    expect<bool>(bind(0)).toBe(false);
    expect<bool>(bind((<usize>memory.size()) << 16)).toBe(false);
    expect<usize>(heap).toBe(BASE);
    expect<bool>(bind(BASE)).toBe(true);
    expectSound();
  });
});

describe("the walk finds", () => {
  it("a free run that is not where its entries say", () => {
    fresh();
    setEntry(pageOf(END) - 1, 0);
    expectProblem(Problem.RUN_RANGE);
  });

  it("two free runs of a node that were not joined", () => {
    fresh();
    const last = pageOf(END) - 1;
    const length = entryOf(last) >> 2;
    setEntry(last - length + 1, ((length - 1) << 2) | 1);
    setEntry(last - 1, ((length - 1) << 2) | 3);
    setEntry(last, (1 << 2) | 1);
    expectProblem(Problem.RUN_SPLIT);
  });

  it("a free page whose node is not its run's", () => {
    freshSpread();
    setNodeOfPage(pageOf(END) - 3, 3);
    expectProblem(Problem.RUN_NODE);
    expect<u32>(nodeOfPage(pageOf(END) - 3)).toBe(3); // it only reads
  });

  it("a fresh page that is not zero", () => {
    fresh();
    store<u8>(END - 5, 1);
    expectProblem(Problem.PAGE_NOT_ZERO);
    store<u8>(END - 5, 0);
    expectSound();
  });

  it("counts that are not what there is", () => {
    fresh();
    const block = malloc(100);
    theHeap().freePages += 1;
    expectProblem(Problem.TOTAL);
    theHeap().freePages -= 1;
    changetype<Arena>(arenaOf(0)).freePages += 1;
    expectProblem(Problem.NODE_TOTAL);
    changetype<Arena>(arenaOf(0)).freePages -= 1;
    changetype<Span>(spanOf(block)).free += 1;
    expectProblem(Problem.SPAN_FREE);
    changetype<Span>(spanOf(block)).free -= 1;
    changetype<Central>(centralOf(0, classOf(100))).spans += 1;
    expectProblem(Problem.CENTRAL_SPANS);
    changetype<Central>(centralOf(0, classOf(100))).spans -= 1;
    theThread().capacity += 8;
    expectProblem(Problem.CAPACITY);
    theThread().capacity -= 8;
    expectOnly([block]);
  });

  it("a tag that is not its span's", () => {
    fresh();
    const block = malloc(100);
    setTag(pageOf(block), tagFor(1, classOf(100)));
    expectProblem(Problem.PAGE_TAG);
    setTag(pageOf(block), tagFor(0, classOf(100)));
    expectOnly([block]);
  });

  it("a block in two places", () => {
    fresh();
    const block = malloc(100);
    free(block);
    const list = changetype<CacheList>(cacheList(thread, classOf(100)));
    theThread().carry = list.head;
    theThread().carryEnd = <u32>sentinel();
    expectProblem(Problem.BLOCK_TWICE);
    theThread().carry = 0;
    theThread().carryEnd = 0;
    expectOnly([]);
  });

  it("a block that the program has and its span as well", () => {
    fresh();
    const block = malloc(100);
    expectSound();
    hold(block + classInfo(classOf(100)).size);
    expect<bool>(found(Problem.BLOCK_BAD)).toBe(true);
    expectSound();
    hold(block);
    expect<u32>(problems).toBe(0);
    hold(block);
    expect<bool>(found(Problem.BLOCK_TWICE)).toBe(true);
  });

  it("a block that nobody has", () => {
    fresh();
    const block = malloc(100);
    expectSound();
    unaccounted();
    expect<u32>(problems).toBe(1);
    expect<bool>(found(Problem.UNACCOUNTED)).toBe(true);
    expectOnly([block]);
  });

  it("a freed block the program wrote to", () => {
    fresh();
    const kept: usize[] = [];
    for (let i = 0; i < 40; ++i) kept.push(malloc(100));
    const block = kept.pop();
    free(block);
    changetype<CachedBlock>(block).depth += 5;
    expectProblem(Problem.CACHE_DEPTH);
    changetype<CachedBlock>(block).depth -= 5;
    changetype<CachedBlock>(block).next = 12344;
    expectProblem(Problem.BLOCK_BAD);
  });

  it("a label that no span can have", () => {
    fresh();
    const block = malloc(100);
    const header = changetype<Span>(spanOf(block));
    header.label = (KIND_SMALL << 16) | 0xff;
    expectProblem(Problem.SPAN_LABEL);
  });

  it("a lock that is still held", () => {
    fresh();
    theHeap().pageHeapLock = 2;
    expectProblem(Problem.LOCK_HELD);
    theHeap().pageHeapLock = 0;
    expectSound();
  });
});
