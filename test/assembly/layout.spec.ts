// The layout: what the code takes for granted of structs, tables and limits.

import {
  ARENAS,
  ARENA_BINS,
  ARENA_CENTRALS,
  ARENA_SIZE,
  Arena,
  CLASS_INFO,
  CacheList,
  CachedBlock,
  Central,
  ClassInfo,
  DEFERRED,
  DISTANCES,
  EXACT_RUNS,
  FreeRun,
  HEAP_BYTES,
  Heap,
  LEAF_BYTES,
  LEAF_ENTRIES,
  LEAF_FLAGS,
  LEAF_NODES,
  LEAF_PAGES,
  LEAF_TAGS,
  LONG_BITS,
  LONG_HEADER,
  MAX_CLASSES,
  MAX_NODES,
  MAX_THREADS,
  MAX_VCPUS,
  NO_LEAF,
  PAGE_LIMIT,
  PAGE_SIZE,
  ROOT,
  RemoteList,
  SHORT_HEADER,
  SIZE_TO_CLASS,
  SIZE_TO_CLASS_BYTES,
  SLOTS,
  SPAN_HEADER,
  Span,
  THREADS,
  THREAD_CACHE,
  THREAD_ORDER,
  THREAD_REMOTE,
  THREAD_SIZE,
  THREAD_WEIGHTS,
  Thread,
  VCPU_NODE,
} from "../../assembly/layout";
import { CLASSES, FINE, MAX_SMALL } from "../../assembly/size-class";
import { REMOTE_COST, costOf } from "../../assembly/remote";
import { check } from "./rig";

describe("the head of the heap", () => {
  it("keeps words that different threads write in cache lines of their own", () => {
    expect<usize>(offsetof<Heap>("pageHeapLock")).toBe(64);
    expect<usize>(offsetof<Heap>("topologyLock")).toBe(128);
    expect<usize>(offsetof<Heap>("reapLock")).toBe(192);
    expect<usize>(offsetof<Arena>("queueLock")).toBe(64);
    expect<usize>(offsetof<Central>()).toBe(64);
  });

  it("has tables that follow each other without overlapping", () => {
    const ends: usize[] = [
      offsetof<Heap>(),
      CLASS_INFO + MAX_CLASSES * <u32>offsetof<ClassInfo>(),
      SIZE_TO_CLASS + SIZE_TO_CLASS_BYTES,
      DISTANCES + MAX_NODES * MAX_NODES,
      VCPU_NODE + MAX_VCPUS,
      ARENAS + MAX_NODES * 4,
      SLOTS + MAX_THREADS * 8,
      THREADS + MAX_THREADS * 4,
      ROOT + ((PAGE_LIMIT >> 10) + 1) * 4,
      NO_LEAF + LEAF_PAGES * 2,
    ];
    const starts: usize[] = [CLASS_INFO, SIZE_TO_CLASS, DISTANCES, VCPU_NODE, ARENAS, SLOTS, THREADS, ROOT, NO_LEAF, HEAP_BYTES];
    for (let i = 0; i < starts.length; ++i) expect<bool>(ends[i] <= starts[i]).toBe(true);
  });

  it("aligns what is read as a word", () => {
    const words: u32[] = [ARENAS, THREADS, ROOT, ARENA_BINS, ARENA_CENTRALS, THREAD_CACHE, LEAF_ENTRIES];
    for (let i = 0; i < words.length; ++i) check((words[i] & 3) == 0, "a word");
    const doubles: u32[] = [SLOTS, NO_LEAF, SPAN_HEADER, THREAD_REMOTE, <u32>offsetof<Arena>("numaHit"), <u32>offsetof<Thread>("refills")];
    for (let i = 0; i < doubles.length; ++i) expect<u32>(doubles[i] & 7).toBe(0);
  });

  it("has room for both steps of the size table", () => {
    expect<bool>((FINE >> 3) + 1 + ((MAX_SMALL + 127) >> 7) < SIZE_TO_CLASS_BYTES).toBe(true);
  });
});

describe("records", () => {
  it("have their arrays behind their fields", () => {
    expect<bool>(offsetof<Thread>() <= THREAD_ORDER).toBe(true);
    expect<bool>(THREAD_ORDER + MAX_NODES <= THREAD_WEIGHTS).toBe(true);
    expect<bool>(THREAD_WEIGHTS + MAX_NODES <= THREAD_CACHE).toBe(true);
    expect<bool>(THREAD_CACHE + MAX_CLASSES * <u32>offsetof<CacheList>() <= THREAD_REMOTE).toBe(true);
    expect<bool>(THREAD_REMOTE + (DEFERRED + 1) * <u32>offsetof<RemoteList>() <= THREAD_SIZE).toBe(true);
    expect<bool>(offsetof<Arena>() <= ARENA_BINS).toBe(true);
    expect<bool>(ARENA_BINS + (EXACT_RUNS + 1) * 4 <= ARENA_CENTRALS).toBe(true);
    expect<bool>(ARENA_CENTRALS + MAX_CLASSES * 4 <= ARENA_SIZE).toBe(true);
    expect<usize>(offsetof<Span>()).toBe(SPAN_HEADER);
  });

  it("fit a page of metadata, in whole cache lines", () => {
    const sizes: u32[] = [ARENA_SIZE, THREAD_SIZE, <u32>offsetof<Central>(), LEAF_BYTES];
    for (let i = 0; i < sizes.length; ++i) {
      expect<u32>(sizes[i] & 63).toBe(0);
      expect<bool>(sizes[i] <= PAGE_SIZE).toBe(true);
    }
    // Entries tell headers from free runs by their low bits.
    expect<u32>((SHORT_HEADER | LONG_HEADER) & 3).toBe(0);
  });

  it("link blocks and free runs within the smallest block", () => {
    expect<usize>(offsetof<CachedBlock>()).toBe(8);
    expect<usize>(offsetof<FreeRun>()).toBe(8);
  });

  it("of a leaf cover its pages, each array behind the one before", () => {
    expect<u32>(LEAF_TAGS + LEAF_PAGES * 2).toBe(LEAF_ENTRIES);
    expect<u32>(LEAF_ENTRIES + LEAF_PAGES * 4).toBe(LEAF_NODES);
    expect<u32>(LEAF_NODES + LEAF_PAGES).toBe(LEAF_FLAGS);
    expect<u32>(LEAF_FLAGS + LEAF_PAGES).toBe(LEAF_BYTES);
    expect<u32>(LEAF_BYTES).toBe(PAGE_SIZE);
  });
});

describe("limits", () => {
  it("leave the last page below 4 GiB alone", () => {
    expect<u64>((<u64>PAGE_LIMIT + 1) * PAGE_SIZE).toBe(1 << 32);
  });

  it("fit the bits they are written in", () => {
    expect<bool>(CLASSES <= MAX_CLASSES).toBe(true);
    expect<bool>(MAX_CLASSES <= 128).toBe(true); // 7 bits of a tag
    expect<bool>(MAX_NODES <= 32).toBe(true); // 5 bits of a tag, and a mask
    expect<bool>(MAX_THREADS < 0xffff).toBe(true); // half of a thread's id
    expect<bool>(LONG_BITS % 64 == 0).toBe(true);
  });

  it("keep the cost of a remote list within its word", () => {
    expect<bool>(<u64>REMOTE_COST + costOf(MAX_SMALL) < 1 << 32).toBe(true);
    expect<bool>(costOf(8) * 64 >= REMOTE_COST).toBe(true); // at most 64 blocks
  });
});
