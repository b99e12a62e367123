// Heaps at the very end of what 32 bits address. Its last page of 8 KiB is never a heap's, so that no end of a block wraps.
import { expect, test } from "vitest";
import { NumaHeap } from "../../dist/index.js";

const END = 2 ** 32;
const PAGE = 8192;

/** Blocks of every size until there are no more, each within the heap and written to. */
function exhaust(heap: NumaHeap): number[] {
  const live: number[] = [];
  for (let size = 2 ** 15; size >= 8; size /= 2) {
    for (let ptr = heap.malloc(size); ptr !== 0; ptr = heap.malloc(size)) {
      expect(ptr + size).toBeLessThanOrEqual(END - PAGE);
      heap.view(Uint8Array, ptr, size).fill(0xaa);
      live.push(ptr);
    }
    expect(heap.errno()).toBe(48);
  }
  return live;
}

test.each([1, 2, 40])("in the last %i pages of a memory that was given", async (pages) => {
  const memory = new WebAssembly.Memory({ initial: 65536 - pages, maximum: 65536, shared: true });
  using heap = await NumaHeap.create({ memory, initialBytes: pages * 65536, maximumBytes: END, nodes: 2 });
  expect(memory.buffer.byteLength).toBe(END);
  expect(heap.stats().committedBytes).toBe(pages * 65536 - PAGE);
  const live = exhaust(heap);
  expect(Math.max(...live)).toBeGreaterThan(END - 65536);
  expect(heap.walk({ live })).toEqual({ ok: true, problems: [], unaccounted: [] });
  heap.rebind(END - 65536, 65536, 1);
  for (const ptr of live) heap.free(ptr);
  heap.trim();
  expect(heap.walk({ live: [] }).ok).toBe(true);
  expect(heap.stats().committedBytes).toBe(pages * 65536 - PAGE);
  expect(() => heap.free(END - PAGE)).toThrow(expect.objectContaining({ code: "NUMAHEAP_INVALID_FREE" }));
});

test("grown to the end of a memory that was given", async () => {
  const memory = new WebAssembly.Memory({ initial: 65500, maximum: 65536, shared: true });
  using heap = await NumaHeap.create({ memory, maximumBytes: END });
  const live = exhaust(heap);
  expect(memory.buffer.byteLength).toBe(END);
  expect(heap.stats().committedBytes).toBe(36 * 65536 - PAGE);
  expect(heap.walk({ live }).ok).toBe(true);
});

test("a memory that is full already is an error of memory", async () => {
  const memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
  await expect(NumaHeap.create({ memory })).rejects.toMatchObject({ code: "NUMAHEAP_OUT_OF_MEMORY" });
});

test("all of a memory of its own, from the start or by growth", async () => {
  await expect(NumaHeap.create({ initialBytes: END, maximumBytes: END })).rejects.toMatchObject({
    code: "NUMAHEAP_INVALID_ARGUMENT",
    message: expect.stringMatching(/at most 4 GiB less 64 KiB/) as string,
  });
  const own = END - 65536 - PAGE;
  for (const initialBytes of [END - 65536, 65536]) {
    using heap = await NumaHeap.create({ initialBytes, maximumBytes: END });
    // What is left when a large block has all but some MiB.
    const large = heap.malloc(own - 8 * 2 ** 20);
    expect(large).not.toBe(0);
    const live = [large, ...exhaust(heap)];
    expect(heap.stats().committedBytes).toBe(own);
    expect(heap.walk({ live }).ok).toBe(true);
    for (const ptr of live) heap.free(ptr);
    expect(heap.walk({ live: [] }).ok).toBe(true);
  }
});
