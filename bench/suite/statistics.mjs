// Makes the figures of each cell of what was measured: medians with their spread, and ratios of allocators that were measured in one round.
import { geometricMean, median, quantile } from "simple-statistics";
import { unitOf } from "./cells.mjs";

const FLOOR = "lists";

const byKey = (list, key) =>
  Map.groupBy?.(list, key) ?? list.reduce((map, item) => map.set(key(item), [...(map.get(key(item)) ?? []), item]), new Map());

/** { median, p10, p90, rounds } of numbers, one a round. */
function spreadOf(values) {
  return { median: median(values), p10: quantile(values, 0.1), p90: quantile(values, 0.9), rounds: values.length };
}

/**
 * What a cell's samples say, an entry for each subject and build: one value a round, the geometric mean where a cell has several parts. `parts` are
 * those that the subject got through in each round it was measured in; a round that lacks one of them has no value.
 */
export function entriesOf(samples) {
  return [...byKey(samples, ({ subject, build }) => `${subject} ${build}`).values()].map((own) => {
    const [{ subject, build }] = own;
    const failed = new Set(own.filter(({ value }) => value === undefined).map(({ part }) => part));
    const parts = [...new Set(own.map(({ part }) => part))].filter((part) => !failed.has(part));
    // Threads that took turns on a processor did not get into each other's way: such a round counts only where there is no other.
    const alone = own.filter((sample) => !sample.crowded);
    const rounds = [];
    for (const { round, part, value } of alone.length ? alone : own) (rounds[round] ??= new Map()).set(part, value);
    return {
      subject,
      build,
      rounds,
      parts,
      values: Array.from(rounds, (measured) => meanOf(measured, parts)),
      error: own.find((sample) => sample.error)?.error,
      failed: [...failed],
      crowded: own.filter((sample) => sample.crowded).length / own.length,
    };
  });
}

/** Geometric mean of the parts of a round, undefined if it has not got them all. */
function meanOf(measured, parts) {
  const values = parts.map((part) => measured?.get(part));
  return values.length && values.every((value) => value !== undefined) ? geometricMean(values) : undefined;
}

/** Spread over the rounds of times x a / b, of the parts that both got through. */
function ratio(a, b, times = 1) {
  const parts = a.parts.filter((part) => b.parts.includes(part));
  const ratios = a.rounds.map((measured, round) => (times * meanOf(measured, parts)) / meanOf(b.rounds[round], parts));
  const known = ratios.filter((each) => Number.isFinite(each));
  return known.length ? spreadOf(known) : undefined;
}

/** Rates of topology changes stand against each other as allocators do: numaheap is the one with most of them. */
const byChanges = ({ part: rate, ...sample }) => ({ ...sample, subject: rate === 1000 ? "numaheap" : `changes-${rate}` });
export const RATES = [
  { id: "changes-0", title: "no changes", role: "rival" },
  { id: "changes-10", title: "10 changes a second", role: "rival" },
];

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

/** Throughput of numaheap's threads together over that of one, round by round. A value is a thread's time; of a replay, that of all. */
function scalingOf(alone, together, share) {
  const ours = ({ subject, build }) => subject === "numaheap" && build === "merged";
  const [one, many] = [alone.find(ours), together.find(ours)];
  return one && many && ratio(one, many, share);
}

/**
 * @param samples what runRounds resolves with
 * @returns the cells as `--json` prints them: figures of merged modules, and of called ones under `cross` where both were measured
 */
export function cellsOf(samples, { subjects, cells, cores }) {
  const measured = new Map(
    cells.map(({ cell, id }) => {
      const own = samples.filter((sample) => sample.cell === id);
      return [id, entriesOf(cell.alone === "changes" ? own.map(byChanges) : own)];
    }),
  );
  return cells.map(({ cell, threads, id }) => {
    const entries = measured.get(id);
    const scaling =
      threads > 1 && !cell.alone ? scalingOf(measured.get(`${cell.letter}1`) ?? [], entries, cell.traces ? 1 : threads) : undefined;
    const builds = new Set(entries.map(({ build }) => build));
    const build = builds.has("merged") ? "merged" : "cross";
    const errors = Object.fromEntries(entries.filter(({ error }) => error).map(({ subject, error }) => [subject, error]));
    const failed = Object.fromEntries(
      entries.filter(({ failed, parts }) => failed.length && parts.length).map(({ subject, failed }) => [subject, failed]),
    );
    return {
      cell: id,
      title: cell.title,
      threads,
      processors: cores,
      unit: unitOf(cell),
      build,
      ...figures(entries, subjects, build),
      ...(scaling && { scaling }),
      ...(build === "merged" &&
        entries.filter((entry) => entry.build === "cross").length > 2 && { cross: figures(entries, subjects, "cross") }),
      crowded: Math.max(0, ...entries.map(({ crowded }) => crowded)),
      ...(Object.keys(errors).length > 0 && { errors }),
      ...(Object.keys(failed).length > 0 && { failed }),
    };
  });
}

/** A cell's parts one by one, such as its traces: time of each subject, and most bytes committed. */
export function partsMeasured(samples, cells) {
  const many = new Set(cells.filter(({ cell }) => cell.traces || (cell.parts && !cell.alone)).map(({ id }) => id));
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

/** Of bench/suite/numa.mjs, medians over the rounds. */
export function numaOf(samples) {
  const measured = samples.filter(({ numa }) => numa).map(({ numa }) => numa);
  const of = (figure) => median(measured.map(figure));
  const shares = (which) => ({ allocations: of((each) => each[which].allocations), frees: of((each) => each[which].frees) });
  return measured.length
    ? { told: shares("told"), untold: shares("untold"), rebindNsPerSpan: of((each) => each.rebindNsPerSpan) }
    : undefined;
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
