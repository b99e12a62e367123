// The order between workers. Each runs its events in the order of the trace, but
//  - an event whose object was last used by another worker waits until that worker has handed the object over;
//  - nobody runs more than CONTROL_WINDOW events ahead of the slowest, or the bytes live at once mean nothing.
// The worker with the lowest index waits for neither (the events before its own are done), so all of them end.

import {
  CONTROL_STOP,
  CONTROL_SLEEPERS,
  CONTROL_TICK,
  CONTROL_WINDOW,
  CONTROL_WORKERS,
  CONTROL_BYTES,
  DONE,
  OBJECT_SEQUENCE,
  WORKER_BYTES,
  WORKER_PROGRESS,
} from "../src/trace/replay-layout";

/** Top bit of OBJECT_SEQUENCE. */
const SOMEBODY_SLEEPS: u32 = 1 << 31;
/** Loads before sleeping: a hand-over is often under way. */
const SPINS: i32 = 128;
/** Nanoseconds a sleep lasts at most: whoever would have woken us may have been terminated. */
const PATIENCE: i64 = 20_000_000;
/** Events between two stores of the progress, and between two wake-ups of those who are ahead. */
const PUBLISH_EVERY: u32 = 256;
const WAKE_SHIFT: u32 = 10;

let control: usize = 0;
let worker: usize = 0;
/** Highest index this worker may run before it looks at the others again. */
let bound: u32 = 0;
/** Index from which the progress is to be told again. */
let nextPublish: u32 = 0;

export function bindOrder(controlAddress: usize, workerAddress: usize): void {
  control = controlAddress;
  worker = workerAddress;
  bound = 0;
  nextPublish = 0;
}

// @ts-ignore: decorator
@inline
function isStopped(): bool {
  return atomic.load<u32>(control, CONTROL_STOP) != 0;
}

/** Waits until event `index` is inside the window. False: everybody stops. */
// @ts-ignore: decorator
@inline
export function enterWindow(index: u32): bool {
  if (index >= nextPublish) {
    publish(index);
    if (isStopped()) return false;
  }
  return index <= bound || enterWindowSlowNoInline(index);
}

/** Waits until event `after` - 1 has handed over `object`. False: everybody stops. */
// @ts-ignore: decorator
@inline
export function awaitObject(object: usize, after: u32, index: u32): bool {
  return (atomic.load<u32>(object, OBJECT_SEQUENCE) & ~SOMEBODY_SLEEPS) == after || awaitObjectSlowNoInline(object, after, index);
}

/** Lets the next event of `object` begin. Once only, though a replacement may ask again. */
export function handOver(object: usize, index: u32): void {
  if ((atomic.load<u32>(object, OBJECT_SEQUENCE) & ~SOMEBODY_SLEEPS) > index) return;
  if (atomic.xchg<u32>(object, index + 1, OBJECT_SEQUENCE) & SOMEBODY_SLEEPS) atomic.notify(object + OBJECT_SEQUENCE, -1);
}

/** Tells the others that everything before `index` is done. */
export function publish(index: u32): void {
  const before = atomic.load<u32>(worker, WORKER_PROGRESS);
  atomic.store<u32>(worker, index, WORKER_PROGRESS);
  nextPublish = index + PUBLISH_EVERY;
  if ((before ^ index) >> WAKE_SHIFT != 0) wake();
}

function wake(): void {
  if (atomic.load<u32>(control, CONTROL_SLEEPERS) == 0) return;
  atomic.add<u32>(control, 1, CONTROL_TICK);
  atomic.notify(control + CONTROL_TICK, -1);
}

function slowest(): u32 {
  let least: u32 = DONE;
  let record = control + CONTROL_BYTES;
  for (let i = load<u32>(control, CONTROL_WORKERS); i; --i) {
    least = min(least, atomic.load<u32>(record, WORKER_PROGRESS));
    record += WORKER_BYTES;
  }
  return least;
}

function enterWindowSlowNoInline(index: u32): bool {
  const window = load<u32>(control, CONTROL_WINDOW);
  publish(index);
  bound = slowest() + window;
  if (index <= bound) return true;
  // Too far ahead: come back at half the window, so as not to sleep again at once.
  wake();
  atomic.add<u32>(control, 1, CONTROL_SLEEPERS);
  let running = true;
  while (true) {
    const tick = atomic.load<u32>(control, CONTROL_TICK);
    const least = slowest();
    bound = least + window;
    if (index <= least + window / 2) break;
    running = !isStopped();
    if (!running) break;
    parkNoInline(control + CONTROL_TICK, tick);
  }
  atomic.sub<u32>(control, 1, CONTROL_SLEEPERS);
  return running;
}

function awaitObjectSlowNoInline(object: usize, after: u32, index: u32): bool {
  publish(index);
  for (let i = 0; i < SPINS; ++i) {
    if ((atomic.load<u32>(object, OBJECT_SEQUENCE) & ~SOMEBODY_SLEEPS) == after) return true;
  }
  wake();
  while (true) {
    const seen = atomic.load<u32>(object, OBJECT_SEQUENCE);
    if ((seen & ~SOMEBODY_SLEEPS) == after) return true;
    if (isStopped()) return false;
    if ((seen & SOMEBODY_SLEEPS) != 0 || atomic.cmpxchg<u32>(object, seen, seen | SOMEBODY_SLEEPS, OBJECT_SEQUENCE) == seen) {
      parkNoInline(object + OBJECT_SEQUENCE, seen | SOMEBODY_SLEEPS);
    }
  }
}

/**
 * Sleeps while the word at `address` is `expected`. A function of its own, kept out of line: the baseline compiler of
 * Node 20 corrupts the locals of a function around a wait in it.
 */
function parkNoInline(address: usize, expected: u32): void {
  memory.atomic.wait32(address, expected, PATIENCE);
}
