// A heap that has been used, for tests that look at it or break it.

import { expect } from "vitest";
import { Rig, constant, randomFrom } from "./rig.js";

export interface Used {
  rig: Rig;
  live: Set<number>;
  /** Blocks by use. */
  small: number;
  large: number;
}

/** A heap with something everywhere: caches, a transfer cache, remote lists and queues, free runs, deferred frees, an empty slot. */
export function used(): Used {
  const rig = new Rig({ threads: 3, nodes: 2 });
  const [a, b, c] = rig.threads as [(typeof rig.threads)[0], (typeof rig.threads)[0], (typeof rig.threads)[0]];
  const random = randomFrom(11);
  const live = new Set<number>();
  const take = (thread: typeof a, size: number): number => {
    const at = thread.malloc(size) >>> 0;
    if (!at) throw new Error(`malloc: errno ${thread.errno()}`);
    live.add(at);
    return at;
  };
  const give = (thread: typeof a, at: number): void => {
    thread.free(at);
    live.delete(at);
  };
  for (let i = 0; i < 3000; ++i) take(random(2) ? a : b, random(40) ? random(600) : random(100_000));
  for (const at of [...live]) if (random(2)) give(random(2) ? a : b, at);
  // More than a cache may hold.
  const filled = Array.from({ length: 20_000 }, () => take(a, 80));
  for (const at of filled.slice(1000)) give(a, at);
  for (const at of filled.slice(0, 10)) give(b, at);
  const small = take(a, 100);
  const large = take(a, 200_000);
  give(c, take(c, 8));
  expect(c.detach()).toBe(0);
  return { rig, live, small, large };
}

/** A block's free put off, as a thread that may not sleep does when the page heap's lock is held. */
export function putOff({ rig, live, large }: Used): void {
  const lock = rig.field("Heap", rig.base, "pageHeapLock");
  const timid = rig.attach(0, false);
  rig.set32(lock, 99 << 1);
  timid.free(large);
  rig.set32(lock, 0);
  live.delete(large);
  expect(rig.u32(rig.remote(2, constant("DEFERRED")))).toBe(large);
}
