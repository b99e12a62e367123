// Loops for bench/churn.mjs, which several workers run over one heap: random churn of the same sizes over a table of its own, of random
// sizes over a table of its own or a shared one; and a producer and a consumer with a ring between them.

import { free, malloc } from "../../assembly/malloc";

export { attach, detach } from "../../assembly/reap";
export { errno } from "../../assembly/control";

let random: u64 = 0;
/** Requested bytes this thread took, less those it gave back: only the sum over all threads means anything. */
let balance: i64 = 0;

export function seed(value: u32): void {
  random = (<u64>value + 1) * 0x9e37_79b9_7f4a_7c15;
}

// @ts-ignore: decorator
@inline
function next(): u64 {
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return random;
}

/** 8 to 511 bytes; one in 64 up to 8 KiB, and one in 4,096 up to 128 KiB. */
function randomSize(): u32 {
  const bits = next();
  const kind = (<u32>bits) & 4095;
  const range: u32 = kind == 0 ? 131_065 : (kind & 63) == 0 ? 8185 : 504;
  return 8 + (<u32>((bits >> 16) & 0xff_ffff) % range);
}

/** A block that knows its size; 0 if there is no memory. */
function take(size: u32): u32 {
  const block = malloc(size);
  if (!block) return 0;
  store<u32>(block, size);
  balance += size;
  return <u32>block;
}

function give(block: u32): void {
  balance -= load<u32>(block);
  free(block);
}

/** Adds what changed since the last time to the sum of live bytes at `sum`. */
function tell(sum: usize): void {
  atomic.add<i64>(sum, balance);
  balance = 0;
}

/** Fills the table of `slots` (u32) with blocks of random sizes; false if memory ran out. */
export function fill(table: usize, slots: u32, sum: usize): bool {
  for (let i: u32 = 0; i < slots; ++i) {
    const block = take(randomSize());
    if (!block) return false;
    store<u32>(table + ((<usize>i) << 2), block);
  }
  tell(sum);
  return true;
}

/** Address of a random one of `slots` slots. */
function anySlot(table: usize, slots: u32): usize {
  return table + ((<usize>(<u32>(next() >> 32) % slots)) << 2);
}

/** `rounds` times frees two random blocks of a full table and takes one of the size of each for the other's slot; false if memory ran out. */
export function churn(rounds: u32, table: usize, slots: u32, sum: usize): bool {
  for (let i: u32 = 0; i < rounds; ++i) {
    const one = anySlot(table, slots);
    const other = anySlot(table, slots);
    if (one == other) continue;
    const size = load<u32>(load<u32>(one));
    const otherSize = load<u32>(load<u32>(other));
    give(load<u32>(one));
    give(load<u32>(other));
    const block = take(otherSize);
    const otherBlock = take(size);
    if (!block || !otherBlock) return false;
    store<u32>(one, block);
    store<u32>(other, otherBlock);
    if ((i & 1023) == 0) tell(sum);
  }
  tell(sum);
  return true;
}

/** Replaces random blocks of the table of `slots` (atomic u32) `rounds` times; false if memory ran out. */
export function replace(rounds: u32, table: usize, slots: u32, sum: usize): bool {
  for (let i: u32 = 0; i < rounds; ++i) {
    const block = take(randomSize());
    if (!block) return false;
    const old = atomic.xchg<u32>(anySlot(table, slots), block);
    if (old) give(old);
    if ((i & 1023) == 0) tell(sum);
  }
  tell(sum);
  return true;
}

/** Frees what the table holds. */
export function clear(table: usize, slots: u32, sum: usize): void {
  for (let i: u32 = 0; i < slots; ++i) {
    const old = atomic.xchg<u32>(table + ((<usize>i) << 2), 0);
    if (old) give(old);
  }
  tell(sum);
}

// ---- a ring: [produced, consumed, then `width` (a power of two) atomic u32]

const SLOTS: usize = 8;
/** Blocks after which the other side is woken. */
const WAKE: u32 = 256;

/** Sleeps while `at` holds `value`, at most a millisecond. Out of line: see parkNoInline in lock.ts. */
function restNoInline(at: usize, value: u32): void {
  memory.atomic.wait32(at, value, 1_000_000);
}

/** A size that looks random, the same for every block that comes to a slot: a full ring always holds the same bytes. */
function sizeAt(slot: u32): u32 {
  seed(slot);
  next();
  next();
  return randomSize();
}

/** Takes `count` blocks and puts them into the ring; false if memory ran out. */
export function produce(count: u32, ring: usize, width: u32, sum: usize): bool {
  for (let i: u32 = 0; i < count; ++i) {
    const produced = atomic.load<u32>(ring);
    for (let seen = atomic.load<u32>(ring, 4); produced - seen == width; seen = atomic.load<u32>(ring, 4)) restNoInline(ring + 4, seen);
    const slot = produced & (width - 1);
    const block = take(sizeAt(slot));
    if (!block) return false;
    atomic.store<u32>(ring + SLOTS + ((<usize>slot) << 2), block);
    atomic.store<u32>(ring, produced + 1);
    if ((produced & (WAKE - 1)) == 0) {
      atomic.notify(ring, 1);
      tell(sum);
    }
  }
  atomic.notify(ring, 1);
  tell(sum);
  return true;
}

/** Takes `count` blocks out of the ring and frees them. */
export function consume(count: u32, ring: usize, width: u32, sum: usize): bool {
  for (let i: u32 = 0; i < count; ++i) {
    const consumed = atomic.load<u32>(ring, 4);
    for (let seen = atomic.load<u32>(ring); seen == consumed; seen = atomic.load<u32>(ring)) restNoInline(ring, seen);
    give(atomic.load<u32>(ring + SLOTS + ((<usize>(consumed & (width - 1))) << 2)));
    atomic.store<u32>(ring, consumed + 1, 4);
    if ((consumed & (WAKE - 1)) == 0) {
      atomic.notify(ring + 4, 1);
      tell(sum);
    }
  }
  atomic.notify(ring + 4, 1);
  tell(sum);
  return true;
}
