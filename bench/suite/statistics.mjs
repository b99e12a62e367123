// Makes the figures of each cell of what was measured: medians with their spread, and ratios of allocators that were measured in one round.
import { geometricMean, median, quantile } from "simple-statistics";
import { unitOf } from "./cells.mjs";
import { partsOf } from "./plan.mjs";

const FLOOR = "lists";

const byKey = (list, key) =>
  Map.groupBy?.(list, key) ?? list.reduce((map, item) => map.set(key(item), [...(map.get(key(item)) ?? []), item]), new Map());

/** { median, p10, p90 } of numbers. */
export function spreadOf(values) {
  return { median: median(values), p10: quantile(values, 0.1), p90: quantile(values, 0.9) };
}

/** One number a round of each subject: the geometric mean where a cell has several parts. undefined where a part is missing. */
function valuesOf(samples, rounds, parts) {
  const bySubject = byKey(samples, ({ subject, build }) => `${subject} ${build}`);
  return [...bySubject].map(([name, own]) => {
    const [subject, build] = name.split(" ");
    // Threads that took turns on a processor did not get into each other's way: such a round counts only where there is no other.
    const alone = own.filter((sample) => !sample.crowded);
    const counted = alone.length ? alone : own;
    const values = Array.from({ length: rounds }, (_, round) => {
      const values = counted.filter((sample) => sample.round === round && sample.value !== undefined).map(({ value }) => value);
      return values.length === parts ? geometricMean(values) : undefined;
    });
    const error = own.find((sample) => sample.error)?.error;
    const crowded = own.filter((sample) => sample.crowded).length / own.length;
    return { subject, build, values, error, crowded };
  });
}

/** Median over the rounds of a / b. */
function ratio(a, b) {
  const ratios = a.values.map((value, round) => value / b.values[round]).filter((each) => Number.isFinite(each));
  return ratios.length ? spreadOf(ratios) : undefined;
}

/** Figures of one build of a cell. `ours` may stand against rivals of another build, where they have no other. */
function figures(entries, subjects, build) {
  const pick = (id) =>
    entries.find((entry) => entry.subject === id && entry.build === build) ??
    entries.find((entry) => entry.subject === id && build === "merged");
  const roleOf = new Map(subjects.map(({ id, kind, role = kind }) => [id, role]));
  const known = subjects.map(({ id }) => pick(id)).filter((entry) => entry?.values.some((value) => value !== undefined));
  const summary = (entry) => spreadOf(entry.values.filter((value) => value !== undefined));
  const ours = known.find(({ subject }) => subject === "numaheap");
  const rivals = known.filter(({ subject }) => roleOf.get(subject) === "rival").sort((a, b) => summary(a).median - summary(b).median);
  const floor = known.find(({ subject }) => subject === FLOOR);
  const [best] = rivals;
  const againstBest = ours && best && ratio(ours, best);
  const againstFloor = ours && floor && ratio(ours, floor);
  return {
    numaheap: ours && summary(ours).median,
    floor: floor && summary(floor).median,
    rivals: Object.fromEntries(rivals.map((entry) => [entry.subject, summary(entry).median])),
    bestRival: best?.subject,
    bestRivalRatio: againstBest?.median,
    floorRatio: againstFloor?.median,
    spread: {
      ...Object.fromEntries(known.map((entry) => [entry.subject, summary(entry)])),
      ...(againstBest && { bestRivalRatio: againstBest }),
      ...(againstFloor && { floorRatio: againstFloor }),
    },
  };
}

/**
 * @param samples what runRounds resolves with
 * @returns the cells as `--json` prints them: figures of merged modules, and of called ones under `cross` where both were measured
 */
export function cellsOf(samples, { subjects, cells, rounds, cores, traces }) {
  return cells.map(({ cell, threads, id }) => {
    const own = samples.filter((sample) => sample.cell === id);
    const entries = valuesOf(own, rounds, partsOf(cell, traces).length);
    const builds = new Set(entries.map(({ build }) => build));
    const build = builds.has("merged") ? "merged" : "cross";
    const errors = Object.fromEntries(entries.filter(({ error }) => error).map(({ subject, error }) => [subject, error]));
    return {
      cell: id,
      title: cell.title,
      threads,
      processors: cores,
      unit: unitOf(cell),
      build,
      ...figures(entries, subjects, build),
      ...(build === "merged" &&
        entries.filter((entry) => entry.build === "cross").length > 2 && { cross: figures(entries, subjects, "cross") }),
      crowded: Math.max(0, ...entries.map(({ crowded }) => crowded)),
      ...(Object.keys(errors).length > 0 && { errors }),
    };
  });
}

/** A cell's parts one by one, such as its traces: time of each subject, and most bytes committed. */
export function partsMeasured(samples, cells) {
  const many = new Set(cells.filter(({ cell }) => cell.traces || cell.parts).map(({ id }) => id));
  const measured = samples.filter(({ cell, value }) => many.has(cell) && value !== undefined);
  return [...byKey(measured, ({ cell, part, subject }) => `${cell} ${part} ${subject}`).values()].map((own) => {
    const { cell, part, subject, peakLiveBytes, series } = own.at(-1);
    const committed = median(own.map((sample) => sample.committed));
    return { cell, part, subject, ...spreadOf(own.map(({ value }) => value)), committed, peakLiveBytes, series };
  });
}

/** Geometric mean over the traces of most bytes committed over most bytes live, of each subject, for traces that live above `least` bytes. */
export function footprintOf(parts, least = 4 * 2 ** 20) {
  const large = parts.filter(({ peakLiveBytes }) => peakLiveBytes > least);
  return [...byKey(large, ({ cell, subject }) => `${cell} ${subject}`).values()].map((own) => ({
    cell: own[0].cell,
    subject: own[0].subject,
    ratio: geometricMean(own.map(({ committed, peakLiveBytes }) => committed / peakLiveBytes)),
    most: Math.max(...own.map(({ committed, peakLiveBytes }) => committed / peakLiveBytes)),
  }));
}

/** Of native programs: cell → allocator → nanoseconds a round. */
export function nativeOf(samples) {
  const cells = {};
  for (const [key, own] of byKey(samples, ({ cell, subject }) => `${cell} ${subject}`)) {
    const [cell, subject] = key.split(" ");
    (cells[cell] ??= {})[subject] = median(own.map(({ value }) => value));
  }
  return cells;
}
