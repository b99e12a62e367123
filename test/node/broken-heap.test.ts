// Each check of the walk is shown to be able to fail, by breaking a healthy heap in one way and reading what the walk says.

import { describe, expect, test } from "vitest";
import { Problem } from "../../src/heap/problem-codes.js";
import { sayProblem } from "../../src/heap/problems.js";
import { Rig, constant, randomFrom } from "../support/rig.js";
import { type Used, used } from "../support/used-heap.js";

type Break = [name: string, problem: Problem, (used: Used) => void];

const head =
  (name: string, value: number | ((old: number) => number)) =>
  ({ rig }: Used): void => {
    const at = rig.field("Heap", rig.base, name);
    rig.set32(at, typeof value === "number" ? value : value(rig.u32(at)));
  };
const plusOne = (value: number): number => value + 1;

/** A bin of node 0 that holds something. */
function someRun(rig: Rig, least = 1): { bin: number; at: number; pages: number } {
  for (let bin = least - 1; bin <= constant("EXACT_RUNS"); ++bin) {
    const at = rig.u32(rig.arena(0) + constant("ARENA_BINS") + bin * 4);
    if (at) return { bin: rig.arena(0) + constant("ARENA_BINS") + bin * 4, at, pages: rig.entry(at >>> 13) >>> 2 };
  }
  throw new Error("no free run");
}
/** Header of a span, used by thread 0's node, with free blocks. */
function openSpan({ rig, live }: Used): number {
  for (const at of live) {
    const header = rig.span(at);
    if (rig.classOf(at) && rig.u32(rig.field("Span", header, "list")) && !rig.u32(rig.field("Span", header, "previous"))) return header;
  }
  throw new Error("no span with free blocks");
}
const centralOfSpan = (rig: Rig, header: number): number => {
  const label = rig.u32(header);
  return rig.central((label >>> 8) & 0xff, label & 0xff);
};
/** A class with at least two cached blocks in slot 0, and the list's head. */
function someCache(rig: Rig): { list: number; first: number; c: number } {
  for (let c = 1; c < constant("MAX_CLASSES"); ++c) {
    const first = rig.u32(rig.cache(0, c));
    if (first !== rig.table("NO_LEAF") && rig.u32(first + 4) > 1) return { list: rig.cache(0, c), first, c };
  }
  throw new Error("no cached blocks");
}
function someRemote(rig: Rig): { list: number; first: number } {
  for (let slot = 0; slot < 2; ++slot) {
    for (let node = 0; node < 2; ++node) {
      const first = rig.u32(rig.remote(slot, node));
      if (first) return { list: rig.remote(slot, node), first };
    }
  }
  throw new Error("no remote list");
}
function someBatch(rig: Rig): { central: number; batch: number } {
  for (let i = 1; i < 2 * constant("MAX_CLASSES"); ++i) {
    const central = rig.central(i & 1, i >> 1);
    const batch = central && rig.u32(rig.field("Central", central, "transferHead"));
    if (batch) return { central, batch };
  }
  throw new Error("no transfer cache");
}
function queuedNode(rig: Rig): number {
  return [0, 1].find((node) => rig.u32(rig.field("Arena", rig.arena(node), "queueHead")))!;
}

const BREAKS: Break[] = [
  ["magic", Problem.NOT_A_HEAP, head("magic", 0)],
  ["version", Problem.NOT_A_HEAP, head("abiVersion", 77)],
  ["base", Problem.NOT_A_HEAP, head("base", 0)],
  ["no nodes", Problem.NOT_A_HEAP, head("nodes", 0)],
  ["too many nodes", Problem.NOT_A_HEAP, head("nodes", 33)],
  ["class size", Problem.TABLE, ({ rig }) => rig.set32(rig.table("CLASS_INFO", 3, 16), 0)],
  ["class reciprocal", Problem.TABLE, ({ rig }) => rig.set32(rig.table("CLASS_INFO", 3, 16) + 4, 5)],
  ["class pages", Problem.TABLE, ({ rig }) => rig.set16(rig.table("CLASS_INFO", 9, 16) + 8, 3)],
  ["class blocks", Problem.TABLE, ({ rig }) => rig.set32(rig.table("CLASS_INFO", 3, 16) + 12, 1 << 30)],
  ["class of a size", Problem.TABLE, ({ rig }) => rig.set8(rig.table("SIZE_TO_CLASS", 20, 1), 3)],
  ["distance to itself", Problem.DISTANCE, ({ rig }) => rig.set8(rig.table("DISTANCES", 0, 1), 11)],
  ["distance to another", Problem.DISTANCE, ({ rig }) => rig.set8(rig.table("DISTANCES", 1, 1), 9)],
  ["vCPU on no node", Problem.VCPU_NODE, ({ rig }) => rig.set8(rig.table("VCPU_NODE", 5, 1), 2)],
  ["leaf outside the memory", Problem.LEAF, ({ rig }) => rig.set32(rig.table("ROOT", 0), 0xffff_ff00)],
  ["leaf misaligned", Problem.LEAF, ({ rig }) => rig.set32(rig.table("ROOT", 0), rig.u32(rig.table("ROOT", 0)) + 4)],
  ["leaf in a block", Problem.LEAF, ({ rig, large }) => rig.set32(rig.table("ROOT", 3), large + 8192)],
  ["leaf used twice", Problem.METADATA_STRUCT, ({ rig }) => rig.set32(rig.table("ROOT", 3), rig.u32(rig.table("ROOT", 0)))],
  ["sentinel's link", Problem.SENTINEL, ({ rig }) => rig.set32(rig.table("NO_LEAF"), 8)],
  ["sentinel's depth", Problem.SENTINEL, ({ rig }) => rig.set32(rig.table("NO_LEAF") + 4, 1)],
  ["tag of no page", Problem.SENTINEL, ({ rig }) => rig.set16(rig.table("NO_LEAF") + 1000, 1)],
  ["reap lock", Problem.LOCK_HELD, head("reapLock", 2)],
  ["topology lock", Problem.LOCK_HELD, head("topologyLock", 2)],
  ["page heap lock", Problem.LOCK_HELD, head("pageHeapLock", 3)],
  ["queue lock", Problem.LOCK_HELD, ({ rig }) => rig.set32(rig.field("Arena", rig.arena(1), "queueLock"), 2)],
  ["central lock", Problem.LOCK_HELD, (heap) => heap.rig.set32(centralOfSpan(heap.rig, openSpan(heap)), 4)],
  ["growth under way", Problem.UNDER_WAY, head("growPages", 8)],
  ["rebind under way", Problem.UNDER_WAY, head("rebindPages", 1)],
  ["odd sequence", Problem.UNDER_WAY, head("sequence", plusOne)],
  ["owned pages", Problem.TOTAL, head("ownedPages", plusOne)],
  ["free pages", Problem.TOTAL, head("freePages", plusOne)],
  ["metadata pages", Problem.TOTAL, head("metadataPages", plusOne)],
  ["more pages than allowed", Problem.TOTAL, head("limitPages", 8)],
  ["thread records", Problem.TOTAL, head("records", plusOne)],
  ["metadata range backwards", Problem.METADATA_RANGE, head("metaEnd", 8)],
  [
    "metadata range in a block",
    Problem.METADATA_RANGE,
    (heap) => {
      head("metaNext", heap.large)(heap);
      head("metaEnd", heap.large + 64)(heap);
    },
  ],
  ["metadata range over an arena", Problem.METADATA_STRUCT, ({ rig }) => rig.set32(rig.field("Heap", rig.base, "metaNext"), rig.arena(1))],
  ["unknown flag", Problem.PAGE_FLAGS, ({ rig, large }) => rig.set8(rig.leaf("LEAF_FLAGS", large >>> 13), 0x83)],
  ["flag of a page that is not owned", Problem.PAGE_FLAGS, ({ rig }) => rig.set8(rig.leaf("LEAF_FLAGS", 1), 2)],
  ["headers outside metadata", Problem.PAGE_FLAGS, ({ rig, large }) => rig.set8(rig.leaf("LEAF_FLAGS", large >>> 13), 3 | 8)],
  ["node without an arena", Problem.PAGE_NODE, ({ rig, large }) => rig.set8(rig.leaf("LEAF_NODES", large >>> 13), 9)],
  ["node that cannot be", Problem.PAGE_NODE, ({ rig, large }) => rig.set8(rig.leaf("LEAF_NODES", large >>> 13), 200)],
  ["entry of metadata", Problem.PAGE_ENTRY, ({ rig }) => rig.set32(rig.leaf("LEAF_ENTRIES", rig.base >>> 13), 5)],
  ["entry of no page", Problem.PAGE_ENTRY, ({ rig }) => rig.set32(rig.leaf("LEAF_ENTRIES", 2), 5)],
  ["entry inside a large block", Problem.PAGE_ENTRY, ({ rig, large }) => rig.set32(rig.leaf("LEAF_ENTRIES", (large >>> 13) + 2), 5)],
  ["entry inside a free run", Problem.PAGE_ENTRY, ({ rig }) => rig.set32(rig.leaf("LEAF_ENTRIES", (someRun(rig, 3).at >>> 13) + 1), 5)],
  ["last entry of a large block", Problem.PAGE_ENTRY, ({ rig, large }) => rig.set32(rig.leaf("LEAF_ENTRIES", (large >>> 13) + 24), 0)],
  ["tag of a large block", Problem.PAGE_TAG, ({ rig, large }) => rig.set16(rig.leaf("LEAF_TAGS", large >>> 13), 16)],
  ["tag of a small span", Problem.PAGE_TAG, ({ rig, small }) => rig.set16(rig.leaf("LEAF_TAGS", small >>> 13), 16)],
  ["tag of a free run", Problem.PAGE_TAG, ({ rig }) => rig.set16(rig.leaf("LEAF_TAGS", someRun(rig).at >>> 13), 16)],
  ["tag of metadata", Problem.PAGE_TAG, ({ rig }) => rig.set16(rig.leaf("LEAF_TAGS", rig.base >>> 13), 16)],
  ["page lost", Problem.PAGE_ADRIFT, ({ rig, large }) => rig.set32(rig.leaf("LEAF_ENTRIES", large >>> 13), 0)],
  ["used page marked untouched", Problem.PAGE_USED_UNTOUCHED, ({ rig, large }) => rig.set8(rig.leaf("LEAF_FLAGS", (large >>> 13) + 1), 1)],
  [
    "fresh page with bytes",
    Problem.PAGE_NOT_ZERO,
    ({ rig }) => {
      for (let page = rig.memory.buffer.byteLength / 8192 - 1; ; --page) {
        if (rig.u8(rig.leaf("LEAF_FLAGS", page)) === 1) return rig.set8(page * 8192 + 5000, 1);
      }
    },
  ],
  [
    "last entry of a free run",
    Problem.RUN_RANGE,
    ({ rig }) => {
      const { at, pages } = someRun(rig, 2);
      rig.set32(rig.leaf("LEAF_ENTRIES", (at >>> 13) + pages - 1), 0);
    },
  ],
  ["page of a free run not owned", Problem.RUN_RANGE, ({ rig }) => rig.set8(rig.leaf("LEAF_FLAGS", (someRun(rig, 2).at >>> 13) + 1), 0)],
  [
    "free run too long for the memory",
    Problem.SPAN_ENTRY,
    ({ rig }) => rig.set32(rig.leaf("LEAF_ENTRIES", someRun(rig).at >>> 13), 0x7fff_fffd),
  ],
  ["free run of two nodes", Problem.RUN_NODE, ({ rig }) => rig.set8(rig.leaf("LEAF_NODES", (someRun(rig, 2).at >>> 13) + 1), 1)],
  [
    "free run not joined",
    Problem.RUN_SPLIT,
    ({ rig }) => {
      const { at, pages } = someRun(rig, 2);
      rig.set32(rig.leaf("LEAF_ENTRIES", at >>> 13), (1 << 2) | 1);
      rig.set32(rig.leaf("LEAF_ENTRIES", (at >>> 13) + 1), ((pages - 1) << 2) | 1);
    },
  ],
  ["entry of a span into the blue", Problem.SPAN_ENTRY, ({ rig, large }) => rig.set32(rig.leaf("LEAF_ENTRIES", large >>> 13), 0xffff_ffe0)],
  ["entry of a span into a block", Problem.SPAN_ENTRY, ({ rig, large }) => rig.set32(rig.leaf("LEAF_ENTRIES", large >>> 13), large)],
  ["span without end", Problem.SPAN_RANGE, ({ rig, large }) => rig.set32(rig.field("Span", rig.span(large), "pages"), 0xffff_fff0)],
  ["span of no pages", Problem.SPAN_RANGE, ({ rig, large }) => rig.set32(rig.field("Span", rig.span(large), "pages"), 0)],
  ["small span of other length", Problem.SPAN_RANGE, ({ rig, small }) => rig.set32(rig.field("Span", rig.span(small), "pages"), 5)],
  [
    "span over others",
    Problem.SPAN_RANGE,
    ({ rig, large }) => {
      const base = rig.base >>> 13;
      const pages = rig.memory.buffer.byteLength / 8192 - base - 1;
      rig.set32(rig.leaf("LEAF_ENTRIES", base), rig.span(large));
      rig.set8(rig.leaf("LEAF_FLAGS", base), 3);
      rig.set32(rig.field("Span", rig.span(large), "start"), base);
      rig.set32(rig.field("Span", rig.span(large), "pages"), pages);
    },
  ],
  ["label of no kind", Problem.SPAN_LABEL, ({ rig, small }) => rig.set32(rig.span(small), 0x7_0001)],
  ["label of no class", Problem.SPAN_LABEL, ({ rig, small }) => rig.set32(rig.span(small), 0x1_00ff)],
  ["label of a node without lists", Problem.SPAN_LABEL, ({ rig, small }) => rig.set32(rig.span(small), rig.u32(rig.span(small)) + 0x0500)],
  ["label of a class with too many blocks", Problem.SPAN_LABEL, ({ rig, small }) => rig.set32(rig.span(small), 0x1_0001)],
  ["bits beyond the blocks", Problem.SPAN_BITS, ({ rig, small }) => rig.set32(rig.span(small) + constant("SPAN_HEADER") + 28, 1 << 31)],
  ["bit of a live block clear", Problem.SPAN_FREE, ({ rig, small }) => rig.set32(rig.span(small) + constant("SPAN_HEADER"), 0)],
  [
    "bit of a free block set",
    Problem.SPAN_FREE,
    (heap) => {
      const at = openSpan(heap) + constant("SPAN_HEADER");
      const word = [0, 4, 8, 12, 16].find((i) => heap.rig.u32(at + i) !== 0xffff_ffff)!;
      heap.rig.set32(at + word, 0xffff_ffff);
    },
  ],
  [
    "free count",
    Problem.SPAN_FREE,
    (heap) => {
      const at = heap.rig.field("Span", openSpan(heap), "free");
      heap.rig.set32(at, heap.rig.u32(at) + 1);
    },
  ],
  [
    "number of the occupancy list",
    Problem.SPAN_LIST,
    (heap) => {
      const at = heap.rig.field("Span", openSpan(heap), "list");
      heap.rig.set32(at, (heap.rig.u32(at) % 8) + 1);
    },
  ],
  ["start of a span", Problem.SPAN_UNMAPPED, ({ rig, small }) => rig.set32(rig.field("Span", rig.span(small), "start"), 0x7fff_ffff)],
  [
    "header in use that the map does not know",
    Problem.SPAN_UNMAPPED,
    ({ rig }) => {
      const free = rig.u32(rig.field("Heap", rig.base, "shortHeaders"));
      rig.set32(free, 0x2_0000);
    },
  ],
  ["pool into the blue", Problem.POOL_LINK, head("shortHeaders", 0xffff_ffe0)],
  [
    "pool of the other size",
    Problem.POOL_LINK,
    (heap) => head("longHeaders", heap.rig.u32(heap.rig.field("Heap", heap.rig.base, "shortHeaders")))(heap),
  ],
  [
    "pool with a header in use",
    Problem.POOL_LINK,
    ({ rig, small }) => rig.set32(rig.field("Heap", rig.base, "shortHeaders"), rig.span(small)),
  ],
  ["pool cut off", Problem.POOL_COUNT, head("shortHeaders", 0)],
  [
    "pool in a ring",
    Problem.POOL_COUNT,
    ({ rig }) => {
      const first = rig.u32(rig.field("Heap", rig.base, "shortHeaders"));
      rig.set32(rig.field("Span", first, "next"), first);
    },
  ],
  ["number of an arena", Problem.NODE_TOTAL, ({ rig }) => rig.set32(rig.field("Arena", rig.arena(1), "node"), 0)],
  ["owned pages of a node", Problem.NODE_TOTAL, ({ rig }) => rig.set32(rig.field("Arena", rig.arena(1), "ownedPages"), 0)],
  ["free pages of a node", Problem.NODE_TOTAL, ({ rig }) => rig.set32(rig.field("Arena", rig.arena(0), "freePages"), 0)],
  ["arena in a block", Problem.METADATA_STRUCT, ({ rig, large }) => rig.set32(rig.table("ARENAS", 5), large)],
  ["arena in the blue", Problem.METADATA_STRUCT, ({ rig }) => rig.set32(rig.table("ARENAS", 5), 0xffff_fff0)],
  ["arena used twice", Problem.METADATA_STRUCT, ({ rig }) => rig.set32(rig.table("ARENAS", 5), rig.arena(0))],
  ["bin with something else", Problem.BIN_RUN, ({ rig, large }) => rig.set32(someRun(rig).bin, large)],
  ["bin into the blue", Problem.BIN_RUN, ({ rig }) => rig.set32(someRun(rig).bin, 0xffff_e000)],
  [
    "run in the wrong bin",
    Problem.BIN_RUN,
    ({ rig }) => {
      const { bin, at } = someRun(rig);
      rig.set32(bin, 0);
      rig.set32(rig.arena(0) + constant("ARENA_BINS") + 77 * 4, at);
    },
  ],
  [
    "run of another node",
    Problem.BIN_RUN,
    ({ rig }) => {
      const { bin, at } = someRun(rig);
      rig.set32(rig.arena(1) + (bin - rig.arena(0)), at);
    },
  ],
  ["back link of a run", Problem.BIN_LINK, ({ rig }) => rig.set32(someRun(rig).at + 4, 8)],
  ["bit of an empty bin", Problem.BIN_BIT, ({ rig }) => rig.set32(rig.field("Arena", rig.arena(0), "nonempty1"), 1 << 20)],
  [
    "bit of a bin clear",
    Problem.BIN_BIT,
    ({ rig }) => {
      rig.set32(rig.field("Arena", rig.arena(0), "nonempty0"), 0);
      rig.set32(rig.field("Arena", rig.arena(0), "nonempty0") + 4, 0);
    },
  ],
  ["bin cut off", Problem.BIN_COUNT, ({ rig }) => rig.set32(someRun(rig).bin, 0)],
  [
    "bin in a ring",
    Problem.BIN_COUNT,
    ({ rig }) => {
      const { at } = someRun(rig);
      rig.set32(at, at);
    },
  ],
  ["number of a central list", Problem.CENTRAL_ID, (heap) => heap.rig.set32(centralOfSpan(heap.rig, openSpan(heap)) + 4, 0x0102)],
  [
    "central list in a block",
    Problem.METADATA_STRUCT,
    ({ rig, large }) => rig.set32(rig.arena(1) + constant("ARENA_CENTRALS") + 70 * 4, large),
  ],
  [
    "central list of no class",
    Problem.METADATA_STRUCT,
    (heap) => heap.rig.set32(heap.rig.arena(1) + constant("ARENA_CENTRALS"), centralOfSpan(heap.rig, openSpan(heap))),
  ],
  [
    "spans of a central list",
    Problem.CENTRAL_SPANS,
    (heap) => {
      const at = heap.rig.field("Central", centralOfSpan(heap.rig, openSpan(heap)), "spans");
      heap.rig.set32(at, heap.rig.u32(at) + 1);
    },
  ],
  [
    "occupancy list into the blue",
    Problem.LIST_SPAN,
    (heap) => heap.rig.set32(heap.rig.field("Central", centralOfSpan(heap.rig, openSpan(heap)), "list0"), 0xffff_ffe0),
  ],
  [
    "occupancy list with another's span",
    Problem.LIST_SPAN,
    (heap) => {
      const { rig, small } = heap;
      const other = rig.central(1, 1) || rig.central(1, 2);
      rig.set32(rig.field("Central", other, "list3"), rig.span(small));
    },
  ],
  ["back link of a span", Problem.LIST_LINK, (heap) => heap.rig.set32(heap.rig.field("Span", openSpan(heap), "previous"), 64)],
  [
    "occupancy list cut off",
    Problem.LIST_COUNT,
    (heap) => {
      const header = openSpan(heap);
      const list = heap.rig.u32(heap.rig.field("Span", header, "list")) - 1;
      heap.rig.set32(heap.rig.field("Central", centralOfSpan(heap.rig, header), "list0") + list * 4, 0);
    },
  ],
  [
    "occupancy list in a ring",
    Problem.LIST_COUNT,
    (heap) => {
      const header = openSpan(heap);
      heap.rig.set32(heap.rig.field("Span", header, "next"), header);
    },
  ],
  [
    "batches of a transfer cache",
    Problem.TRANSFER_COUNT,
    ({ rig }) => rig.set32(rig.field("Central", someBatch(rig).central, "transferCount"), 77),
  ],
  [
    "more batches never wanted than there are",
    Problem.TRANSFER_COUNT,
    ({ rig }) => rig.set32(rig.field("Central", someBatch(rig).central, "transferLow"), 7777),
  ],
  ["batch too short", Problem.BATCH_LENGTH, ({ rig }) => rig.set32(someBatch(rig).batch, 0)],
  [
    "transfer cache into the blue",
    Problem.BLOCK_BAD,
    ({ rig }) => rig.set32(rig.field("Central", someBatch(rig).central, "transferHead"), 0xffff_fff0),
  ],
  ["transfer cache in a ring", Problem.BLOCK_TWICE, ({ rig }) => rig.set32(someBatch(rig).batch + 4, someBatch(rig).batch)],
  [
    "batch of another class",
    Problem.BLOCK_CLASS,
    ({ rig, small }) => {
      const { batch } = someBatch(rig);
      rig.set32(small, rig.u32(batch));
      rig.set32(batch, small);
    },
  ],
  [
    "queue into the blue",
    Problem.BLOCK_BAD,
    ({ rig }) => rig.set32(rig.field("Arena", rig.arena(queuedNode(rig)), "queueHead"), 0xffff_fff0),
  ],
  ["slot dead", Problem.SLOT, ({ rig }) => rig.set8(rig.table("SLOTS", 1, 8), constant("SLOT_DEAD"))],
  ["slot in no state", Problem.SLOT, ({ rig }) => rig.set8(rig.table("SLOTS", 9, 8), 9)],
  ["slot without a key", Problem.SLOT_KEY, ({ rig }) => rig.set32(rig.table("SLOTS", 1, 8) + 4, 0)],
  ["two slots of one key", Problem.SLOT_KEY, ({ rig }) => rig.set32(rig.table("SLOTS", 1, 8) + 4, 1)],
  ["thread's id", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.thread(0), 9)],
  ["thread's node", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "node"), 99)],
  ["thread's home", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "home"), 99)],
  ["thread's vCPU", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "vcpu"), 999)],
  ["thread asleep", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "waiting"), rig.base)],
  ["thread with locks", Problem.THREAD_FIELD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "held"), 1)],
  ["thread record in a block", Problem.METADATA_STRUCT, ({ rig, large }) => rig.set32(rig.table("THREADS", 1), large)],
  ["attached slot without a record", Problem.METADATA_STRUCT, ({ rig }) => rig.set32(rig.table("THREADS", 1), 0)],
  ["record of a free slot with a cache", Problem.THREAD_NOT_EMPTY, ({ rig, small }) => rig.set32(rig.cache(2, 4), small)],
  ["record of a free slot with a remote list", Problem.THREAD_NOT_EMPTY, ({ rig, small }) => rig.set32(rig.remote(2, 1), small)],
  [
    "record of a free slot with frees put off",
    Problem.THREAD_NOT_EMPTY,
    ({ rig, large }) => rig.set32(rig.remote(2, constant("DEFERRED")), large),
  ],
  [
    "record of a free slot with a carry",
    Problem.THREAD_NOT_EMPTY,
    ({ rig, small }) => rig.set32(rig.field("Thread", rig.thread(2), "carry"), small),
  ],
  ["capacity", Problem.CAPACITY, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "capacity"), 1)],
  ["depth of a cached block", Problem.CACHE_DEPTH, ({ rig }) => rig.set32(someCache(rig).first + 4, 99)],
  ["cache cut off", Problem.BLOCK_BAD, ({ rig }) => rig.set32(someCache(rig).list, 0)],
  ["cache into the blue", Problem.BLOCK_BAD, ({ rig }) => rig.set32(someCache(rig).first, 0xffff_fff8)],
  ["cache with a misaligned block", Problem.BLOCK_BAD, ({ rig }) => rig.set32(someCache(rig).list, someCache(rig).first + 4)],
  ["cache with the inside of a block", Problem.BLOCK_BAD, ({ rig, small }) => rig.set32(someCache(rig).list, small + 8)],
  ["cache in a ring", Problem.BLOCK_TWICE, ({ rig }) => rig.set32(someCache(rig).first, someCache(rig).first)],
  [
    "two caches of the same blocks",
    Problem.BLOCK_TWICE,
    ({ rig }) => {
      const { first, c } = someCache(rig);
      rig.set32(rig.cache(1, c), first);
    },
  ],
  [
    "cache of another class",
    Problem.BLOCK_CLASS,
    ({ rig, small }) => {
      const { list, first, c } = someCache(rig);
      expect(c).not.toBe(rig.classOf(small));
      rig.set32(small, first);
      rig.set32(small + 4, rig.u32(first + 4) + 1);
      rig.set32(list, small);
    },
  ],
  ["cost of a remote list", Problem.REMOTE_COST, ({ rig }) => rig.set32(someRemote(rig).list + 4, 5)],
  ["cost of an empty remote list", Problem.REMOTE_COST, ({ rig }) => rig.set32(rig.remote(0, 7) + 4, 5)],
  ["remote list into the blue", Problem.BLOCK_BAD, ({ rig }) => rig.set32(someRemote(rig).list, 0xffff_fff8)],
  ["remote list of a large block", Problem.BLOCK_CLASS, ({ rig, large }) => rig.set32(someRemote(rig).list, large)],
  [
    "small block among the frees put off",
    Problem.BLOCK_CLASS,
    ({ rig, small }) => {
      rig.set32(small, 0);
      rig.set32(rig.remote(0, constant("DEFERRED")), small);
    },
  ],
  [
    "carry of a cached chain",
    Problem.BLOCK_TWICE,
    ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "carry"), someCache(rig).first),
  ],
  ["carry into the blue", Problem.BLOCK_BAD, ({ rig }) => rig.set32(rig.field("Thread", rig.thread(0), "carry"), 0xffff_fff8)],
];

describe("a broken heap", () => {
  test.each(BREAKS)("%s", (_, problem, breakIt) => {
    const heap = used();
    expect(heap.rig.walk(heap.live).problems).toEqual([]);
    breakIt(heap);
    const { problems } = heap.rig.walk(heap.live);
    expect(
      problems.some((text) => isA(problem, text)),
      `${Problem[problem]} is not among\n${problems.join("\n")}`,
    ).toBe(true);
    heap.rig.inspector.stats(); // nor do the figures trap
  });

  test("every problem is shown", () => {
    const shown = new Set<Problem>([...BREAKS.map(([, problem]) => problem), Problem.UNACCOUNTED]);
    const all = Object.values(Problem).filter((value) => typeof value === "number");
    expect(all.filter((problem) => !shown.has(problem)).map((problem) => Problem[problem])).toEqual([]);
  });

  test("with random bytes never makes the walk trap", () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
    console.log(`seed ${seed}`);
    const random = randomFrom(seed);
    for (let round = 0; round < 60; ++round) {
      const { rig, live } = used();
      const metadata = Array.from({ length: rig.memory.buffer.byteLength / 8192 }, (_, page) => page).filter(
        (page) => page >= rig.base >>> 13 && (rig.u8(rig.leaf("LEAF_FLAGS", page)) & 4) !== 0,
      );
      for (let i = 0; i < 30; ++i) {
        const at = metadata[random(metadata.length)]! * 8192 + random(2048) * 4;
        rig.set32(at, random(2) ? random(2 ** 32) : rig.u32(at) ^ (1 << random(32)));
      }
      rig.walk(live);
      rig.inspector.stats();
    }
  });
});

/** Whether a problem's text is this problem's: what it says but for its numbers. */
function isA(problem: Problem, text: string): boolean {
  const shape = (said: string): string => said.replace(/0x[0-9a-f]+|\d+/g, "#");
  const variants = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
  return variants.some((a) => variants.slice(0, 7).some((b) => [0, 1].some((c) => shape(sayProblem(problem, a, b, c)) === shape(text))));
}
