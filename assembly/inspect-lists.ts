// The walk, third part: what nodes and threads own. Free runs stand in their bins, spans in their occupancy lists; and each block
// outside its span is in exactly one list, or with the program.

import {
  ARENAS,
  ARENA_BINS,
  ARENA_CENTRALS,
  ARENA_SIZE,
  Arena,
  CENTRAL_LISTS,
  CacheList,
  CachedBlock,
  Central,
  DEFERRED,
  EXACT_RUNS,
  FreeRun,
  KIND_SMALL,
  MAX_CLASSES,
  MAX_NODES,
  MAX_THREADS,
  MAX_VCPUS,
  PAGE_SIZE,
  RemoteList,
  SLOTS,
  SLOT_ATTACHED,
  SLOT_FREE,
  Span,
  THREADS,
  THREAD_SIZE,
  Thread,
} from "./layout";
import { cacheList, heap, remoteList, sentinel, theHeap } from "./instance";
import { RANK_CENTRAL, RANK_QUEUE } from "./lock";
import { addressOf, pageOf } from "./page-map";
import { CLASSES, classInfo } from "./size-class";
import { labelOf } from "./page-heap";
import { costOf } from "./remote";
import { blockAt, classOfBlock, endPage, firstPage, headersIn, inMemory, inMetadata, isHeader, nodeAt, runAt } from "./inspect-map";
import { claimStruct, expectFree } from "./inspect-head";
import { listFor, pagesOn, runsOn } from "./inspect-pages";
import { Place, Problem, Word, expectEqual, mark, problem } from "./inspect-problem";

// ---- blocks outside their spans

/** Notes that the block at `at` was found in `place`; false if that ends the list it was found in. */
function found(at: usize, place: Place, whose: u32): bool {
  if (!blockAt(at)) {
    problem(Problem.BLOCK_BAD, <u32>at, place, whose);
    return false;
  }
  if (!mark(at, blockAt(at))) {
    problem(Problem.BLOCK_TWICE, <u32>at, place, whose);
    return false;
  }
  // Only frees that were put off are of large blocks.
  if ((place == Place.DEFERRED) != (classOfBlock(at) == 0)) problem(Problem.BLOCK_CLASS, <u32>at, place, classOfBlock(at));
  return true;
}

/** Notes the blocks of a chain that ends at 0 or `end`; how many. A class of 0 is any, `whose` is for the report. */
function foundChain(head: usize, end: usize, c: u32, place: Place, whose: u32): u32 {
  let count: u32 = 0;
  for (let at = head; at != 0 && at != end; at = load<u32>(at), ++count) {
    if (!found(at, place, whose)) break;
    if (c != 0 && classOfBlock(at) != c) problem(Problem.BLOCK_CLASS, <u32>at, place, classOfBlock(at));
  }
  return count;
}

// ---- arenas

export function checkArenas(): void {
  let listed: u32 = 0;
  let free: u32 = 0;
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = <usize>atomic.load<u32>(heap + ((<usize>node) << 2), ARENAS);
    if (arena == 0) continue;
    if (!inMetadata(arena, ARENA_SIZE)) {
      problem(Problem.METADATA_STRUCT, <u32>arena, ARENA_SIZE, 1);
      continue;
    }
    claimStruct(arena, ARENA_SIZE);
    const a = changetype<Arena>(arena);
    expectEqual(Problem.NODE_TOTAL, (node << 16) | Word.NODE, node, a.node);
    expectEqual(Problem.NODE_TOTAL, (node << 16) | Word.OWNED_PAGES, pagesOn(node), a.ownedPages);
    expectFree(a.queueLock, RANK_QUEUE, <u32>arena + offsetof<Arena>("queueLock"));
    free += checkBins(arena, node);
    checkQueue(arena, node);
    for (let c: u32 = 0; c < MAX_CLASSES; ++c) listed += checkCentral(arena, node, c);
  }
  expectEqual(Problem.LIST_COUNT, 0, spansToList(), listed);
  expectEqual(Problem.TOTAL, Word.FREE_PAGES, free, theHeap().freePages);
}

/** The bins of a node hold all its free runs, each in the bin of its length; their pages. */
function checkBins(arena: usize, node: u32): u32 {
  const runs = runsOn(node);
  let pages: u32 = 0;
  let count: u32 = 0;
  for (let bin: u32 = 0; bin <= EXACT_RUNS; ++bin) {
    const head = load<u32>(arena + (bin << 2), ARENA_BINS);
    if (bin < EXACT_RUNS) {
      const bit = (load<u64>(arena + ((bin >> 6) << 3), offsetof<Arena>("nonempty0")) >> (bin & 63)) & 1;
      if ((bit != 0) != (head != 0)) problem(Problem.BIN_BIT, node, bin, <u32>bit);
    }
    let previous: u32 = 0;
    for (let at: usize = head; at != 0; at = changetype<FreeRun>(at).next) {
      // The walk of the pages has marked the start of every free run.
      const length = runStarting(at);
      if (length == 0 || nodeAt(pageOf(at)) != node || min<u32>(length - 1, EXACT_RUNS) != bin) {
        problem(Problem.BIN_RUN, node, bin, <u32>at);
        break;
      }
      if (changetype<FreeRun>(at).previous != previous) problem(Problem.BIN_LINK, node, bin, <u32>at);
      previous = <u32>at;
      pages += length;
      if (++count > runs) break;
    }
  }
  expectEqual(Problem.BIN_COUNT, node, runs, count);
  expectEqual(Problem.NODE_TOTAL, (node << 16) | Word.FREE_PAGES, pages, changetype<Arena>(arena).freePages);
  return pages;
}

/** Length of the free run whose first byte is at `at`, 0 if none is. */
function runStarting(at: usize): u32 {
  const page = pageOf(at);
  if ((at & (PAGE_SIZE - 1)) != 0 || page < firstPage() || page >= endPage()) return 0;
  const length = runAt(page);
  return length != 0 && mark(addressOf(page), PAGE_SIZE) == 0 ? length : 0;
}

function checkQueue(arena: usize, node: u32): void {
  const a = changetype<Arena>(arena);
  let batch: usize = a.queueHead;
  while (batch != 0 && foundChain(batch, 0, 0, Place.REMOTE_QUEUE, node)) batch = load<u32>(batch, 4);
}

// ---- central lists

/** One central list and its transfer cache; how many spans its occupancy lists hold. */
function checkCentral(arena: usize, node: u32, c: u32): u32 {
  const central = <usize>atomic.load<u32>(arena + ((<usize>c) << 2), ARENA_CENTRALS);
  if (central == 0) return 0;
  const id = (node << 8) | c;
  if (c == 0 || c >= CLASSES || !inMetadata(central, offsetof<Central>())) {
    problem(Problem.METADATA_STRUCT, <u32>central, offsetof<Central>(), 1);
    return 0;
  }
  claimStruct(central, offsetof<Central>());
  const list = changetype<Central>(central);
  expectEqual(Problem.CENTRAL_ID, <u32>central, id, list.id);
  expectFree(list.lock, RANK_CENTRAL, <u32>central);
  checkTransferCache(central, c, id);
  const spans = spansOf(labelOf(KIND_SMALL, node, c));
  expectEqual(Problem.CENTRAL_SPANS, id, spans, list.spans);
  let count: u32 = 0;
  for (let i: u32 = 0; i < CENTRAL_LISTS; ++i) {
    let previous: u32 = 0;
    for (let at: usize = load<u32>(central + ((<usize>i) << 2), offsetof<Central>("list0")); at != 0; at = changetype<Span>(at).next) {
      const span = changetype<Span>(at);
      if (!inMemory(at, offsetof<Span>()) || !isHeader(at) || span.label != labelOf(KIND_SMALL, node, c) || span.list != i + 1) {
        problem(Problem.LIST_SPAN, id, i, <u32>at);
        break;
      }
      if (span.previous != previous) problem(Problem.LIST_LINK, id, i, <u32>at);
      previous = <u32>at;
      if (++count > spans) break;
    }
  }
  return count;
}

function checkTransferCache(central: usize, c: u32, id: u32): void {
  const list = changetype<Central>(central);
  const length: u32 = classInfo(c).batch;
  let batches: u32 = 0;
  for (let batch: usize = list.transferHead; batch != 0; ++batches) {
    const count = foundChain(batch, 0, c, Place.TRANSFER_CACHE, id);
    if (count != length) problem(Problem.BATCH_LENGTH, <u32>batch, count, length);
    if (count == 0) break;
    batch = load<u32>(batch, 4);
  }
  expectEqual(Problem.TRANSFER_COUNT, id, batches, list.transferCount);
  if (list.transferLow > batches) problem(Problem.TRANSFER_COUNT, id, batches, list.transferLow);
}

/** Calls of this are few: there is one central list for each class and node in use. */
function spansOf(label: u32): u32 {
  let count: u32 = 0;
  for (let page = firstPage(); page < endPage(); ++page) {
    const size = headersIn(page);
    if (!size) continue;
    const from = addressOf(page);
    for (let at = from; at + size <= from + PAGE_SIZE; at += size) count += <u32>(changetype<Span>(at).label == label);
  }
  return count;
}

/** Spans that should be in an occupancy list: those with free blocks. */
function spansToList(): u32 {
  let count: u32 = 0;
  for (let page = firstPage(); page < endPage(); ++page) {
    const size = headersIn(page);
    if (!size) continue;
    const from = addressOf(page);
    for (let at = from; at + size <= from + PAGE_SIZE; at += size) {
      const span = changetype<Span>(at);
      count += <u32>(span.label >> 16 == KIND_SMALL && listFor(span.free) != 0);
    }
  }
  return count;
}

// ---- threads

export function checkThreads(): void {
  let records: u32 = 0;
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) {
    const word = atomic.load<u64>(heap + ((<usize>slot) << 3), SLOTS);
    const state = (<u32>word) & 0xff;
    const key = <u32>(word >> 32);
    if (state != SLOT_FREE && state != SLOT_ATTACHED) problem(Problem.SLOT, slot, state, key);
    if ((key == 0) != (state == SLOT_FREE)) problem(Problem.SLOT_KEY, slot, slot, key);
    for (let other: u32 = 0; other < slot && key != 0; ++other) {
      if (<u32>(atomic.load<u64>(heap + ((<usize>other) << 3), SLOTS) >> 32) == key) problem(Problem.SLOT_KEY, slot, other, key);
    }
    const record = <usize>atomic.load<u32>(heap + ((<usize>slot) << 2), THREADS);
    records += <u32>(record != 0);
    if (record == 0 && state == SLOT_FREE) continue;
    if (!inMetadata(record, THREAD_SIZE)) {
      problem(Problem.METADATA_STRUCT, <u32>record, THREAD_SIZE, 1);
      continue;
    }
    claimStruct(record, THREAD_SIZE);
    if (state == SLOT_FREE) checkEmpty(record, slot);
    else checkThread(record, slot);
  }
  expectEqual(Problem.TOTAL, Word.RECORDS, records, theHeap().records);
}

/** A slot that nobody has holds no blocks. */
function checkEmpty(record: usize, slot: u32): void {
  for (let c: u32 = 0; c < MAX_CLASSES; ++c) {
    const head = load<u32>(cacheList(record, c));
    if (head != 0 && head != <u32>sentinel()) problem(Problem.THREAD_NOT_EMPTY, slot, Place.CACHE, head);
  }
  for (let i: u32 = 0; i <= MAX_NODES; ++i) {
    const head = load<u32>(remoteList(record, i));
    if (head) problem(Problem.THREAD_NOT_EMPTY, slot, i == DEFERRED ? Place.DEFERRED : Place.REMOTE_LIST, head);
  }
  const carry = changetype<Thread>(record).carry;
  if (carry) problem(Problem.THREAD_NOT_EMPTY, slot, Place.CARRY, carry);
}

function checkThread(record: usize, slot: u32): void {
  const t = changetype<Thread>(record);
  expectEqual(Problem.THREAD_FIELD, (slot << 16) | Word.ID, slot + 1, t.id);
  if (t.node >= MAX_NODES) problem(Problem.THREAD_FIELD, (slot << 16) | Word.NODE, 0, t.node);
  if (t.home >= MAX_NODES) problem(Problem.THREAD_FIELD, (slot << 16) | Word.HOME, 0, t.home);
  if (t.vcpu >= MAX_VCPUS) problem(Problem.THREAD_FIELD, (slot << 16) | Word.VCPU, 0, t.vcpu);
  expectEqual(Problem.THREAD_FIELD, (slot << 16) | Word.WAITING, 0, t.waiting);
  expectEqual(Problem.THREAD_FIELD, (slot << 16) | Word.HELD, 0, t.held);
  let capacity: u32 = 0;
  for (let c: u32 = 0; c < MAX_CLASSES; ++c) {
    checkCache(record, slot, c);
    if (c < CLASSES) capacity += changetype<CacheList>(cacheList(record, c)).limit * classInfo(c).size;
  }
  expectEqual(Problem.CAPACITY, slot, capacity, t.capacity);
  for (let i: u32 = 0; i < MAX_NODES; ++i) checkRemote(record, slot, i);
  foundChain(load<u32>(remoteList(record, DEFERRED)), 0, 0, Place.DEFERRED, slot);
  foundChain(t.carry, t.carryEnd, 0, Place.CARRY, slot);
}

/** A cache list: blocks of its class down to the sentinel, each of which knows its depth. */
function checkCache(record: usize, slot: u32, c: u32): void {
  for (let at = <usize>load<u32>(cacheList(record, c)); at != sentinel();) {
    if (!found(at, Place.CACHE, slot)) return;
    if (c == 0 || classOfBlock(at) != c) problem(Problem.BLOCK_CLASS, <u32>at, Place.CACHE, classOfBlock(at));
    const block = changetype<CachedBlock>(at);
    const next = <usize>block.next;
    const below = next == sentinel() ? 0 : inMemory(next, 8) ? changetype<CachedBlock>(next).depth : 0;
    if (block.depth != below + 1) problem(Problem.CACHE_DEPTH, <u32>at, below + 1, block.depth);
    at = next;
  }
}

/** A remote list: each block knows the cost of those after it. */
function checkRemote(record: usize, slot: u32, node: u32): void {
  let cost = changetype<RemoteList>(remoteList(record, node)).cost;
  let at = <usize>changetype<RemoteList>(remoteList(record, node)).head;
  while (at) {
    if (!found(at, Place.REMOTE_LIST, slot)) return;
    const rest = load<u32>(at, 4);
    if (cost != rest + costOf(blockAt(at))) problem(Problem.REMOTE_COST, <u32>at, rest + costOf(blockAt(at)), cost);
    cost = rest;
    at = load<u32>(at);
  }
  if (cost) problem(Problem.REMOTE_COST, <u32>remoteList(record, node), 0, cost);
}
