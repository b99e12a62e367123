// Replays every trace, verified, on 1, 2, 4 and 8 workers and as many nodes, each in a process of its own, and writes a CSV.
// What the CSV already holds is not run again, so an interrupted run goes on where it was.
//
//   npm run build && node bench/replay-all.mjs [TRACE...] [--threads 1,2,4,8] [--nodes 1,2,4,8] [--storm N] [--kill N] [--seed N] [--fresh] [--out FILE]
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { replay, root, traces } from "./command.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1,2,4,8" },
    nodes: { type: "string", default: "1,2,4,8" },
    storm: { type: "string", default: "0" },
    kill: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    out: { type: "string" },
    fresh: { type: "boolean", default: false },
  },
});
const COLUMNS = [
  ...["trace", "threads", "nodes", "passed", "walk", "leakedBytes", "unaccountedBlocks", "killed", "skippedEvents", "failures"],
  ...["events", "seconds", "opsPerSecond", "peakLiveBytes", "peakCommittedBytes", "localAllocations", "remoteAllocations", "remoteFrees"],
  ...["topologyChanges", "spansRebound", "pagesMoved", "pagesMovedInUse"],
];
const kind = [values.storm !== "0" && `-storm${values.storm}`, values.kill !== "0" && `-kill${values.kill}`].filter(Boolean).join("");
const out = values.out ?? `${root}bench/results/replay${kind}.csv`;
mkdirSync(`${root}bench/results`, { recursive: true });
if (values.fresh) rmSync(out, { force: true });
if (!existsSync(out)) writeFileSync(out, `${COLUMNS.join(",")}\n`);
const rows = readFileSync(out, "utf8").trim().split("\n").slice(1);
const have = new Set(rows.map((row) => row.split(",", 3).join(",")));

const numbers = (text) => text.split(",").map(Number);
const runs = traces(positionals).flatMap((trace) =>
  numbers(values.threads).flatMap((threads) => numbers(values.nodes).map((nodes) => ({ trace, threads, nodes }))),
);
let failed = rows.filter((row) => row.split(",")[3] !== "true").length;
for (const [i, { trace, threads, nodes }] of runs.entries()) {
  if (have.has([trace, threads, nodes].join(","))) continue;
  const flags = ["--threads", threads, "--nodes", nodes, "--storm", values.storm, "--kill", values.kill, "--seed", values.seed].map(String);
  const result = await replay(trace, flags);
  if (!result.passed) {
    ++failed;
    console.error(trace, threads, nodes, result.failures, result.walk, `leaked ${result.leakedBytes}`);
  }
  const row = {
    ...result,
    walk: result.walk === "ok" ? "ok" : result.walk.length,
    failures: result.failures.length,
    seconds: result.seconds.toFixed(3),
  };
  appendFileSync(out, `${COLUMNS.map((column) => row[column]).join(",")}\n`);
  const note = result.passed ? "ok" : "FAILED";
  console.log(
    `${i + 1}/${runs.length} ${trace.padEnd(15)} ${threads} workers ${nodes} nodes ${row.seconds.padStart(8)} s ${(result.opsPerSecond / 1e6).toFixed(2)} M/s  ${note}`,
  );
}
console.log(`${runs.length} runs in ${out}: ${failed} failed`);
process.exitCode = failed ? 1 : 0;
