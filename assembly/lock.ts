// Locks. A lock is one word: holder << 1 | contended, 0 = free. It names its holder so that a survivor can take
// it over once the holder's death is confirmed (reap.ts).

import { Heap, Thread } from "./layout";
import { heap, mayBlock, self, setMissed, spins, thread, theThread } from "./instance";

// The lock order: a thread takes only locks of higher rank than those it holds; two centrals are held
// together only by rebind (same class, lower node first).
export const RANK_REAP: u32 = 0;
export const RANK_TOPOLOGY: u32 = 1;
export const RANK_CENTRAL: u32 = 2;
export const RANK_QUEUE: u32 = 3;
export const RANK_PAGE_HEAP: u32 = 4;

/** Nanoseconds a sleep lasts at most: a wake-up may have died with the thread it went to. */
const PATIENCE: i64 = 50_000_000;

/** Takes `lock`. False only on a thread that may not sleep, when the lock stays held. */
export function acquire(lock: usize, rank: u32): bool {
  if (isDefined(DEBUG_BUILD)) assertOrder(rank);
  if (atomic.cmpxchg<u32>(lock, 0, self << 1) != 0 && !acquireSlowNoInline(lock)) return false;
  if (isDefined(DEBUG_BUILD)) if (thread) theThread().held |= 1 << rank;
  return true;
}

export function release(lock: usize, rank: u32): void {
  if (isDefined(DEBUG_BUILD)) if (thread) theThread().held &= ~(1 << rank);
  if (atomic.xchg<u32>(lock, 0) & 1) atomic.notify(lock, 1);
}

/** Takes the page heap's lock, as `acquire` does. */
export function acquirePageHeap(): bool {
  return acquire(heap + offsetof<Heap>("pageHeapLock"), RANK_PAGE_HEAP);
}

export function releasePageHeap(): void {
  release(heap + offsetof<Heap>("pageHeapLock"), RANK_PAGE_HEAP);
}

/** Takes the lock of the topology, as `acquire` does. */
export function acquireTopology(): bool {
  return acquire(heap + offsetof<Heap>("topologyLock"), RANK_TOPOLOGY);
}

export function releaseTopology(): void {
  release(heap + offsetof<Heap>("topologyLock"), RANK_TOPOLOGY);
}

function acquireSlowNoInline(lock: usize): bool {
  let word = self << 1;
  for (let i: u32 = 0; i < spins; ++i) {
    if (atomic.load<u32>(lock) == 0 && atomic.cmpxchg<u32>(lock, 0, word) == 0) return true;
  }
  if (!mayBlock) {
    setMissed(true);
    return false;
  }
  // Others may sleep too, and this thread cannot know: once it has slept it holds the lock as contended.
  word |= 1;
  const record = thread;
  if (record) atomic.store<u32>(record, <u32>lock, offsetof<Thread>("waiting"));
  while (true) {
    const seen = atomic.load<u32>(lock);
    if (seen == 0) {
      if (atomic.cmpxchg<u32>(lock, 0, word) == 0) break;
    } else if ((seen & 1) != 0 || atomic.cmpxchg<u32>(lock, seen, seen | 1) == seen) {
      parkNoInline(lock, seen | 1);
    }
  }
  if (record) atomic.store<u32>(record, 0, offsetof<Thread>("waiting"));
  return true;
}

/**
 * Sleeps while `lock` holds `expected`. A function of its own, kept out of line: the baseline compiler of
 * Node 20 corrupts the locals of a function around a wait in it.
 */
function parkNoInline(lock: usize, expected: u32): void {
  memory.atomic.wait32(lock, expected, PATIENCE);
}

function assertOrder(rank: u32): void {
  const record = thread;
  if (record == 0) return;
  const held = theThread().held >> rank;
  // Nothing of this rank or above is held; a second central is the one exception.
  if (held != 0 && !(rank == RANK_CENTRAL && held == 1)) unreachable();
}
