// Thread cache: a list of free blocks of the home node for each class, and a list for each other node of blocks to be
// sent back. Private to its thread; these are the slow paths between it and the central lists.
//
// The carry. A chain that moves between two places is named by the record's carry from before it leaves the one until it is in
// the other, so that a reaper finds it. For a dead thread's carry:
//   it heads one of the thread's own lists, a transfer cache or a remote queue   the move has not begun, or is done: void
//   else                                                                         return its blocks to their spans
// Every function here works on a record given to it, since a reaper empties the caches of others.

import { Arena, CacheList, CachedBlock, Central, ClassInfo, Heap, MAX_NODES, PAGE_SHIFT, Thread } from "./layout";
import { NO_HOME, cacheList, heap, homeTag, lengthOf, nearest, remoteList, theHeap } from "./instance";
import { RANK_CENTRAL, acquire, release } from "./lock";
import { carryChain, lastOf, relink } from "./batches";
import { CLASSES, classInfo } from "./size-class";
import { arenaOf, tagFor } from "./page-map";
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

/** All thread caches together hold at most 1/2^CACHE_SHIFT of what the heap owns, counted as if it were CACHE_PAGES pages larger. */
const CACHE_SHIFT: u32 = 2;
const CACHE_PAGES: u32 = 64;
/** Slow paths between two scavenges. */
const SCAVENGE_TICKS: u32 = 512;
/** Remote batches returned in a refill: two, since with one as many might be sent as return. */
const HOMECOMING = 2;
const CACHE_LINE: u32 = 64;
/** Batches that a scavenge returns of a transfer cache, at most. */
const SPARE_BATCHES: u32 = 8;
/** Blocks returned under one hold of a central lock. */
const RETURN_BLOCKS: u32 = 64;

/** Bytes one thread's cache may hold. */
function budget(): u32 {
  const h = theHeap();
  const threads = atomic.load<u32>(heap, offsetof<Heap>("records"));
  return ((h.ownedPages + CACHE_PAGES) << (PAGE_SHIFT - CACHE_SHIFT)) / threads;
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
  const head = load<u32>(list);
  let last: usize = head;
  for (let i: u32 = 1; i < count; ++i) last = load<u32>(last);
  const rest = load<u32>(last);
  carryChain(t, head, rest);
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
  if (count == info.batch && central != 0) {
    if (!acquire(central, RANK_CENTRAL)) return false;
    // Under the lock, no rebind takes blocks of this list to another.
    const last = hasTransferRoom(central, info) ? lastOf(record.carry, count, tagFor(record.home, c), info.size) : 0;
    if (last) {
      store<u32>(last, 0);
      putBatch(central, t);
    } else {
      returnBlocks(central, t, RETURN_BLOCKS);
    }
    release(central, RANK_CENTRAL);
  }
  return returnCarry(t);
}

// ---- blocks in

/** Gets blocks of class `c` into its empty list. False if there are none to be had: no memory, or locks out of reach. */
export function refill(t: usize, c: u32): bool {
  const record = changetype<Thread>(t);
  tick(t);
  const info = classInfo(c);
  const list = changetype<CacheList>(cacheList(t, c));
  raiseLimit(record, list, info);
  const want = min<u32>(max<u32>(1, list.limit >> 1), info.batch);
  const target = nextTarget(t, want);
  const allowed = allowedNodes(record);
  // The target, then all there can be: nodes may come and go meanwhile.
  for (let i: u32 = 0, node = target; i <= MAX_NODES; node = nearest(t, i++)) {
    if (((allowed >> node) & 1) != 0 && refillFrom(t, c, node, target, want)) return true;
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
  const info = classInfo(c);
  const batch: u32 = info.batch;
  const batched = (want == batch || !hasFreeBlocks(central)) && takeBatch(central, t);
  const count = batched ? batch : takeBlocks(central, t, want);
  release(central, RANK_CENTRAL);
  if (batched) relink(record, count, info.size);
  return count;
}

/** numastat: in blocks, as they are fetched. What is not local is the rest. */
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
  push(at, block);
  // Half of them, so that neither the next malloc nor the next free is likely to find an end of the list.
  const length = lengthOf(at);
  if (length > list.limit) giveBack(t, c, min<u32>((length + 1) >> 1, info.batch));
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
  record.remoteFrees += <u64>(node != record.home);
  if (cost < REMOTE_COST) return;
  tick(t);
  // Who caches nothing sends all it frees: it brings as much home as it sends.
  if (returnCarry(t) && handOver(t, node) && homeTag == NO_HOME && takeRemote(t, node)) returnCarry(t);
}

// ---- bounds

/**
 * Slow start: the limit doubles until it is a batch or more, then grows by batches, as long as the cache's budget lasts. It begins with what fills
 * two cache lines, of which the first refill brings half: threads whose first blocks were in one line would write to it by turns.
 */
function raiseLimit(record: Thread, list: CacheList, info: ClassInfo): void {
  const step = min<u32>(list.limit + max<u32>(1, (2 * CACHE_LINE) / info.size), info.batch);
  if (record.capacity + step * info.size > budget()) return;
  list.limit += step;
  record.capacity += step * info.size;
}

let ownedSeen: u32 = 0;

/**
 * Every so often, and when the heap has grown: halves the lists that were not used since the last time, and returns a batch of each transfer cache
 * that had one to spare all the time.
 */
function tick(t: usize): void {
  const record = changetype<Thread>(t);
  const owned = theHeap().ownedPages;
  if (++record.ticks < SCAVENGE_TICKS && owned == ownedSeen) return;
  ownedSeen = owned;
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
      while (lengthOf(at) > limit) {
        if (!giveBack(t, c, min<u32>(lengthOf(at) - limit, classInfo(c).batch))) return;
      }
    }
    list.seen = list.head;
    if (!returnUnwanted(t, centralOf(record.home, c))) return;
  }
  handOverAll(t);
  drainVanished(t);
}

/** Returns batches of a transfer cache that nobody has wanted since the last time to their spans. False if a lock is out of reach. */
function returnUnwanted(t: usize, central: usize): bool {
  if (central == 0 || atomic.load<u32>(central, offsetof<Central>("transferHead")) == 0) return true;
  if (!returnCarry(t) || !acquire(central, RANK_CENTRAL)) return false;
  const c = changetype<Central>(central);
  for (let spare = min<u32>(c.transferLow, SPARE_BATCHES); spare; --spare) {
    takeBatch(central, t);
    returnBlocks(central, t, RETURN_BLOCKS);
  }
  c.transferLow = c.transferCount;
  release(central, RANK_CENTRAL);
  return true;
}

/** Sends all that is to be sent to other nodes. False if a lock is out of reach. */
function handOverAll(t: usize): bool {
  for (let node: u32 = 0; node < MAX_NODES; ++node) if (!handOver(t, node)) return false;
  return true;
}

/** Empties carry and cache: every block goes back to its span, or to the queue of its node. False if a lock is out of reach. */
export function flushCache(t: usize): bool {
  for (let c: u32 = 1; c < CLASSES; ++c) {
    if (!flushClass(t, c)) return false;
  }
  return handOverAll(t);
}

function flushClass(t: usize, c: u32): bool {
  if (!returnCarry(t)) return false;
  const list = cacheList(t, c);
  const length = lengthOf(list);
  if (length == 0) return true;
  detach(t, list, length);
  return returnCarry(t);
}

/** Returns whole lists that hold blocks this thread does not cache: after a change of the topology or of the policy. */
export function sortOut(t: usize): bool {
  for (let c: u32 = 1; c < CLASSES; ++c) {
    const list = cacheList(t, c);
    if (!lastOf(load<u32>(list), lengthOf(list), homeTag + tagFor(0, c - 1), 0) && !flushClass(t, c)) return false;
  }
  return true;
}

/** Returns the batches of a transfer cache, if there is one, to their spans. False if a lock is out of reach. */
export function emptyTransferCache(t: usize, central: usize): bool {
  for (let more = central != 0; more;) {
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
    if (!emptyTransferCache(t, centralOf(node, c))) return false;
  }
  return true;
}

/** Drains the nodes that do not exist any more: nobody refills there. */
export function drainVanished(t: usize): void {
  drainNodes(t, theHeap().nodes);
}

/** Drains all nodes from `first` on. False if a lock is out of reach. */
export function drainNodes(t: usize, first: u32): bool {
  for (let node = first; node < MAX_NODES; ++node) if (!drainNode(t, node)) return false;
  return true;
}
