// A thread that may not sleep goes on while a lock is held by the dead, and hears of the death.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { NumaHeap } from "../../dist/index.js";
// @ts-expect-error -- plain JavaScript
import { structs } from "../interleave/layout.mjs";

/** The id a lock word names, of the thread in the second slot. */
const SECOND = 2;

test("a held lock is an answer, not a wait; after the reaping all is well", async () => {
  const heap = await NumaHeap.create({ mayBlock: false });
  const handle = heap.handle();
  const victim = await NumaHeap.attach(handle);
  const kept = victim.malloc(1000);
  const words = new Int32Array(heap.memory.buffer);
  const lock = (handle.base + structs.Heap.pageHeapLock.offset) >> 2;
  Atomics.store(words, lock, SECOND << 1); // where the victim is terminated

  expect(heap.malloc(100_000)).toBe(0);
  expect(heap.errno()).toBe(10);
  expect(() => heap.rebind(65536, 8192, 0)).toThrow(expect.objectContaining({ code: "NUMAHEAP_BUSY" }));
  expect(() => heap.alloc(Float64Array, 100_000)).toThrow(expect.objectContaining({ code: "NUMAHEAP_BUSY" }));
  heap.free(kept);

  let exit: () => void = () => {};
  heap.register({ once: (_event, listener) => (exit = listener) }, handle);
  exit();
  expect(heap.stats().reapedThreads).toBe(1);
  expect(Atomics.load(words, lock)).toBe(0);
  const large = heap.malloc(100_000);
  expect(large).not.toBe(0);
  heap.free(large);
  heap.trim();
  expect(heap.walk({ live: [] })).toEqual({ ok: true, problems: [], unaccounted: [] });
});

test("a worker that has ended before it is registered is reaped all the same", async () => {
  using heap = await NumaHeap.create();
  const handle = heap.handle();
  await NumaHeap.attach(handle);
  const worker = new Worker("", { eval: true });
  await once(worker, "exit");
  heap.register(worker, handle);
  expect(heap.stats().reapedThreads).toBe(1);
});

test("where there are no Web Locks, who waits for a death by them is told what to do", async () => {
  using heap = await NumaHeap.create();
  await expect(heap.reapOnDeath(heap.handle())).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
});
