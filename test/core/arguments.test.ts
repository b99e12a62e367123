// What a caller may pass wrongly: refused, and never cut to 32 bits and taken for something else.
import { describe, expect, test } from "vitest";
import { type HeapErrorCode, NumaHeap } from "../../dist/index.js";

const code = (wanted: HeapErrorCode) => expect.objectContaining({ name: "HeapError", code: wanted });
const INVALID = code("NUMAHEAP_INVALID_ARGUMENT");

describe("sizes that do not fit 32 bits", () => {
  test.each([2 ** 32, 2 ** 32 + 16, 2 ** 53, Infinity, NaN, -1, -(2 ** 32) + 16])("%d bytes are not to be had", async (size) => {
    using heap = await NumaHeap.create();
    const kept = heap.malloc(100);
    expect(heap.malloc(size)).toBe(0);
    expect(heap.errno()).toBe(48);
    expect(heap.calloc(size, 1)).toBe(0);
    expect(heap.calloc(1, size)).toBe(0);
    expect(heap.realloc(kept, size)).toBe(0);
    expect(heap.alignedAlloc(64, size)).toBe(0);
    expect(heap.mallocOnNode(size, 0)).toBe(0);
    expect(heap.walk({ live: [kept] })).toEqual({ ok: true, problems: [], unaccounted: [] });
  });
});

test("a pointer beyond 32 bits is no pointer", async () => {
  using heap = await NumaHeap.create();
  const kept = heap.malloc(100);
  for (const ptr of [kept + 2 ** 32, kept - 2 ** 33, NaN, Infinity]) {
    expect(() => heap.free(ptr)).toThrow(code("NUMAHEAP_INVALID_FREE"));
    expect(() => heap.realloc(ptr, 10)).toThrow(code("NUMAHEAP_INVALID_FREE"));
    expect(() => heap.usableSize(ptr)).toThrow(code("NUMAHEAP_INVALID_FREE"));
  }
  expect(heap.walk({ live: [kept] }).ok).toBe(true);
  heap.free(kept | 0);
  expect(heap.walk({ live: [] }).ok).toBe(true);
});

test("nodes, vCPUs, distances and ranges out of range", async () => {
  using heap = await NumaHeap.create({ nodes: 2 });
  const epoch = heap.epoch;
  const wrong: (() => void)[] = [
    () => heap.setPolicy("bind", [32]),
    () => heap.setPolicy("bind", [-1]),
    () => heap.setPolicy("bind", [2]),
    () => heap.setPolicy("interleave", [0.5]),
    () => heap.setPolicy("nearest" as "local"),
    () => heap.setWeight(0, 256),
    () => heap.setWeight(2 ** 32, 1),
    () => heap.setNodes(2 ** 32 + 1),
    () => heap.setNodes(33),
    () => heap.setVcpuNode(2 ** 32, 0),
    () => heap.setVcpuNode(0, 2),
    () => heap.setDistance(0, 1, 2 ** 32 + 20),
    () => heap.setDistance(0, 1, 10),
    () => heap.setNodeLimit(2, 0),
    () => heap.setNodeLimit(0, -1),
    () => heap.moveTo(256),
    () => heap.moveTo(2 ** 32),
    () => heap.rebind(-1, 8192, 0),
    () => heap.rebind(65536, 2 ** 40, 0),
    () => heap.rebind(65536, 8192, 2),
    () => heap.handle(256),
    () => heap.handle(1.5),
  ];
  for (const call of wrong) expect(call, String(call)).toThrow(INVALID);
  expect(heap.mallocOnNode(10, 2 ** 32)).toBe(0);
  expect(heap.errno()).toBe(28);
  expect(heap.alignedAlloc(2 ** 32 + 8, 10)).toBe(0);
  expect(heap.errno()).toBe(28);
  expect(heap.epoch).toBe(epoch);
});

test.each([
  { nodes: 0 },
  { nodes: 33 },
  { nodes: 1.5 },
  { nodes: 2 ** 32 + 1 },
  { vcpu: 256 },
  { vcpu: -1 },
  { initialBytes: 2 ** 20, maximumBytes: 2 ** 16 },
  { maximumBytes: 2 ** 33 },
  { memory: new WebAssembly.Memory({ initial: 1, maximum: 100 }) },
])("create refuses $nodes $vcpu $maximumBytes", async (options) => {
  await expect(NumaHeap.create(options)).rejects.toEqual(INVALID);
});

test("a memory that cannot grow is an error of memory", async () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  await expect(NumaHeap.create({ memory })).rejects.toEqual(code("NUMAHEAP_OUT_OF_MEMORY"));
});

test("a handle serves one thread", async () => {
  using heap = await NumaHeap.create();
  const handle = heap.handle();
  const other = await NumaHeap.attach(handle);
  await expect(NumaHeap.attach(handle)).rejects.toEqual(INVALID);
  other.detach();
  await expect(NumaHeap.attach(handle)).rejects.toEqual(INVALID);
  (await NumaHeap.attach(heap.handle())).detach();
  expect(heap.walk({ live: [] }).ok).toBe(true);
});
