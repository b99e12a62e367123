// The walk and the statistics of a healthy heap, and of blocks that are not what the program says they are.

import { describe, expect, test } from "vitest";
import { inspect } from "../../src/heap/inspect.js";
import { Problem } from "../../src/heap/problem-codes.js";
import { sayProblem } from "../../src/heap/problems.js";
import { Rig, moduleOf } from "../support/rig.js";
import { putOff, used } from "../support/used-heap.js";

const PARTS = [
  "inUseBytes",
  "threadCacheBytes",
  "transferCacheBytes",
  "centralFreeBytes",
  "remoteBytes",
  "pageHeapFreeBytes",
  "metadataBytes",
  "spanTailBytes",
] as const;

describe("a healthy heap", () => {
  test("has no problems and no unaccounted block", () => {
    const heap = used();
    putOff(heap);
    expect(heap.rig.walk(heap.live)).toEqual({ ok: true, problems: [], unaccounted: [] });
    expect(heap.rig.walk()).toEqual({ ok: true, problems: [], unaccounted: [] });
  });

  test("has every figure that inspect.wasm exports in its statistics", () => {
    const stats = used().rig.inspector.stats();
    const node = stats.nodes[0]!;
    const camel = (name: string): string => name.replace(/_(.)/, (_, letter: string) => letter.toUpperCase());
    const shown = [stats, node, stats.threads[0]!].flatMap((part) => Object.keys(part)).concat(Object.keys(node.numastat).map(camel));
    const exported = WebAssembly.Module.exports(moduleOf("inspect")).filter(({ kind }) => kind === "global");
    expect(exported.length).toBeGreaterThan(40);
    for (const { name } of exported) expect(shown).toContain(name);
  });

  test("has figures that sum to what it committed", () => {
    const heap = used();
    putOff(heap);
    const stats = heap.rig.inspector.stats();
    for (const part of PARTS) expect(stats[part], part).toBeGreaterThan(0);
    expect(PARTS.reduce((sum, part) => sum + stats[part], 0)).toBe(stats.committedBytes);
    expect(stats.inUseBlocks).toBe(heap.live.size);
    const usable = [...heap.live].reduce((sum, at) => sum + heap.rig.threads[0]!.malloc_usable_size(at), 0);
    expect(stats.inUseBytes).toBe(usable);
    expect(stats.committedBytes).toBe(heap.rig.memory.buffer.byteLength - heap.rig.base);
    expect(stats.reservedBytes).toBe(4096 * 65536);
    expect(stats.nodes.map((node) => node.node)).toEqual([0, 1]);
    expect(stats.nodes.reduce((sum, node) => sum + node.ownedPages * 8192, 0)).toBe(stats.committedBytes);
    for (const node of stats.nodes) expect(node.freePages + node.metadataPages + node.usedPages).toBe(node.ownedPages);
    expect(stats.nodes.reduce((sum, node) => sum + node.spans, 0)).toBe(stats.spans);
    expect(stats.threads.map((thread) => [thread.id, thread.key])).toEqual([
      [1, 1],
      [2, 2],
      [3, 4],
    ]);
    expect(stats.threads.reduce((sum, thread) => sum + thread.cachedBytes, 0)).toBe(stats.threadCacheBytes);
    const moving =
      stats.threads.reduce((sum, thread) => sum + thread.outgoingBytes, 0) + stats.nodes.reduce((sum, node) => sum + node.queuedBytes, 0);
    expect(moving).toBe(stats.remoteBytes);
    expect(stats.threads[1]!.remoteFrees).toBeGreaterThan(0);
  });

  test("counts what numastat counts", () => {
    const rig = new Rig({ threads: 2, nodes: 2 });
    const [a] = rig.threads;
    const before = rig.inspector.stats();
    a!.setPolicy(2, 2); // bind to node 1
    const at = a!.malloc(100);
    expect(a!.nodeOf(at)).toBe(1);
    const after = rig.inspector.stats();
    const gained = (node: number, name: "numa_hit" | "numa_miss" | "local_node" | "other_node"): number =>
      (after.nodes[node]?.numastat[name] ?? 0) - (before.nodes[node]?.numastat[name] ?? 0);
    expect(gained(1, "numa_hit")).toBeGreaterThan(0);
    expect(gained(1, "other_node")).toBe(gained(1, "numa_hit"));
    expect(gained(1, "local_node")).toBe(0);
    expect(gained(1, "numa_miss")).toBe(0);
    a!.rebind(at >>> 13, 1, 0);
    const moved = rig.inspector.stats();
    expect(moved.spansRebound).toBe(1);
    expect(moved.pagesMovedInUse).toBe(1);
    expect(moved.epoch).not.toBe(after.epoch);
  });

  test("counts bad calls by kind", () => {
    const { rig, small, large } = used();
    const thread = rig.threads[0]!;
    thread.free(8);
    thread.free(small + 4);
    thread.free(large + 8192);
    expect(rig.inspector.stats().badCalls).toEqual({
      outsideHeap: 1,
      pageNotInUse: 0,
      interiorOfLarge: 1,
      misaligned: 1,
      interiorOfSmall: 0,
      notLive: 0,
      overflown: 0,
    });
    expect(rig.walk().ok).toBe(true);
  });

  test("of 400,000 blocks has every one accounted for", () => {
    const rig = new Rig({ threads: 1, nodes: 1, maximumPages: 8192 });
    const live = Uint32Array.from({ length: 400_000 }, () => rig.threads[0]!.malloc(64) >>> 0);
    expect(rig.inspector.walk({ live })).toEqual({ ok: true, problems: [], unaccounted: [] });
  });
});

describe("blocks that are lost, live twice or wrong", () => {
  test("nobody's blocks are listed one by one", () => {
    const { rig, live, small, large } = used();
    live.delete(small);
    live.delete(large);
    const walk = rig.walk(live);
    expect(walk.problems).toEqual([]);
    expect([...walk.unaccounted].sort((a, b) => a.size - b.size)).toEqual([
      { ptr: small, size: 112 },
      { ptr: large, size: 204_800 },
    ]);
    expect(walk.ok).toBe(false);
  });

  test("a live block that the heap has too", () => {
    const { rig, live, small } = used();
    rig.threads[0]!.free(small);
    expect(rig.walk(live).problems).toEqual([sayProblem(Problem.BLOCK_TWICE, small, 6, 0)]);
    expect(rig.walk([...live].filter((at) => at !== small)).ok).toBe(true);
  });

  test("a block named twice, the inside of one, and addresses that are none", () => {
    const { rig, live, small, large } = used();
    for (const at of [small + 8, small + 4, large + 8192, large + 16, 0, 8, rig.base, 0xffff_fff8, 0x7fff_0000]) {
      expect(rig.walk([...live, at]).problems, String(at)).toEqual([sayProblem(Problem.BLOCK_BAD, at, 6, 0)]);
    }
    expect(rig.walk([...live, small]).problems).toEqual([sayProblem(Problem.BLOCK_TWICE, small, 6, 0)]);
  });
});

/** Ways to break a heap, and the problem each is known by. */

test("an inspector is refused where no heap stands", () => {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
  expect(() => inspect(memory, 65536, moduleOf("inspect"))).toThrow(RangeError);
  expect(() => inspect(memory, 0xffff_0000, moduleOf("inspect"))).toThrow(RangeError);
  expect(() => inspect(memory, 8, moduleOf("inspect"))).toThrow(RangeError);
});
