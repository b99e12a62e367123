// Many workers at once, in this process and in fresh ones that run the baseline compiler's code only.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { NumaHeap } from "../../dist/index.js";

const SLOTS = 2048;
const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`stress: SEED=${seed}`);

function start(heap: NumaHeap, mailbox: number, data: object): { worker: Worker; done: Promise<void> } {
  const handle = heap.handle();
  const worker = new Worker(new URL("../support/stress-worker.mjs", import.meta.url), {
    workerData: { handle, mailbox, slots: SLOTS, ...data },
  });
  heap.register(worker, handle);
  const done = new Promise<void>((resolve, reject) => {
    worker.once("message", () => resolve());
    worker.once("error", reject);
  });
  return { worker, done };
}

const letters = (heap: NumaHeap, mailbox: number): number[] => [...heap.view(Uint32Array, mailbox, SLOTS)].filter((ptr) => ptr !== 0);

test.each(["release", "debug"] as const)(
  "workers trade blocks under a changing topology, %s build; nothing overlaps or is lost",
  async (build) => {
    const heap = await NumaHeap.create({ nodes: 4, maximumBytes: 2 ** 29, build });
    const mailbox = heap.calloc(SLOTS, 4);
    const crew = [1, 2, 3, 4].map((i) => start(heap, mailbox, { seed: seed + i, operations: 100_000 }));
    let over = false;
    const all = Promise.all(crew.map(({ done }) => done)).finally(() => (over = true));
    for (let i = 0; !over; ++i) {
      heap.setVcpuNode(2 + (i % 4), (i * 7) % 4);
      heap.rebind(65536 + ((i * 977) % 2000) * 8192, (1 << (i % 9)) * 8192, (i * 5) % 4);
      if (i % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await all;
    heap.settle();
    const live = letters(heap, mailbox);
    expect(heap.walk({ live: [...live, mailbox] })).toEqual({ ok: true, problems: [], unaccounted: [] });
    for (const ptr of [...live, mailbox]) heap.free(ptr);
    expect(heap.walk({ live: [] })).toEqual({ ok: true, problems: [], unaccounted: [] });
    expect(heap.stats().inUseBytes).toBe(0);
  },
);

test("workers are terminated anywhere; survivors go on and at most a call's block each is lost", async () => {
  const heap = await NumaHeap.create({ nodes: 2, maximumBytes: 2 ** 29 });
  const mailbox = heap.calloc(SLOTS, 4);
  let killed = 0;
  for (let round = 0; round < 8; ++round) {
    const crew = [1, 2, 3].map((i) => start(heap, mailbox, { seed: seed + round * 10 + i, forever: true }));
    while (heap.stats().threads.length <= crew.length) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const { worker } of crew) {
      await worker.terminate();
      ++killed;
    }
    while (heap.stats().threads.length > 1) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (heap.stats().threads.length > 1) await new Promise((resolve) => setTimeout(resolve, 1));
  const walk = heap.walk({ live: [...letters(heap, mailbox), mailbox] });
  expect(walk.problems).toEqual([]);
  // A worker holds at most one block it took out of the mailbox or has not yet put in, and its call in flight one more.
  expect(walk.unaccounted.length).toBeLessThanOrEqual(2 * killed);
  expect(heap.stats().reapedThreads).toBe(killed);
  expect(heap.malloc(100_000)).not.toBe(0);
});

test.each(["", "--liftoff-only"])("contention in fresh processes %s", (flag) => {
  const script = fileURLToPath(new URL("../support/contention.mjs", import.meta.url));
  for (let i = 0; i < 3; ++i) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...(flag ? [flag] : []), script, String(seed + i)], {
      encoding: "utf8",
      timeout: 50_000,
    });
    expect(status, `SEED=${seed + i} ${stdout} ${stderr}`).toBe(0);
  }
});
