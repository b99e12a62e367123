// Time of a malloc with and without a storm of topology changes, beside a call that does nothing in turns with it (on few cores the
// scheduler is in every figure). Rounds with and without are interleaved.
//   node bench/latency.mjs [TRACE] [--rounds 7] [--storm 1000] [--threads 4] [--out FILE]
// Needs `npm run build`.
import { writeFile } from "node:fs/promises";
import Table from "cli-table3";
import { readTrace } from "../dist/trace/file.js";
import { replayTrace } from "../dist/trace/replay.js";
import { argumentsOf, assertWritable, fail } from "./arguments.mjs";
import { machine } from "./drivers/build.mjs";

const { values, positionals } = argumentsOf(
  import.meta.url,
  { rounds: 7, storm: 1000, threads: 4, out: "bench/results/latency.json" },
  { counts: ["rounds", "threads"], positionals: 1 },
);
assertWritable(values.out);
const trace = await readTrace(positionals[0] ?? "bench/traces/node-workers.trace.gz").catch(fail);
const { threads } = values;
const storms = [0, values.storm];
const rounds = storms.map(() => []);
for (let round = 0; round < values.rounds; ++round) {
  for (const i of round & 1 ? [1, 0] : [0, 1]) {
    const { result } = await replayTrace(trace, { threads, nodes: 4, storm: storms[i], seed: round + 1, verify: false, latency: true });
    if (result.walk !== "ok" || result.failures.length) throw new Error(JSON.stringify(result));
    rounds[i].push(result);
  }
}

const QUANTILES = ["p50", "p999", "max"];
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const results = storms.map((storm, i) => ({
  storm,
  changesPerSecond: Math.round(median(rounds[i].map(({ topologyChanges, seconds }) => topologyChanges / seconds))),
  pagesMovedInUse: median(rounds[i].map(({ pagesMovedInUse }) => pagesMovedInUse)),
  ...Object.fromEntries(
    ["malloc", "control", "excess"].map((what) => [
      what,
      Object.fromEntries(QUANTILES.map((q) => [q, median(rounds[i].map(({ latency }) => latency[what][q]))])),
    ]),
  ),
}));
const table = new Table({ head: ["storm, changes a second", "ns", "p50", "p99.9", "max"], style: { head: [], border: [] } });
for (const result of results) {
  for (const what of ["malloc", "control", "excess"]) table.push([result.storm, what, ...QUANTILES.map((q) => result[what][q])]);
}
console.log(`${trace.name}, ${threads} workers, 4 nodes: medians of ${values.rounds} rounds\n${table}`);
const report = { machine: machine(), trace: trace.name, threads, rounds: values.rounds, results };
await writeFile(values.out, `${JSON.stringify(report, null, 2)}\n`).catch(fail);
