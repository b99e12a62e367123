// What a round measures, and in which order: cell by cell, and within a cell allocator after allocator, the other way round and beginning
// elsewhere in the next round, so that whatever else the machine does falls on all of them.
import { CELLS } from "./cells.mjs";
import { threadsOf, TRACES } from "./traces.mjs";

/** Cells that are measured called across modules, too; in the others whatever can be merged is merged. */
const CROSS = "abcs";

/** Cells in which nothing lives until the bump pointer comes round. */
const BUMP = "ab";

/** Rivals for one thread where they have a build of their own for it, and for many threads, or where threads end, only those that stand it. */
function serves(subject, cell, threads, subjects) {
  if (subject.kind !== "rival") return true;
  if (threads > 1 || cell.generation) return subject.threads === "many";
  return subject.threads === "one" || !subjects.some(({ id, threads: many }) => many === "one" && subject.id.startsWith(id));
}

function measured(cell, subject, threads, subjects) {
  if (cell.alone || subject.nodeBlind) return subject.id === "numaheap" || (subject.nodeBlind && cell.alone === "nodeBlind");
  if (subject.kind === "floor") return cell.floor === true && (subject.lists || BUMP.includes(cell.letter));
  if (subject.script && !cell.fromJavaScript) return false;
  if (!serves(subject, cell, threads, subjects)) return false;
  return (cell.needs ?? []).every((name) => !subject.lacks.includes(name));
}

/** What a call costs is to be seen with one thread. */
const buildsOf = (cell, subject, threads) => {
  if (cell.fromJavaScript || cell.coldStart || !subject.modules.merged) return ["cross"];
  return CROSS.includes(cell.letter) && threads === 1 ? ["merged", "cross"] : ["merged"];
};

/** Every other round in reverse, and each round beginning one further on. */
function turned(list, round) {
  const from = round % Math.max(1, list.length);
  const rotated = [...list.slice(from), ...list.slice(0, from)];
  return round & 1 ? rotated.reverse() : rotated;
}

/** Cells as `only` names them: letters, or letters with a count of threads. All of at most so many threads, without it. */
export function cellsWanted(only, mostThreads = Infinity) {
  const all = CELLS.flatMap((cell) => cell.threads.map((threads) => ({ cell, threads, id: `${cell.letter}${threads}` })));
  const wanted = all.filter(({ threads }) => threads <= mostThreads);
  if (!only) return wanted;
  const known = new Set(all.flatMap(({ cell, id }) => [cell.letter, id]));
  for (const name of only)
    if (!known.has(name)) throw new RangeError(`--only ${name}: there is no such cell; they are ${all.map(({ id }) => id).join(" ")}`);
  return all.filter(({ cell, id }) => only.includes(cell.letter) || only.includes(id));
}

/** What a cell is measured with, one after the other. On several threads, programs that had several. */
function partsOf(cell, threads, traces) {
  if (!cell.traces) return cell.parts ?? [undefined];
  return threads === 1 ? traces : traces.filter((name) => threadsOf(name) > 1);
}

/** Tasks of one round for bench/suite/runner.mjs, without what `isSettled` names: by cell, subject, build and part. */
export function planOf(round, { subjects, cells, cores, warmUpMs, ms, traces = TRACES, isSettled = () => false }) {
  const tasks = [];
  for (const { cell, threads, id } of cells) {
    const entries = subjects
      .filter((subject) => measured(cell, subject, threads, subjects))
      .flatMap((subject) => buildsOf(cell, subject, threads).map((build) => ({ subject, build })));
    const common = { cell: id, threads, alone: threads <= cores, warmUpMs, ms };
    const is = cell.traces ? "replay" : cell.coldStart ? "coldStart" : "measure";
    for (const part of partsOf(cell, threads, traces)) {
      for (const { subject, build } of turned(entries, round)) {
        if (isSettled(id, subject.id, build, part)) continue;
        tasks.push({ ...common, id: tasks.length, is, part, subject, build });
      }
    }
  }
  const ours = subjects.find(({ id }) => id === "numaheap");
  if (cells.some(({ cell }) => cell.letter === "q"))
    tasks.push({ id: tasks.length, is: "numa", cell: "q", threads: 1, subject: ours, build: "cross" });
  return tasks;
}
