// Whether a heap that runs for long stays as large as it was: committed bytes after 10^8 and after 10^9 operations (mallocs and frees) of
//   churn   two workers on two nodes, each frees and takes random blocks of its own table, of the same sizes throughout
//   drift   the same with sizes drawn anew, so that what is live is a random walk: the heap may grow with its records
//   trade   as drift, over one table: half of the blocks are freed by another thread than took them, on another node
//   pair    a producer on one node, a consumer on another, a ring between them that is full to begin with: every block is freed remotely
//   node bench/churn.mjs [--operations 1e9] [--only churn|drift|trade|pair] [--out FILE]
// A tenth of the operations is the first mark. Needs `npm run build`.
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import Table from "cli-table3";
import { inspect } from "../dist/heap/inspect.js";
import { argumentsOf, assertWritable, fail } from "./arguments.mjs";
import { buildDriver, built, machine } from "./drivers/build.mjs";

const { values } = argumentsOf(import.meta.url, { operations: 1e9, only: "", out: "bench/results/churn.json" }, { counts: ["operations"] });
const { operations } = values;
const before = values.only ? resultsIn(values.out) : [];
assertWritable(values.out);

const SUM = 65536; // i64: live bytes
const TABLE = SUM + 64; // the table, or the ring
const BASE = 1 << 20;
const SLOTS = 50_000;
const SECOND = TABLE + 4 * SLOTS;
const WIDTH = 4096;
const CHUNK = 1_000_000; // blocks a worker takes or gives back between two looks at the heap
const LEAST = 4 * 2 ** 20;

/** Results of patterns that a run of one of them keeps. */
function resultsIn(path) {
  if (!existsSync(path)) return [];
  let why = "it is none of this script's";
  try {
    const { results } = JSON.parse(readFileSync(path, "utf8")) ?? {};
    if (Array.isArray(results) && results.every((result) => typeof result?.pattern === "string")) return results;
  } catch (error) {
    // The engine quotes the text, lines and all.
    why = error.message.replace(/\s+/g, " ");
  }
  return fail(`${path} has no results to go on with: ${why}`);
}

/** Two workers attached to a heap of two nodes. */
async function stage(module) {
  const memory = new WebAssembly.Memory({ initial: BASE / 65536 + 1, maximum: 65536, shared: true });
  const { create } = new WebAssembly.Instance(built("create"), { env: { memory } }).exports;
  if (create(BASE, BASE + 65536, (65536 - BASE / 65536 - 1) * 8, 2, 0)) throw new Error("create failed");
  const workers = await Promise.all(
    [0, 1].map(async (vcpu) => {
      const workerData = { module, memory, base: BASE, key: vcpu + 1, vcpu };
      const worker = new Worker(new URL("drivers/churn-worker.mjs", import.meta.url), { workerData });
      await answer(worker);
      return (loop, ...args) => {
        worker.postMessage({ loop, args });
        return answer(worker);
      };
    }),
  );
  return { memory, workers, inspector: inspect(memory, BASE, built("inspect")) };
}

function answer(worker) {
  return new Promise((resolve, reject) => {
    const done = (error) => {
      worker.off("message", told);
      worker.off("error", done);
      if (error) reject(error);
      else resolve();
    };
    const told = ({ error }) => done(error && new Error(error));
    worker.on("message", told);
    worker.on("error", done);
    worker.ref();
  }).finally(() => worker.unref());
}

/** What both workers do for `count` blocks each, and how many operations that is. */
const PATTERNS = {
  churn: {
    start: ([a, b]) => Promise.all([a("fill", TABLE, SLOTS, SUM), b("fill", SECOND, SLOTS, SUM)]),
    step: ([a, b]) => Promise.all([a("churn", CHUNK, TABLE, SLOTS, SUM), b("churn", CHUNK, SECOND, SLOTS, SUM)]),
    operations: 8 * CHUNK,
    end: async ([a, b]) => {
      await a("clear", TABLE, SLOTS, SUM);
      await b("clear", SECOND, SLOTS, SUM);
    },
  },
  drift: {
    step: ([a, b]) => Promise.all([a("replace", CHUNK, TABLE, SLOTS, SUM), b("replace", CHUNK, SECOND, SLOTS, SUM)]),
    operations: 4 * CHUNK,
    drifts: true,
    end: async ([a, b]) => {
      await a("clear", TABLE, SLOTS, SUM);
      await b("clear", SECOND, SLOTS, SUM);
    },
  },
  trade: {
    step: ([a, b]) => Promise.all([a("replace", CHUNK, TABLE, 2 * SLOTS, SUM), b("replace", CHUNK, TABLE, 2 * SLOTS, SUM)]),
    operations: 4 * CHUNK,
    drifts: true,
    // By turns each node may come to hold all that is live, if its worker gets on faster than the other.
    nodes: 2,
    end: ([a]) => a("clear", TABLE, 2 * SLOTS, SUM),
  },
  pair: {
    start: ([a]) => a("produce", WIDTH, TABLE, WIDTH, SUM),
    step: ([a, b]) => Promise.all([a("produce", CHUNK, TABLE, WIDTH, SUM), b("consume", CHUNK, TABLE, WIDTH, SUM)]),
    operations: 2 * CHUNK,
    end: ([, b]) => b("consume", WIDTH, TABLE, WIDTH, SUM),
  },
};

async function run(name, module) {
  const { memory, workers, inspector } = await stage(module);
  const { start: begin, step, operations: each, nodes = 1, end } = PATTERNS[name];
  await begin?.(workers);
  const live = new BigInt64Array(memory.buffer, SUM, 1);
  const first = operations / 10;
  let peakLive = 0;
  let atFirst;
  const start = performance.now();
  // Live bytes are looked at as the workers run, not only between their turns.
  const watch = setInterval(() => (peakLive = Math.max(peakLive, Number(Atomics.load(live, 0)))), 5);
  let done = 0;
  while (done < operations) {
    await step(workers);
    done += each;
    peakLive = Math.max(peakLive, Number(Atomics.load(live, 0)));
    if (atFirst === undefined && done >= first) atFirst = inspector.stats().committedBytes;
    if (done % (25 * each) === 0 && process.stderr.isTTY) process.stderr.write(`\r${name} ${(done / 1e6).toFixed(0)} M operations `);
  }
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  clearInterval(watch);
  const seconds = (performance.now() - start) / 1000;
  const stats = inspector.stats();
  const committed = stats.committedBytes;
  await end(workers);
  const walk = inspector.walk({ live: [] });
  return {
    pattern: name,
    operations: done,
    seconds: +seconds.toFixed(1),
    nanosecondsAnOperation: +((seconds * 1e9) / done).toFixed(1),
    peakLiveBytes: peakLive,
    committedAtTenth: atFirst,
    committedBytes: committed,
    bound: Math.max(2 * nodes * peakLive, LEAST),
    remoteFrees: stats.threads.reduce((sum, thread) => sum + thread.remoteFrees, 0),
    walk: walk.ok ? "ok" : [...walk.problems, ...walk.unaccounted],
  };
}

const names = Object.keys(PATTERNS).filter((name) => !values.only || values.only === name);
if (!names.length) fail(`no pattern is called "${values.only}"`);
const module = new WebAssembly.Module(buildDriver("churn"));
const results = [];
for (const name of names) results.push(await run(name, module));
const MiB = (bytes) => (bytes / 2 ** 20).toFixed(2);
const table = new Table({
  head: ["", "operations", "ns each", "peak live MiB", "committed MiB at a tenth", "at the end", "bound", "freed remotely", "walk"],
  style: { head: [], border: [] },
});
for (const r of results) {
  const sizes = [r.peakLiveBytes, r.committedAtTenth, r.committedBytes, r.bound].map(MiB);
  table.push([
    r.pattern,
    r.operations.toExponential(),
    r.nanosecondsAnOperation,
    ...sizes,
    r.remoteFrees,
    r.walk === "ok" ? "ok" : "FAILED",
  ]);
}
console.log(table.toString());
const kept = before.filter(({ pattern }) => !results.some((result) => result.pattern === pattern));
await writeFile(values.out, `${JSON.stringify({ machine: machine(), results: [...kept, ...results] }, null, 2)}\n`).catch(fail);
const grows = (r) => !PATTERNS[r.pattern].drifts && r.committedBytes !== r.committedAtTenth;
const failed = results.filter((r) => r.walk !== "ok" || grows(r) || r.committedBytes > r.bound);
for (const r of failed) console.error(`${r.pattern}: not bounded, or the walk found problems\n${JSON.stringify(r, null, 2)}`);
process.exitCode = failed.length ? 1 : 0;
