// Measures one cell on one thread's stage, in step with the other threads of the cell. Runs in a worker of any engine.
import { REGION_BYTES } from "./cells.mjs";

/** Words of the threads' common SharedArrayBuffer. */
const ARRIVED = 0;
const PHASE = 1;
const PRODUCING = 2;
export const SYNC_BYTES = 64;

const SPINS = 20_000;
/** Milliseconds a thread waits for the others at most. */
const LONGEST_WAIT_MS = 60_000;

/** Until all threads are here. Spins first, so that they go on at the same time. */
export function meet(sync, threads) {
  const phase = Atomics.load(sync, PHASE);
  if (Atomics.add(sync, ARRIVED, 1) === threads - 1) {
    Atomics.store(sync, ARRIVED, 0);
    Atomics.add(sync, PHASE, 1);
    Atomics.notify(sync, PHASE);
    return;
  }
  for (let i = 0; i < SPINS; ++i) if (Atomics.load(sync, PHASE) !== phase) return;
  // Whoever ended the phase before may come to notify only now.
  while (Atomics.load(sync, PHASE) === phase)
    if (Atomics.wait(sync, PHASE, phase, LONGEST_WAIT_MS) === "timed-out") throw new Error("the other threads did not come");
}

/** Milliseconds this thread has waited for a processor, where the system says so: Linux, outside browsers. */
function queued() {
  try {
    const fs = globalThis.process?.getBuiltinModule?.("node:fs");
    return fs ? Number(fs.readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[1]) / 1e6 : undefined;
  } catch {
    return undefined;
  }
}

/** Calls `step(rounds)` for `ms` milliseconds: { done, ms }. A step answers rounds done and milliseconds that do not count. */
function during(ms, chunk, step) {
  const start = performance.now();
  let done = 0;
  let excluded = 0;
  let now = start;
  do {
    const { rounds, aside = 0 } = step(chunk);
    done += rounds;
    excluded += aside;
    now = performance.now();
  } while (now - start < ms);
  return { done, ms: now - start - excluded };
}

/** Milliseconds in which a warm-up ends however things are, parts of it that have to be alike, and how alike. */
const LONGEST_WARM_UP_MS = 200;
const WARM_PARTS = 4;
const WARM = 1.05;

/**
 * Goes on until none of the last parts was faster than those before: an engine compiles anew, in the background, what runs often, and an allocator
 * fills its caches.
 */
function warmUp(ms, chunk, step, least = 0) {
  const start = performance.now();
  let best = Infinity;
  let alike = 0;
  let done = 0;
  while (alike < WARM_PARTS || done < least) {
    const part = during(ms / WARM_PARTS, chunk, step);
    const time = part.ms / part.done;
    done += part.done;
    alike = time * WARM < best ? 0 : alike + 1;
    best = Math.min(best, time);
    if (performance.now() - start > LONGEST_WARM_UP_MS) break;
  }
  return done;
}

/** What one thread does for a cell: step(rounds) → { rounds, aside }. Counts what is wrong in `wrong`. */
function stepOf(cell, stage, part, wrong) {
  const { thread, threads, at, driver } = stage;
  if (cell.fromJavaScript) return stepFromJavaScript(stage, wrong);
  if (cell.roles) {
    const pair = thread >> 1;
    if (thread & 1) return (rounds) => ({ rounds: cell.consume(driver, at, rounds, pair) });
    return (rounds) => ({ rounds: ((wrong.count += cell.produce(driver, at, rounds, pair)), rounds) });
  }
  let steps = 0;
  const change = cell.change && thread === 0 && part > 0 ? changerOf(cell, stage, part) : nothing;
  return (rounds) => {
    change();
    wrong.count += cell.run(stage.driver, at, rounds, threads, thread, part);
    if (!cell.generation || ++steps % cell.generation !== 0) return { rounds };
    // Making an instance is the engine's affair; what the allocator does at the end of a thread and the start of another is not.
    return { rounds, aside: stage.renew() };
  };
}

const nothing = () => {};

/** Makes the changes that are due, `rate` a second; they take the time of the thread that makes them. */
function changerOf(cell, stage, rate) {
  const start = performance.now();
  let made = 0;
  return () => {
    const due = ((performance.now() - start) * rate) / 1000;
    for (; made < due; ++made) if (cell.change(stage, made) !== 0) throw new Error("a change of the topology failed");
  };
}

/**
 * A loop of its own for each allocator, made of text: closures of one function share what an engine has seen at its calls, and one that has seen
 * several callees there no longer knows which it is.
 */
function stepFromJavaScript({ heap, subject, memory }, wrong) {
  const [take, give] = subject.lists ? ["take(1)", "give(block, 1)"] : ["malloc(16)", "free(block)"];
  const body = `const { malloc, free, take, give } = heap;
    return (rounds) => {
      for (let i = 0; i < rounds; ++i) {
        const block = ${take};
        words[block >>> 2] = i;
        if (block === 0) ++wrong.count;
        ${give};
      }
      return { rounds };
    };`;
  const words = new Int32Array(memory.buffer); // all that one block needs is there
  return new Function("heap", "words", "wrong", body)(heap, words, wrong);
}

/** Producers go on for `ms`; consumers until nothing comes any more. */
function duringRoles(ms, chunk, step, stage, sync, go) {
  if (stage.thread & 1) {
    let done = 0;
    for (;;) {
      const producing = Atomics.load(sync, PRODUCING) !== 0;
      const { rounds } = step(chunk);
      done += rounds;
      if (rounds === 0 && !producing) return { done: 0, ms: 0, consumed: done };
    }
  }
  const told = go(ms, chunk, step);
  Atomics.sub(sync, PRODUCING, 1);
  return told;
}

/** @returns { done, ms, queued, wrong, committed, histograms? } of this thread */
export function measure(cell, stage, sync, { part, warmUpMs, ms }) {
  const { thread, threads, at } = stage;
  const wrong = { count: 0 };
  if (!cell.fromJavaScript) {
    stage.driver.seed(at.own, thread + 1);
    meet(sync, threads);
    cell.setUp(stage.driver, at, threads, thread);
  }
  const step = stepOf(cell, stage, part, wrong);
  const phase = (length, go) => {
    meet(sync, threads); // the consumers of the phase before have seen its end
    if (cell.roles && thread === 0) Atomics.store(sync, PRODUCING, threads >> 1);
    meet(sync, threads);
    return cell.roles ? duringRoles(length, cell.chunk, step, stage, sync, go) : go(length, cell.chunk, step, cell.warmUp);
  };
  phase(warmUpMs, warmUp);
  if (cell.timed) new Uint32Array(stage.memory.buffer, at.histograms, 3 * 512).fill(0);
  const before = queued();
  const told = phase(ms, during);
  const after = queued();
  meet(sync, threads);
  if (cell.roles) wrong.count += new Uint32Array(stage.memory.buffer, at.own + 4, 1)[0];
  const committed = stage.memory.buffer.byteLength - REGION_BYTES;
  const histograms = cell.timed ? [...new Uint32Array(stage.memory.buffer, at.histograms, 3 * 512)] : undefined;
  if (!cell.fromJavaScript) cell.tearDown(stage.driver, at, threads);
  stage.end();
  return { ...told, queued: before === undefined ? undefined : after - before, wrong: wrong.count, committed, histograms };
}
