// What the benchmark makes of its samples.
import { expect, test } from "vitest";
// @ts-expect-error -- plain JavaScript
import { cellsWanted, planOf } from "../../bench/suite/plan.mjs";
// @ts-expect-error -- plain JavaScript
import { lacking } from "../../bench/suite/report.mjs";
// @ts-expect-error -- plain JavaScript
import { settledIn } from "../../bench/suite/settled.mjs";
// @ts-expect-error -- plain JavaScript
import { cellsOf, footprintOf, partsMeasured, RATES } from "../../bench/suite/statistics.mjs";

interface Sample {
  cell: string;
  subject: string;
  build: string;
  round: number;
  part?: string;
  value?: number | undefined;
  crowded?: boolean;
  error?: string | undefined;
  committed?: number;
  peakLiveBytes?: number;
}

const subjects = [
  { id: "numaheap", title: "numaheap", kind: "numaheap", lacks: [], modules: { merged: "m" } },
  { id: "lists", title: "bare free lists", kind: "floor", lists: true, modules: { merged: "m" } },
  { id: "fast", title: "Fast", kind: "rival", lacks: [], from: "npm", threads: "one", modules: { merged: "m" } },
  { id: "slow", title: "Slow", kind: "rival", lacks: [], from: "npm", threads: "one", modules: {} },
  { id: "slow-mt", title: "Slow, threads", kind: "rival", lacks: [], from: "debian", threads: "many", modules: { merged: "m" } },
];
const of = (subject: string, values: (number | undefined)[], rest: Partial<Sample> = {}): Sample[] =>
  values.map((value, round) => ({ cell: "a1", subject, build: "merged", round, value, ...rest }));
const settings = (only: string[], rounds: number, traces: string[] = []) => ({
  subjects,
  cells: cellsWanted(only),
  rounds,
  cores: 2,
  traces,
});

test("ratios are of what was measured in one round, and the best rival is the one with the least median", () => {
  const samples = [
    ...of("numaheap", [10, 20, 30]),
    ...of("lists", [5, 10, 15]),
    ...of("fast", [20, 40, 60]),
    // Not merged, since it cannot be.
    ...of("slow", [100, 100, 100], { build: "cross" }),
  ];
  const [a1] = cellsOf(samples, settings(["a1"], 3));
  expect(a1).toMatchObject({
    cell: "a1",
    threads: 1,
    unit: "ns/pair",
    numaheap: 20,
    floor: 10,
    bestRival: "fast",
    bestRivalRatio: 0.5,
    floorRatio: 2,
  });
  expect(a1.rivals).toEqual({ fast: 40, slow: 100 });
  expect(a1.spread.numaheap.median).toBe(20);
  expect(a1.spread.numaheap.p10).toBeLessThan(20);
  expect(a1.spread.numaheap.p90).toBeGreaterThan(20);
});

test("a round in which threads took turns does not count, unless there is no other", () => {
  const crowded = { value: 1, crowded: true };
  const samples = [...of("numaheap", [10, 10, 10]), ...of("fast", [50, 50, 50])];
  Object.assign(samples[1]!, crowded);
  expect(cellsOf(samples, settings(["a1"], 3))[0]).toMatchObject({ numaheap: 10, bestRivalRatio: 0.2 });
  for (const sample of samples.slice(0, 3)) Object.assign(sample, crowded);
  expect(cellsOf(samples, settings(["a1"], 3))[0]).toMatchObject({ numaheap: 1, crowded: 1 });
});

test("several traces make one figure, their geometric mean", () => {
  const traces = ["x", "y"];
  const run = (subject: string, x: (number | undefined)[], y: (number | undefined)[]): Sample[] => [
    ...of(subject, x, { cell: "n1", part: "x", committed: 10 * 2 ** 20, peakLiveBytes: 8 * 2 ** 20 }),
    ...of(subject, y, { cell: "n1", part: "y", committed: 3, peakLiveBytes: 1 }),
  ];
  const samples = [...run("numaheap", [2, 2], [8, 8]), ...run("fast", [1, 1], [16, 16])];
  const [n1] = cellsOf(samples, settings(["n1"], 2, traces));
  expect(n1).toMatchObject({ numaheap: 4, bestRival: "fast", bestRivalRatio: 1 });
  const parts = partsMeasured(samples, cellsWanted(["n1"]));
  expect(parts.find((each: Sample) => each.part === "y" && each.subject === "numaheap")).toMatchObject({ median: 8, committed: 3 });
  // Only what lives above 4 MiB.
  expect(footprintOf(parts)).toContainEqual({ cell: "n1", subject: "numaheap", ratio: 1.25, most: 1.25 });
});

test("who does not get through a trace is compared over the others, and that is said", () => {
  const run = (subject: string, x: number[], y: (number | undefined)[]): Sample[] => [
    ...of(subject, x, { cell: "n1", part: "x" }),
    ...of(subject, y, { cell: "n1", part: "y", error: y.includes(undefined) ? "no memory" : undefined }),
  ];
  const samples = [...run("numaheap", [2, 2], [8, 8]), ...run("fast", [4, 4], [1, undefined])];
  const [n1] = cellsOf(samples, settings(["n1"], 2, ["x", "y"]));
  expect(n1).toMatchObject({
    numaheap: 4,
    rivals: { fast: 4 },
    bestRivalRatio: 0.5,
    failed: { fast: ["y"] },
    errors: { fast: "no memory" },
  });
});

test("who is far behind in the first rounds is measured no more, nor a trace that somebody does not get through", () => {
  const values = { numaheap: 1, fast: 10, slow: 16 };
  const samples = Object.entries(values).flatMap(([subject, value]) => of(subject, [value, value]));
  const { cells } = settings(["a1", "n1"], 9);
  const isSettled = (round: number, subject: string, of = samples) => settledIn(round, of, { subjects, cells })("a1", subject, "merged");
  expect(["numaheap", "fast", "slow"].map((subject) => isSettled(2, subject))).toEqual([false, false, true]);
  expect(isSettled(1, "slow")).toBe(false);
  // Once near enough, it stays.
  const near = samples.map((sample) => (sample.subject === "slow" && sample.round === 1 ? { ...sample, value: 14 } : sample));
  expect(isSettled(2, "slow", near)).toBe(false);
  const failing = ["x", "y"].flatMap((part) => of("fast", [part === "x" ? 1 : undefined], { cell: "n1", part }));
  const left = settledIn(1, failing, { subjects, cells });
  expect(["x", "y"].map((part) => left("n1", "fast", "merged", part))).toEqual([false, true]);
  const started = Object.entries(values).flatMap(([subject, value]) => of(subject, [value, value], { cell: "o1" }));
  const starts = settledIn(2, started, settings(["o1"], 9));
  expect(starts("o1", "slow", "merged", undefined)).toBe(false);
});

test("threads together are compared with one, in the same round", () => {
  const samples = [...of("numaheap", [10, 20]), ...of("numaheap", [20, 40], { cell: "a2" }), ...of("fast", [50, 50], { cell: "a2" })];
  const [a1, a2] = cellsOf(samples, settings(["a1", "a2"], 2));
  expect(a1.scaling).toBeUndefined();
  expect(a2.scaling.median).toBe(1); // two threads, each half as fast
});

test("changes of the topology are compared with fewer of them", () => {
  const rate = (part: number, value: number): Sample => ({
    cell: "r2",
    subject: "numaheap",
    build: "merged",
    round: 0,
    part: part as never,
    value,
  });
  const [r2] = cellsOf([rate(1000, 30), rate(10, 21), rate(0, 20)], { ...settings(["r2"], 1), subjects: [...subjects, ...RATES] });
  expect(r2).toMatchObject({ numaheap: 30, rivals: { "changes-0": 20, "changes-10": 21 }, bestRivalRatio: 1.5 });
});

test("what could not be measured is said, and a run that lacks a cell or an npm rival is told apart", () => {
  const samples = [...of("numaheap", [1]), ...of("fast", [undefined], { error: "trap" }), ...of("slow", [3], { build: "cross" })];
  const cells = cellsOf(samples, settings(["a1", "b1"], 1));
  expect(cells[0].errors).toEqual({ fast: "trap" });
  expect(
    lacking(cells, {
      subjects,
      missing: [
        { id: "gone", from: "npm" },
        { id: "other", from: "debian" },
      ],
    }),
  ).toEqual(["cell b1", "rival fast", "rival gone"]);
});

test("a round has every allocator once a cell, in an order that turns", () => {
  const order = (round: number) =>
    planOf(round, { subjects, cells: cellsWanted(["i1"]), cores: 2, warmUpMs: 1, ms: 1, traces: [] }).map(
      (task: { subject: { id: string } }) => task.subject.id,
    );
  expect(order(0)).toEqual(["numaheap", "fast", "slow"]);
  expect(order(1)).toEqual(["numaheap", "slow", "fast"]);
  expect(order(2)).toEqual(["slow", "numaheap", "fast"]);
  const two = planOf(0, { subjects, cells: cellsWanted(["i2"]), cores: 1, warmUpMs: 1, ms: 1, traces: [] });
  expect(two.map(({ subject, alone }: { subject: { id: string }; alone: boolean }) => [subject.id, alone])).toEqual([
    ["numaheap", false],
    ["slow-mt", false],
  ]);
  expect(() => cellsWanted(["zz"])).toThrow("--only zz");
});

test("programs are replayed on one thread or on their own: one that had a single thread is not dealt out", () => {
  const replayed = (cell: string) =>
    planOf(0, {
      subjects: subjects.slice(0, 1),
      cells: cellsWanted([cell]),
      cores: 2,
      warmUpMs: 1,
      ms: 1,
      traces: ["lua-mix", "redis"],
    }).map(({ part }: { part: string }) => part);
  expect(replayed("n1")).toEqual(["lua-mix", "redis"]);
  expect(replayed("n2")).toEqual(["redis"]);
});
