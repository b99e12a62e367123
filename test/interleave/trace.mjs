// A schedule in words that do not depend on what the search has learned: who ran, past how many accesses, and who died.
//
//   "0:12 1:3 x0 2:40"   thread 0 until it comes to its 12th access, thread 1 to its 3rd, death of 0, thread 2 to its 40th
//
// A thread that blocks or comes to the end of a call stops there in any case.

import { Kind, kindNames } from "./linear.mjs";
import { Status } from "./thread.mjs";

export const formatTrace = (steps) =>
  merge(steps)
    .map(({ thread, count, killed }) => (killed === undefined ? `${thread}:${count}` : `x${killed}`))
    .join(" ");

export const parseTrace = (text) =>
  text
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      const m = /^(?:x(\d+)|(\d+):(\d+))$/.exec(word);
      if (!m) throw new Error(`not a step of a schedule: ${word}`);
      return m[1] === undefined ? { thread: Number(m[2]), count: Number(m[3]) } : { killed: Number(m[1]) };
    });

/** Steps of one thread in a row, none of which ended by itself, are one. */
function merge(steps) {
  const out = [];
  for (const step of steps) {
    const last = out.at(-1);
    if (last && last.killed === undefined && step.thread === last.thread && !last.ended)
      out[out.length - 1] = { ...step, count: last.count + step.count };
    else out.push(step);
  }
  return out;
}

/** Runs a schedule. Returns { outcome, lines }: what failed (or null), and what happened, a line a step. */
export function replay(machine, steps, nameOf = (address) => `@${address}`) {
  const lines = [];
  const { onAccess } = machine;
  machine.reset();
  let left = 0;
  machine.choose = null;
  machine.onMayDie = null;
  machine.stopsAt = () => --left <= 0;
  for (const step of steps) {
    if (machine.outcome) break;
    const id = step.killed ?? step.thread;
    const thread = machine.threads[id];
    if (!thread) {
      machine.outcome = `the schedule does not fit: there is no thread ${id}`;
      break;
    }
    if (step.killed !== undefined) {
      machine.kill(thread);
      lines.push(`x${thread.id} dies`);
      continue;
    }
    if (!thread.isRunnable && !(thread.status === Status.Blocked && thread.timed)) {
      machine.outcome = `the schedule does not fit: thread ${thread.id} cannot run`;
      break;
    }
    left = step.count;
    const first = describe(machine, thread, nameOf);
    let accesses = 0;
    machine.onAccess = () => void ++accesses;
    machine.run(thread);
    lines.push(`T${thread.id} ${first}, ${accesses} accesses${machine.outcome ? `, ${machine.outcome}` : ""}`);
  }
  machine.stopsAt = null;
  machine.onAccess = onAccess;
  if (!machine.outcome && machine.runnable().length === 0) machine.outcome = machine.verdict();
  lines.push(`=> ${machine.outcome ?? (machine.runnable().length ? "some threads could still run" : "ok")}`);
  return { outcome: machine.outcome, lines };
}

/** What a thread is about to do. */
export function describe(machine, thread, nameOf) {
  const { op } = thread;
  if (op.kind === Kind.Call) return `calls ${thread.upcoming()?.join(" ") ?? "nothing"}`;
  const { fn, what } = machine.built.points[op.point];
  const value = op.size === 4 || op.size === 8 ? ` (was ${machine.view.getUint32(op.address & ~3, true)})` : "";
  return `${kindNames[op.kind] === "Wake" ? "woken at" : what} ${op.size ? nameOf(op.address, machine) : ""}${value} in ${fn}`;
}
