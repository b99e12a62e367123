// Makes a heap out of a range of memory. A module of its own (create.wasm): only the one who makes the heap needs it.

import {
  ABI_VERSION,
  ARENAS,
  ARENA_SIZE,
  Arena,
  DISTANCES,
  Heap,
  HEAP_BYTES,
  LEAF_BYTES,
  LEAF_SHIFT,
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
import { EINVAL, ENOMEM, bindHeap, bindThread, theHeap } from "./instance";
import { pageOf } from "./page-map";
import { claim, fileClaimed, markMetadata } from "./page-source";
import { writeSizeClasses } from "./size-class";

/**
 * Formats a heap at `base` over [base, end), both multiples of 64 KiB, that grows up to `limitPages` pages of 8 KiB. An `end` of 0 is
 * 4 GiB; the last page before that is not taken. Nobody may use the heap before this has returned 0; other answers are an errno.
 */
export function create(base: usize, end: usize, limitPages: u32, nodes: u32, flags: u32): i32 {
  return format(base, end, limitPages, nodes, flags, 0);
}

/**
 * As `create`, for a heap under a guest kernel (heap.guest.wasm): [base, end) are frames that are the heap's already, and it may claim any
 * of the machine's `frames` frames beyond them. The page map covers them all at once. `owner` and the tables: see Heap.
 */
export function createInFrames(
  base: usize,
  end: usize,
  limitPages: u32,
  nodes: u32,
  frames: u32,
  owner: u32,
  frameOwners: u32,
  frameNodes: u32,
  frameTouchers: u32,
  vcpuTruth: u32,
): i32 {
  if (frames > PAGE_LIMIT || frames <= pageOf(end - 1) || owner > 127) return EINVAL;
  const error = format(base, end, limitPages, nodes, 0, frames);
  if (error) return error;
  const h = changetype<Heap>(base);
  h.frames = frames;
  h.frameOwner = owner;
  h.frameOwners = frameOwners;
  h.frameNodes = frameNodes;
  h.frameTouchers = frameTouchers;
  h.vcpuTruth = vcpuTruth;
  return 0;
}

/** Formats the heap, with a page map of at least the pages below `mapped`. */
function format(base: usize, end: usize, limitPages: u32, nodes: u32, flags: u32, mapped: u32): i32 {
  if (base < 65536 || ((base | end) & 0xffff) != 0 || end - 1 < base || nodes == 0 || nodes > MAX_NODES) return EINVAL;
  if (<u64>(end - 1) >= (<u64>memory.size()) << 16) return ENOMEM;
  bindHeap(base);
  bindThread(0, 1, false);
  const first = pageOf(base);
  const pages = min<u32>(pageOf(end - 1) + 1, PAGE_LIMIT) - first;
  if (limitPages < pages) return EINVAL;
  // [head | leaf of the first pages | arena of node 0 | metadata ...] in as many pages as that needs
  const leaves = ((max<u32>(first + pages, mapped) - 1) >> LEAF_SHIFT) - (first >> LEAF_SHIFT) + 1;
  const leafAt = (base + HEAP_BYTES + 63) & ~63;
  const arenaAt = leafAt + leaves * LEAF_BYTES;
  const metaAt = arenaAt + ARENA_SIZE;
  const metaPages = pageOf(metaAt - base + PAGE_SIZE - 1);
  if (metaPages > pages) return EINVAL;
  memory.fill(base, 0, (<usize>metaPages) << PAGE_SHIFT);
  const h = theHeap();
  h.base = <u32>base;
  h.abiVersion = ABI_VERSION;
  h.flags = flags;
  h.limitPages = limitPages;
  h.nodes = nodes;
  h.epoch = 1;
  for (let i: usize = 0; i < 1 << (32 - PAGE_SHIFT - LEAF_SHIFT); ++i) store<u32>(base + (i << 2), <u32>(base + NO_LEAF), ROOT);
  for (let i: u32 = 0; i < leaves; ++i) {
    store<u32>(base + (((first >> LEAF_SHIFT) + i) << 2), <u32>(leafAt + i * LEAF_BYTES), ROOT);
  }
  for (let from: u32 = 0; from < MAX_NODES; ++from) {
    for (let to: u32 = 0; to < MAX_NODES; ++to) store<u8>(base + from * MAX_NODES + to, from == to ? 10 : 20, DISTANCES);
  }
  for (let vcpu: u32 = 0; vcpu < MAX_VCPUS; ++vcpu) store<u8>(base + vcpu, <u8>(vcpu % nodes), VCPU_NODE);
  store<u32>(base, <u32>arenaAt, ARENAS);
  writeSizeClasses(base + NO_LEAF);
  h.metaNext = <u32>metaAt;
  h.metaEnd = <u32>(base + ((<usize>metaPages) << PAGE_SHIFT));
  claim(first, pages, 0);
  for (let i: u32 = 0; i < metaPages; ++i) markMetadata(first + i);
  if (pages > metaPages) fileClaimed(first + metaPages, pages - metaPages);
  h.ownedPages = pages;
  changetype<Arena>(arenaAt).ownedPages = pages;
  bindThread(0, 0, false);
  atomic.store<u32>(base, MAGIC);
  return 0;
}
