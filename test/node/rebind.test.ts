// Rebind by the raw function, which takes any page number there is.
import { expect, test } from "vitest";
import { Rig } from "../support/rig.js";

test("a rebind of pages far beyond the memory changes nothing, and the next one works", () => {
  const rig = new Rig({ threads: 1, nodes: 2 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  for (const first of [0x8_0000, 0x8000_0000, 0xffff_0000]) expect(heap.rebind(first, 5, 1)).toBe(0);
  const ptr = heap.malloc(100) >>> 0;
  expect(heap.rebind(ptr >>> 13, 1, 1)).toBe(0);
  expect(heap.nodeOf(ptr)).toBe(1);
  expect(rig.walk([ptr])).toEqual({ ok: true, problems: [], unaccounted: [] });
});

test("a rebind of a part of a large block moves its pages, and with most of them its label", () => {
  const rig = new Rig({ threads: 1, nodes: 2, maximumPages: 4200 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  const bytes = 2 ** 28;
  const ptr = heap.malloc(bytes) >>> 0;
  const first = ptr >>> 13;
  expect(heap.rebind(first + 5, 1000, 1)).toBe(0);
  const nodes = [0, 4, 5, 1004, 1005, bytes / 8192 - 1].map((page) => heap.nodeOf((first + page) * 8192));
  expect(nodes).toEqual([0, 0, 1, 1, 0, 0]);
  expect(rig.walk([ptr])).toEqual({ ok: true, problems: [], unaccounted: [] });
  expect(heap.rebind(first, bytes / 8192, 1)).toBe(0);
  expect(rig.inspector.stats().spansRebound).toBe(1);
  expect(rig.walk([ptr])).toEqual({ ok: true, problems: [], unaccounted: [] });
});
