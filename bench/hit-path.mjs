// What a malloc and free that hit the thread cache cost against a bare per-thread free list's pop and push in the same language:
//   node bench/hit-path.mjs [--rounds 31] [--out FILE]
// Rounds of all variants are interleaved, in turning order, so that whatever else the machine does falls on all of them.
// Needs `npm run build`.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { buildDriver, built, machine } from "./drivers/build.mjs";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "31" }, out: { type: "string", default: "bench/results/hit-path.json" } },
});
const rounds = Number(values.rounds);

const BASE = 1 << 20;
const BARE = 65536 + 64; // the bare list's blocks, below the heap
const TABLE = 512 * 1024; // what the patterns keep
const PAGES = 1024; // 64 MiB: large enough that no cache is at its limit
const WIDTH = 1000;
const SLOTS = 10_000;

/** [pattern, pairs in a round, arguments after the first, first argument for so many pairs] */
const PATTERNS = [
  ["ping", 4_000_000, [], (pairs) => pairs],
  ["batch", 2_000_000, [TABLE, WIDTH], (pairs) => pairs / WIDTH],
  ["larson", 1_000_000, [TABLE, SLOTS, 8, 1016], (pairs) => pairs],
];
const VARIANTS = [
  ["Bare", "bare list, inlined"],
  ["Heap", "heap, inlined"],
  ["BareCalled", "bare list, called"],
  ["HeapCalled", "heap, called"],
];

/** An instance with a heap and a bare list of its own. */
function stage(module) {
  const memory = new WebAssembly.Memory({ initial: PAGES + 16, maximum: 65536, shared: true });
  const env = { env: { memory } };
  const { create } = new WebAssembly.Instance(built("create"), env).exports;
  if (create(BASE, (PAGES + 16) * 65536, PAGES * 8, 1, 0)) throw new Error("create failed");
  const driver = new WebAssembly.Instance(module, env).exports;
  if (!driver.attach(BASE, 1, 0, 1)) throw new Error("attach failed");
  driver.bareInit(BARE, SLOTS + 1, 32);
  return { driver, memory };
}

/** Nanoseconds a pair, of one round. */
function time({ driver, memory }, [pattern, pairs, args, first], variant) {
  const run = driver[pattern + variant];
  const start = process.hrtime.bigint();
  run(first(pairs), ...args);
  const ns = Number(process.hrtime.bigint() - start) / pairs;
  if (pattern === "larson") {
    if (variant.startsWith("Heap")) driver.clear(TABLE, SLOTS);
    else {
      new Uint32Array(memory.buffer, TABLE, SLOTS).fill(0);
      driver.bareInit(BARE, SLOTS + 1, 32);
    }
  }
  return ns;
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const summary = (list) => {
  const sorted = list.toSorted((a, b) => a - b);
  return { min: sorted[0], median: quantile(sorted, 0.5), p90: quantile(sorted, 0.9) };
};

const results = [];
for (const target of ["release", "fast"]) {
  const module = buildDriver("hit-path", target);
  for (const pattern of PATTERNS) {
    const staged = stage(module);
    const times = VARIANTS.map(() => []);
    for (let round = -3; round < rounds; ++round) {
      for (let i = 0; i < VARIANTS.length; ++i) {
        const v = (i + round + 3) % VARIANTS.length;
        const ns = time(staged, pattern, VARIANTS[v][0]);
        if (round >= 0) times[v].push(ns); // the first rounds warm up compiler and caches
      }
    }
    const ratio = (bare, heap) => summary(times[heap].map((ns, i) => ns / times[bare][i]));
    results.push({
      target,
      pattern: pattern[0],
      nanoseconds: Object.fromEntries(VARIANTS.map(([, name], v) => [name, summary(times[v])])),
      ratio: { inlined: ratio(0, 1), called: ratio(2, 3) },
    });
  }
}

const table = new Table({
  head: ["build", "pattern", "variant", "ns a pair: median [min..p90]", "ratio: median [min..p90]"],
  style: { head: [], border: [] },
});
const show = ({ min, median, p90 }, digits) => `${median.toFixed(digits)} [${min.toFixed(digits)}..${p90.toFixed(digits)}]`;
for (const { target, pattern, nanoseconds, ratio } of results) {
  for (const [variant, ns] of Object.entries(nanoseconds)) {
    const how = variant.endsWith("called") ? "called" : "inlined";
    table.push([target, pattern, variant, show(ns, 1), variant.startsWith("heap") ? show(ratio[how], 2) : ""]);
  }
}
console.log(table.toString());
writeFileSync(
  values.out,
  `${JSON.stringify({ machine: machine(), rounds, results }, (_, v) => (typeof v === "number" ? +v.toFixed(3) : v), 2)}\n`,
);
