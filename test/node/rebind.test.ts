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

test("a rebind of a large block looks back to its start for a few of its pages only", () => {
  const rig = new Rig({ threads: 1, nodes: 2, maximumPages: 4200 });
  const [heap] = rig.threads as [Rig["threads"][0]];
  const ptr = heap.malloc(2 ** 28) >>> 0;
  const began = performance.now();
  expect(heap.rebind(ptr >>> 13, 2 ** 15, 1)).toBe(0);
  expect(performance.now() - began).toBeLessThan(5000); // half a minute, where each of them looks back
});
