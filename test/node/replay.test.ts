import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeTrace } from "../../src/trace/encode.js";
import { watch } from "../../src/trace/crew.js";
import { decodeTrace, EXIT, MALLOC, REALLOC, type Trace } from "../../src/trace/format.js";
import { deal, layOut, resetRound, RUN_LENGTH, workerRecord, writePlan } from "../../src/trace/plan.js";
import * as L from "../../src/trace/replay-layout.js";
import { describeFailure, unexplained } from "../../src/trace/report.js";
import { drawRange } from "../../src/trace/storm-range.js";
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
  writePlan(buffer, area, trace, deal(trace, 1), { heapBase: area.end, flags: L.FLAG_VERIFY });
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

test("a crew that does not move is given up, and who is stuck is told", async () => {
  const still = watch(
    new Promise<never>(() => undefined),
    () => 7,
    () => "worker 3",
    40,
  );
  await expect(still).rejects.toMatchObject({ code: "NUMAHEAP_REPLAY_HUNG", message: expect.stringContaining("worker 3") as string });
  let moves = 0;
  const slow = new Promise((resolve) => setTimeout(() => resolve("done"), 200));
  expect(
    await watch(
      slow,
      () => ++moves,
      () => "",
      40,
    ),
  ).toBe("done");
});

describe("ranges of a storm", () => {
  /** A heap of 4,000 pages from 8 on, of which those that `used` says are in use; ranges drawn, and how many pages of each are in use. */
  function draw(used: (page: number) => boolean): { first: number; pages: number; inUse: number }[] {
    let state = 1;
    const random = (): number => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff;
    const all = Array.from({ length: 4000 }, (_, i) => 8 + i).filter(used);
    const inUse = (first: number, pages: number): number => all.filter((page) => page >= first && page < first + pages).length;
    const heap = { base: 8, committed: 4000, usedPage: () => all[Math.floor(random() * all.length)]!, inUse };
    return Array.from({ length: 2000 }, () => drawRange(heap, random)).map((range) => ({
      ...range,
      inUse: inUse(range.first, range.pages),
    }));
  }

  test("are log-uniform from a page to a quarter", () => {
    const ranges = draw((page) => page % 5 !== 0);
    const octaves = new Array<number>(10).fill(0);
    for (const { first, pages } of ranges) {
      expect(pages).toBeLessThanOrEqual(1000);
      expect(first).toBeGreaterThanOrEqual(8);
      expect(first + pages).toBeLessThanOrEqual(4008);
      ++octaves[Math.floor(Math.log2(pages))]!;
    }
    for (const count of octaves) expect(Math.abs(count - 200)).toBeLessThan(70);
  });

  test.each([
    ["full", () => true],
    ["one block here and there", (page: number) => page % 97 === 0],
    ["one block at the end", (page: number) => page === 4007],
    ["a full half", (page: number) => page < 2000],
  ])("have half of their pages in use: %s", (_, used) => {
    for (const { pages, inUse } of draw(used)) expect(inUse * 2).toBeGreaterThanOrEqual(pages);
  });
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

  test("the peak of live bytes is exact on several workers too", async () => {
    // Every event waits for the one before it, so that there is one order only.
    const sizes = [10, 500, 900, 100, 1500, 20];
    const events = sizes.map((size, i) => ({ op: i === 0 ? MALLOC : REALLOC, thread: i % 3, object: 0, size, alignment: 0 }));
    const { result } = await (await load()).replayTrace(traceOf(events), { threads: 3 });
    expect(result).toMatchObject({ peakLiveBytes: 1500, failures: [], walk: "ok" });
  });

  test("a realloc that is cut off leaves the old block or the new", async () => {
    const moves = [50, 50_000, 900, 200_000, 3000, 130_000, 12_000];
    const events = Array.from({ length: 100_000 }, (_, i) => ({
      op: i < 8 ? MALLOC : REALLOC,
      thread: 0,
      object: i % 8,
      size: moves[(i >> 3) % moves.length]!,
      alignment: 0,
    }));
    const { result } = await (await load()).replayTrace(traceOf(events), { threads: 2, kill: 40 });
    expect(result).toMatchObject({ failures: [], walk: "ok", leakedBytes: 0, killed: 40 });
    expect(result.unaccountedBlocks).toBeLessThanOrEqual(40);
  });

  test.each([0, 1, 3, 300])("a trace of %i events sees all its kills", async (count) => {
    const events = Array.from({ length: count }, (_, i) => ({ op: MALLOC, thread: 0, object: i, size: 8, alignment: 0 }));
    const { result } = await (await load()).replayTrace(traceOf(events), { threads: 2, kill: 3, storm: 1000 });
    expect(result).toMatchObject({ failures: [], walk: "ok", leakedBytes: 0, killed: 3 });
  });

  test("workers that cannot attach are told of, and none is left behind", async () => {
    const { result } = await (await load()).replayTrace(await file("lua-mix"), { threads: 64, maxMemory: 65536, kill: 2 });
    expect(result.failures.join("\n")).toMatch(/worker \d+ cannot attach to the heap: no memory is left/);
    expect(result.walk).toEqual([]);
  });

  test("memory that runs out is told, and nothing is lost", async () => {
    const { result } = await (await load()).replayTrace(await file("lua-mix"), { threads: 2, nodes: 2, maxMemory: 2 * 2 ** 20 });
    expect(result.failures.join("\n")).toMatch(/no memory/);
    expect(result).toMatchObject({ walk: "ok", leakedBytes: 0, unaccountedBlocks: 0 });
    expect(result.peakCommittedBytes).toBeLessThanOrEqual(2 * 2 ** 20);
  });
});
