// Random operations on one and on several instances against a simple model: addresses, sizes, a byte of pattern each.
import fc from "fast-check";
import { expect, test } from "vitest";
import { NumaHeap } from "../../dist/index.js";

type Operation =
  | { op: "malloc" | "calloc"; thread: number; size: number }
  | { op: "free" | "realloc"; thread: number; pick: number; size: number }
  | { op: "rebind"; thread: number; first: number; pages: number; node: number }
  | { op: "vcpu"; thread: number; node: number }
  | { op: "trim"; thread: number };

const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(600) },
  { weight: 2, arbitrary: fc.nat(9000) },
  { weight: 1, arbitrary: fc.nat(200_000) },
);
const thread = fc.nat(3);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constantFrom("malloc" as const, "calloc" as const), thread, size }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constantFrom("free" as const, "free" as const, "realloc" as const), thread, pick: fc.nat(), size }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("rebind" as const), thread, first: fc.nat(300), pages: fc.nat(60), node: fc.nat(3) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("vcpu" as const), thread, node: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("trim" as const), thread }) },
);

async function agrees(operations: Operation[], threads: number): Promise<void> {
  const first = await NumaHeap.create({ nodes: 4, maximumBytes: 2 ** 26, vcpu: 0 });
  const heaps = [first];
  for (let i = 1; i < threads; ++i) heaps.push(await NumaHeap.attach(first.handle(i)));
  const model = new Map<number, { size: number; byte: number }>();
  let byte = 0;
  const own = (heap: NumaHeap, ptr: number, bytes: number): void => {
    expect(ptr).not.toBe(0);
    expect(model.has(ptr)).toBe(false);
    byte = (byte + 1) & 255;
    heap.view(Uint8Array, ptr, bytes).fill(byte);
    model.set(ptr, { size: bytes, byte });
  };
  const intact = (heap: NumaHeap, ptr: number, bytes: number, value: number): boolean =>
    heap.view(Uint8Array, ptr, bytes).every((b) => b === value);
  for (const step of operations) {
    const heap = heaps[step.thread % threads]!;
    if (step.op === "malloc") own(heap, heap.malloc(step.size), step.size);
    else if (step.op === "calloc") {
      const ptr = heap.calloc(1, step.size);
      expect(intact(heap, ptr, step.size, 0)).toBe(true);
      own(heap, ptr, step.size);
    } else if (step.op === "free" || step.op === "realloc") {
      const ptr = [...model.keys()][step.pick % Math.max(1, model.size)];
      if (ptr === undefined) continue;
      const { size: bytes, byte: value } = model.get(ptr)!;
      expect(intact(heap, ptr, bytes, value)).toBe(true);
      model.delete(ptr);
      if (step.op === "free") heap.free(ptr);
      else {
        const moved = heap.realloc(ptr, step.size + 1);
        expect(intact(heap, moved, Math.min(bytes, step.size + 1), value)).toBe(true);
        own(heap, moved, step.size + 1);
      }
    } else if (step.op === "rebind") heap.rebind(65536 + step.first * 8192, step.pages * 8192, step.node);
    else if (step.op === "vcpu") heap.setVcpuNode(step.thread, step.node);
    else heap.trim();
  }
  for (const heap of heaps) heap.settle();
  expect(first.walk({ live: model.keys() })).toEqual({ ok: true, problems: [], unaccounted: [] });
  for (const heap of heaps.slice(1)) heap.detach();
  for (const ptr of model.keys()) first.free(ptr);
  expect(first.walk({ live: [] })).toEqual({ ok: true, problems: [], unaccounted: [] });
}

test.each([1, 2, 4])("%i instances do what the model does", async (threads) => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 400 }), (operations) => agrees(operations, threads)),
    { numRuns: 40 },
  );
});
