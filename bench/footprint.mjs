// Peak committed over peak live bytes, from a CSV of replay-all.mjs: `node bench/footprint.mjs [FILE]`. Traces that live above 4 MiB.
import { readFile } from "node:fs/promises";
import Table from "cli-table3";
import { argumentsOf, fail } from "./arguments.mjs";

const { positionals } = argumentsOf(import.meta.url, {}, { positionals: 1 });
const file = positionals[0] ?? "bench/results/replay.csv";
const csv = await readFile(file, "utf8").catch(fail);
const [header, ...lines] = csv
  .trim()
  .split("\n")
  .map((line) => line.split(","));
const missing = ["trace", "threads", "nodes", "peakLiveBytes", "peakCommittedBytes"].filter((name) => !header.includes(name));
if (missing.length) fail(`${file} is no CSV of replay-all.mjs: it has no column ${missing.join(", ")}`);
const rows = lines.map((line) => Object.fromEntries(line.map((value, i) => [header[i], value])));
const SHAPES = [
  [1, 1],
  [4, 4],
  [8, 8],
];
const ratioOf = (row) => row.peakCommittedBytes / row.peakLiveBytes;
const table = new Table({
  head: ["trace", "peak live MB", ...SHAPES.map(([threads, nodes]) => `${threads} workers, ${nodes} nodes`)],
  style: { head: [], border: [] },
});
const logs = SHAPES.map(() => []);
for (const trace of [...new Set(rows.map((row) => row.trace))]) {
  const one = rows.find((row) => row.trace === trace && row.threads === "1");
  if (!one || one.peakLiveBytes <= 4 * 2 ** 20) continue;
  const cells = SHAPES.map(([threads, nodes], i) => {
    const row = rows.find((r) => r.trace === trace && +r.threads === threads && +r.nodes === nodes);
    if (!row) return "-";
    logs[i].push(Math.log(ratioOf(row)));
    return ratioOf(row).toFixed(3);
  });
  table.push([trace, (one.peakLiveBytes / 1e6).toFixed(1), ...cells]);
}
const mean = (list) => (list.length ? Math.exp(list.reduce((a, b) => a + b, 0) / list.length).toFixed(3) : "-");
table.push(["geometric mean", "", ...logs.map(mean)]);
table.push(["most", "", ...logs.map((list) => (list.length ? Math.exp(Math.max(...list)).toFixed(3) : "-"))]);
console.log(table.toString());
