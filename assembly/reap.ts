// Threads come and go: attach, detach, and what a survivor does about the dead.
//
// A slot's word says who owns it: free, attached, or dead (its owner's death is confirmed, its record is being emptied). A reaper can
// die too: every step below can be done again by the next one, which finds both slots dead.

import {
  ABI_VERSION,
  Arena,
  Central,
  DEFERRED,
  Heap,
  MAGIC,
  MAX_CLASSES,
  MAX_NODES,
  MAX_THREADS,
  MAX_VCPUS,
  NO_LEAF,
  SLOTS,
  SLOT_ATTACHED,
  SLOT_DEAD,
  SLOT_FREE,
  THREADS,
  THREAD_MAY_BLOCK,
  THREAD_SIZE,
  Thread,
} from "./layout";
import {
  EBUSY,
  EINVAL,
  ENOMEM,
  bindHeap,
  NO_HOME,
  bindThread,
  cacheList,
  fail,
  heap,
  mayBlock,
  remoteList,
  self,
  sentinel,
  setError,
  setHome,
  setMayBlock,
  thread,
} from "./instance";
import {
  RANK_CENTRAL,
  RANK_QUEUE,
  RANK_REAP,
  acquire,
  acquirePageHeap,
  acquireTopology,
  release,
  releasePageHeap,
  releaseTopology,
} from "./lock";
import { CLASSES } from "./size-class";
import { arenaOf, pageOf, tagOf } from "./page-map";
import { assertEmpty } from "./invariants";
import { metadata } from "./metadata";
import { rebuildPageHeap, releaseSpan, spanAt } from "./page-heap";
import { centralOf, rebuildCentral, releaseIdleSpans, returnBlocks } from "./central";
import { flushCache } from "./thread-cache";
import { freeDeferred } from "./large";
import { endWrite, finishRebind, observe } from "./topology";

function slotAt(slot: u32): usize {
  return heap + ((<usize>slot) << 3);
}

function stateOf(word: u64): u32 {
  return (<u32>word) & 0xff;
}

function recordOf(slot: u32): usize {
  return atomic.load<u32>(heap + ((<usize>slot) << 2), THREADS);
}

/** Slot + 1 of the thread with this key, 0 if there is none. */
function slotOfKey(key: u32): u32 {
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) {
    const word = atomic.load<u64>(slotAt(slot), SLOTS);
    if (stateOf(word) != SLOT_FREE && <u32>(word >> 32) == key) return slot + 1;
  }
  return 0;
}

/** The slot is free again: of its word, the generation stays. */
function freeSlot(slot: u32): void {
  atomic.and<u64>(slotAt(slot), 0xffff_ff00, SLOTS);
}

// ---- attach and detach

/**
 * Makes this instance a thread of the heap at `base`, running on `vcpu`. `key` names it to reap and must be the host's choice,
 * unique and not 0. The thread's id (generation << 16 | slot + 1), or 0 with an errno.
 */
export function attach(base: usize, key: u32, vcpu: u32, flags: u32): u32 {
  const h = changetype<Heap>(base);
  if (self != 0 || key == 0 || vcpu >= MAX_VCPUS || atomic.load<u32>(base) != MAGIC || h.abiVersion != ABI_VERSION) {
    return <u32>fail(EINVAL);
  }
  bindHeap(base);
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) {
    const word = atomic.load<u64>(slotAt(slot), SLOTS);
    if (stateOf(word) != SLOT_FREE) continue;
    const generation = (((<u32>word) >> 8) + 1) & 0xffff;
    const mine = ((<u64>key) << 32) | (<u64>((generation << 8) | SLOT_ATTACHED));
    if (atomic.cmpxchg<u64>(slotAt(slot), word, mine, SLOTS) != word) continue;
    bindThread(0, slot + 1, (flags & THREAD_MAY_BLOCK) != 0);
    const record = makeRecord(slot);
    if (!record) {
      freeSlot(slot);
      unbind();
      return 0;
    }
    memory.fill(record, 0, THREAD_SIZE);
    const t = changetype<Thread>(record);
    t.vcpu = vcpu;
    for (let c: u32 = 0; c < MAX_CLASSES; ++c) store<u32>(cacheList(record, c), <u32>sentinel());
    // Last: a record of nobody is not looked into.
    atomic.store<u32>(record, slot + 1);
    bindThread(record, slot + 1, (flags & THREAD_MAY_BLOCK) != 0);
    observe();
    setError(0);
    return (generation << 16) | (slot + 1);
  }
  return <u32>fail(ENOMEM);
}

/**
 * Makes this instance the thread of this key, which was attached over another memory of these bytes: after a live migration. The thread
 * must have been between two calls. Its id, or 0 with an errno.
 */
export function resume(base: usize, key: u32, flags: u32): u32 {
  bindHeap(base);
  const found = self == 0 && atomic.load<u32>(base) == MAGIC ? slotOfKey(key) : 0;
  if (found == 0) return <u32>fail(EINVAL);
  bindThread(recordOf(found - 1), found, (flags & THREAD_MAY_BLOCK) != 0);
  observe();
  setError(0);
  return found;
}

function makeRecord(slot: u32): usize {
  let record = recordOf(slot);
  if (record) return record;
  if (!acquirePageHeap()) return fail(EBUSY);
  record = metadata(THREAD_SIZE);
  if (record) {
    atomic.store<u32>(heap + ((<usize>slot) << 2), <u32>record, THREADS);
    atomic.add<u32>(heap, 1, offsetof<Heap>("records"));
  } else {
    setError(ENOMEM);
  }
  releasePageHeap();
  return record;
}

/** The instance is nobody's thread: no epoch is 0, no tag is NO_HOME and all its lists are 0, so that every hit path misses. */
function unbind(): void {
  bindThread(heap + NO_LEAF, 0, false);
  setHome(NO_HOME, 0);
}

/** Gives everything this thread caches back and ends its membership. */
export function detach(): i32 {
  if (self == 0) return EINVAL;
  if (!flushCache(thread) || !freeDeferred(thread)) return EBUSY;
  if (isDefined(DEBUG_BUILD)) assertEmpty(thread);
  const slot = self - 1;
  unbind();
  freeSlot(slot);
  return 0;
}

// ---- reaping

/**
 * Does away with the thread of this key, whose death the host has confirmed: takes its locks over, finishes or undoes what it
 * was doing, and returns all it cached. 1 = done, 0 = no such thread, -1 = a lock is out of reach: ask again.
 */
export function reap(key: u32): i32 {
  const lock = heap + offsetof<Heap>("reapLock");
  const word = atomic.load<u32>(lock);
  const found = slotOfKey(key);
  if (self == 0 || found == 0 || found == self) return 0;
  // It never sleeps: a lock may be held by another dead thread, which this very thread is to reap next.
  const block = mayBlock;
  setMayBlock(false);
  // The dead may have been reaping.
  const locked = word >> 1 == found ? atomic.cmpxchg<u32>(lock, word, (self << 1) | 1) == word : acquire(lock, RANK_REAP);
  const done = locked ? reapAll(key) : -1;
  setMayBlock(block);
  return done;
}

/**
 * Does away with the thread of this key and every other dead one. Under reapLock, which it releases: nobody becomes dead but under it, so
 * that none is buried whose locks and carry `repair` has not seen.
 */
function reapAll(key: u32): i32 {
  const found = slotOfKey(key);
  if (found) atomic.store<u8>(slotAt(found - 1), SLOT_DEAD, SLOTS);
  let done = repair();
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) done = done && (!isDead(slot) || bury(slot));
  release(heap + offsetof<Heap>("reapLock"), RANK_REAP);
  return done ? 1 : -1;
}

function isDead(slot: u32): bool {
  return atomic.load<u8>(slotAt(slot), SLOTS) == SLOT_DEAD;
}

/** Record of the dead thread in `slot`; 0 if there is none. */
function deadRecord(slot: u32): usize {
  return isDead(slot) ? recordOf(slot) : 0;
}

function holds(lock: usize): bool {
  return atomic.load<u32>(lock) >> 1 == self;
}

/** Makes a lock held by a dead thread this thread's. */
function takeFromDead(lock: usize): void {
  while (true) {
    const word = atomic.load<u32>(lock);
    if (word >> 1 == 0 || !isDead((word >> 1) - 1)) return;
    if (atomic.cmpxchg<u32>(lock, word, (self << 1) | 1) == word) return;
  }
}

/** Takes the dead's locks over, repairs what they guard, and releases them. False, and nothing has changed, if a lock is out of reach. */
function repair(): bool {
  const pageHeapLock = heap + offsetof<Heap>("pageHeapLock");
  takeFromDead(pageHeapLock);
  if (holds(pageHeapLock)) {
    rebuildPageHeap();
    for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) finishLargeFree(deadRecord(slot));
  } else if (!acquirePageHeap()) {
    return false;
  }
  takeFromDead(heap + offsetof<Heap>("topologyLock"));
  repairLists(TAKE);
  // All lists are looked at before any carry is acted upon: it may be in any of them.
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) voidCarry(deadRecord(slot));
  repairLists(REBUILD);
  releasePageHeap();
  repairLists(FINISH);
  return repairTopology();
}

/** The dead's locks of queues and central lists are taken over. */
const TAKE: i32 = 0;
/** What each of those guards is rebuilt, under the page heap's lock. */
const REBUILD: i32 = 1;
/** Returns that were under way are finished, and the locks released. */
const FINISH: i32 = 2;

/** One step of the repair of what the nodes' locks guard. */
function repairLists(step: i32): void {
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = arenaOf(node);
    if (!arena) continue;
    const queueLock = arena + offsetof<Arena>("queueLock");
    if (step == TAKE) takeFromDead(queueLock);
    if (step == FINISH && holds(queueLock)) release(queueLock, RANK_QUEUE);
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const central = centralOf(node, c);
      if (central == 0) continue;
      if (step == TAKE) takeFromDead(central);
      if (step == REBUILD && holds(central)) rebuildCentral(central);
      if (step == FINISH && holds(central)) finishReturns(central);
    }
  }
}

/** What a dead holder of this list's lock was returning to it has its bits cleared, and its spans are released if they are whole. */
function finishReturns(central: usize): void {
  for (let slot: u32 = 0; slot < MAX_THREADS; ++slot) {
    const t = deadRecord(slot);
    if (t) returnBlocks(central, t, -1);
  }
  releaseIdleSpans(central);
  release(central, RANK_CENTRAL);
}

/** Finishes a dead thread's change of the topology. False if a lock is out of reach; the change stays to be finished. */
function repairTopology(): bool {
  if (!holds(heap + offsetof<Heap>("topologyLock"))) {
    // Unfinished by an earlier reaper, or under way in a live thread, which has the lock then.
    if (changetype<Heap>(heap).rebindPages == 0 || !acquireTopology()) return true;
  }
  if (atomic.load<u32>(heap, offsetof<Heap>("sequence")) & 1) endWrite();
  // In any case there is a new epoch: the dead may not have got to that.
  const done = finishRebind() != EBUSY;
  releaseTopology();
  return done;
}

/** A dead thread's carry that names a large block: its free was under way. Under pageHeapLock. */
function finishLargeFree(t: usize): void {
  if (t == 0) return;
  const block = <usize>changetype<Thread>(t).carry;
  if (block == 0 || tagOf(block) != 0) return;
  const header = spanAt(pageOf(block));
  // At the head of the list still, it had not begun.
  if (header != 0 && load<u32>(remoteList(t, DEFERRED)) != <u32>block) releaseSpan(header);
  atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
}

/** Voids the carry if it heads a list: the move has not begun, or is done. */
function voidCarry(t: usize): void {
  if (t != 0 && isListed(t, changetype<Thread>(t).carry)) atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
}

/** Whether a chain from `head` on is one of record `t`'s lists, a transfer cache or a queue. */
function isListed(t: usize, head: u32): bool {
  for (let c: u32 = 1; c < CLASSES; ++c) if (load<u32>(cacheList(t, c)) == head) return true;
  for (let node: u32 = 0; node <= MAX_NODES; ++node) if (load<u32>(remoteList(t, node)) == head) return true;
  for (let node: u32 = 0; node < MAX_NODES; ++node) {
    const arena = arenaOf(node);
    if (!arena) continue;
    if (atomic.load<u32>(arena, offsetof<Arena>("queueHead")) == head) return true;
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const central = centralOf(node, c);
      if (central != 0 && atomic.load<u32>(central, offsetof<Central>("transferHead")) == head) return true;
    }
  }
  return false;
}

/** Empties a dead thread's record and frees its slot. False if a lock is out of reach. */
function bury(slot: u32): bool {
  const t = recordOf(slot);
  if (t != 0 && changetype<Thread>(t).id != 0) {
    if (!flushCache(t) || !freeDeferred(t)) return false;
    // A wake-up meant for somebody may have died with it.
    const lock = <usize>changetype<Thread>(t).waiting;
    if (lock) atomic.notify(lock, -1);
  }
  atomic.add<u32>(heap, 1, offsetof<Heap>("reaped"));
  freeSlot(slot);
  return true;
}
