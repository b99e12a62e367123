// Small concurrent programs, right and wrong, with which the simulator itself is tested. Nothing here knows about it.
// Addresses of a shared memory come as arguments.

// ---- locks around a counter

export function spinAdd(lock: usize, counter: usize, n: i32): void {
  for (let i = 0; i < n; ++i) {
    while (atomic.cmpxchg<i32>(lock, 0, 1) != 0) {}
    store<i32>(counter, load<i32>(counter) + 1);
    atomic.store<i32>(lock, 0);
  }
}

/** Wrong: tests, then sets. */
export function testThenSetAdd(lock: usize, counter: usize): void {
  while (atomic.load<i32>(lock) != 0) {}
  atomic.store<i32>(lock, 1);
  store<i32>(counter, load<i32>(counter) + 1);
  atomic.store<i32>(lock, 0);
}

/** Looks a bounded number of times before it gives up. */
export function patientAdd(lock: usize, counter: usize, patience: i32): i32 {
  for (let i = 0; i < patience; ++i) {
    if (atomic.load<i32>(lock) == 0 && atomic.cmpxchg<i32>(lock, 0, 1) == 0) {
      store<i32>(counter, load<i32>(counter) + 1);
      atomic.store<i32>(lock, 0);
      return 1;
    }
  }
  return 0;
}

export function atomicAdd(counter: usize, n: i32): i32 {
  let last = 0;
  for (let i = 0; i < n; ++i) last = atomic.add<i32>(counter, 1);
  return last;
}

/** Wrong: a read and a write that do not belong together, atomic or plain. */
export function splitAdd(counter: usize): void {
  atomic.store<i32>(counter, atomic.load<i32>(counter) + 1);
}
export function plainAdd(counter: usize): void {
  store<i32>(counter, load<i32>(counter) + 1);
}

// ---- a mutex that sleeps (Drepper's second)

function lockMutex(m: usize): void {
  let seen = atomic.cmpxchg<i32>(m, 0, 1);
  if (seen == 0) return;
  if (seen != 2) seen = atomic.xchg<i32>(m, 2);
  while (seen != 0) {
    memory.atomic.wait32(m, 2, -1);
    seen = atomic.xchg<i32>(m, 2);
  }
}

export function mutexAdd(m: usize, counter: usize, n: i32): void {
  for (let i = 0; i < n; ++i) {
    lockMutex(m);
    store<i32>(counter, load<i32>(counter) + 1);
    if (atomic.sub<i32>(m, 1) != 1) {
      atomic.store<i32>(m, 0);
      atomic.notify(m, 1);
    }
  }
}

/** Wrong: a waiter that comes between the look and the store is never woken. */
export function forgetfulAdd(m: usize, counter: usize): void {
  lockMutex(m);
  store<i32>(counter, load<i32>(counter) + 1);
  const contended = atomic.load<i32>(m) == 2;
  atomic.store<i32>(m, 0);
  if (contended) atomic.notify(m, 1);
}

/** Wrong: takes the lock as uncontended after a sleep, so that a second sleeper is forgotten. */
export function twoSleepersAdd(m: usize, counter: usize): void {
  while (atomic.cmpxchg<i32>(m, 0, 1) != 0) {
    if (atomic.load<i32>(m) == 2 || atomic.cmpxchg<i32>(m, 1, 2) != 0) memory.atomic.wait32(m, 2, -1);
  }
  store<i32>(counter, load<i32>(counter) + 1);
  if (atomic.sub<i32>(m, 1) != 1) {
    atomic.store<i32>(m, 0);
    atomic.notify(m, 1);
  }
}

// ---- a stack of nodes 1, 2, 3: head holds a node, node i its successor at nodes + 8 * (i - 1)

export function pop(head: usize, nodes: usize): i32 {
  while (true) {
    const node = atomic.load<i32>(head);
    if (!node) return 0;
    if (atomic.cmpxchg<i32>(head, node, atomic.load<i32>(nodes + ((node - 1) << 3))) == node) return node;
  }
}
export function push(head: usize, nodes: usize, node: i32): void {
  while (node) {
    const first = atomic.load<i32>(head);
    atomic.store<i32>(nodes + ((node - 1) << 3), first);
    if (atomic.cmpxchg<i32>(head, first, node) == first) return;
  }
}
// the same with a tag that changes
export function tagPop(head: usize, nodes: usize): i32 {
  while (true) {
    const seen = atomic.load<u64>(head);
    const node = <i32>seen;
    if (!node) return 0;
    const next = atomic.load<i32>(nodes + ((node - 1) << 3));
    if (atomic.cmpxchg<u64>(head, seen, (((seen >> 32) + 1) << 32) | (<u64>(<u32>next))) == seen) return node;
  }
}
export function tagPush(head: usize, nodes: usize, node: i32): void {
  while (node) {
    const seen = atomic.load<u64>(head);
    atomic.store<i32>(nodes + ((node - 1) << 3), <i32>seen);
    if (atomic.cmpxchg<u64>(head, seen, (((seen >> 32) + 1) << 32) | (<u64>(<u32>node))) == seen) return;
  }
}

// ---- a seqlock over two words

export function sequenceWrite(s: usize, n: i32): void {
  for (let i = 1; i <= n; ++i) {
    const sequence = atomic.load<i32>(s);
    atomic.store<i32>(s, sequence + 1);
    atomic.store<i32>(s, i, 4);
    atomic.store<i32>(s, -i, 8);
    atomic.store<i32>(s, sequence + 2);
  }
}
/** The sum of both words: 0, unless torn. */
export function sequenceRead(s: usize, again: bool): i32 {
  while (true) {
    const sequence = atomic.load<i32>(s);
    if (sequence & 1) continue;
    const sum = atomic.load<i32>(s, 4) + atomic.load<i32>(s, 8);
    if (!again || atomic.load<i32>(s) == sequence) return sum;
  }
}

// ---- a lock that names its holder, and an undo record {active, old} behind the counter

export function recoverableAdd(lock: usize, counter: usize, me: i32): void {
  while (atomic.cmpxchg<i32>(lock, 0, me) != 0) {}
  store<i32>(counter, load<i32>(counter), 8);
  store<i32>(counter, 1, 4);
  store<i32>(counter, load<i32>(counter) + 1);
  store<i32>(counter, 0, 4);
  atomic.store<i32>(lock, 0);
}
export function recover(lock: usize, counter: usize, dead: i32, undo: bool): void {
  if (atomic.load<i32>(lock) != dead) return;
  if (undo && load<i32>(counter, 4)) {
    store<i32>(counter, load<i32>(counter, 8));
    store<i32>(counter, 0, 4);
  }
  atomic.store<i32>(lock, 0);
}

// ---- odds and ends: instance globals, timed waits, 64-bit waits, growth, bulk operations

let calls: i32 = 7;
let sum: i64 = 1;
let half: f64 = 1.5;
export function useGlobals(at: usize): void {
  for (let i = 0; i < 2; ++i) {
    calls += 1;
    sum *= 3;
    half *= 2;
    atomic.add<i32>(at, calls);
  }
  atomic.store<i64>(at, sum, 8);
  store<f64>(at, half, 16);
}
export function waitFor(at: usize, timeout: i32): i32 {
  return memory.atomic.wait32(at, 0, <i64>timeout);
}
export function wait64For(at: usize): i32 {
  return memory.atomic.wait64(at, 0, -1);
}
export function wake(at: usize): void {
  atomic.store<i64>(at, (1 << 33) | 1);
  atomic.notify(at, -1);
}
export function growOne(): i32 {
  return memory.grow(1);
}
export function sizeNow(): i32 {
  return memory.size();
}
export function fill(at: usize, byte: i32, n: i32): void {
  memory.fill(at, <u8>byte, n);
}
export function copy(to: usize, from: usize, n: i32): void {
  memory.copy(to, from, n);
}
