// Replays all traces on several numbers of workers and nodes and writes a CSV:
//   node bench/replay-all.mjs [--out FILE] [--threads 1,2,4,8] [--nodes 1,2,4,8] [--only NAME] [-- options of numaheap replay]
// A file that exists is gone on with. Needs `npm run build`.
import { execFile } from "node:child_process";
import { appendFileSync, existsSync, readdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { argumentsOf, fail } from "./arguments.mjs";

const { values, passed } = argumentsOf(
  import.meta.url,
  { out: "bench/results/replay.csv", threads: [1, 2, 4, 8], nodes: [1, 2, 4, 8], only: "" },
  { counts: ["threads", "nodes"], passes: true },
);
const FIELDS = [
  "trace",
  "threads",
  "nodes",
  "events",
  "seconds",
  "opsPerSecond",
  "peakLiveBytes",
  "peakCommittedBytes",
  "localAllocations",
  "remoteAllocations",
  "remoteFrees",
  "topologyChanges",
  "spansRebound",
  "pagesMoved",
  "pagesMovedInUse",
  "killed",
  "skippedEvents",
  "unaccountedBlocks",
  "leakedBytes",
  "failures",
  "walk",
];
const run = promisify(execFile);
const traces = readdirSync(new URL("./traces/", import.meta.url)).filter(
  (name) => name.endsWith(".trace.gz") && name.includes(values.only),
);
if (!traces.length) fail(`no trace is called "${values.only}"`);
if (!existsSync(values.out)) await writeFile(values.out, `${FIELDS.join(",")}\n`).catch(fail);
const before = await readFile(values.out, "utf8").catch(fail);
const done = new Set(before.split("\n").map((line) => line.split(",").slice(0, 3).join(",")));
const jobs = traces.flatMap((file) => values.threads.flatMap((threads) => values.nodes.map((nodes) => ({ file, threads, nodes }))));
let bad = 0;
for (const [i, { file, threads, nodes }] of jobs.entries()) {
  const name = file.replace(".trace.gz", "");
  if (done.has(`${name},${threads},${nodes}`)) continue;
  const args = ["dist/cli/index.js", "replay", `bench/traces/${file}`, "--threads", threads, "--nodes", nodes, "--json", ...passed].map(
    String,
  );
  let stdout;
  try {
    ({ stdout } = await run(process.execPath, args, { maxBuffer: 1 << 26 }));
  } catch (error) {
    ++bad;
    stdout = error.stdout;
    if (!stdout) {
      process.stderr.write(`\n${name}: ${error.message}\n`);
      continue;
    }
    process.stderr.write(`\n${stdout.slice(0, 2000)}\n`);
  }
  const result = JSON.parse(stdout);
  const row = FIELDS.map((field) => {
    const value = result[field];
    if (field === "failures") return value.length;
    if (field === "walk") return value === "ok" ? "ok" : value.length;
    return value;
  });
  appendFileSync(values.out, `${row.join(",")}\n`);
  process.stderr.write(`\r\x1b[K${i + 1}/${jobs.length} ${name} ${threads} workers, ${nodes} nodes`);
}
process.stderr.write(`\n${bad} of ${jobs.length} failed; see ${values.out}\n`);
process.exitCode = bad ? 1 : 0;
