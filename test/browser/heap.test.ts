// What only a browser has: the page's isolation, and Web Locks for deaths. test/core runs here too.
import { expect, test, vi } from "vitest";
import { isSupported, NumaHeap } from "../../dist/index.js";

test("the page is cross-origin isolated", () => {
  expect(globalThis.crossOriginIsolated).toBe(true);
  expect(isSupported()).toEqual({ supported: true });
});

test("the page itself may not sleep: of a lock held elsewhere it is told to try again, of memory that is gone that it is", async () => {
  const heap = await NumaHeap.create({ maximumBytes: 65536 });
  const pageHeapLock = (65536 + 64) >> 2;
  Atomics.store(new Int32Array(heap.memory.buffer), pageHeapLock, 99 << 1);
  expect(() => heap.alloc(Uint8Array, 30_000)).toThrow(expect.objectContaining({ code: "NUMAHEAP_BUSY" }));
  Atomics.store(new Int32Array(heap.memory.buffer), pageHeapLock, 0);
  while (heap.malloc(1000) !== 0);
  expect(heap.errno()).toBe(48);
  expect(() => heap.alloc(Uint8Array, 30_000)).toThrow(expect.objectContaining({ code: "NUMAHEAP_OUT_OF_MEMORY" }));
});

test("a page in which a bundler has put a process is none of Node's: the living are not reaped", async () => {
  vi.stubGlobal("process", { env: {} });
  const heap = await NumaHeap.create();
  const handle = heap.handle();
  const other = await NumaHeap.attach(handle);
  const told = heap.reapOnDeath(handle);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(heap.stats()).toMatchObject({ reapedThreads: 0, threads: [{ key: 1 }, { key: handle.key }] });
  other.detach();
  await told;
  vi.unstubAllGlobals();
});

test("a thread that detaches is not reaped", async () => {
  const heap = await NumaHeap.create();
  const handle = heap.handle();
  const other = await NumaHeap.attach(handle);
  const told = heap.reapOnDeath(handle);
  expect(heap.stats().threads.length).toBe(2);
  other.detach();
  await told;
  expect(heap.stats()).toMatchObject({ reapedThreads: 0, threads: [{ key: 1 }] });
});
