// The core suite in a page: cross-origin isolated, allocation on the page's thread, which may not sleep, while workers hold locks.
import { expect, test } from "vitest";
import { type HeapHandle, NumaHeap } from "../../dist/index.js";

test("the page is cross-origin isolated", () => {
  expect(globalThis.crossOriginIsolated).toBe(true);
});

test("blocks, policies, rebind and the walk", async () => {
  using heap = await NumaHeap.create({ nodes: 4 });
  const live: number[] = [];
  for (let i = 0; i < 5000; ++i) live.push(heap.malloc((i * 37) % 5000));
  expect(live.every((ptr) => ptr !== 0)).toBe(true);
  heap.rebind(65536, 2 ** 24, 2);
  heap.setPolicy("bind", [1]);
  live.push(heap.malloc(100));
  expect(heap.nodeOf(live.at(-1)!)).toBe(1);
  expect(heap.walk({ live })).toEqual({ ok: true, problems: [], unaccounted: [] });
  for (const ptr of live) heap.free(ptr);
  expect(() => heap.free(8)).toThrow("no live block");
  expect(heap.walk({ live: [] }).ok).toBe(true);
});

test("the page allocates while workers do", async () => {
  const heap = await NumaHeap.create({ nodes: 2, maximumBytes: 2 ** 28 });
  const workers = [1, 2, 3].map(() => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
  const done = Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.onmessage = () => resolve();
          worker.onerror = (event) => reject(new Error(event.message));
          worker.postMessage({ handle: heap.handle() satisfies HeapHandle, operations: 100_000 });
        }),
    ),
  );
  let over = false;
  void done.finally(() => (over = true));
  const live: number[] = [];
  let busy = 0;
  for (let i = 0; !over || i < 1000; ++i) {
    const ptr = heap.malloc((i * 53) % 60_000);
    if (ptr === 0) {
      expect(heap.errno()).toBe(10);
      ++busy;
    } else live.push(ptr);
    if (live.length > 500) heap.free(live.splice((i * 7) % live.length, 1)[0]!);
    if (i % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await done;
  for (const worker of workers) worker.terminate();
  console.log(`the page was told to try again ${busy} times`);
  expect(heap.walk({ live }).problems).toEqual([]);
  for (const ptr of live) heap.free(ptr);
  heap.trim();
  expect(heap.walk({ live: [] })).toEqual({ ok: true, problems: [], unaccounted: [] });
});

test("a terminated worker is reaped when its lock is granted", async () => {
  const heap = await NumaHeap.create();
  const handle = heap.handle();
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  await new Promise<void>((resolve) => {
    worker.onmessage = () => resolve();
    worker.postMessage({ handle, operations: 1000, stay: true });
  });
  const reaped = heap.reapOnDeath(handle);
  expect(heap.stats().threads.length).toBe(2);
  worker.terminate();
  await reaped;
  expect(heap.stats().threads.length).toBe(1);
  expect(heap.walk({ live: [] }).ok).toBe(true);
});
