// Layout of the shared heap: every struct and table that lives in linear memory, and nothing else.
//
//   base ┌──────────────────────────────┐
//        │ Heap            512 B        │ words every thread reads; the locks of the back end
//        │ class info      16 B a class │ size, reciprocal, pages of a span, batch (written once, at create)
//        │ size → class    a byte each  │
//        │ distances       a byte each  │ topology page: seqlock and epoch stand in Heap
//        │ vCPU → node     a byte each  │
//        │ arenas          u32 a node   │ Arena of a node, made on its first use
//        │ slots           u64 a thread │ who owns thread slot i
//        │ threads         u32 a slot   │ Thread record of slot i, made on its first use
//        │ root            u32 a leaf   │ page map, first level
//        │ no leaf         2 KiB of 0   │ tags of memory that is not the heap's; the sentinel of cache lists
//        ├──────────────────────────────┤
//        │ metadata, then pages         │ records, arenas, leaves and span headers are metadata pages
//        └──────────────────────────────┘
//
// Plain fields are guarded by a lock or private to one thread, as the comment of the struct says. Words
// read without a lock are marked "atomic" and are reached only through atomic.load and atomic.store.

export const MAGIC: u32 = 0x41_4d_55_4e; // "NUMA"
export const ABI_VERSION: u32 = 2;

export const PAGE_SHIFT: u32 = 13;
export const PAGE_SIZE: u32 = 1 << PAGE_SHIFT;
/** Pages of the heap in one page of WebAssembly (64 KiB): growth comes in these. */
export const PAGES_PER_GROWTH: u32 = 65536 >> PAGE_SHIFT;
/** The last page below 4 GiB is never the heap's, so that no end of a block wraps. */
export const PAGE_LIMIT: u32 = (1 << (32 - PAGE_SHIFT)) - 1;

// Stated limits.
export const MAX_NODES: u32 = 32;
export const MAX_THREADS: u32 = 256;
export const MAX_VCPUS: u32 = 256;
export const MAX_CLASSES: u32 = 96;

export const LEAF_SHIFT: u32 = 10;
export const LEAF_PAGES: u32 = 1 << LEAF_SHIFT;
const LEAVES: u32 = 1 << (32 - PAGE_SHIFT - LEAF_SHIFT);

/**
 * The head of the heap. Lock words name their holder (see lock.ts).
 *
 *   ownedPages = metadataPages + pages of spans in use + pages of free runs       (under pageHeapLock)
 */
@unmanaged @final
export class Heap {
  magic: u32;
  abiVersion: u32;
  /** Address of this struct. */
  base: u32;
  flags: u32;
  /** Most pages the heap may own. */
  limitPages: u32;
  /** Atomic, written under pageHeapLock: pages claimed from the memory, metadata included. */
  ownedPages: u32;
  /** Atomic, written under topologyLock: nodes 0 .. nodes-1 exist. */
  nodes: u32;
  /** Atomic, written under pageHeapLock: thread records made, the most threads there were at a time. */
  records: u32;
  // -- under a guest kernel, written once, at create; else 0
  /** Frames of the virtual machine. */
  frames: u32;
  /** Addresses of the kernel's tables, a byte a frame each: owner, node, who touched it first (frame-source.ts). */
  frameOwners: u32;
  frameNodes: u32;
  frameTouchers: u32;
  /** Address of a byte a vCPU: the node it really runs on. */
  vcpuTruth: u32;
  /** What this heap is in the owner bytes. */
  frameOwner: u32;
  unused1: u64;

  // -- cache line 1: the back end, all of it under pageHeapLock
  pageHeapLock: u32;
  /** Metadata is handed out from [metaNext, metaEnd). */
  metaNext: u32;
  metaEnd: u32;
  metadataPages: u32;
  /** Free span headers, by size: with a short and with a long bitmap. */
  shortHeaders: u32;
  longHeaders: u32;
  /** A growth under way: size of the memory before, pages asked for, first page got + 1; 0 = none. */
  growBefore: u32;
  growPages: u32;
  growGot: u32;
  growNode: u32;
  /** Pages that a dead thread's growth claimed from the memory and nobody can prove to be the heap's. */
  lostPages: u32;
  /** Free pages of all nodes. */
  freePages: u32;
  /** Pages of the largest span that was ever released. */
  largestSpan: u32;
  unused4: u32;
  unused5: u64;

  // -- cache line 2: topology; epoch is read by every malloc, the rest changes with it
  topologyLock: u32;
  /** Atomic seqlock of distances and vCPU → node: odd while they are written. */
  sequence: u32;
  /** Atomic, compared for equality only: changes after every topology change. */
  epoch: u32;
  /** A rebind under way: pages still to do; 0 = none. Under topologyLock. */
  rebindFirst: u32;
  rebindPages: u32;
  rebindNode: u32;
  /** Statistics of rebind, under topologyLock. */
  spansRebound: u32;
  pagesMoved: u32;
  pagesMovedInUse: u32;
  unused6: u32;
  unused7: u64;
  unused8: u64;
  unused9: u64;

  // -- cache line 3
  reapLock: u32;
  /** Atomic counters of bad calls, by kind (bad-call.ts). */
  badCalls0: u32;
  badCalls1: u32;
  badCalls2: u32;
  badCalls3: u32;
  badCalls4: u32;
  badCalls5: u32;
  badCalls6: u32;
  /** Atomic: threads reaped after their death. */
  reaped: u32;
}

/** The heap is the only one that grows the memory: a dead thread's cut-off growth can be claimed. */
export const HEAP_GROWS_ALONE: u32 = 1;

/** One size class. */
@unmanaged @final
export class ClassInfo {
  /** Bytes of a block. */
  size: u32;
  /** ceil(2^32 / size): index = (offset * reciprocal) >> 32, exact at the starts of blocks. */
  reciprocal: u32;
  /** Pages of a span. */
  pages: u16;
  /** Blocks moved between tiers at a time. */
  batch: u16;
  /** Blocks in a span. */
  blocks: u32;
}

/**
 * A run of pages in use. Header only: free runs are described by the page map and by links in their own
 * first page, so that a free never has to allocate.
 *
 *   kind SMALL:  popcount(bitmap) = blocks - free        under the central lock of (node, class)
 *   kind LARGE:  one block of `pages` pages              under pageHeapLock
 *
 * `label` is the commit: a span exists from the store of its label to the store of 0, and everything else
 * that describes it (lists, counts, page map, tags) can be rebuilt from headers and page map.
 */
@unmanaged @final
export class Span {
  /** Atomic: kind << 16 | node << 8 | class; 0 = free header. */
  label: u32;
  /** First page. */
  start: u32;
  pages: u32;
  /** Links of the central list's occupancy lists; `next` also of the free headers. */
  next: u32;
  previous: u32;
  /** Blocks inside the span; of a large block, whether its free was put off. */
  free: u32;
  /** 1 + occupancy list this span stands in, 0 = none (it is full). */
  list: u32;
  unused: u32;
  // 1 bit a block follows: set = outside (in a cache or with the program).
}
export const SPAN_HEADER: u32 = 32;
/** Bits of the bitmap in a short header (64 bytes) and in a long one (160 bytes). */
export const SHORT_BITS: u32 = 256;
export const LONG_BITS: u32 = 1024;
export const SHORT_HEADER: u32 = SPAN_HEADER + SHORT_BITS / 8;
export const LONG_HEADER: u32 = SPAN_HEADER + LONG_BITS / 8;

export const KIND_SMALL: u32 = 1;
export const KIND_LARGE: u32 = 2;

/** Links of a free run, in its own first bytes. Under pageHeapLock. */
@unmanaged @final
export class FreeRun {
  next: u32;
  previous: u32;
}

/** Free runs of up to this many pages stand in a list of their exact size; longer ones in one more list. */
export const EXACT_RUNS: u32 = 128;
export const CENTRAL_LISTS: u32 = 8;

/** All that one node owns. Bins under pageHeapLock, the queue under queueLock, centrals each under its own. */
@unmanaged @final
export class Arena {
  node: u32;
  /** Pages whose true node is this one, in free runs; and most that the node may own (0 = no limit). */
  freePages: u32;
  ownedPages: u32;
  limitPages: u32;
  /** Bit n-1 of the 128: a free run of n pages exists. */
  nonempty0: u64;
  nonempty1: u64;
  unused: u64;
  unused2: u64;
  unused3: u64;
  unused4: u64;

  // -- cache line 1: remote frees on their way home: a stack of batches
  queueLock: u32;
  queueHead: u32;
  unused5: u32;
  unused6: u32;
  // numastat, atomic, counted in blocks as threads fetch them
  numaHit: u64;
  numaMiss: u64;
  numaForeign: u64;
  interleaveHit: u64;
  localNode: u64; // other_node = numaHit + numaMiss - localNode
  unused7: u64;
}
export const ARENA_BINS: u32 = 128; // offset of u32[EXACT_RUNS + 1]
export const ARENA_CENTRALS: u32 = ARENA_BINS + (EXACT_RUNS + 1) * 4; // offset of u32[MAX_CLASSES], atomic
export const ARENA_SIZE: u32 = (ARENA_CENTRALS + MAX_CLASSES * 4 + 63) & ~63;

/**
 * Central free list and transfer cache of one (node, class): all of it under `lock`.
 * A batch of the transfer cache is a chain of exactly `batch` blocks; the second word of its first block
 * links to the next batch, and further words, as many as it has, name the blocks after it (batches.ts).
 */
@unmanaged @final
export class Central {
  lock: u32;
  /** node << 8 | class. */
  id: u32;
  transferHead: u32;
  transferCount: u32;
  /** Spans with free blocks by how many: list i holds those with 2^i <= free < 2^(i+1), the last one all above. */
  list0: u32;
  list1: u32;
  list2: u32;
  list3: u32;
  list4: u32;
  list5: u32;
  list6: u32;
  list7: u32;
  /** Spans of this list. */
  spans: u32;
  /** Fewest batches of the transfer cache since one that nobody wanted was last returned: transferLow <= transferCount. */
  transferLow: u32;
  unused0: u32;
  unused1: u32;
}

/** One list of a thread's cache. It ends at the sentinel, never at 0; an empty list is the sentinel alone. */
@unmanaged @final
export class CacheList {
  head: u32;
  /** A free that finds this many blocks takes the slow path. */
  limit: u32;
  /** Head at the last scavenge: unchanged = idle. */
  seen: u32;
  unused: u32;
}

/**
 * First bytes of a cached block. The sentinel is one of these, of zeros: so a list knows its length in one load, and
 * `next` is 0 for the sentinel only.
 *
 *   depth = 1 + depth of next
 */
@unmanaged @final
export class CachedBlock {
  next: u32;
  depth: u32;
}

/** Blocks of another node on their way to it: head and cost, read and written as one u64. */
@unmanaged @final
export class RemoteList {
  head: u32;
  cost: u32;
}

/**
 * What one thread owns; private to it until it is dead, and then to its reaper.
 * A block handed on is, at every instant, in exactly one of: a list below, the carry, or the shared place it
 * goes to; `carry` is set before the block leaves its list and cleared, under the lock of that place, once
 * it is there (thread-cache.ts has the rules by which a reaper decides).
 */
@unmanaged @final
export class Thread {
  /** Slot + 1. */
  id: u32;
  /** Node of the vCPU this thread runs on. */
  node: u32;
  vcpu: u32;
  unused: u32;
  epoch: u32;
  /** Atomic: blocks in hand, a chain that ends at 0 or at carryEnd. */
  carry: u32;
  carryEnd: u32;
  /** Atomic: lock this thread may be asleep on. */
  waiting: u32;
  /** Policy (policy.ts). */
  policy: u32;
  mask: u32;
  cursor: u32;
  /** Blocks that are still to come from node `cursor`. */
  credit: u32;
  /** Sum of limit x size over the cache lists, bytes. */
  capacity: u32;
  /** Slow paths since the last scavenge. */
  ticks: u32;
  /** Ranks of the locks held (debug build). */
  held: u32;
  /** Node whose blocks are cached: where the policy allocates first. */
  home: u32;
  // counters, advanced on slow paths; read by anybody when quiescent
  refills: u64;
  refilledBlocks: u64;
  returnedBlocks: u64;
  remoteFrees: u64;
  largeAllocations: u64;
  largeFrees: u64;
  localBlocks: u64; // of refilledBlocks + largeAllocations; the others are of other nodes
  unused2: u64;
}
export const THREAD_ORDER: u32 = 128; // offset of u8[MAX_NODES]: nodes by distance from `node`
export const THREAD_WEIGHTS: u32 = THREAD_ORDER + MAX_NODES; // offset of u8[MAX_NODES]
export const THREAD_CACHE: u32 = THREAD_WEIGHTS + MAX_NODES; // offset of CacheList[MAX_CLASSES]
/** Offset of RemoteList[MAX_NODES + 1]: one a node, and the large blocks whose free was put off. */
export const THREAD_REMOTE: u32 = THREAD_CACHE + MAX_CLASSES * 16;
export const DEFERRED: u32 = MAX_NODES;
export const THREAD_SIZE: u32 = (THREAD_REMOTE + (MAX_NODES + 1) * 8 + 63) & ~63;

/** The thread may sleep on a lock (false on a browser's main thread). */
export const THREAD_MAY_BLOCK: u32 = 1;

/** State of a thread slot: low byte of its u64; then 16 bits of generation; the high word is the owner's key. */
export const SLOT_FREE: u32 = 0;
export const SLOT_ATTACHED: u32 = 1;
export const SLOT_DEAD: u32 = 2;

// Tables after Heap, as offsets from base.
export const CLASS_INFO: u32 = 512;
export const SIZE_TO_CLASS: u32 = CLASS_INFO + MAX_CLASSES * 16;
export const SIZE_TO_CLASS_BYTES: u32 = 2176;
export const DISTANCES: u32 = SIZE_TO_CLASS + SIZE_TO_CLASS_BYTES; // u8[MAX_NODES][MAX_NODES], atomic
export const VCPU_NODE: u32 = DISTANCES + MAX_NODES * MAX_NODES; // u8[MAX_VCPUS], atomic
export const ARENAS: u32 = VCPU_NODE + MAX_VCPUS; // u32[MAX_NODES], atomic
export const SLOTS: u32 = ARENAS + MAX_NODES * 4; // u64[MAX_THREADS], atomic
export const THREADS: u32 = SLOTS + MAX_THREADS * 8; // u32[MAX_THREADS], atomic
export const ROOT: u32 = THREADS + MAX_THREADS * 4; // u32[LEAVES], atomic
export const NO_LEAF: u32 = ROOT + LEAVES * 4; // u16[LEAF_PAGES] of zeros; its first 8 bytes are the sentinel
export const HEAP_BYTES: u32 = NO_LEAF + LEAF_PAGES * 2;

// A leaf of the page map: four arrays over its LEAF_PAGES pages. It is one page of metadata.
/** u16: node and class of pages of small spans, else 0 (page-map.ts). Read without a lock by every free. */
export const LEAF_TAGS: u32 = 0;
/** u32: see page-map.ts. Under pageHeapLock; the entries of a small span also under its central lock. */
export const LEAF_ENTRIES: u32 = LEAF_PAGES * 2;
/** u8: the true node of the page, written by whoever handles topology changes. Atomic. */
export const LEAF_NODES: u32 = LEAF_PAGES * 6;
/** u8: PAGE_* flags. Under pageHeapLock. */
export const LEAF_FLAGS: u32 = LEAF_PAGES * 7;
export const LEAF_BYTES: u32 = LEAF_PAGES * 8;

export const PAGE_OWNED: u8 = 1;
/** Somebody may have written to the page since it was zero. */
export const PAGE_TOUCHED: u8 = 2;
export const PAGE_METADATA: u8 = 4;
export const PAGE_SHORT_HEADERS: u8 = 8;
export const PAGE_LONG_HEADERS: u8 = 16;
/** Of a page in use: nobody had written to it when its span was made. */
export const PAGE_FRESH: u8 = PAGE_TOUCHED << 4;
