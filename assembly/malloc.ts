// The C family. malloc and free hit the thread cache without a call, an atomic or a loop; all else is slow path. Each reason for a
// miss leaves the block by a branch of its own: what hits is then one straight line in the code of V8, which nested or combined
// conditions are not (1 to 2 ns a pair).

import { CacheList, CachedBlock, Heap, MAX_CLASSES, PAGE_SHIFT, PAGE_SIZE, Span, THREAD_CACHE, Thread } from "./layout";
import {
  EBUSY,
  EINVAL,
  ENOMEM,
  cacheList,
  epochSeen,
  fail,
  heap,
  homeTag,
  lastError,
  lengthOf,
  listBase,
  missed,
  self,
  setMissed,
  theHeap,
  thread,
} from "./instance";
import { FINE, MAX_SMALL, CLASSES, classInfo, classOf, classOfFine } from "./size-class";
import { classOfTag, nodeOfTag, tagFor, tagOf } from "./page-map";
import { countNode, drainNodes, fetch, flushCache, freeRemote, overflow, refill, returnCarry } from "./thread-cache";
import { allocateLarge, allocateLargeOnNode, freeDeferred, freeLarge, largeSpan, pagesFor, resizeLarge, zeroTouched } from "./large";
import { releaseFrames } from "./frame-source";
import { observe } from "./topology";
import { MISALIGNED, reportBadCall } from "./bad-call";

/** Sizes beyond this are refused before any arithmetic on them. */
const MAX_SIZE: usize = 0xffff_0000;
/** Classes larger than the wanted one that a thread which may not sleep looks into when locks are out of reach. */
const RESERVE_CLASSES: u32 = 16;

/** A block of at least `size` bytes, aligned to 16 (8 below 16 bytes); 0 with an errno if there is none. */
export function malloc(size: usize): usize {
  do {
    if (size > FINE) break;
    if (load<u32>(heap, offsetof<Heap>("epoch")) != epochSeen) break;
    const list = thread + ((<usize>classOfFine(size)) << 4);
    const block = <usize>load<u32>(list, THREAD_CACHE);
    const next = changetype<CachedBlock>(block).next;
    if (next == 0) break;
    store<u32>(list, next, THREAD_CACHE);
    return block;
  } while (false);
  return mallocSlowNoInline(size);
}

/** Gives a block back; 0 is nothing. */
export function free(block: usize): void {
  do {
    if (block & 7) break;
    const tag = tagOf(block);
    if (tag - homeTag >= tagFor(0, MAX_CLASSES - 1)) break; // not of my node, or not small
    const list = changetype<CacheList>(listBase + tag);
    const head = list.head;
    const depth = changetype<CachedBlock>(<usize>head).depth;
    if (depth >= list.limit) break;
    changetype<CachedBlock>(block).next = head;
    changetype<CachedBlock>(block).depth = depth + 1;
    list.head = <u32>block;
    return;
  } while (false);
  freeSlowNoInline(block);
}

// ---- slow paths

function mallocSlowNoInline(size: usize): usize {
  return size > MAX_SMALL ? mallocLarge(size, false) : mallocSmall(classOf(size));
}

/** Begins a call: sees topology changes; false if the instance is not attached. */
export function enter(): bool {
  if (self == 0) return false;
  setMissed(false);
  if (atomic.load<u32>(heap, offsetof<Heap>("epoch")) != epochSeen) observe();
  return true;
}

function mallocSmall(c: u32): usize {
  if (!enter()) return fail(EINVAL);
  const list = cacheList(thread, c);
  if (lengthOf(list) == 0 && !refill(thread, c)) {
    if (!reclaim() || !refill(thread, c)) return missed ? fromReserve(c) : ofWholePages(c);
  }
  return pop(list);
}

function pop(list: usize): usize {
  const block = <usize>load<u32>(list);
  store<u32>(list, load<u32>(block));
  return block;
}

/** There is no memory, or a lock was out of reach of a thread that may not sleep. */
function failed(): usize {
  return fail(missed ? EBUSY : ENOMEM);
}

/** Locks are out of reach and waiting is not allowed: a cached block of a larger class will do. */
function fromReserve(c: u32): usize {
  for (let larger = c + 1; larger < min<u32>(CLASSES, c + RESERVE_CLASSES); ++larger) {
    const list = cacheList(thread, larger);
    if (lengthOf(list)) return pop(list);
  }
  return fail(EBUSY);
}

/** No node has room for a span of the class: pages of several may have it for a block. */
function ofWholePages(c: u32): usize {
  return allocate(classInfo(c).size, 1, false, false);
}

/** Memory is exhausted: everything cached that can be reached goes back to the page heap. */
function reclaim(): bool {
  return !missed && freeDeferred(thread) && flushCache(thread) && drainNodes(thread, 0);
}

function mallocLarge(size: usize, zero: bool): usize {
  return allocate(size, 1, zero, false);
}

/** A large block, of zeros or one that `grows`; `alignPages` is a power of two. */
function allocate(size: usize, alignPages: u32, zero: bool, grows: bool): usize {
  if (!enter()) return fail(EINVAL);
  if (size > MAX_SIZE) return fail(ENOMEM);
  freeDeferred(thread);
  const pages = pagesFor(size);
  let block = allocateLarge(pages, alignPages, grows);
  if (!block && reclaim()) block = allocateLarge(pages, alignPages, grows);
  if (!block) return failed();
  if (zero) zeroTouched(block, pages);
  return block;
}

function freeSlowNoInline(block: usize): void {
  if (block == 0 || !enter()) return;
  const tag = tagOf(block);
  if (tag == 0) return freeLarge(thread, block);
  if (block & 7) return reportBadCall(MISALIGNED);
  const node = nodeOfTag(tag);
  const c = classOfTag(tag);
  if (node == nodeOfTag(homeTag)) overflow(thread, c, block);
  else freeRemote(thread, node, c, block);
}

// ---- the rest of the family

/** A zeroed block of `count` times `size` bytes. */
export function calloc(count: usize, size: usize): usize {
  const bytes = <u64>count * <u64>size;
  if (bytes > <u64>MAX_SIZE) return fail(ENOMEM);
  if (bytes > MAX_SMALL) return mallocLarge(<usize>bytes, true);
  const block = malloc(<usize>bytes);
  if (block) memory.fill(block, 0, <usize>bytes);
  return block;
}

/** Bytes the program may use of a block, 0 for a bad pointer. */
export function malloc_usable_size(block: usize): usize {
  if (block == 0) return 0;
  const tag = tagOf(block);
  if (tag) {
    if ((block & 7) == 0) return classInfo(classOfTag(tag)).size;
    reportBadCall(MISALIGNED);
    return 0;
  }
  const header = largeSpan(block);
  return header ? (<usize>changetype<Span>(header).pages) << PAGE_SHIFT : 0;
}

/** The block with `size` bytes, moved if it must be; realloc(block, 0) frees and answers 0. */
export function realloc(block: usize, size: usize): usize {
  if (block == 0) return malloc(size);
  if (size == 0) {
    free(block);
    return 0;
  }
  const usable = malloc_usable_size(block);
  if (usable == 0 || self == 0) return fail(EINVAL);
  if (size > MAX_SIZE) return fail(ENOMEM);
  const tag = tagOf(block);
  if (tag) {
    // Stays where it is unless that wastes half of it.
    if (size <= usable && (size > usable >> 1 || usable <= 64)) return block;
  } else if (size > MAX_SMALL && resizeLarge(largeSpan(block), pagesFor(size))) {
    return block;
  }
  const moved = size > MAX_SMALL ? allocate(size, 1, false, true) : malloc(size);
  if (!moved) return size <= usable ? block : 0;
  memory.copy(moved, block, min<usize>(usable, size));
  free(block);
  return moved;
}

function isPowerOfTwo(n: usize): bool {
  return popcnt<usize>(n) == 1;
}

/** A block aligned to `alignment`, a power of two. */
export function memalign(alignment: usize, size: usize): usize {
  if (!isPowerOfTwo(alignment) || size > MAX_SIZE) {
    return fail(size > MAX_SIZE ? ENOMEM : EINVAL);
  }
  if (alignment <= 8) return malloc(size);
  const rounded = (max<usize>(size, 1) + alignment - 1) & ~(alignment - 1);
  if (alignment <= PAGE_SIZE && rounded <= MAX_SMALL) {
    // Spans start at pages, so a class whose size is a multiple of the alignment has only aligned blocks.
    let c = classOf(rounded);
    while (c < CLASSES && (classInfo(c).size & (<u32>(alignment - 1))) != 0) ++c;
    if (c < CLASSES) {
      const block = malloc(classInfo(c).size);
      if ((block & (alignment - 1)) == 0) return block;
      // Out of the reserve: a larger class need not be aligned.
      free(block);
      return fail(EBUSY);
    }
  }
  return allocate(max<usize>(size, MAX_SMALL + 1), max<u32>(1, <u32>(alignment >> PAGE_SHIFT)), false, false);
}

/** As memalign; the size need not be a multiple of the alignment (C17). */
export function aligned_alloc(alignment: usize, size: usize): usize {
  return memalign(alignment, size);
}

/** Stores an aligned block at `out`. An errno; on failure `out` is untouched. */
export function posix_memalign(out: usize, alignment: usize, size: usize): i32 {
  if (alignment < sizeof<usize>() || !isPowerOfTwo(alignment)) return EINVAL;
  const block = memalign(alignment, size);
  if (!block) return lastError;
  store<u32>(out, <u32>block);
  return 0;
}

/** Gives everything cached within reach back to the page heap: 1 if that freed pages. the pad is accepted for C's sake. */
export function malloc_trim(pad: usize): i32 {
  if (!enter()) return 0;
  const before = theHeap().freePages;
  reclaim();
  if (isDefined(GUEST_BUILD)) return releaseFrames(pagesFor(pad)) ? 1 : 0;
  return theHeap().freePages > before ? 1 : 0;
}

/** A block on `node` or none. Of a small one the span is on `node`: a page of it that moved alone may lie elsewhere. */
export function mallocOnNode(size: usize, node: u32): usize {
  if (!enter() || node >= theHeap().nodes) return fail(EINVAL);
  if (size > MAX_SIZE) return fail(ENOMEM);
  let block = takeOnNode(size, node);
  if (!block && reclaim()) block = takeOnNode(size, node);
  return block ? block : failed();
}

function takeOnNode(size: usize, node: u32): usize {
  const t = thread;
  if (size > MAX_SMALL) return allocateLargeOnNode(node, pagesFor(size));
  if (!fetch(t, classOf(size), node, 1)) return 0;
  const record = changetype<Thread>(t);
  // A batch may have come instead of one block: the others go back.
  const block = <usize>record.carry;
  record.refilledBlocks += 1;
  countNode(record, node, node, 1);
  const rest = load<u32>(block);
  atomic.store<u32>(t, rest == record.carryEnd ? 0 : rest, offsetof<Thread>("carry"));
  returnCarry(t);
  return block;
}
