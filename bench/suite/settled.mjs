// Who need not be measured any more, as his place is known. A run has its time for those that are close to each other.
import { entriesOf } from "./statistics.mjs";

/** Rounds in which everything is measured; one of a cell that is a mean of many programs. */
const FIRST_ROUNDS = 2;
const FIRST_ROUNDS_OF_TRACES = 1;
/** How much slower than the fastest rival is out of the question. */
const OUT_OF_THE_QUESTION = 1.5;

/**
 * What a round leaves out: a function of cell, subject, build and part. Rivals that in each of the rounds so far took half as long again as the
 * fastest rival of the round, or failed; and of the others, parts that they failed in.
 */
export function settledIn(round, samples, { subjects, cells }) {
  const isRival = new Set(subjects.filter(({ kind }) => kind === "rival").map(({ id }) => id));
  const settled = new Set();
  for (const { cell, id } of cells) {
    // A start is short, and what it takes varies too much for its place to be known.
    if (cell.coldStart || round < (cell.traces ? FIRST_ROUNDS_OF_TRACES : FIRST_ROUNDS)) continue;
    const entries = entriesOf(samples.filter((sample) => sample.cell === id && isRival.has(sample.subject)));
    for (const { subject, build, values, failed } of entries) {
      const alike = entries.filter((entry) => entry.build === build);
      const best = (at) => Math.min(...alike.map((entry) => entry.values[at] ?? Infinity));
      if (values.every((value, at) => !(value <= OUT_OF_THE_QUESTION * best(at)))) settled.add([id, subject, build].join());
      for (const part of failed) settled.add([id, subject, build, part].join());
    }
  }
  return (cell, subject, build, part) => settled.has([cell, subject, build].join()) || settled.has([cell, subject, build, part].join());
}
