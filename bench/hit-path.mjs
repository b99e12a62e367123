// What a malloc and free that hit the thread cache cost against a bare per-thread free list's pop and push in the same language:
//   node bench/hit-path.mjs [--processes 15] [--rounds 9] [--out FILE]
// Twice: both called, as programs call an allocator, and both inlined. Rounds of the two are interleaved, in changing order, so that
// whatever else the machine does falls on both. Where the engine puts the code in memory is worth 2 ns to either, so a figure is
// the median of several processes, each of which compiles anew. Needs `npm run build`.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { argumentsOf, assertWritable, fail } from "./arguments.mjs";
import { buildDriver, built, callsIn, inlined, machine } from "./drivers/build.mjs";

const { values } = argumentsOf(
  import.meta.url,
  {
    processes: 15,
    rounds: 9,
    out: "bench/results/hit-path.json",
    sample: undefined, // in a process of its own: the build and the pattern it measures
  },
  { counts: ["processes", "rounds"] },
);
const { processes, rounds } = values;

const BARE = 65536 + 64; // the bare list's blocks
const TABLE = 512 * 1024; // blocks a pattern keeps
const BASE = 1 << 20;
const PAGES = 1024; // 64 MiB: large enough that no cache is at its limit
const WIDTH = 1000;
const SLOTS = 10_000;

/** Pairs of a round, and how to run them. */
const PATTERNS = {
  ping: { pairs: 4_000_000, run: (loop, pairs) => loop(pairs) },
  batch: { pairs: 2_000_000, run: (loop, pairs) => loop(pairs / WIDTH, TABLE, WIDTH) },
  larson: { pairs: 1_000_000, run: (loop, pairs) => loop(pairs, TABLE, SLOTS, 8, 1016) },
};

/** What is measured: suffix of the bare list's loop, calls that loop makes for one pair, calls that the heap's loop makes. */
const BUILDS = {
  called: { bare: "BareCalled", calls: [2, 2] },
  inlined: { bare: "Bare", calls: [0, 2] }, // the heap's are the slow paths
};
const fileOf = (how) => `build/bench/hit-path.${how}.wasm`;

/** An instance with a heap and a bare list of its own. */
function stage(code) {
  const memory = new WebAssembly.Memory({ initial: PAGES + 16, maximum: 65536, shared: true });
  const env = { env: { memory } };
  const { create } = new WebAssembly.Instance(built("create"), env).exports;
  if (create(BASE, (PAGES + 16) * 65536, PAGES * 8, 1, 0)) throw new Error("create failed");
  const loops = new WebAssembly.Instance(new WebAssembly.Module(code), env).exports;
  if (!loops.attach(BASE, 1, 0, 1)) throw new Error("attach failed");
  loops.bareInit(BARE, SLOTS + 1, 32);
  return { loops, memory };
}

/** Nanoseconds a pair, of one round. */
function time({ loops, memory }, { pairs, run }, name) {
  const start = process.hrtime.bigint();
  run(loops[name], pairs);
  const ns = Number(process.hrtime.bigint() - start) / pairs;
  // Only larson ends a round with blocks in hand.
  if (name === "larsonHeap") loops.clear(TABLE, SLOTS);
  new Uint32Array(memory.buffer, TABLE, SLOTS).fill(0);
  loops.bareInit(BARE, SLOTS + 1, 32);
  return ns;
}

/** Nanoseconds a pair of both loops of one pattern, round by round: [of the bare list, of the heap]. */
function sample(how, pattern) {
  const names = [`${pattern}${BUILDS[how].bare}`, `${pattern}Heap`];
  const staged = stage(readFileSync(fileOf(how)));
  const times = [[], []];
  for (let round = -5; round < rounds; ++round) {
    for (const i of round & 1 ? [0, 1] : [1, 0]) {
      const ns = time(staged, PATTERNS[pattern], names[i]);
      if (round >= 0) times[i].push(ns); // the first rounds warm up compiler and caches
    }
  }
  return times;
}

/** Median over the processes of a process's median, and how far those lie apart. */
function measure(how, pattern) {
  const args = [fileURLToPath(import.meta.url), "--rounds", String(rounds), "--sample", `${how} ${pattern}`];
  const medians = Array.from({ length: processes }, () => {
    const [bare, heap] = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
    return [bare, heap, heap.map((ns, i) => ns / bare[i])].map(median);
  });
  const [bare, heap, ratio] = [0, 1, 2].map((i) => summary(medians.map((each) => each[i])));
  return { how, pattern, bare, heap, ratio };
}

/** Both builds, and a check that their loops call what they should. */
function build() {
  const called = buildDriver("hit-path");
  for (const [how, bytes] of Object.entries({ called, inlined: inlined(called) })) {
    for (const pattern of Object.keys(PATTERNS)) {
      [`${pattern}${BUILDS[how].bare}`, `${pattern}Heap`].forEach((name, i) => {
        const calls = callsIn(bytes, name);
        if (calls !== BUILDS[how].calls[i]) throw new Error(`${name} has ${calls} calls instead of ${BUILDS[how].calls[i]}`);
      });
    }
    writeFileSync(fileOf(how), bytes);
  }
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

function summary(list) {
  const sorted = list.toSorted((a, b) => a - b);
  const at = (q) => +sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))].toFixed(3);
  return { min: at(0), median: at(0.5), p90: at(0.9) };
}

async function main() {
  assertWritable(values.out);
  build();
  const results = Object.keys(BUILDS).flatMap((how) => Object.keys(PATTERNS).map((pattern) => measure(how, pattern)));
  const table = new Table({ head: ["", "pattern", "bare list, ns", "heap, ns", "heap / bare"], style: { head: [], border: [] } });
  const show = ({ min, median, p90 }, digits = 1) => `${median.toFixed(digits)} [${min.toFixed(digits)}..${p90.toFixed(digits)}]`;
  for (const { how, pattern, bare, heap, ratio } of results) table.push([how, pattern, show(bare), show(heap), show(ratio, 2)]);
  console.log(`nanoseconds a pair and their ratio, median [min..p90] of ${processes} processes of ${rounds} rounds\n${table}`);
  await writeFile(values.out, `${JSON.stringify({ machine: machine(), processes, rounds, results }, null, 2)}\n`).catch(fail);
}

if (values.sample) console.log(JSON.stringify(sample(...values.sample.split(" "))));
else await main();
