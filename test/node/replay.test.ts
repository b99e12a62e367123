import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeTrace } from "../../src/trace/encode.js";
import { decodeTrace, EXIT, type Trace } from "../../src/trace/format.js";
import { deal, layOut, resetRound, RUN_LENGTH, workerRecord, writePlan } from "../../src/trace/plan.js";
import * as L from "../../src/trace/replay-layout.js";
import { describeFailure, unexplained } from "../../src/trace/report.js";
import { programs } from "../support/traces.js";

const dist = new URL("../../dist/", import.meta.url);
const traceOf = (events: Parameters<typeof encodeTrace>[0]): Trace => decodeTrace(encodeTrace(events, "test"));

describe("dealing", () => {
  test("threads are folded, and a single thread is dealt out in runs", () => {
    const one = traceOf(Array.from({ length: 3500 }, () => ({ op: 0, thread: 0, object: 0, size: 1, alignment: 0 })));
    const dealt = deal(one, 3);
    for (let i = 0; i < one.events; ++i) expect(dealt.workerOf[i]).toBe(Math.floor(i / RUN_LENGTH) % 3);
    const many = traceOf(Array.from({ length: 50 }, (_, i) => ({ op: 0, thread: i % 5, object: 0, size: 1, alignment: 0 })));
    const folded = deal(many, 2);
    for (let i = 0; i < many.events; ++i) expect(folded.workerOf[i]).toBe((i % 5) % 2);
  });

  test("an event waits exactly where its object comes from another worker", () => {
    fc.assert(
      fc.property(programs(6), fc.integer({ min: 1, max: 9 }), (events, workers) => {
        const trace = traceOf(events);
        const dealt = deal(trace, workers);
        const last = new Map<number, number>();
        const counts = new Array<number>(workers).fill(0);
        for (let i = 0; i < trace.events; ++i) {
          ++counts[dealt.workerOf[i]!]!;
          if (trace.ops[i] === EXIT) continue;
          const previous = last.get(trace.objectOf[i]!);
          const crosses = previous !== undefined && dealt.workerOf[previous] !== dealt.workerOf[i];
          expect(dealt.after[i]).toBe(crosses ? previous + 1 : 0);
          if (previous !== undefined) expect(dealt.handsOver[previous]).toBe(crosses ? 1 : 0);
          last.set(trace.objectOf[i]!, i);
        }
        expect(dealt.counts).toEqual(counts);
      }),
    );
  });
});

/** A heap of its own for one thread, in JavaScript, with a fault to be found. */
function faultyHeap(memory: WebAssembly.Memory, base: number, fault: string) {
  let top = base + 65536;
  const sizes = new Map<number, number>();
  const bytes = () => new Uint8Array(memory.buffer);
  const memalign = (alignment: number, size: number): number => {
    if (fault === "no memory") return 0;
    const at = Math.ceil(top / Math.max(16, alignment)) * Math.max(16, alignment);
    top = at + size + 16;
    if (fault === "overlap") top = at + Math.max(16, Math.floor(size / 32) * 16);
    const block = fault === "misaligned" ? at + 8 : fault === "outside" ? 2 ** 31 - 16 : at;
    sizes.set(block, size);
    return block;
  };
  return {
    malloc: (size: number) => memalign(16, size),
    memalign,
    calloc: (count: number, size: number) => {
      const block = memalign(16, count * size);
      bytes().fill(fault === "dirty" ? 1 : 0, block, block + count * size);
      return block;
    },
    realloc: (block: number, size: number) => {
      const moved = memalign(16, size);
      const kept = Math.min(sizes.get(block)!, size);
      bytes().copyWithin(moved, block, block + kept - (fault === "short copy" ? 1 : 0));
      return moved;
    },
    free: () => undefined,
    nodeOf: () => 0,
  };
}

/** Runs a trace on one worker in this thread over the heap with `fault`; the failures in words. */
function failuresWith(fault: string, trace: Trace): string[] {
  const area = layOut(trace, 1, 65536);
  const memory = new WebAssembly.Memory({ initial: area.end / 65536 + 64, maximum: 65536, shared: true });
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  writePlan(buffer, area, trace, deal(trace, 1), L.FLAG_VERIFY);
  resetRound(buffer, area, 1, 0);
  const module = new WebAssembly.Module(readFileSync(new URL("replay.wasm", dist)));
  const heap = faultyHeap(memory, area.end, fault);
  const { exports } = new WebAssembly.Instance(module, { env: { memory }, heap, host: { now: () => 0 } });
  const { run, freeRest } = exports as { run(c: number, w: number): number; freeRest(c: number, w: number, part: number): void };
  const record = workerRecord(area, 0);
  expect(run(area.control, record)).toBe(1);
  freeRest(area.control, record, 0);
  const words = new Uint32Array(buffer);
  const count = words[(record + L.WORKER_FAILURES) >> 2]!;
  return Array.from({ length: Math.min(count, L.FAILURE_SLOTS) }, (_, i) => {
    const at = (record + L.WORKER_FAILURE_SLOTS + i * L.FAILURE_BYTES) >> 2;
    return describeFailure(trace, 0, words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  });
}

describe("the replayer finds a heap's faults", () => {
  const event = (op: number, object: number, size: number, alignment = 0) => ({ op, thread: 0, object, size, alignment });
  const trace = traceOf([
    ...[event(0, 0, 100), event(1, 1, 77), event(2, 2, 64, 6), event(0, 3, 1000), event(3, 0, 333), event(0, 4, 0), event(0, 5, 9)],
    ...[event(3, 3, 40), event(4, 1, 0), event(4, 0, 0)],
  ]);
  test.each([
    ["none", undefined],
    ["no memory", /no memory for 100 bytes/],
    ["misaligned", /is not aligned to 16/],
    ["outside", /is not inside the heap/],
    ["dirty", /byte 0 of .* is not zero/],
    ["overlap", /is damaged at byte \d+ when/],
    ["short copy", /has lost byte \d+ by realloc/],
  ])("%s", (fault, words) => {
    const failures = failuresWith(fault, trace);
    if (words) expect(failures.join("\n")).toMatch(words);
    else expect(failures).toEqual([]);
  });
});

test("a kill explains one block, and the right one", () => {
  const call = (op: number, block: number, size: number) => ({ op, event: 0, block, size });
  const lost = [
    { ptr: 0x1000, size: 64 },
    { ptr: 0x2000, size: 112 },
  ];
  expect(unexplained(lost, [call(4, 0x1000, 0), call(0, 0, 100)])).toEqual([]);
  expect(unexplained(lost, [call(4, 0x1000, 0)])).toEqual([lost[1]]);
  expect(unexplained(lost, [call(4, 0x3000, 0), call(0, 0, 60)])).toEqual([lost[0]]);
  expect(unexplained(lost, [call(0, 0, 2 ** 20)])).toEqual([...lost].reverse());
});

describe("on real threads", () => {
  interface Package {
    replayTrace: typeof import("../../src/trace/replay.js").replayTrace;
  }
  // The compiled package: workers are started from files beside it.
  const load = async (): Promise<Package> => (await import(/* @vite-ignore */ new URL("trace/replay.js", dist).href)) as Package;
  const file = (name: string): Promise<Trace> =>
    import("../../src/trace/file.js").then(({ readTrace }) =>
      readTrace(new URL(`../../bench/traces/${name}.trace.gz`, import.meta.url).pathname),
    );

  test("one worker's peak is the trace's, to the byte", async () => {
    const trace = await file("lua-mix");
    const { result } = await (await load()).replayTrace(trace, { threads: 1, nodes: 1 });
    expect(result).toMatchObject({ peakLiveBytes: trace.peakLiveBytes, failures: [], walk: "ok", leakedBytes: 0, unaccountedBlocks: 0 });
    expect(result.localAllocations + result.remoteAllocations).toBe(trace.objects);
  });

  test("random programs on random crews", async () => {
    const { replayTrace } = await load();
    const crews = fc.record({
      threads: fc.integer({ min: 1, max: 4 }),
      nodes: fc.integer({ min: 1, max: 4 }),
      storm: fc.constantFrom(0, 2000),
    });
    await fc.assert(
      fc.asyncProperty(programs(5, 3000), crews, async (events, crew) => {
        const { result } = await replayTrace(traceOf(events), crew);
        expect(result).toMatchObject({
          failures: [],
          walk: "ok",
          leakedBytes: 0,
          unaccountedBlocks: 0,
          skippedEvents: 0,
          events: events.length,
        });
      }),
      { numRuns: 10 },
    );
  });

  test("kills and a storm lose nothing they may not lose", async () => {
    const trace = await file("git-repack");
    const { result } = await (await load()).replayTrace(trace, { threads: 4, nodes: 4, kill: 8, storm: 500, seed: 11 });
    expect(result).toMatchObject({ failures: [], walk: "ok", leakedBytes: 0, killed: 8 });
    expect(result.unaccountedBlocks).toBeLessThanOrEqual(8);
  });

  test("memory that runs out is told, and nothing is lost", async () => {
    const { result } = await (await load()).replayTrace(await file("lua-mix"), { threads: 2, nodes: 2, maxMemory: 2 * 2 ** 20 });
    expect(result.failures.join("\n")).toMatch(/no memory/);
    expect(result).toMatchObject({ walk: "ok", leakedBytes: 0, unaccountedBlocks: 0 });
    expect(result.peakCommittedBytes).toBeLessThanOrEqual(2 * 2 ** 20);
  });
});
