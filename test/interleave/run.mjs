// Every interleaving of the heap's scenarios: `node test/interleave/run.mjs [--quick] [--scenario PART] [--seed N] [--json] [--replay TRACE --kills N]`.
// Each scenario is searched without and with a death, the mixes run on random schedules, and races are looked for in all of them.
// --quick bounds the states of each search. A failure prints a schedule that replays.

import { parseArgs } from "node:util";
import { loadHeap, releaseText } from "./heap.mjs";
import { mixes, scenarios } from "./scenarios.mjs";
import { explore, retell } from "./task.mjs";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    scenario: { type: "string", default: "" },
    seed: { type: "string", default: "1" },
    kills: { type: "string", default: "0" },
    replay: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const bounds = values.quick ? { maxStates: 3000, runs: 60 } : { maxStates: 200_000, runs: 5000 };
const built = loadHeap(await releaseText());
const names = Object.keys({ ...scenarios, ...mixes }).filter((name) => name.includes(values.scenario));

if (values.replay) {
  const { outcome, lines } = retell(built, names[0], Number(values.kills), values.replay);
  console.log([...lines, `=> ${outcome}`].join("\n"));
  process.exit(0);
}

const results = [];
for (const name of names) {
  for (const kills of [0, 1]) {
    const result = explore(built, { name, kills, ...bounds, seed: Number(values.seed) });
    results.push(result);
    if (values.json) continue;
    const { threads, calls, states, runs, outcome, races } = result;
    const size = runs ? `${runs} runs` : `${states} states`;
    console.log(
      `${name.padEnd(38)} ${kills} deaths  ${threads} threads, ${calls} calls  ${size.padStart(14)}  ${races} races meant  ${outcome}`,
    );
    if (result.failure) console.log(`    ${result.failure}\n    --scenario "${name}" --kills ${kills} --replay "${result.trace}"`);
  }
}
const failed = results.filter(({ failure }) => failure).length;
if (values.json) console.log(JSON.stringify(results));
else console.log(`${results.length} explorations, ${results.reduce((sum, { states }) => sum + states, 0)} states; ${failed} failed`);
process.exitCode = failed ? 1 : 0;
