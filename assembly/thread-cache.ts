// Thread cache: a list of free blocks of the home node for each class, and a list for each other node of blocks to be
// sent back. Private to its thread; these are the slow paths between it and the central lists.
//
// The carry. A chain that moves between two places is named by the record's carry from before it leaves the one until it is in
// the other, so that a reaper finds it. For a dead thread's carry:
//   it heads one of the thread's own lists, a transfer cache or a remote queue   the move has not begun, or is done: void
//   else                                                                         return its blocks to their spans
// Every function here works on a record given to it, since a reaper empties the caches of others.

import { Arena, CacheList, CachedBlock, ClassInfo, Heap, MAX_NODES, PAGE_SHIFT, Thread } from "./layout";
import { cacheList, heap, lengthOf, nearest, remoteList, sentinel, theHeap } from "./instance";
import { RANK_CENTRAL, acquire, release } from "./lock";
import { CLASSES, classInfo } from "./size-class";
import { arenaOf, tagFor, tagOf } from "./page-map";
import { assertCacheList } from "./invariants";
import {
  OUT_OF_REACH,
  centralOf,
  hasFreeBlocks,
  hasTransferRoom,
  makeCentral,
  putBatch,
  releaseIdleSpans,
  returnBlocks,
  spanOf,
  takeBatch,
  takeBlocks,
} from "./central";
import { classOfLabel, loadLabel, nodeOfLabel } from "./page-heap";
import { REMOTE_COST, costOf, handOver, takeRemote } from "./remote";
import { allowedNodes, charge, isInterleaving, nextTarget } from "./policy";

/** All thread caches together hold at most 1/2^CACHE_SHIFT of what the heap owns. */
const CACHE_SHIFT: u32 = 5;
/** Slow paths between two scavenges. */
const SCAVENGE_TICKS: u32 = 512;
/** Remote batches returned in a refill: two, since with one as many might be sent as return. */
const HOMECOMING = 2;
/** Blocks returned under one hold of a central lock. */
const RETURN_BLOCKS: u32 = 64;

/** Bytes one thread's cache may hold. */
function budget(): u32 {
  const h = theHeap();
  const threads = max<u32>(1, atomic.load<u32>(heap, offsetof<Heap>("records")));
  return (h.ownedPages << (PAGE_SHIFT - CACHE_SHIFT)) / threads;
}

// ---- the carry

/** Returns the carry's blocks to their spans. False if a lock is out of reach; the carry keeps what is left. */
export function returnCarry(t: usize): bool {
  const record = changetype<Thread>(t);
  while (record.carry) {
    const label = loadLabel(spanOf(record.carry));
    const central = centralOf(nodeOfLabel(label), classOfLabel(label));
    if (!central) {
      // Links that lead nowhere: the program wrote to freed blocks. What they led to is lost, nothing else.
      atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
      break;
    }
    if (!acquire(central, RANK_CENTRAL)) return false;
    // A rebind may have changed the label meanwhile; then nothing is returned, and we look again.
    returnBlocks(central, t, RETURN_BLOCKS);
    release(central, RANK_CENTRAL);
  }
  record.carryEnd = 0;
  return true;
}

/** Takes the first `count` blocks off a cache list, into the carry. */
function detach(t: usize, list: usize, count: u32): void {
  const record = changetype<Thread>(t);
  const head: usize = load<u32>(list);
  let last = head;
  for (let i: u32 = 1; i < count; ++i) last = load<u32>(last);
  const rest = load<u32>(last);
  record.carryEnd = rest;
  atomic.store<u32>(t, <u32>head, offsetof<Thread>("carry"));
  store<u32>(list, rest);
}

/** Returns the first `count` blocks of class `c`'s list: as a batch to the transfer cache where that can be, else to their spans. */
function giveBack(t: usize, c: u32, count: u32): bool {
  const record = changetype<Thread>(t);
  if (!returnCarry(t)) return false;
  const info = classInfo(c);
  const list = cacheList(t, c);
  const central = centralOf(record.home, c);
  detach(t, list, count);
  if (count == info.batch && count > 1 && central != 0) {
    if (!acquire(central, RANK_CENTRAL)) return false;
    // Under the lock, no rebind takes blocks of this list to another.
    if (hasTransferRoom(central, info) && allOf(record.carry, count, tagFor(record.home, c))) {
      cut(record.carry, count);
      putBatch(central, t);
    } else {
      returnBlocks(central, t, RETURN_BLOCKS);
    }
    release(central, RANK_CENTRAL);
  }
  return returnCarry(t);
}

/** Ends the chain after `count` blocks. */
function cut(head: usize, count: u32): void {
  let last = head;
  for (let i: u32 = 1; i < count; ++i) last = load<u32>(last);
  store<u32>(last, 0);
}

/** Whether the first `count` blocks all have this tag. */
function allOf(head: usize, count: u32, tag: u32): bool {
  let block = head;
  for (let i: u32 = 0; i < count; ++i) {
    if (tagOf(block) != tag) return false;
    block = load<u32>(block);
  }
  return true;
}

// ---- blocks in

/** Gets blocks of class `c` into its empty list. False if there are none to be had: no memory, or locks out of reach. */
export function refill(t: usize, c: u32): bool {
  const record = changetype<Thread>(t);
  tick(t);
  const info = classInfo(c);
  const list = changetype<CacheList>(cacheList(t, c));
  raiseLimit(record, list, info);
  const want = max<u32>(1, min<u32>(list.limit, info.batch));
  const target = nextTarget(t, want);
  const allowed = allowedNodes(record);
  if (((allowed >> target) & 1) != 0 && refillFrom(t, c, target, target, want)) return true;
  // All there can be: nodes may come and go meanwhile.
  for (let i: u32 = 0; i < MAX_NODES; ++i) {
    const node = nearest(t, i);
    if (node != target && ((allowed >> node) & 1) != 0 && refillFrom(t, c, node, target, want)) return true;
  }
  return false;
}

function refillFrom(t: usize, c: u32, node: u32, intended: u32, want: u32): bool {
  const count = fetch(t, c, node, want);
  if (count == 0) return false;
  const record = changetype<Thread>(t);
  // One store publishes the list; from then on the carry is void.
  store<u32>(cacheList(t, c), record.carry);
  atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
  if (isDefined(DEBUG_BUILD)) assertCacheList(t, c);
  record.refills += 1;
  record.refilledBlocks += count;
  charge(record, node == intended ? count : -1); // a node that has none has had its turn
  countNode(record, node, intended, count);
  return true;
}

/** Gets up to `want` blocks of (node, class) into the carry, linked and counted; how many. Batches that were freed elsewhere come home first. */
export function fetch(t: usize, c: u32, node: u32, want: u32): u32 {
  const record = changetype<Thread>(t);
  if (!returnCarry(t)) return 0;
  for (let i = 0; i < HOMECOMING && takeRemote(t, node); ++i) if (!returnCarry(t)) return 0;
  const central = makeCentral(node, c);
  if (central <= OUT_OF_REACH || !acquire(central, RANK_CENTRAL)) return 0;
  const batch: u32 = classInfo(c).batch;
  const batched = (want == batch || !hasFreeBlocks(central)) && takeBatch(central, t);
  const count = batched ? batch : takeBlocks(central, t, want);
  release(central, RANK_CENTRAL);
  if (batched) relink(record, count);
  return count;
}

/** Makes a batch of `count` blocks in the carry a cache list. */
function relink(record: Thread, count: u32): void {
  record.carryEnd = <u32>sentinel();
  let block: usize = record.carry;
  for (let depth = count; depth > 1; --depth) {
    changetype<CachedBlock>(block).depth = depth;
    block = changetype<CachedBlock>(block).next;
  }
  changetype<CachedBlock>(block).depth = 1;
  changetype<CachedBlock>(block).next = <u32>sentinel();
}

/** numastat: in blocks, as they are fetched. */
export function countNode(record: Thread, node: u32, intended: u32, count: u32): void {
  const arena = arenaOf(node);
  if (node == intended) {
    atomic.add<u64>(arena, count, offsetof<Arena>("numaHit"));
    if (isInterleaving(record)) atomic.add<u64>(arena, count, offsetof<Arena>("interleaveHit"));
  } else {
    atomic.add<u64>(arena, count, offsetof<Arena>("numaMiss"));
    const wanted = arenaOf(intended);
    if (wanted) atomic.add<u64>(wanted, count, offsetof<Arena>("numaForeign"));
  }
  if (node == record.node) {
    atomic.add<u64>(arena, count, offsetof<Arena>("localNode"));
    record.localBlocks += count;
  } else {
    atomic.add<u64>(arena, count, offsetof<Arena>("otherNode"));
    record.remoteBlocks += count;
  }
}

// ---- blocks back

/** A free of class `c` that found its list full. */
export function overflow(t: usize, c: u32, block: usize): void {
  const record = changetype<Thread>(t);
  tick(t);
  const at = cacheList(t, c);
  const list = changetype<CacheList>(at);
  const info = classInfo(c);
  raiseLimit(record, list, info);
  const length = lengthOf(at);
  if (length >= list.limit && length > 0) giveBack(t, c, min<u32>(length, info.batch));
  push(at, block);
  // No room for a single block of this class: it goes back at once.
  if (list.limit == 0) giveBack(t, c, lengthOf(at));
}

function push(list: usize, block: usize): void {
  changetype<CachedBlock>(block).depth = lengthOf(list) + 1;
  changetype<CachedBlock>(block).next = load<u32>(list);
  store<u32>(list, <u32>block);
}

/** A free of a block of another node. */
export function freeRemote(t: usize, node: u32, c: u32, block: usize): void {
  const record = changetype<Thread>(t);
  const list = remoteList(t, node);
  const word = load<u64>(list);
  const cost = (word >> 32) + costOf(classInfo(c).size);
  store<u64>(block, word);
  store<u64>(list, (cost << 32) | (<u64>block));
  record.remoteFrees += 1;
  if (cost < REMOTE_COST) return;
  tick(t);
  if (returnCarry(t)) handOver(t, node);
}

// ---- bounds

/** Slow start: the limit doubles up to a batch, then grows by batches, as long as the cache's budget lasts. */
function raiseLimit(record: Thread, list: CacheList, info: ClassInfo): void {
  const batch: u32 = info.batch;
  const step = list.limit < batch ? min<u32>(max<u32>(1, list.limit), batch - list.limit) : batch;
  if (record.capacity + step * info.size > budget()) return;
  list.limit += step;
  record.capacity += step * info.size;
}

/** Every so often, halves the lists that were not used since the last time. */
function tick(t: usize): void {
  const record = changetype<Thread>(t);
  if (++record.ticks < SCAVENGE_TICKS) return;
  record.ticks = 0;
  scavenge(t);
}

function scavenge(t: usize): void {
  if (!returnCarry(t)) return;
  const record = changetype<Thread>(t);
  const over = record.capacity > budget();
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const at = cacheList(t, c);
    const list = changetype<CacheList>(at);
    if (over || list.head == list.seen) {
      const limit = list.limit >> 1;
      record.capacity -= (list.limit - limit) * classInfo(c).size;
      list.limit = limit;
      while (lengthOf(at) > list.limit) {
        if (!giveBack(t, c, min<u32>(lengthOf(at) - list.limit, classInfo(c).batch))) return;
      }
    }
    list.seen = list.head;
  }
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    if (!handOver(t, node)) break;
  }
  drainVanished(t);
}

/** Empties the cache: every block goes back to its span, or to the queue of its node. False if a lock is out of reach. */
export function flushCache(t: usize): bool {
  for (let c: u32 = 1; c < CLASSES; ++c) {
    if (!flushClass(t, c)) return false;
  }
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    if (!handOver(t, node)) return false;
  }
  return true;
}

function flushClass(t: usize, c: u32): bool {
  if (!returnCarry(t)) return false;
  const list = cacheList(t, c);
  const length = lengthOf(list);
  if (length == 0) return true;
  detach(t, list, length);
  return returnCarry(t);
}

/** Returns whole lists that hold blocks of nodes other than the record's home: after a change of the topology or of the policy. */
export function sortOut(t: usize): bool {
  const home = changetype<Thread>(t).home;
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const list = cacheList(t, c);
    if (!allOf(load<u32>(list), lengthOf(list), tagFor(home, c)) && !flushClass(t, c)) return false;
  }
  return true;
}

/** Returns the batches of a transfer cache to their spans. False if a lock is out of reach. */
export function emptyTransferCache(t: usize, central: usize): bool {
  for (let more = true; more;) {
    if (!returnCarry(t) || !acquire(central, RANK_CENTRAL)) return false;
    more = takeBatch(central, t);
    if (!more) releaseIdleSpans(central);
    release(central, RANK_CENTRAL);
  }
  return true;
}

/** Returns what waits in the remote queue and the transfer caches of `node` to its spans. */
export function drainNode(t: usize, node: u32): bool {
  if (!arenaOf(node)) return true;
  do if (!returnCarry(t)) return false;
  while (takeRemote(t, node));
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const central = centralOf(node, c);
    if (central != 0 && !emptyTransferCache(t, central)) return false;
  }
  return true;
}

/** Drains the nodes that do not exist any more: nobody refills there. */
export function drainVanished(t: usize): void {
  for (let node = theHeap().nodes; node < MAX_NODES; ++node) if (!drainNode(t, node)) return;
}
