// What a caller may pass wrongly: refused, and never cut to 32 bits and taken for something else.
import { describe, expect, test } from "vitest";
import {
  type AttachOptions,
  type CreateOptions,
  type EndingWorker,
  type HeapErrorCode,
  type HeapHandle,
  NumaHeap,
} from "../../dist/index.js";

const code = (wanted: HeapErrorCode) => expect.objectContaining({ name: "HeapError", code: wanted });
const error = (wanted: HeapErrorCode, words: RegExp) =>
  expect.objectContaining({ name: "HeapError", code: wanted, message: expect.stringMatching(words) as string });
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

test.each([
  [undefined, /^undefined is no live block: pass the whole number/],
  [null, /^null is/],
  [NaN, /^NaN is/],
  ["x", /^"x" is/],
  ["65536", /^"65536" is/],
  [8n, /^8n is/],
  [{}, /^this object is/],
])("what is no number is no pointer: %s", async (value, words) => {
  using heap = await NumaHeap.create();
  const ptr = value as number;
  for (const call of [() => heap.free(ptr), () => heap.realloc(ptr, 10), () => heap.usableSize(ptr), () => heap.nodeOf(ptr)])
    expect(call).toThrow(error("NUMAHEAP_INVALID_FREE", words));
});

test("a pointer is not cut to a whole number", async () => {
  using heap = await NumaHeap.create();
  const kept = heap.malloc(100);
  expect(() => heap.free(kept + 0.5)).toThrow(code("NUMAHEAP_INVALID_FREE"));
  expect(heap.walk({ live: [kept] }).ok).toBe(true);
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
  expect(() => heap.setVcpuNode(0, 7)).toThrow(/^setVcpuNode\(0, 7\): an argument is out of its range/);
  expect(() => heap.setPolicy("nearest" as "local")).toThrow(/one of default, preferred, .* not "nearest"/);
  expect(() => heap.setPolicy("bind")).toThrow(/bind takes nodes/);
  expect(() => heap.setPolicy("local", [0])).toThrow(/local takes no nodes/);
  expect(() => heap.setPolicy("bind", 1 as unknown as number[])).toThrow(
    error("NUMAHEAP_INVALID_ARGUMENT", /nodes must be an array, not 1/),
  );
  expect(heap.mallocOnNode(10, 2 ** 32)).toBe(0);
  expect(heap.errno()).toBe(28);
  expect(heap.alignedAlloc(2 ** 32 + 8, 10)).toBe(0);
  expect(heap.errno()).toBe(28);
  expect(heap.epoch).toBe(epoch);
});

const wrongOptions: [object, RegExp][] = [
  [{ build: "foo" }, /^build must be one of release, hardened, debug, not "foo"/],
  [{ build: null }, /^build must be .* not null/],
  [{ nodes: "2" }, /^nodes must be a whole number from 1 to 32, not "2"/],
  [{ vcpu: {} }, /^vcpu must be a whole number from 0 to 255, not this object/],
  [{ initialBytes: "64K" }, /^initialBytes must be a number of bytes above 0 and at most 4 GiB, not "64K"/],
  [{ maximumBytes: NaN }, /^maximumBytes must be .* not NaN/],
  [{ maximumBytes: 2 ** 32 + 1 }, /^maximumBytes must be .* at most 4 GiB, not 4294967297/],
  [{ initialBytes: 2 ** 31 }, /^initialBytes, 2147483648, is more than the default of maximumBytes, 1073741824/],
  [{ memory: {} }, /^memory must be a WebAssembly.Memory, not this object/],
  [{ memory: null }, /^memory must be a WebAssembly.Memory, not null/],
  [{ memory: new WebAssembly.Memory({ initial: 1, maximum: 2 }) }, /not shared: make it with/],
  [{ mayBlock: "no" }, /^mayBlock must be true or false, not "no"/],
];

test.each(wrongOptions)("create says what is wrong with %o", async (options, words) => {
  await expect(NumaHeap.create(options as CreateOptions)).rejects.toEqual(error("NUMAHEAP_INVALID_ARGUMENT", words));
});

test("attach says what is wrong with a handle", async () => {
  using heap = await NumaHeap.create();
  const handle = heap.handle();
  const refused = (changes: object) => expect(NumaHeap.attach({ ...handle, ...changes })).rejects;
  for (const none of [undefined, null, 5, {}, heap, JSON.parse(JSON.stringify(handle)) as object])
    await expect(NumaHeap.attach(none as HeapHandle)).rejects.toEqual(
      error("NUMAHEAP_INVALID_ARGUMENT", /is no handle of a heap: post what/),
    );
  await refused({ base: -65536 }).toEqual(error("NUMAHEAP_INVALID_ARGUMENT", /no handle/));
  await refused({ base: 8 }).toEqual(error("NUMAHEAP_INVALID_ARGUMENT", /no handle/));
  await refused({ abiVersion: 7 }).toEqual(error("NUMAHEAP_ABI_MISMATCH", /the handle is of format 7, and this package speaks 2: use one/));
  const empty = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
  await refused({ memory: empty }).toEqual(error("NUMAHEAP_ABI_MISMATCH", /no heap stands at 65536/));
  await refused({ base: 2 ** 32 - 65536 }).toEqual(error("NUMAHEAP_ABI_MISMATCH", /no heap stands at 4294901760/));
  const wrong = { mayBlock: 1 } as unknown as AttachOptions;
  await expect(NumaHeap.attach(handle, wrong)).rejects.toEqual(error("NUMAHEAP_INVALID_ARGUMENT", /^mayBlock/));
  (await NumaHeap.attach(handle)).detach();
});

test("register says that a browser's worker is none of Node's", async () => {
  using heap = await NumaHeap.create();
  const worker = {} as EndingWorker;
  expect(() => heap.register(worker, heap.handle())).toThrow(error("NUMAHEAP_INVALID_ARGUMENT", /use reapOnDeath/));
});

test("the 257th thread is told that there are 256", async () => {
  using heap = await NumaHeap.create();
  const others: NumaHeap[] = [];
  for (let i = 0; i < 255; ++i) others.push(await NumaHeap.attach(heap.handle()));
  const late = heap.handle();
  await expect(NumaHeap.attach(late)).rejects.toEqual(error("NUMAHEAP_TOO_MANY_THREADS", /^256 threads are attached/));
  others.pop()!.detach();
  others.push(await NumaHeap.attach(late));
  for (const other of others) other.detach();
});

describe("the memory of another heap", () => {
  const INVALID_MEMORY = error("NUMAHEAP_INVALID_ARGUMENT", /another heap's own.* pass it as `memory` to both/);
  /** The same memory as another thread has it. */
  async function posted(memory: WebAssembly.Memory): Promise<WebAssembly.Memory> {
    const { port1, port2 } = new MessageChannel();
    const arrived = new Promise<WebAssembly.Memory>((resolve) => (port2.onmessage = ({ data }) => resolve(data as WebAssembly.Memory)));
    port1.postMessage(memory);
    try {
      return await arrived;
    } finally {
      port1.close();
    }
  }

  test("is refused if that heap grows it alone, in whichever thread", async () => {
    using heap = await NumaHeap.create();
    const bytes = heap.memory.buffer.byteLength;
    await expect(NumaHeap.create({ memory: heap.memory })).rejects.toEqual(INVALID_MEMORY);
    const other = await posted(heap.memory);
    expect(other).not.toBe(heap.memory);
    await expect(NumaHeap.create({ memory: other })).rejects.toEqual(INVALID_MEMORY);
    expect(heap.memory.buffer.byteLength).toBe(bytes);
  });

  test("serves both if it was made for both", async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1024, shared: true });
    using one = await NumaHeap.create({ memory, maximumBytes: 2 ** 24 });
    using two = await NumaHeap.create({ memory: one.memory, maximumBytes: 2 ** 24 });
    const blocks = Array.from({ length: 100 }, (_, i) => [one, two][i % 2]!.malloc(90_000));
    expect(new Set(blocks).size).toBe(100);
    expect(one.walk({ live: blocks.filter((_, i) => i % 2 === 0) }).ok).toBe(true);
    expect(two.walk({ live: blocks.filter((_, i) => i % 2 === 1) }).ok).toBe(true);
  });
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
  await expect(NumaHeap.create({ memory })).rejects.toEqual(error("NUMAHEAP_OUT_OF_MEMORY", /cannot grow by 65536 bytes.* larger maximum/));
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
