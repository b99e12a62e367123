// Every interleaving of the heap's scenarios:
// `node test/interleave/run.mjs [--quick] [--scenario PART] [--seed N] [--json] [--out FILE] [--replay TRACE --kills N]`.
// Each scenario is searched without and with a death, the mixes run on random schedules, and races are looked for in all of them.
// --quick bounds the states of each search. A failure prints a schedule that replays. --out keeps the results as a table.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { isMainThread } from "node:worker_threads";
import { argumentsOf, fail } from "../../bench/arguments.mjs";
import { loadHeap, releaseText } from "./heap.mjs";
import { performAll } from "./pool.mjs";
import { mixes, scenarios } from "./scenarios.mjs";
import { explore, retell } from "./task.mjs";
import { parseTrace } from "./trace.mjs";

/** Characters of a schedule that nobody wants in a terminal. */
const LONG = 10_000;

const built = isMainThread ? null : loadHeap(await releaseText());

/** An exploration, in a worker. */
export const perform = (task) => explore(built, task);

async function main() {
  const { values } = argumentsOf(import.meta.url, {
    quick: false,
    scenario: "",
    seed: 1,
    kills: 0,
    replay: undefined,
    json: false,
    out: undefined,
  });
  const names = Object.keys({ ...scenarios, ...mixes }).filter((name) => name.includes(values.scenario));
  if (!names.length) fail(`no scenario is called "${values.scenario}": scenarios.mjs and alone.mjs name them`);
  if (values.replay) {
    try {
      parseTrace(values.replay);
    } catch (error) {
      fail(error.message);
    }
    const { outcome, lines } = retell(loadHeap(await releaseText()), names[0], values.kills, values.replay);
    console.log([...lines, `=> ${outcome}`].join("\n"));
    return;
  }
  const bounds = values.quick ? { maxStates: 3000, runs: 60 } : { maxStates: 200_000, runs: 5000 };
  const tasks = names.flatMap((name) => [0, 1].map((kills) => ({ name, kills, ...bounds, seed: values.seed })));
  const began = performance.now();
  const results = await performAll(import.meta.url, tasks, {
    onResult: (task, result) => values.json || console.log(describe(task, result)),
  });
  const seconds = Math.round((performance.now() - began) / 1000);
  const failed = results.filter(({ failure, error }) => failure ?? error).length;
  const states = results.reduce((sum, result) => sum + (result.states ?? 0), 0);
  if (values.out) {
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(
      values.out,
      `${JSON.stringify({ summary: summarize(results, states, failed, seconds), table: results.map(row) }, null, 1)}\n`,
    );
  }
  if (values.json) console.log(JSON.stringify(results));
  else console.log(`${results.length} explorations, ${states} states; ${failed} failed; ${seconds} s`);
  process.exitCode = failed ? 1 : 0;
}

function describe({ name, kills }, { threads, calls, states, runs, outcome, races, failure, trace, error }) {
  if (error) return `${name}: ${error}`;
  const size = runs ? `${runs} runs` : `${states} states`;
  const line = `${name.padEnd(38)} ${kills} deaths  ${threads} threads, ${calls} calls  ${size.padStart(14)}  ${races} races meant  ${outcome}`;
  if (!failure) return line;
  const again = trace.length > LONG ? `a schedule of ${trace.length} characters: --json has it` : `--replay "${trace}"`;
  return `${line}\n    ${failure}\n    --scenario "${name}" --kills ${kills} ${again}`;
}

const summarize = (results, states, failed, seconds) => ({
  explorations: results.length,
  exhausted: results.filter(({ outcome }) => outcome === "exhausted").length,
  bounded: results.filter(({ outcome }) => outcome === "bounded").length,
  failed,
  states,
  transitions: results.reduce((sum, { transitions }) => sum + transitions, 0),
  seconds,
});

const row = ({ scenario, threads, calls, deaths, states, transitions, runs, ends, outcome, races, failure }) => ({
  scenario,
  threads,
  calls,
  deaths,
  states,
  transitions,
  runs,
  ends,
  outcome,
  races,
  ...(failure ? { failure } : {}),
});

if (isMainThread) await main();
