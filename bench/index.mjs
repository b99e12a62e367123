// `npm run bench`: numaheap against its rivals, in one interleaved run. What it measures: bench/suite/cells.mjs.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { integer } from "../dist/cli/integer.js";
import { LiveLine } from "../dist/cli/progress.js";
import { buildNpmRivals } from "./rivals/npm.mjs";
import { compareRevisions } from "./suite/compare.mjs";
import { engineOf } from "./suite/engines.mjs";
import { buildNative, nativeRound } from "./suite/native.mjs";
import { cellsWanted } from "./suite/plan.mjs";
import * as plots from "./suite/plots.mjs";
import { csvOf, footprintTableOf, lacking, legendOf, machine, nativeTableOf, numaWordsOf, tableOf } from "./suite/report.mjs";
import { runRounds } from "./suite/rounds.mjs";
import { cellsOf, footprintOf, nativeOf, numaOf, partsMeasured, RATES } from "./suite/statistics.mjs";
import { buildSubjects } from "./suite/subjects.mjs";
import { TRACES } from "./suite/traces.mjs";

const results = fileURLToPath(new URL("./results/", import.meta.url));
/** Rounds, and milliseconds of a measurement and of the warm-up before it. */
const FULL = { rounds: 9, ms: 10, warmUpMs: 8 };
const QUICK = { rounds: 2, ms: 5, warmUpMs: 6 };
/** Of how many rounds one has the native allocators. */
const NATIVE_EVERY = 3;
/** Traces of a quick run, two of them of several threads; and those whose footprint is drawn. */
const FEW_TRACES = ["rocksdb", "doxygen", "jq-filter", "python-json"];
const DRAWN_TRACES = ["redis", "node-workers", "jq-filter", "python-json"];

const list = (text) => text.split(",");
const program = new Command("npm run bench --")
  .description("Measures numaheap against other allocators for WebAssembly, side by side: cell by cell, with spread and ratios.")
  .addOption(new Option("--quick", "fewer and shorter rounds, and fewer traces"))
  .addOption(new Option("--only <cells>", "some cells, such as a,c2,n1").argParser(list))
  .addOption(new Option("--engine <name>", "node, chromium, deno, bun, or node@24").default("node"))
  .addOption(new Option("--rounds <n>", "rounds, each in a process of its own").argParser(integer(1, 1000)))
  .addOption(new Option("--compare <rev>", "another revision of numaheap instead of the rivals"))
  .addOption(new Option("--out <folder>", "where CSV, JSON and pictures go").default(undefined, "bench/results/ for a whole run"))
  .addOption(new Option("--json", "print one line of JSON on stdout, and nothing else"))
  .addHelpText(
    "after",
    "\nRivals that are built from Debian packages: bash bench/rivals/debian.sh. Without them it says which are missing.",
  );

async function main() {
  const options = program.parse().opts();
  const engine = engineOf(options.engine);
  const cores = machine().processors;
  const cells = cellsWanted(options.only, options.quick ? cores : undefined);
  const amount = { ...(options.quick ? QUICK : FULL), ...(options.rounds && { rounds: options.rounds }) };
  const traces = options.quick ? FEW_TRACES : TRACES;
  const progress = new LiveLine(process.stderr);
  const told = (text) =>
    progress.show(
      0,
      () => text,
      () => text,
    );
  const version = await engine.version();

  told("building rivals");
  if (!options.compare) await buildNpmRivals({ onProgress: told });
  const { subjects, missing } = options.compare ? await compareRevisions(options.compare, told) : await buildSubjects({ onProgress: told });
  if (missing.length)
    progress.say(`not built, and left out: ${missing.map(({ title }) => title).join(", ")} (bash bench/rivals/debian.sh)`);

  const start = performance.now();
  const native = [];
  const afterRound =
    !options.compare && options.engine === "node" && buildNative()
      ? (round) => round % NATIVE_EVERY === 0 && native.push(...nativeRound(cells, amount))
      : undefined;
  const samples = await runRounds(
    { engine, subjects, cells, cores, traces, afterRound, ...amount },
    (round, done, of, { cell, subject }) => {
      const share = (round + done / of) / amount.rounds;
      const left = ((performance.now() - start) / share) * (1 - share);
      const words = `round ${round + 1} of ${amount.rounds}, ${cell} ${subject}, ${Math.ceil(left / 1000)} s left`;
      progress.show(
        share,
        (bar) => `${bar} ${words}`,
        () => words,
      );
    },
  );
  progress.end();

  const compared = [...subjects, ...RATES];
  const figures = cellsOf(samples, { subjects: compared, cells, cores });
  const parts = partsMeasured(samples, cells);
  const versions = Object.fromEntries(subjects.map(({ id, version = "" }) => [id, version]));
  const outcome = {
    machine: machine(),
    engine: { name: engine.name, version },
    versions,
    missing: missing.map(({ id }) => id),
    ...amount,
    footprint: footprintOf(parts),
    native: nativeOf(native),
    numa: numaOf(samples),
    cells: figures,
  };
  const whole = !options.only && !options.quick && !options.compare && !options.rounds;
  const folder = options.out ?? (whole ? results : undefined);
  if (folder) await leave(folder, outcome, parts, compared, options.engine);
  if (options.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
  else {
    console.log(
      [
        tableOf(figures, compared),
        legendOf(figures),
        numaWordsOf(outcome.numa),
        footprintTableOf(outcome.footprint, subjects),
        nativeTableOf(figures, outcome.native),
      ].join("\n"),
    );
    console.log(
      `${outcome.machine.cpu}, ${outcome.machine.processors} processors; ${engine.name} ${version}; ${amount.rounds} rounds; * the faster one`,
    );
  }
  const lacks = options.only || options.compare ? [] : lacking(figures, { subjects, missing });
  for (const { cell, errors = {}, failed = {} } of figures)
    for (const [id, error] of Object.entries(errors))
      console.error(
        `${cell} ${id}: ${error.split("\n")[0]}${failed[id] ? ` (${failed[id].join(", ")}; its figure is of the others)` : ""}`,
      );
  if (lacks.length) throw new Error(`not measured: ${lacks.join(", ")}`);
}

async function leave(folder, outcome, parts, subjects, engine) {
  mkdirSync(folder, { recursive: true });
  const name = `${folder}/bench${engine === "node" ? "" : `-${engine}`}`;
  const slim = parts.map(({ series: _, ...rest }) => rest);
  writeFileSync(`${name}.json`, `${JSON.stringify({ ...outcome, parts: slim }, null, 1)}\n`);
  writeFileSync(`${name}.csv`, csvOf(outcome));
  await plots.write(`${name}-cells.svg`, plots.bars(outcome.cells, subjects));
  await plots.write(`${name}-scaling.svg`, plots.scaling(outcome.cells, subjects));
  await plots.write(`${name}-sizes.svg`, plots.overSize(parts, subjects));
  await plots.write(`${name}-footprint.svg`, plots.footprint(parts, subjects, DRAWN_TRACES));
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
