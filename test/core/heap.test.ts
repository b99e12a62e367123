// NumaHeap: the C family, errors, policies, limits. As all of this folder, in Node and on a browser's page.
import { describe, expect, test } from "vitest";
import { HeapError, NumaHeap } from "../../dist/index.js";

/** errno when memory runs out. */
const NO_MEMORY = 48;

const codeOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return (error as HeapError).code;
  }
  return "none";
};

const sum = (stats: ReturnType<NumaHeap["stats"]>): number =>
  stats.inUseBytes +
  stats.threadCacheBytes +
  stats.transferCacheBytes +
  stats.centralFreeBytes +
  stats.remoteBytes +
  stats.pageHeapFreeBytes +
  stats.metadataBytes +
  stats.spanTailBytes;

describe("blocks", () => {
  test("are aligned, distinct and reused", async () => {
    using heap = await NumaHeap.create();
    const seen = new Set<number>();
    for (let size = 0; size < 70_000; size = Math.floor(size * 1.1) + 1) {
      const ptr = heap.malloc(size);
      expect(ptr % (size < 16 ? 8 : 16)).toBe(0);
      expect(seen.has(ptr)).toBe(false);
      seen.add(ptr);
    }
    expect(heap.walk({ live: seen })).toEqual({ ok: true, problems: [], unaccounted: [] });
    for (const ptr of seen) heap.free(ptr);
    const again = heap.malloc(100);
    heap.free(again);
    expect(heap.malloc(100)).toBe(again);
  });

  test.each([8, 16, 64, 256, 4096, 8192, 16384, 1 << 20])("are aligned to %i on demand", async (alignment) => {
    using heap = await NumaHeap.create();
    for (const size of [0, 1, 7, 100, 5000, 80_000]) expect(heap.alignedAlloc(alignment, size) % alignment).toBe(0);
    expect(heap.walk().ok).toBe(true);
  });

  test("calloc zeroes what was used before, small and large", async () => {
    using heap = await NumaHeap.create();
    for (const size of [10, 1000, 30_000, 300_000]) {
      const used = heap.malloc(size);
      heap.view(Uint8Array, used, size).fill(0xaa);
      heap.free(used);
      const zeroed = heap.calloc(1, size);
      expect(heap.view(Uint8Array, zeroed, size).every((byte) => byte === 0)).toBe(true);
    }
    expect(heap.calloc(0x10000, 0x10001)).toBe(0);
    expect(heap.errno()).toBe(48);
  });

  test("realloc keeps the bytes, growing and shrinking", async () => {
    using heap = await NumaHeap.create();
    let ptr = heap.malloc(10);
    heap.view(Uint8Array, ptr, 10).fill(7);
    for (const size of [100, 5000, 80_000, 500_000, 600_000, 100_000, 20, 10]) {
      ptr = heap.realloc(ptr, size);
      expect(heap.view(Uint8Array, ptr, 10).every((byte) => byte === 7)).toBe(true);
      expect(heap.usableSize(ptr)).toBeGreaterThanOrEqual(size);
    }
    expect(heap.realloc(ptr, 0)).toBe(0);
    expect(heap.walk({ live: [] }).ok).toBe(true);
  });

  test("posix_memalign leaves its out-pointer alone on failure", async () => {
    using heap = await NumaHeap.create();
    using out = heap.alloc(Uint32Array, 1);
    out.view[0] = 42;
    expect(heap.imports.posix_memalign(out.ptr, 3, 8)).toBe(28);
    expect(out.view[0]).toBe(42);
    expect(heap.imports.posix_memalign(out.ptr, 64, 8)).toBe(0);
    expect(out.view[0]! % 64).toBe(0);
  });

  test("a typed allocation is zeroed and freed at the end of its scope", async () => {
    using heap = await NumaHeap.create();
    {
      using block = heap.alloc(Float64Array, 1000);
      expect(block.view.length).toBe(1000);
      expect(block.view.every((x) => x === 0)).toBe(true);
    }
    expect(heap.stats().inUseBytes).toBe(0);
    expect(codeOf(() => heap.alloc(Float64Array, 2 ** 30))).toBe("NUMAHEAP_OUT_OF_MEMORY");
    expect(codeOf(() => heap.alloc(Float64Array, -1))).toBe("NUMAHEAP_INVALID_ARGUMENT");
  });
});

describe("bad calls", () => {
  test("are found, named and change nothing", async () => {
    using heap = await NumaHeap.create();
    const small = heap.malloc(100);
    const large = heap.malloc(100_000);
    for (const ptr of [8, small + 1, large + 8192 * 2, large + 8, 0xffff_fff0])
      expect(codeOf(() => heap.free(ptr))).toBe("NUMAHEAP_INVALID_FREE");
    heap.free(large);
    expect(codeOf(() => heap.free(large))).toBe("NUMAHEAP_INVALID_FREE");
    heap.free(0);
    expect(heap.walk({ live: [small] }).ok).toBe(true);
    const { badCalls } = heap.stats();
    expect(badCalls.outsideHeap + badCalls.interiorOfLarge + badCalls.misaligned + badCalls.pageNotInUse).toBe(6);
  });

  test("cannot be told beforehand where blocks lie in the hardened build: no two heaps place them alike", async () => {
    const places = async (): Promise<number[]> => {
      using heap = await NumaHeap.create({ build: "hardened" });
      return Array.from({ length: 64 }, () => heap.malloc(16));
    };
    expect(await places()).not.toEqual(await places());
  });

  test("of small blocks and overflows are found by the hardened build", async () => {
    using heap = await NumaHeap.create({ build: "hardened" });
    const ptr = heap.malloc(100);
    expect(heap.usableSize(ptr)).toBe(100);
    expect(() => heap.free(ptr + 16)).toThrow("points into a block");
    heap.view(Uint8Array, ptr, 101)[100] = 1;
    expect(() => heap.free(ptr)).toThrow("beyond the end");
    heap.view(Uint8Array, ptr, 101)[100] = 0xc5;
    heap.free(ptr);
    expect(() => heap.free(ptr)).toThrow("not live");
    const large = heap.malloc(100_001);
    heap.view(Uint8Array, large, 100_002)[100_001] = 0;
    expect(() => heap.free(large)).toThrow("beyond the end");
  });
});

describe("limits", () => {
  test("memory is exhausted, and usable again after frees", async () => {
    using heap = await NumaHeap.create({ maximumBytes: 4 * 2 ** 20, nodes: 2 });
    for (let round = 0; round < 3; ++round) {
      const live: number[] = [];
      for (let ptr = heap.malloc(1000); ptr; ptr = heap.malloc(1000)) live.push(ptr);
      expect(heap.errno()).toBe(NO_MEMORY);
      expect(live.length).toBeGreaterThan(3800);
      expect(heap.walk({ live }).ok).toBe(true);
      for (const ptr of live) heap.free(ptr);
      expect(heap.trim()).toBe(true);
      const large = heap.malloc(2 ** 20);
      expect(large).not.toBe(0);
      heap.free(large);
    }
    expect(sum(heap.stats())).toBe(heap.stats().committedBytes);
  });

  test.each([1, 8192, 65535, 70_000, 2 ** 20])("initial = maximum = %i bytes is a heap of that many and no more", async (bytes) => {
    using heap = await NumaHeap.create({ initialBytes: bytes, maximumBytes: bytes });
    const { committedBytes, reservedBytes } = heap.stats();
    expect(committedBytes).toBe(Math.ceil(bytes / 65536) * 65536);
    expect(reservedBytes).toBe(committedBytes);
    const live = Array.from({ length: 100 }, () => heap.malloc(100)).filter((ptr) => ptr !== 0);
    expect(live.length).toBe(100);
    expect(heap.malloc(bytes + 65536)).toBe(0);
    expect(heap.stats().committedBytes).toBe(committedBytes);
    expect(heap.walk({ live }).ok).toBe(true);
  });

  test("blocks above 2 GiB", async () => {
    const memory = new WebAssembly.Memory({ initial: 32800, maximum: 40000, shared: true });
    using heap = await NumaHeap.create({ memory, maximumBytes: 64 * 2 ** 20 });
    const live = Array.from({ length: 1000 }, (_, i) => heap.malloc(i * 37));
    for (const ptr of live) expect(ptr).toBeGreaterThan(2 ** 31);
    live.push(heap.malloc(10 * 2 ** 20));
    heap.view(Uint8Array, live[1000]!, 10 * 2 ** 20).fill(1);
    expect(heap.walk({ live }).ok).toBe(true);
    for (const ptr of live) heap.free(ptr);
    expect(heap.walk({ live: [] }).ok).toBe(true);
  });

  test("others may grow the same memory", async () => {
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 4096, shared: true });
    using heap = await NumaHeap.create({ memory, maximumBytes: 64 * 2 ** 20 });
    const live: number[] = [];
    for (let i = 0; i < 2000; ++i) {
      live.push(heap.malloc(5000 + i));
      if (i % 7 === 0) {
        const page = memory.grow(1) * 65536;
        heap.view(Uint8Array, page, 65536).fill(0xee);
      }
    }
    expect(heap.walk({ live }).ok).toBe(true);
    expect(live.every((ptr) => ptr !== 0)).toBe(true);
  });

  test("trim gives cached blocks back", async () => {
    using heap = await NumaHeap.create();
    const live = Array.from({ length: 20_000 }, () => heap.malloc(64));
    for (const ptr of live) heap.free(ptr);
    const before = heap.stats();
    heap.trim();
    expect(heap.stats().threadCacheBytes).toBe(0);
    expect(heap.stats().pageHeapFreeBytes).toBeGreaterThan(before.pageHeapFreeBytes);
  });
});

describe("nodes", () => {
  const nodesOf = (heap: NumaHeap, count: number, size = 100): number[] => {
    const live = Array.from({ length: count }, () => heap.malloc(size)).filter((ptr) => ptr !== 0);
    const counts = [0, 0, 0, 0];
    for (const ptr of live) ++counts[heap.nodeOf(ptr)]!;
    for (const ptr of live) heap.free(ptr);
    return counts;
  };

  test("each policy puts blocks where it says", async () => {
    using heap = await NumaHeap.create({ nodes: 4 });
    expect(nodesOf(heap, 1000)).toEqual([1000, 0, 0, 0]);
    heap.setPolicy("bind", [2]);
    expect(nodesOf(heap, 1000)).toEqual([0, 0, 1000, 0]);
    heap.setPolicy("preferred", [3]);
    expect(nodesOf(heap, 1000)).toEqual([0, 0, 0, 1000]);
    heap.setDistance(0, 3, 15);
    heap.setPolicy("preferred-many", [1, 3]);
    expect(nodesOf(heap, 1000)).toEqual([0, 0, 0, 1000]);
    heap.setPolicy("interleave", [0, 1, 2, 3]);
    for (const count of nodesOf(heap, 4000)) expect(Math.abs(count - 1000)).toBeLessThan(64);
    heap.setWeight(0, 3);
    heap.setWeight(1, 1);
    heap.setPolicy("weighted-interleave", [0, 1]);
    // Many: what the cache holds from before counts too.
    const [three, one] = nodesOf(heap, 80_000);
    expect(three! / one!).toBeGreaterThan(2.6);
    expect(three! / one!).toBeLessThan(3.4);
    heap.setPolicy("local");
    heap.moveTo(1);
    expect(nodesOf(heap, 100)).toEqual([0, 100, 0, 0]);
    expect(codeOf(() => heap.setPolicy("bind", []))).toBe("NUMAHEAP_INVALID_ARGUMENT");
    expect(heap.walk({ live: [] }).ok).toBe(true);
  });

  test("a strict binding fails where a preference spills", async () => {
    using heap = await NumaHeap.create({ nodes: 4 });
    heap.setNodeLimit(2, 512 * 1024);
    heap.setPolicy("bind", [2]);
    const bound = nodesOf(heap, 2000, 1000);
    expect(bound[2]).toBeGreaterThan(300);
    expect(bound[0]! + bound[1]! + bound[3]!).toBe(0);
    expect(heap.errno()).toBe(NO_MEMORY);
    heap.setPolicy("preferred", [2]);
    const preferred = nodesOf(heap, 2000, 1000);
    expect(preferred[2]).toBeGreaterThan(300);
    expect(preferred.reduce((a, b) => a + b)).toBe(2000);
    expect(heap.mallocOnNode(600 * 1024, 2)).toBe(0);
    expect(heap.nodeOf(heap.mallocOnNode(600 * 1024, 3))).toBe(3);
    expect(heap.nodeOf(heap.mallocOnNode(60, 1))).toBe(1);
  });

  test("a limit below a page is one page, not none", async () => {
    using heap = await NumaHeap.create({ nodes: 2 });
    heap.setNodeLimit(1, 4096);
    expect(heap.mallocOnNode(64 * 1024, 1)).toBe(0);
  });

  test("large interleaved blocks lie on every node of the mask", async () => {
    using heap = await NumaHeap.create({ nodes: 4 });
    heap.setPolicy("interleave", [0, 1, 2, 3]);
    const ptr = heap.malloc(64 * 8192);
    const counts = [0, 0, 0, 0];
    for (let page = 0; page < 64; ++page) ++counts[heap.nodeOf(ptr + page * 8192)]!;
    for (const count of counts) expect(count).toBeGreaterThan(8);
    heap.free(ptr);
    expect(heap.walk({ live: [] }).ok).toBe(true);
  });

  test("blocks, free memory and the thread follow a rebind and a vCPU move", async () => {
    using heap = await NumaHeap.create({ nodes: 4, initialBytes: 2 ** 20 });
    const live = Array.from({ length: 5000 }, (_, i) => heap.malloc(i % 300));
    const epoch = heap.epoch;
    heap.rebind(0, 2 ** 32 - 8192, 3);
    expect(heap.epoch).not.toBe(epoch);
    for (const ptr of live) expect(heap.nodeOf(ptr)).toBe(3);
    expect(heap.walk({ live }).ok).toBe(true);
    expect(heap.stats().nodes.find(({ node }) => node === 0)!.ownedPages).toBe(0);
    heap.setVcpuNode(0, 3);
    expect(heap.nodeOf(heap.malloc(50))).toBe(3);
    expect(heap.node).toBe(3);
    heap.setNodes(2);
    expect(heap.nodeOf(heap.malloc(50))).toBeLessThan(4);
    heap.setNodes(4);
    for (const ptr of live) heap.free(ptr);
    expect(sum(heap.stats())).toBe(heap.stats().committedBytes);
  });
});

test("nodes that vanish and come back: policies return to them, a vCPU when it is told", async () => {
  using heap = await NumaHeap.create({ nodes: 4, vcpu: 3 });
  heap.setDistance(3, 1, 30);
  expect(heap.nodeOf(heap.malloc(50))).toBe(3);
  heap.setNodes(2);
  heap.settle();
  expect(heap.node).toBe(1);
  heap.setPolicy("interleave", [0, 1, 2, 3]);
  const nodes = () => new Set(Array.from({ length: 2000 }, () => heap.nodeOf(heap.malloc(500))));
  expect(nodes()).toEqual(new Set([0, 1]));
  heap.setNodes(4);
  expect(nodes()).toEqual(new Set([0, 1, 2, 3]));
  expect(heap.node).toBe(1);
  heap.setVcpuNode(3, 3);
  heap.settle();
  expect(heap.node).toBe(3);
  expect(heap.walk().ok).toBe(true);
});

test("typed errors of the heap's own life", async () => {
  const heap = await NumaHeap.create();
  const handle = heap.handle();
  heap.detach();
  heap.detach();
  expect(codeOf(() => heap.malloc(1))).toBe("NUMAHEAP_DETACHED");
  new Uint32Array(heap.memory.buffer)[(handle.base + 4) >> 2] = 99;
  await expect(NumaHeap.attach(handle)).rejects.toMatchObject({ code: "NUMAHEAP_ABI_MISMATCH" });
  await expect(NumaHeap.create({ maximumBytes: 0 })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  await expect(NumaHeap.create({ nodes: 33 })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
});
