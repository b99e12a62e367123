// Several threads: blocks traded between them, a worker that dies, and a thread that may not wait while others hold locks.
import { expect, inject, test } from "vitest";
import { NumaHeap } from "../../dist/index.js";
import { TradingWorker } from "./workers.js";

const SLOTS = 512;
const CLEAN = { ok: true, problems: [], unaccounted: [] };

/** A heap whose thread may not wait, as on a page, with a mailbox for workers. */
async function make(): Promise<{ heap: NumaHeap; mailbox: number; letters: () => number[] }> {
  const heap = await NumaHeap.create({ nodes: 2, maximumBytes: 2 ** 28, mayBlock: false });
  const mailbox = heap.calloc(SLOTS, 4);
  return { heap, mailbox, letters: () => [...heap.view(Uint32Array, mailbox, SLOTS)].filter((ptr) => ptr !== 0) };
}

test("workers trade blocks while this thread allocates: nothing overlaps, nothing is lost", async () => {
  const { heap, mailbox, letters } = await make();
  const crew = [1, 2, 3].map((seed) => new TradingWorker(heap, { mailbox, slots: SLOTS, operations: 30_000, seed }));
  let over = false;
  const done = Promise.all(crew.map((worker) => worker.says("attached").then(() => worker.says("done")))).finally(() => (over = true));
  const live: number[] = [];
  for (let i = 0; !over || i < 1000; ++i) {
    const ptr = heap.malloc((i * 53) % 60_000);
    if (ptr !== 0) live.push(ptr);
    else expect(heap.errno()).toBe(10);
    if (live.length > 300) heap.free(live.splice((i * 7) % live.length, 1)[0]!);
    if (i % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await done;
  for (const worker of crew) worker.terminate();
  expect(heap.walk({ live: [...live, ...letters(), mailbox] })).toEqual(CLEAN);
  for (const ptr of [...live, ...letters(), mailbox]) heap.free(ptr);
  heap.trim();
  expect(heap.walk({ live: [] })).toEqual(CLEAN);
  expect(heap.stats().inUseBytes).toBe(0);
});

test("a worker terminated at its work is reaped, and the heap goes on", async () => {
  const { heap, mailbox, letters } = await make();
  for (let seed = 1; seed <= 4; ++seed) {
    const worker = new TradingWorker(heap, { mailbox, slots: SLOTS, operations: Infinity, seed });
    await worker.says("attached");
    await new Promise((resolve) => setTimeout(resolve, 30));
    await worker.kill();
  }
  expect(heap.stats().threads.length).toBe(1);
  const walk = heap.walk({ live: [...letters(), mailbox] });
  expect(walk.problems).toEqual([]);
  // The block of the call it was in, and one on its way into or out of the mailbox.
  expect(walk.unaccounted.length).toBeLessThanOrEqual(8);
  for (const ptr of letters()) heap.free(ptr);
});

const { constants, structs } = inject("layout");

/** Addresses of every lock of a heap, by what they guard. */
function locksOf(heap: NumaHeap): Record<string, number[]> {
  const { base } = heap.handle();
  const words = heap.view(Uint32Array, 0, heap.memory.buffer.byteLength >> 2);
  const word = (name: string): number => base + structs["Heap"]![name]!.offset;
  const arenas = Array.from({ length: 2 }, (_, node) => words[(base + constants["ARENAS"]!) / 4 + node]!).filter((arena) => arena !== 0);
  return {
    "page heap": [word("pageHeapLock")],
    topology: [word("topologyLock")],
    "remote queues": arenas.map((arena) => arena + structs["Arena"]!["queueLock"]!.offset),
    "central lists": arenas
      .flatMap((arena) => [...words.subarray((arena + constants["ARENA_CENTRALS"]!) / 4, (arena + constants["ARENA_SIZE"]!) / 4)])
      .filter((central) => central !== 0),
  };
}

const LOCKS = ["page heap", "central lists", "remote queues", "topology"];

test.each([...LOCKS.map((what) => [what]), LOCKS].map((held) => ({ held, words: held.join(", ") })))(
  "while another thread holds the locks of $words, this one neither waits nor fails to free",
  async ({ held }) => {
    const { heap, mailbox } = await make();
    heap.free(mailbox);
    // The holder is a second thread of the heap, asleep at the worst moment.
    const holder = await NumaHeap.attach(heap.handle());
    const sizes = Array.from({ length: 400 }, (_, i) => (i * i * 7) % (i % 10 === 0 ? 200_000 : 3000));
    const live = sizes.map((size) => heap.malloc(size));
    live.push(...sizes.slice(0, 100).map((size) => heap.mallocOnNode(size, 1)));
    for (const ptr of live.splice(200, 150)) heap.free(ptr);
    // A block of 3 KiB is cached and no block of the class below.
    heap.free(heap.malloc(3000));
    expect(live.every((ptr) => ptr !== 0)).toBe(true);

    const words = heap.view(Int32Array, 0, heap.memory.buffer.byteLength >> 2);
    const all = locksOf(heap);
    const locks = held.flatMap((what) => all[what]!);
    expect(locks.length).toBeGreaterThan(0);
    const lock = holder.imports.threadId() << 1;
    for (const at of locks) expect(Atomics.compareExchange(words, at >> 2, 0, lock)).toBe(0);

    // The locks stay held: whoever waited for one would wait for ever.
    const got: number[] = [];
    let busy = 0;
    for (let i = 0; i < 2000; ++i) {
      const ptr = heap.malloc(sizes[i % sizes.length]!);
      if (ptr !== 0) {
        expect(heap.usableSize(ptr)).toBeGreaterThanOrEqual(sizes[i % sizes.length]!);
        got.push(ptr);
      } else {
        expect(heap.errno()).toBe(10);
        ++busy;
      }
      if (got.length > 50) heap.free(got.shift()!);
    }
    for (const ptr of [...got, ...live]) heap.free(ptr);
    expect(got.length).toBeGreaterThan(0);
    if (held.includes("topology")) expect(() => heap.setVcpuNode(0, 1)).toThrow(expect.objectContaining({ code: "NUMAHEAP_BUSY" }));
    if (held.includes("page heap")) expect(busy).toBeGreaterThan(0);

    for (const at of locks) expect(Atomics.exchange(words, at >> 2, 0) & ~1).toBe(lock);
    const after = sizes.map((size) => heap.malloc(size));
    expect(after.every((ptr) => ptr !== 0)).toBe(true);
    expect(heap.walk({ live: after })).toEqual(CLEAN);
    for (const ptr of after) heap.free(ptr);
    heap.trim();
    holder.detach();
    expect(heap.walk({ live: [] })).toEqual(CLEAN);
    expect(heap.stats().inUseBytes).toBe(0);
  },
);
