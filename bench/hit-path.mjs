// What a malloc and free that hit the thread cache cost against a bare per-thread free list's pop and push in the same language:
//   node bench/hit-path.mjs [--rounds 31] [--out FILE]
// Twice: both called, as programs call an allocator, and both inlined. Rounds of the two are interleaved, in changing order, so that
// whatever else the machine does falls on both. Needs `npm run build`.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { buildDriver, built, callsIn, inlined, machine } from "./drivers/build.mjs";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "31" }, out: { type: "string", default: "bench/results/hit-path.json" } },
});
const rounds = Number(values.rounds);

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

/** [how, suffix of the bare list's loop, module, calls a loop makes for one pair] */
const bytes = buildDriver("hit-path");
const BUILDS = [
  ["called", "BareCalled", bytes],
  ["inlined", "Bare", inlined(bytes)],
];

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

/** Both loops of one pattern, round by round. */
function measure(code, pattern, bare) {
  const names = [`${pattern}${bare}`, `${pattern}Heap`];
  const expected = bare === "Bare" ? [0, 2] : [2, 2]; // inlined, the heap's are the slow paths
  names.forEach((name, i) => {
    const calls = callsIn(code, name);
    if (calls !== expected[i]) throw new Error(`${name} has ${calls} calls instead of ${expected[i]}`);
  });
  const staged = stage(code);
  const times = [[], []];
  for (let round = -5; round < rounds; ++round) {
    for (const i of round & 1 ? [0, 1] : [1, 0]) {
      const ns = time(staged, PATTERNS[pattern], names[i]);
      if (round >= 0) times[i].push(ns); // the first rounds warm up compiler and caches
    }
  }
  return { bare: summary(times[0]), heap: summary(times[1]), ratio: summary(times[1].map((ns, i) => ns / times[0][i])) };
}

function summary(list) {
  const sorted = list.toSorted((a, b) => a - b);
  const at = (q) => +sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))].toFixed(3);
  return { min: at(0), median: at(0.5), p90: at(0.9) };
}

const results = BUILDS.flatMap(([how, bare, code]) =>
  Object.keys(PATTERNS).map((pattern) => ({ how, pattern, ...measure(code, pattern, bare) })),
);
const table = new Table({ head: ["", "pattern", "bare list, ns", "heap, ns", "heap / bare"], style: { head: [], border: [] } });
const show = ({ min, median, p90 }, digits = 1) => `${median.toFixed(digits)} [${min.toFixed(digits)}..${p90.toFixed(digits)}]`;
for (const { how, pattern, bare, heap, ratio } of results) table.push([how, pattern, show(bare), show(heap), show(ratio, 2)]);
console.log(`nanoseconds a pair and their ratio, median [min..p90] of ${rounds} rounds\n${table}`);
writeFileSync(values.out, `${JSON.stringify({ machine: machine(), rounds, results }, null, 2)}\n`);
