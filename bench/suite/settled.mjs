// Who need not be measured in every round, as his place is known. A run has its time for those that are close to each other.
import { entriesOf } from "./statistics.mjs";

/** Rounds in which everything is measured, how much slower than the fastest rival is out of the question, and how often that is measured after them. */
const FIRST_ROUNDS = 3;
const OUT_OF_THE_QUESTION = 2;
const SELDOM = 3;

/**
 * Rivals that in each of the rounds so far failed, or took over twice the time of the fastest rival of the round: a function of cell, subject and build.
 * The first rounds have them all, and so has every third one.
 */
export function settledIn(round, samples, { subjects, cells }) {
  if (round < FIRST_ROUNDS || round % SELDOM === 0) return () => false;
  const isRival = new Set(subjects.filter(({ kind }) => kind === "rival").map(({ id }) => id));
  const settled = new Set();
  for (const { id } of cells) {
    const entries = entriesOf(samples.filter((sample) => sample.cell === id && isRival.has(sample.subject)));
    for (const build of ["merged", "cross"]) {
      const alike = entries.filter((entry) => entry.build === build);
      const best = (at) => Math.min(...alike.map(({ values }) => values[at] ?? Infinity));
      for (const { subject, values } of alike)
        if (values.every((value, at) => !(value <= OUT_OF_THE_QUESTION * best(at)))) settled.add(`${id} ${subject} ${build}`);
    }
  }
  return (cell, subject, build) => settled.has(`${cell} ${subject} ${build}`);
}
