// The kernel's free lists against the frame table, which heaps change behind their back.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FreeLists, MAX_ORDER, SYNC_FRAMES } from "../../src/guest/free-lists.js";
import { type FrameTable, OWNER_FREE, OWNER_HEAP, OWNER_KERNEL, OWNER_PROCESS } from "../../src/guest/frame-table.js";
import { bootedMemory, type Machine } from "../support/frames.js";

const NODES = 3;

/** Lists of a machine of `frames` frames, `nodeOf` each; everything filed. */
function filed(frames: number, nodeOf: (gfn: number) => number): Machine & { lists: FreeLists } {
  const machine = bootedMemory(frames, nodeOf);
  const lists = new FreeLists(machine.table);
  lists.sync();
  return { ...machine, lists };
}

/** What the lists must be, from the table alone: a block is whatever is free, of one node, aligned, and not part of a larger one. */
function expectedBlocks(table: FrameTable, node: number): number[][] {
  const whole = (head: number, order: number): boolean => {
    if (head + (1 << order) > table.frames) return false;
    for (let gfn = head; gfn < head + (1 << order); ++gfn) if (!table.isFree(gfn) || table.nodeOf(gfn) !== node) return false;
    return true;
  };
  const blocks: number[][] = Array.from({ length: MAX_ORDER + 1 }, () => []);
  for (let gfn = 0; gfn < table.frames;) {
    if (!whole(gfn, 0)) {
      ++gfn;
      continue;
    }
    let order = 0;
    while (order < MAX_ORDER && gfn % (1 << (order + 1)) === 0 && whole(gfn, order + 1)) ++order;
    blocks[order]!.push(gfn);
    gfn += 1 << order;
  }
  return blocks;
}

const blocksOf = (lists: FreeLists, node: number): number[][] =>
  Array.from({ length: MAX_ORDER + 1 }, (_, order) => lists.blocks(node, order).sort((a, b) => a - b));

function expectExact(lists: FreeLists, table: FrameTable, nodes = NODES): void {
  expect(lists.check()).toEqual([]);
  for (let node = 0; node < nodes; ++node) {
    const blocks = expectedBlocks(table, node);
    expect(blocksOf(lists, node)).toEqual(blocks);
    expect(lists.freeOn(node)).toBe(blocks.reduce((sum, heads, order) => sum + heads.length * (1 << order), 0));
  }
}

/** Whether the table has an aligned block of this order on the node. */
const has = (table: FrameTable, node: number, order: number): boolean =>
  expectedBlocks(table, node)
    .slice(order)
    .some((heads) => heads.length > 0);

describe("a buddy system for each node", () => {
  test("files everything that is free, in blocks as large as can be, none of two nodes", () => {
    const { lists, table } = filed(4096, (gfn) => (gfn < 1500 ? 0 : gfn < 1501 ? 1 : 2));
    expectExact(lists, table);
    expect(lists.blocks(2, MAX_ORDER)).toEqual([3072, 2048]);
  });

  test("buddies of two nodes stay apart, and become one when they lie on one node", () => {
    const { lists, table } = filed(1024, (gfn) => (gfn < 768 ? 0 : 1));
    expect(lists.blocks(0, 9)).toEqual([]);
    expect(lists.blocks(0, 8)).toEqual([512, 256]);
    expect(lists.blocks(1, 8)).toEqual([768]);
    for (let gfn = 768; gfn < 1024; ++gfn) table.setNode(gfn, 0);
    lists.refile(768, 256, 0);
    expect(lists.blocks(0, 9)).toEqual([512]);
    expect(lists.freeOn(1)).toBe(0);
    expectExact(lists, table);
  });

  test("a range that changes node cuts the blocks at its ends", () => {
    const { lists, table } = filed(2048, () => 0);
    for (let gfn = 1027; gfn < 1034; ++gfn) table.setNode(gfn, 1);
    lists.refile(1027, 7, 1);
    expect(blocksOf(lists, 1).map((heads) => heads.join())).toEqual(["1027", "1032", "1028", ...Array<string>(8).fill("")]);
    expectExact(lists, table);
  });

  test("hands out the highest of a list first, aligned, and joins what comes back", () => {
    const { lists, table } = filed(2048, (gfn) => gfn >> 10);
    const before = blocksOf(lists, 1);
    expect(before[MAX_ORDER]).toEqual([1024]);
    expect(lists.alloc(0, [1], OWNER_PROCESS)).toBe(2047);
    expect(lists.alloc(3, [1], OWNER_PROCESS)).toBe(2032);
    expect(lists.alloc(0, [1], OWNER_PROCESS)).toBe(2046);
    expect(table.ownerOf(2039)).toBe(OWNER_PROCESS);
    expectExact(lists, table);
    lists.free(2046, 2, OWNER_PROCESS);
    lists.free(2032, 8, OWNER_PROCESS);
    expect(blocksOf(lists, 1)).toEqual(before);
    expect(table.isDirty(2046)).toBe(true);
    expect(table.isDirty(2045)).toBe(false);
  });

  test("asks the nodes in the order they are given, and answers -1 when none has any", () => {
    const { lists, table } = filed(1024, (gfn) => (gfn < 1016 ? 0 : 1));
    expect(lists.alloc(2, [1, 0], OWNER_PROCESS)).toBe(1020);
    expect(lists.alloc(2, [1, 0], OWNER_PROCESS)).toBe(1016);
    expect(table.nodeOf(lists.alloc(2, [1, 0], OWNER_PROCESS))).toBe(0);
    expect(lists.alloc(0, [1, 2], OWNER_PROCESS)).toBe(-1);
    expect(lists.alloc(0, [], OWNER_PROCESS)).toBe(-1);
    expectExact(lists, table);
  });

  test("a frame is not freed by whom it is not", () => {
    const { lists } = filed(1024, () => 0);
    const gfn = lists.alloc(0, [0], OWNER_PROCESS);
    expect(() => lists.free(gfn, 1, OWNER_KERNEL)).toThrow(`frame ${gfn}`);
    lists.free(gfn, 1, OWNER_PROCESS);
    expect(() => lists.free(gfn, 1, OWNER_PROCESS)).toThrow(`frame ${gfn}`);
  });
});

describe("behind the kernel's back", () => {
  test("what a heap has claimed is not handed out, and drops out of the lists", () => {
    const { lists, table } = filed(1024, (gfn) => gfn >> 9);
    for (const gfn of [1023, 1021, 900]) expect(table.transfer(gfn, OWNER_FREE, OWNER_HEAP)).toBe(true);
    expect(lists.alloc(0, [1], OWNER_PROCESS)).toBe(1022);
    expect(lists.alloc(0, [1], OWNER_PROCESS)).toBe(1020);
    expect(lists.alloc(6, [1], OWNER_PROCESS)).toBe(832);
    lists.sync();
    expectExact(lists, table);
  });

  test("what a heap releases is found when a node runs dry, before another is asked", () => {
    const { lists, table } = filed(1024, (gfn) => (gfn < 1000 ? 0 : 1));
    for (let gfn = 1000; gfn < 1024; ++gfn) table.transfer(gfn, OWNER_FREE, OWNER_HEAP);
    expect(table.nodeOf(lists.alloc(0, [1, 0], OWNER_PROCESS))).toBe(0);
    table.transfer(1010, OWNER_HEAP, OWNER_FREE);
    expect(lists.alloc(0, [1, 0], OWNER_PROCESS)).toBe(1010);
  });

  test("a look is bounded; all is looked at before the answer is no", () => {
    const frames = 4 * SYNC_FRAMES;
    const { lists, table } = filed(frames, () => 0);
    for (let gfn = 0; gfn < frames; ++gfn) table.transfer(gfn, OWNER_FREE, OWNER_HEAP);
    expect(lists.sync(10)).toBe(0);
    expect(lists.alloc(0, [0], OWNER_PROCESS)).toBe(-1);
    table.transfer(frames - 5, OWNER_HEAP, OWNER_FREE);
    table.transfer(frames - 6, OWNER_HEAP, OWNER_FREE);
    expect(lists.alloc(0, [0], OWNER_PROCESS)).toBe(frames - 5);
    expect(lists.sync(SYNC_FRAMES) + lists.sync(SYNC_FRAMES) + lists.sync(SYNC_FRAMES) + lists.sync(SYNC_FRAMES)).toBe(0);
    expectExact(lists, table);
  });

  test("the lowest run of frames is found across nodes and past what heaps have", () => {
    const { lists, table, layout } = filed(1024, (gfn) => (gfn < 24 ? 0 : 1));
    table.transfer(17, OWNER_FREE, OWNER_HEAP);
    expect(layout.kernelFrames).toBe(6);
    expect(lists.allocLowest(16, 8, OWNER_HEAP + 1)).toBe(24);
    expect(lists.allocLowest(8, 8, OWNER_HEAP + 1)).toBe(8);
    expect(lists.allocLowest(1018, 1, OWNER_HEAP + 1)).toBe(-1);
    lists.sync();
    expectExact(lists, table);
    expect([7, 16, 40].map((gfn) => table.ownerOf(gfn))).toEqual([OWNER_FREE, OWNER_FREE, OWNER_FREE]);
  });
});

describe("check", () => {
  test.each([
    [
      "a frame that is free and not filed",
      (table: FrameTable) => table.transfer(6, OWNER_KERNEL, OWNER_FREE),
      /frame 6 is free and not filed/,
    ],
    [
      "a frame that is filed and not free",
      (table: FrameTable) => table.transfer(700, OWNER_FREE, OWNER_HEAP),
      /frame 700 is owner 8's and filed/,
    ],
    ["a frame that has changed node", (table: FrameTable) => table.setNode(700, 1), /frame 700 of node 1/],
  ])("finds %s", (_, damage, problem) => {
    const { lists, table } = filed(1024, () => 0);
    lists.alloc(0, [0], OWNER_KERNEL);
    table.transfer(6, OWNER_FREE, OWNER_KERNEL);
    lists.sync();
    expect(lists.check()).toEqual([]);
    damage(table);
    expect(lists.check().join("\n")).toMatch(problem);
  });
});

// ---- any sequence of all of it

const FRAMES = 1200;
const anyNodes = fc.uniqueArray(fc.nat(NODES - 1), { maxLength: NODES });
const anyRange = fc.tuple(fc.nat(FRAMES - 1), fc.nat(400)).map(([first, count]) => ({ first, count: Math.min(count, FRAMES - first) }));
const anyStep = fc.oneof(
  fc.record({ kind: fc.constant("alloc" as const), order: fc.oneof(fc.nat(4), fc.nat(MAX_ORDER)), nodes: anyNodes }),
  fc.record({ kind: fc.constant("free" as const), which: fc.nat() }),
  fc.record({ kind: fc.constant("lowest" as const), count: fc.integer({ min: 1, max: 70 }), alignment: fc.constantFrom(1, 8) }),
  fc.record({ kind: fc.constant("claim" as const), range: anyRange, step: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ kind: fc.constant("release" as const), range: anyRange, step: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ kind: fc.constant("move" as const), range: anyRange, node: fc.nat(NODES - 1) }),
  fc.record({ kind: fc.constant("sync" as const), frames: fc.nat(FRAMES) }),
);
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never;

/** The lowest run that would do, by looking. */
function lowestRun(table: FrameTable, count: number, alignment: number): number {
  for (let first = 0; first + count <= FRAMES; first += alignment) {
    let i = 0;
    while (i < count && table.isFree(first + i)) ++i;
    if (i === count) return first;
  }
  return -1;
}

function run(steps: readonly Step[]): void {
  const { lists, table } = filed(FRAMES, (gfn) => Math.floor((gfn * NODES) / FRAMES));
  const held: { first: number; count: number }[] = [];
  for (const step of steps) {
    switch (step.kind) {
      case "alloc": {
        const node = step.nodes.find((candidate) => has(table, candidate, step.order)) ?? -1;
        const first = lists.alloc(step.order, step.nodes, OWNER_PROCESS);
        if (node < 0) {
          expect(first).toBe(-1);
          break;
        }
        const count = 1 << step.order;
        expect(first % count).toBe(0);
        for (let gfn = first; gfn < first + count; ++gfn) {
          expect(table.nodeOf(gfn)).toBe(node);
          expect(table.ownerOf(gfn)).toBe(OWNER_PROCESS);
        }
        held.push({ first, count });
        break;
      }
      case "free": {
        if (held.length === 0) break;
        const [{ first, count }] = held.splice(step.which % held.length, 1) as [{ first: number; count: number }];
        lists.free(first, count, OWNER_PROCESS);
        break;
      }
      case "lowest": {
        const first = lowestRun(table, step.count, step.alignment);
        expect(lists.allocLowest(step.count, step.alignment, OWNER_PROCESS)).toBe(first);
        if (first >= 0) held.push({ first, count: step.count });
        break;
      }
      case "claim":
      case "release": {
        const [from, to] = step.kind === "claim" ? [OWNER_FREE, OWNER_HEAP] : [OWNER_HEAP, OWNER_FREE];
        for (let gfn = step.range.first; gfn < step.range.first + step.range.count; gfn += step.step) table.transfer(gfn, from, to, true);
        break;
      }
      case "move": {
        const { first, count } = step.range;
        for (let gfn = first; gfn < first + count; ++gfn) table.setNode(gfn, step.node);
        lists.refile(first, count, step.node);
        break;
      }
      case "sync":
        lists.sync(step.frames);
    }
  }
  lists.sync();
  expectExact(lists, table);
  // Whoever has a frame has it alone.
  const owned = new Set(held.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)));
  expect(owned.size).toBe(held.reduce((sum, { count }) => sum + count, 0));
  for (let gfn = 0; gfn < FRAMES; ++gfn) expect(table.ownerOf(gfn) === OWNER_PROCESS).toBe(owned.has(gfn));
}

test("any sequence of allocations, releases, changes of nodes and looks leaves the lists as the table has it", () => {
  fc.assert(fc.property(fc.array(anyStep, { maxLength: 40 }), run), { numRuns: 100 });
});

/** A heap in another thread: claims and releases frames as fast as it can, and writes to each word of those it has. */
const HEAP = `
const { workerData: { buffer, owners, frames, owner, flags }, parentPort } = require("node:worker_threads");
const bytes = new Uint8Array(buffer, owners, frames);
const words = new Int32Array(buffer);
const [stop, count] = [new Int32Array(flags, 0, 1), new Int32Array(flags, 4, 1)];
const transfer = (gfn, from, to) => {
  const seen = Atomics.load(bytes, gfn);
  return seen >> 1 === from && Atomics.compareExchange(bytes, gfn, seen, (to << 1) | 1) === seen;
};
let [state, damage] = [1, 0];
const held = [];
while (Atomics.load(stop, 0) === 0) {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  const gfn = (state >>> 8) % frames;
  if (transfer(gfn, 1, owner)) {
    Atomics.add(count, 0, 1);
    words.fill(-gfn, gfn * 2048, gfn * 2048 + 16);
    held.push(gfn);
  }
  if (held.length > frames / 4) {
    const [old] = held.splice(state % held.length, 1);
    if (words.subarray(old * 2048, old * 2048 + 16).some((word) => word !== -old)) ++damage;
    if (!transfer(old, owner, 1)) ++damage;
  }
}
parentPort.postMessage({ damage, held });
`;

test("a heap in another thread and the kernel never have the same frame", async () => {
  const frames = 1024;
  const { lists, table, memory, layout } = filed(frames, (gfn) => gfn >> 9);
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  const flags = new Int32Array(new SharedArrayBuffer(8));
  const workerData = { buffer, flags: flags.buffer, owners: layout.frameOwner, frames, owner: OWNER_HEAP };
  const worker = new Worker(HEAP, { eval: true, workerData });
  await once(worker, "online");
  const words = new Int32Array(buffer);
  const held: { first: number; count: number }[] = [];
  let allocated = 0;
  for (let i = 0; i < 60_000 || Atomics.load(flags, 1) < 1000; ++i) {
    const order = i % 4;
    const first = held.length < 60 ? lists.alloc(order, i % 2 === 0 ? [0, 1] : [1, 0], OWNER_PROCESS) : -1;
    if (first >= 0) {
      ++allocated;
      for (let gfn = first; gfn < first + (1 << order); ++gfn) words.fill(gfn, gfn * 2048, gfn * 2048 + 16);
      held.push({ first, count: 1 << order });
    } else if (held.length > 0) {
      const [{ first: old, count }] = held.splice(i % held.length, 1) as [{ first: number; count: number }];
      for (let gfn = old; gfn < old + count; ++gfn) {
        if (words.subarray(gfn * 2048, gfn * 2048 + 16).some((word) => word !== gfn)) throw new Error(`frame ${gfn} was written to`);
      }
      lists.free(old, count, OWNER_PROCESS);
    }
  }
  Atomics.store(flags, 0, 1);
  const [report] = (await once(worker, "message")) as [{ damage: number; held: number[] }];
  expect(report.damage).toBe(0);
  expect(allocated).toBeGreaterThan(0);
  lists.sync();
  expectExact(lists, table);
  const heaps = report.held.length;
  expect(Array.from({ length: frames }, (_, gfn) => table.ownerOf(gfn)).filter((owner) => owner === OWNER_HEAP)).toHaveLength(heaps);
});
