// Soaks a virtual machine of every pairing of hypervisor and guest: topology changes of all kinds while a trace is replayed on 4 workers. Then every
// map is compared with the hypervisor's truth, and every block with what was written to it.
//   node bench/soak.mjs [--changes 100000] [--seed N] [--trace bench/traces/redis.trace.gz] [--live-every 250] [--json] [--out FILE]
// Exit status 0 only if all is sound. Needs `npm run build`.
import { writeFile } from "node:fs/promises";
import Table from "cli-table3";
import { CHANGE_KINDS } from "../dist/rig/changes.js";
import { PAIRINGS } from "../dist/rig/rig.js";
import { soak } from "../dist/rig/soak.js";
import { readTrace } from "../dist/trace/file.js";
import { argumentsOf, assertWritable, fail } from "./arguments.mjs";
import { machine } from "./drivers/build.mjs";

const { values } = argumentsOf(
  import.meta.url,
  {
    changes: 100_000,
    seed: Date.now() % 1_000_000,
    trace: "bench/traces/redis.trace.gz",
    "live-every": 250,
    json: false,
    out: undefined,
  },
  { counts: ["changes", "live-every"] },
);
const { seed } = values;
if (values.out) assertWritable(values.out);
const changes = Math.ceil(values.changes / PAIRINGS.length);
const trace = await readTrace(values.trace).catch(fail);
process.stderr.write(`seed ${seed}: the same changes in the same order, though threads run as they will\n`);

const results = [];
for (const [i, pairing] of PAIRINGS.entries()) {
  const name = `${pairing.platform}, ${pairing.os}`;
  let told = 0;
  const onProgress = (made) => {
    if (Date.now() - told < 1000) return;
    told = Date.now();
    process.stderr.write(`${name}: ${made} of ${changes} changes\n`);
  };
  const options = { ...pairing, trace, changes, seed: seed + i, liveEvery: values["live-every"], memory: 2 ** 27, onProgress };
  const result = await soak(options);
  for (const words of [...result.disagreements, ...result.problems, ...result.replay.failures]) process.stderr.write(`${name}: ${words}\n`);
  results.push(result);
}

const ms = (value) => value.toFixed(0);
const table = new Table({
  head: ["", ...results.map(({ platform, os }) => `${platform}, ${os}`)],
  colAligns: ["left", ...results.map(() => "right")],
  style: { head: [], border: [] },
});
const row = (name, of) => table.push([name, ...results.map((result) => String(of(result)))]);
for (const kind of CHANGE_KINDS) row(`changes: ${kind}`, (result) => result.changes[kind]);
row("changes: all", (result) => result.changes.all);
row("handler invocations", (result) => result.handlerInvocations);
row("frames back from the balloon", (result) => result.framesBack);
row("... on another node", (result) => result.framesBackElsewhere);
row("live migrations: MiB copied", (result) => ms(result.liveMigrations.bytes / 2 ** 20));
row("... pause, median and max, ms", ({ liveMigrations: { pauseMs } }) => `${ms(pauseMs.p50)}, ${ms(pauseMs.max)}`);
row("events replayed", (result) => result.replay.events);
row("spans rebound", (result) => result.replay.spansRebound);
row(
  "allocations on the true node",
  ({ replay: { localAllocations: local, remoteAllocations: remote } }) => `${((100 * local) / (local + remote)).toFixed(2)} %`,
);
row("maps that are not the truth", (result) => result.disagreements.length);
row("blocks damaged, failures", (result) => result.replay.failures.length);
row("leaked bytes", (result) => result.replay.leakedBytes);
row("walk", ({ replay: { walk } }) => (walk === "ok" ? "ok" : walk.length));
row("sound", (result) => (result.sound ? "yes" : "NO"));
row("seconds", (result) => result.seconds.toFixed(1));

const sound = results.every((result) => result.sound);
const report = { machine: machine(), seed, changes: results.reduce((sum, result) => sum + result.changes.all, 0), sound, results };
console.log(
  values.json ? JSON.stringify(report) : `${trace.name}, 4 workers; times are wall-clock on ${report.machine.cpus} CPUs\n${table}`,
);
if (values.out) await writeFile(values.out, `${JSON.stringify(report, null, 2)}\n`).catch(fail);
process.exitCode = sound ? 0 : 1;
