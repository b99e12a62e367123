// Peak committed bytes over peak live bytes, at --max-memory 4GiB: every trace on 1 worker and 1 node, and on 4 and 4.
// Means are geometric, over the traces that live above 4 MiB; imagemagick, dominated by blocks of 134 MB, is in them.
//
//   npm run build && node bench/footprint.mjs [TRACE...]
import { mkdirSync, writeFileSync } from "node:fs";
import { geometricMean, replay, root, traces } from "./command.mjs";

const SETTINGS = [
  { name: "1 worker, 1 node", flags: ["--threads", "1", "--nodes", "1"] },
  { name: "4 workers, 4 nodes", flags: ["--threads", "4", "--nodes", "4"] },
];
const LEAST_LIVE = 4 * 2 ** 20;
const names = traces(process.argv.slice(2));
const table = [];
for (const trace of names) {
  const ratios = [];
  let live = Infinity;
  for (const { flags } of SETTINGS) {
    const result = await replay(trace, [...flags, "--max-memory", "4GiB"]);
    if (!result.passed) throw new Error(`${trace} ${flags.join(" ")} failed: ${result.failures} ${result.walk}`);
    live = Math.min(live, result.peakLiveBytes);
    ratios.push({
      live: result.peakLiveBytes,
      committed: result.peakCommittedBytes,
      ratio: result.peakCommittedBytes / result.peakLiveBytes,
    });
  }
  table.push({ trace, counts: live > LEAST_LIVE, ratios });
  console.log(
    trace.padEnd(15),
    ratios
      .map(
        ({ live, committed, ratio }) =>
          `${(live / 1e6).toFixed(1).padStart(7)} MB live ${(committed / 1e6).toFixed(1).padStart(7)} MB committed ${ratio.toFixed(3)}`,
      )
      .join("   |"),
  );
}
for (const [i, { name }] of SETTINGS.entries()) {
  const counted = table.filter((row) => row.counts).map((row) => row.ratios[i].ratio);
  console.log(
    `${name}: geometric mean ${geometricMean(counted).toFixed(3)} over ${counted.length} traces, highest ${Math.max(...counted).toFixed(3)}`,
  );
}
mkdirSync(`${root}bench/results`, { recursive: true });
const rows = table.flatMap(({ trace, ratios }) =>
  ratios.map(({ live, committed, ratio }, i) => `${trace},${SETTINGS[i].name.replace(",", "")},${live},${committed},${ratio.toFixed(4)}`),
);
writeFileSync(`${root}bench/results/footprint.csv`, `trace,setting,peakLiveBytes,peakCommittedBytes,ratio\n${rows.join("\n")}\n`);
