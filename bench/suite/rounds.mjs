// Runs the rounds in an engine, and makes one figure of what a task's threads say.
import { cellOf } from "./cells.mjs";
import { planOf } from "./plan.mjs";
import { Server } from "./server.mjs";
import { settledIn } from "./settled.mjs";

const NS = 1e6;
const BUCKETS = 512;

/** Value below which `share` of a histogram's counts lie; its buckets: bench/drivers/cells.c. */
function quantile(counts, share) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (let i = 0; i < counts.length; ++i)
    if ((seen += counts[i]) >= share * total && counts[i]) return (2 ** (i >> 4) * (16 + (i & 15))) / 16;
  return 0;
}

/** p99.9 and most of malloc, free, and the clock alone. */
function worst(threads) {
  const sums = new Array(3 * BUCKETS).fill(0);
  for (const { histograms } of threads) histograms.forEach((count, i) => (sums[i] += count));
  const [malloc, free, control] = [0, 1, 2].map((i) => sums.slice(i * BUCKETS, (i + 1) * BUCKETS));
  const of = (counts) => ({ p50: quantile(counts, 0.5), p999: quantile(counts, 0.999), max: quantile(counts, 1) });
  return { malloc: of(malloc), free: of(free), control: of(control) };
}

/** { value, ... } of a task by what its threads say. Values are times: less is better. */
function figureOf(task, threads) {
  const committed = Math.max(...threads.map(({ committed = 0 }) => committed));
  const wrong = threads.reduce((sum, each) => sum + each.wrong, 0);
  if (wrong)
    return {
      error: task.is === "replay" ? "a block was not to be had, or not what it should be" : `${wrong} blocks were not what they should be`,
    };
  if (task.is === "numa") return { numa: threads[0] };
  if (task.is === "coldStart") return { value: threads[0].ms * 1000 };
  if (task.is === "replay") {
    const { series, events, peakLiveBytes } = threads[0];
    return { value: (Math.max(...threads.map(({ ms }) => ms)) * NS) / events, committed, series, peakLiveBytes };
  }
  if (cellOf(task.cell).timed) {
    const times = worst(threads);
    return { value: Math.max(times.malloc.p999, times.free.p999) - times.control.p999, times };
  }
  const working = threads.filter(({ done }) => done > 0);
  const rate = working.reduce((sum, { done, ms }) => sum + done / ms, 0);
  return { value: (working.length / rate) * NS, committed };
}

/** Tasks whose threads waited for a processor are measured again by the engine's runner; those that never were alone say so. */
const crowded = (task, threads) => task.alone && threads.some(({ queued, ms }) => queued !== undefined && ms > 0 && queued / ms > 0.02);

/**
 * @param options engine, subjects, cells, rounds, cores, warmUpMs, ms, afterRound
 * @param onTask told of each task that is done: (round, number of tasks done, of how many, task)
 * @returns one entry a task and round: { cell, subject, build, part, round, value, error, crowded, committed, ... }
 */
export async function runRounds(options, onTask = () => {}) {
  const server = new Server();
  await server.listen();
  const offered = options.subjects.map((subject) => server.offer(subject));
  const samples = [];
  try {
    for (let round = 0; round < options.rounds; ++round) {
      const plan = planOf(round, { ...options, subjects: offered, isSettled: settledIn(round, samples, options) });
      await runRound(server, plan, options, ({ task: id, threads, error }) => {
        const task = plan[id];
        const { cell, part, build, subject } = task;
        const told = error === undefined ? { ...figureOf(task, threads), crowded: crowded(task, threads) } : { error };
        samples.push({ cell, part, build, subject: subject.id, round, ...told });
        onTask(round, id + 1, plan.length, samples.at(-1));
      });
      options.afterRound?.(round);
    }
  } finally {
    server.close();
  }
  return samples;
}

async function runRound(server, plan, { engine }, hear) {
  let end;
  const finished = new Promise((resolve, reject) => (end = { resolve, reject }));
  server.begin(plan, (report) => {
    if (report.end) end.resolve();
    else if (report.failed) end.reject(new Error(report.failed));
    else hear(report);
  });
  const run = engine.run(server.url);
  run.ended.then((error) => end.reject(new Error(`the engine ended before its round did: ${error ?? "without a word"}`)));
  try {
    await finished;
  } finally {
    run.kill();
  }
}
