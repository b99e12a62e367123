// The walk, first part: the head of the heap, its tables, the page map's first level. What comes later trusts
// them, so the walk ends here if they are wrong.

import {
  ABI_VERSION,
  CLASS_INFO,
  DISTANCES,
  Heap,
  HEAP_BYTES,
  LEAF_BYTES,
  LEAF_PAGES,
  LEAF_SHIFT,
  LONG_BITS,
  MAGIC,
  MAX_NODES,
  MAX_VCPUS,
  NO_LEAF,
  PAGE_LIMIT,
  PAGE_SHIFT,
  PAGE_SIZE,
  ROOT,
  VCPU_NODE,
} from "./layout";
import { heap, theHeap } from "./instance";
import { RANK_PAGE_HEAP, RANK_REAP, RANK_TOPOLOGY } from "./lock";
import { CLASSES, MAX_SMALL, classInfo, classOf } from "./size-class";
import { inMemory, inMetadata } from "./inspect-map";
import { Problem, Word, mark, problem, problems } from "./inspect-problem";

/** Whether a heap of this version stands at `base`. */
export function isHeap(base: usize): bool {
  if ((base & 0xffff) != 0 || base == 0 || !inMemory(base, HEAP_BYTES)) return false;
  const h = changetype<Heap>(base);
  return h.magic == MAGIC && h.abiVersion == ABI_VERSION && h.base == <u32>base && h.nodes - 1 < MAX_NODES;
}

/** Checks all that the rest of the walk stands on; false if that is not sound. */
export function checkTables(): bool {
  const before = problems;
  for (let c: u32 = 1, below: u32 = 0; c < CLASSES; ++c) {
    const info = classInfo(c);
    const size = info.size;
    if (size <= below || size > MAX_SMALL) {
      problem(Problem.TABLE, CLASS_INFO, c, size);
      break;
    }
    const room = (<u32>info.pages) << PAGE_SHIFT;
    const reciprocal = <u32>((((<u64>1) << 32) + size - 1) / size);
    if (info.reciprocal != reciprocal || info.blocks == 0 || info.blocks != min<u32>(room / size, LONG_BITS) || info.batch == 0) {
      problem(Problem.TABLE, CLASS_INFO, c, size);
    }
    below = size;
  }
  for (let size: u32 = 0; size <= MAX_SMALL && problems == before; size += 8) {
    const c = classOf(size);
    if (c == 0 || c >= CLASSES || classInfo(c).size < size || (c > 1 && classInfo(c - 1).size >= size)) {
      problem(Problem.TABLE, 0, c, size);
    }
  }
  for (let at: u32 = 0; at < LEAF_PAGES * 2; at += 4) {
    const word = load<u32>(heap + at, NO_LEAF);
    if (word) problem(Problem.SENTINEL, at, word, 0);
  }
  checkRoot();
  return problems == before;
}

/** Every entry of the page map's first level is the leaf of zeros or a leaf of the heap's own, no two the same. */
function checkRoot(): void {
  const leaves = (PAGE_LIMIT >> LEAF_SHIFT) + 1;
  for (let i: u32 = 0; i < leaves; ++i) {
    const leaf = <usize>load<u32>(heap + ((<usize>i) << 2), ROOT);
    if (leaf == heap + NO_LEAF) continue;
    if ((leaf & 63) != 0 || leaf < heap + HEAP_BYTES || !inMemory(leaf, LEAF_BYTES)) problem(Problem.LEAF, i, <u32>leaf, 0);
    else claimStruct(leaf, LEAF_BYTES);
  }
  for (let i: u32 = 0; i < leaves; ++i) {
    const leaf = <usize>load<u32>(heap + ((<usize>i) << 2), ROOT);
    if (leaf != heap + NO_LEAF && !inMetadata(leaf, LEAF_BYTES)) problem(Problem.LEAF, i, <u32>leaf, 1);
  }
}

/** Marks a struct in metadata: no two may overlap, nor may one lie in what is still to be handed out. */
export function claimStruct(at: usize, bytes: u32): void {
  const h = theHeap();
  let free = (at & 63) == 0;
  for (let i: u32 = 0; i < bytes && free; i += 64) free = mark(at + i, 64) != 0;
  if (!free || (<u32>at < h.metaEnd && <u32>at + bytes > h.metaNext)) problem(Problem.METADATA_STRUCT, <u32>at, bytes, 0);
}

/** What must be so of the head while nobody is inside the heap. */
export function checkHead(): void {
  const h = theHeap();
  expectFree(h.reapLock, RANK_REAP, <u32>heap + offsetof<Heap>("reapLock"));
  expectFree(h.topologyLock, RANK_TOPOLOGY, <u32>heap + offsetof<Heap>("topologyLock"));
  expectFree(h.pageHeapLock, RANK_PAGE_HEAP, <u32>heap + offsetof<Heap>("pageHeapLock"));
  if (h.growPages) problem(Problem.UNDER_WAY, Word.GROWTH, h.growPages, 0);
  if (h.rebindPages) problem(Problem.UNDER_WAY, Word.REBIND, h.rebindPages, 0);
  if (h.sequence & 1) problem(Problem.UNDER_WAY, Word.SEQUENCE, h.sequence, 0);
  const range = h.metaEnd - h.metaNext;
  if (h.metaEnd != 0 && (h.metaNext > h.metaEnd || (range != 0 && (range > PAGE_SIZE * 2 || !inMetadata(h.metaNext, range))))) {
    problem(Problem.METADATA_RANGE, h.metaNext, h.metaEnd, 0);
  }
  for (let from: u32 = 0; from < MAX_NODES; ++from) {
    for (let to: u32 = 0; to < MAX_NODES; ++to) {
      const distance = load<u8>(heap + from * MAX_NODES + to, DISTANCES);
      if (distance < 10 || (from == to) != (distance == 10)) problem(Problem.DISTANCE, from, to, distance);
    }
  }
  for (let vcpu: u32 = 0; vcpu < MAX_VCPUS; ++vcpu) {
    const node = load<u8>(heap + vcpu, VCPU_NODE);
    if (node >= h.nodes) problem(Problem.VCPU_NODE, vcpu, node, 0);
  }
}

export function expectFree(word: u32, rank: u32, at: u32): void {
  if (word) problem(Problem.LOCK_HELD, rank, at, word);
}
