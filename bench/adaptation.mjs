// How soon a change of a virtual machine's topology reaches a thread that allocates, and what following it is worth: per kind of change and
// hypervisor, the time from the operation's call to the epoch, to the first block on the thread's true node and to the last cached block of another node;
// then the share of a trace's allocations on the true node, for a heap that is told (adaptive) and one with the topology of boot (static).
//   node bench/adaptation.mjs [--samples 200] [--live-samples 40] [--events 10] [--guest linux] [--trace FILE] [--seed N] [--json] [--out FILE]
// Needs `npm run build`.
import { writeFile } from "node:fs/promises";
import { loadavg } from "node:os";
import Table from "cli-table3";
import { EVENTS, measureAdaptation, THREADS } from "../dist/rig/adaptation.js";
import { measureLocality } from "../dist/rig/locality.js";
import { PLATFORMS, SYSTEMS } from "../dist/rig/rig.js";
import { readTrace } from "../dist/trace/file.js";
import { argumentsOf, assertWritable, fail } from "./arguments.mjs";
import { machine } from "./drivers/build.mjs";

const { values } = argumentsOf(
  import.meta.url,
  {
    samples: 200,
    "live-samples": 40,
    events: 10,
    guest: "linux",
    trace: "bench/traces/lua-mix.trace.gz",
    seed: Date.now() % 1_000_000,
    json: false,
    out: undefined,
  },
  { counts: ["samples", "live-samples", "events"] },
);
const { guest: os, seed, events } = values;
if (!SYSTEMS.includes(os)) fail(`no guest is called "${os}": ${SYSTEMS.join(", ")}`);
if (values.out) assertWritable(values.out);
const MODES = ["adaptive", "static"];
const TIMES = ["epoch", "local", "clean"];
const ALLOCATIONS = 20_000;
const MEMORY = 2 ** 26;
const trace = await readTrace(values.trace).catch(fail);
process.stderr.write(`seed ${seed}\n`);

/** p50, p99 and the largest, by rank. */
function quantiles(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) };
}

const load = loadavg()[0];
const adaptation = [];
const locality = [];
for (const kind of EVENTS) {
  for (const platform of PLATFORMS) {
    process.stderr.write(`${kind}, ${platform}\n`);
    const count = kind === "live migration" ? values["live-samples"] : values.samples;
    for (const threads of THREADS) {
      const samples = await measureAdaptation({ platform, os }, kind, count, threads);
      const microseconds = Object.fromEntries(TIMES.map((field) => [field, quantiles(samples.map((sample) => sample[field]))]));
      adaptation.push({ kind, platform, threads, samples: count, microseconds, stale: quantiles(samples.map(({ stale }) => stale)) });
    }
    for (const mode of MODES) {
      const options = { platform, os, kind, mode, trace, seed, events, allocations: ALLOCATIONS, memory: MEMORY };
      const { before, after, result } = await measureLocality(options);
      if (!result.sound) throw new Error(`seed ${seed}: ${JSON.stringify(result)}`);
      locality.push({ kind, platform, mode, before, after });
    }
  }
}

const plain = { head: [], border: [] };
const right = (count, left = 2) => [...Array(left).fill("left"), ...Array(count).fill("right")];
const us = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0));
const times = new Table({
  head: [
    "change",
    "hypervisor",
    "threads",
    "n",
    "epoch visible: p50",
    "p99",
    "max",
    "first block: p50",
    "p99",
    "max",
    "cache clean: p50",
    "p99",
    "max",
  ],
  colAligns: right(10, 3),
  style: plain,
});
for (const { kind, platform, threads, samples, microseconds } of adaptation) {
  const cells = TIMES.flatMap((field) => ["p50", "p99", "max"].map((q) => us(microseconds[field][q])));
  times.push([kind, platform, threads, samples, ...cells]);
}
const shares = new Table({
  head: ["after each", "hypervisor", ...MODES.flatMap((mode) => [`${mode}: on the true node`, "of allocations", "share"])],
  colAligns: right(6),
  style: plain,
});
for (const kind of EVENTS) {
  for (const platform of PLATFORMS) {
    const cells = MODES.flatMap((mode) => {
      const { local, remote } = locality.find((row) => row.kind === kind && row.platform === platform && row.mode === mode).after;
      return [local, local + remote, `${((100 * local) / (local + remote)).toFixed(2)} %`];
    });
    shares.push([kind, platform, ...cells]);
  }
}
const note =
  `Microseconds of wall-clock time on ${machine().cpus} CPUs, load average ${load.toFixed(1)} at the start. Hypervisor, nodes and guest (${os}) are a model: in the thread that calls the ` +
  `operations (one), or each in its own, called across threads (own). The thread that allocates is another. A live migration's time is all of it, rounds of copying included.`;
const counts = `${trace.name} on 4 workers: allocations from each of ${events} changes to the next, counted by the hypervisor's tables. Exact.`;
const report = { machine: machine(), note, load, seed, os, adaptation, trace: trace.name, events, locality };
console.log(values.json ? JSON.stringify(report) : `${note}\n${times}\n\n${counts}\n${shares}`);
if (values.out) await writeFile(values.out, `${JSON.stringify(report, null, 2)}\n`).catch(fail);
