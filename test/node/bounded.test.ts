// Memory that goes round is used again, whichever node it was taken on and wherever it was freed; so a heap that runs for long stays as
// large as it was.
import { expect, test } from "vitest";
import { randomFrom, Rig } from "../support/rig.js";

const INTERLEAVE = 3;
const MIB = 2 ** 20;

/** Replaces random blocks of a table until about `bytes` have gone through; the committed bytes after a quarter of that, and at the end. */
function churn(rig: Rig, bytes: number, take: (size: number) => number, give: (ptr: number) => void): [number, number] {
  const random = randomFrom(7);
  const table = new Array<number>(400).fill(0);
  let quarter = 0;
  for (let done = 0; done < bytes;) {
    const size = 8 + random(3000);
    const slot = random(table.length);
    if (table[slot]) give(table[slot]);
    expect((table[slot] = take(size) >>> 0)).not.toBe(0);
    done += size;
    if (!quarter && done > bytes / 4) quarter = rig.inspector.stats().committedBytes;
  }
  const committed = rig.inspector.stats().committedBytes;
  expect(rig.walk(table.filter((ptr) => ptr)).problems).toEqual([]);
  for (const ptr of table) if (ptr) give(ptr);
  expect(rig.walk([])).toEqual({ ok: true, problems: [], unaccounted: [] });
  return [quarter, committed];
}

test("blocks interleaved over nodes that nobody runs on", () => {
  const rig = new Rig({ threads: 1, nodes: 4 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  expect(heap.setPolicy(INTERLEAVE, 0b1111)).toBe(0);
  const [quarter, end] = churn(rig, 64 * MIB, heap.malloc, heap.free);
  expect(end).toBeLessThan(1.1 * quarter);
});

test("blocks on a given node that nobody runs on", () => {
  const rig = new Rig({ threads: 1, nodes: 4 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  const [quarter, end] = churn(rig, 64 * MIB, (size) => heap.mallocOnNode(size, 3), heap.free);
  expect(end).toBeLessThan(1.1 * quarter);
});

test("blocks of the next node, because one's own is full", () => {
  const rig = new Rig({ threads: 1, nodes: 2 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  expect(heap.setNodeLimit(0, 16)).toBe(0);
  const [quarter, end] = churn(rig, 64 * MIB, heap.malloc, heap.free);
  expect(end).toBeLessThan(1.1 * quarter);
});

test("blocks taken on one node and freed on another", () => {
  const rig = new Rig({ threads: 2, nodes: 2 });
  const [producer, consumer] = rig.threads as [Rig["threads"][0], Rig["threads"][0]];
  const [quarter, end] = churn(rig, 64 * MIB, producer.malloc, consumer.free);
  expect(end).toBeLessThan(1.1 * quarter);
});

test("a node that vanishes does not keep what is freed later", () => {
  const rig = new Rig({ threads: 2, nodes: 2 });
  const [heap, other] = rig.threads as [Rig["threads"][0], Rig["threads"][0]];
  const blocks = Array.from({ length: 3000 }, () => other.malloc(1000));
  expect(other.detach()).toBe(0);
  expect(heap.setNodes(1)).toBe(0);
  for (const ptr of blocks) heap.free(ptr);
  // Slow paths, which now and then look after the nodes that are gone.
  const kept = Array.from({ length: 40_000 }, () => heap.malloc(16));
  expect(rig.inspector.stats().nodes[1]?.queuedBytes).toBe(0);
  expect(rig.walk(kept)).toEqual({ ok: true, problems: [], unaccounted: [] });
});

test("a block as large as the heap comes and goes beside small ones that stay", () => {
  const rig = new Rig({ threads: 1, nodes: 1 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  const kept: number[] = [];
  for (let round = 0; round < 30; ++round) {
    const giant = heap.malloc(32 * MIB);
    expect(giant).not.toBe(0);
    for (let i = 0; i < 5; ++i) kept.push(heap.malloc(200));
    heap.free(giant);
    for (let i = 0; i < 200; ++i) kept.push(heap.malloc(100));
  }
  expect(rig.inspector.stats().committedBytes).toBeLessThan(36 * MIB);
  expect(rig.walk(kept)).toEqual({ ok: true, problems: [], unaccounted: [] });
});
