// Whether the scenarios would notice: `node test/interleave/mutants.mjs [--quick] [--mutant PART] [--json] [--out FILE]`.
// Every mutant of operators.mjs must fail some scenario, without or with a death, but those in equivalents.mjs. --quick tries a
// sample. results/mutants.json, which --out wrote last, says which exploration to begin with.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { isMainThread } from "node:worker_threads";
import { argumentsOf, fail } from "../../bench/arguments.mjs";
import { cached, compile } from "./compile.mjs";
import { reasonFor } from "./equivalents.mjs";
import { loadHeap, releaseText } from "./heap.mjs";
import { disassemble } from "./linear.mjs";
import { sourceMutants, textMutants } from "./operators.mjs";
import { performAll } from "./pool.mjs";
import { sample } from "./sample.mjs";
import { mixes, scenarios } from "./scenarios.mjs";
import { explore, machineFor } from "./task.mjs";

const LAST = new URL("results/mutants.json", import.meta.url);
/** How much is explored with a mutant: a little of every scenario that comes to it, then more of so many. */
const LITTLE = { maxStates: 1000, rounds: 50, runs: 60, races: false };
const MUCH = { maxStates: 4000, runs: 200, races: true };
const DEEP = 12;
/** What is left then: of so few, nearly all. */
const MOST = { maxStates: 40_000, runs: 1000, races: false };
const DEEPEST = 5;
/** Milliseconds after which a mutant that keeps a worker busy is given up. */
const PATIENCE = 240_000;
/** Characters of a schedule that nobody reads. */
const LONG = 1000;
/** --quick tries one mutant in so many of the text, and none that must be compiled. */
const QUICK_STEP = 6;

const all = Object.keys({ ...scenarios, ...mixes }).flatMap((name) => [0, 1].map((kills) => ({ name, kills })));
const same = (a) => (b) => a.name === b.name && a.kills === b.kills;

// ---- in a worker

const text = isMainThread ? null : await releaseText();
const mutants = isMainThread ? null : new Map([...textMutants(text), ...sourceMutants()].map((mutant) => [mutant.name, mutant]));

/** Tries the mutant `name` until an exploration of `order` fails: all a little, then some of those that were not exhausted by it, then a few. */
export async function perform({ name, order }) {
  const began = performance.now();
  const built = loadHeap(await linesOf(mutants.get(name)), text);
  const tries = { explorations: 0, states: 0, runs: 0 };
  const open = [];
  for (const [limits, list] of [
    [LITTLE, () => order],
    [MUCH, () => spread(open, DEEP)],
    [MOST, () => open.slice(0, DEEPEST)],
  ]) {
    for (const exploration of list()) {
      const result = attempt(built, { ...exploration, ...limits });
      ++tries.explorations;
      tries.states += result.states;
      tries.runs += result.runs;
      if (result.failure) return { ...tries, ms: performance.now() - began, by: exploration, failure: result.failure, trace: result.trace };
      if (limits === LITTLE && result.outcome !== "exhausted") open.push(exploration);
    }
  }
  return { ...tries, ms: performance.now() - began, failure: null };
}

/** At most `count` of a list, from all over it. */
const spread = (list, count) =>
  list.filter((_, i) => Math.floor((i * count) / list.length) !== Math.floor(((i - 1) * count) / list.length));

async function linesOf(mutant) {
  if (mutant.make) return mutant.make();
  const { bytes } = await cached(`mutant ${mutant.name}`, async () => ({ bytes: await compile("assembly/index.ts", mutant.sources) }));
  return disassemble(bytes);
}

/** An exploration; calls that fail before the threads start are a failure too. */
function attempt(built, task) {
  try {
    return explore(built, task);
  } catch (error) {
    if (!/^(thread \d+ cannot attach|a call of the setup)/.test(error.message) && !(error instanceof WebAssembly.RuntimeError)) throw error;
    return { failure: `setup: ${error.message}`, trace: null, states: 0, runs: 0 };
  }
}

/** What the exploration comes to in the allocator as it is: { functions, lines of the text }; nothing if that fails already. */
function reachOf(built, { name, kills }) {
  if (explore(built, { name, kills, ...LITTLE }).failure) return { functions: [], lines: [] };
  const machine = machineFor(built, name, kills);
  const reached = new Set();
  machine.onAccess = (_, { point }) => void reached.add(built.points[point]);
  for (const strategy of ["random", "pct"]) sample(machine, { kills, runs: 100, strategy });
  return { functions: [...new Set([...reached].map(({ fn }) => fn))], lines: [...reached].map(({ line }) => line) };
}

// ---- the tries

async function main() {
  const { values } = argumentsOf(import.meta.url, { quick: false, mutant: "", json: false, out: undefined });
  const lines = await releaseText();
  const listed = [...textMutants(lines), ...sourceMutants()].filter(({ name }) => name.includes(values.mutant));
  if (!listed.length) fail(`no mutant is called "${values.mutant}"`);
  const chosen = values.quick ? listed.filter(({ name, make }, i) => make && i % QUICK_STEP === 0 && !reasonFor(name)) : listed;
  const { reach } = await cached("reach", async () => {
    const built = loadHeap(lines);
    process.stderr.write("what each scenario comes to\n");
    return { bytes: Buffer.alloc(0), reach: all.map((exploration) => reachOf(built, exploration)) };
  });
  for (const i of all.keys())
    if (!reach[i].lines.length) process.stderr.write(`fails without a mutant, left out: ${all[i].name}, ${all[i].kills} deaths\n`);
  const last = existsSync(LAST) ? JSON.parse(readFileSync(LAST, "utf8")).mutants : [];
  const killers = new Map(last.map(({ name, by }) => [name, by]));
  const tasks = chosen.map(({ name, fn, line }) => ({ name, order: orderFor({ name, fn, line }, reach, killers.get(name)) }));
  const began = performance.now();
  const results = [];
  await performAll(import.meta.url, tasks, {
    patience: PATIENCE,
    onResult({ name }, result) {
      results.push({ name, reason: reasonFor(name), ...result });
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      process.stderr.write(`${String(results.length).padStart(4)}/${tasks.length} ${seconds.padStart(5)} s  ${describe(results.at(-1))}\n`);
    },
  });
  report(results, values, (performance.now() - began) / 1000);
}

/**
 * The explorations for a mutant: the one that killed it last, those that come to its line, those that come to another line of its function,
 * and all others, of which some may come to a line that only calls; not those for a mutant that nothing is expected to tell.
 */
function orderFor({ name, fn, line }, reach, killer) {
  const first = killer ? all.filter(same(killer)) : [];
  const sound = all.filter((_, i) => reach[i].lines.length);
  const exact = all.filter((_, i) => reach[i].lines.includes(line));
  const near = all.filter((_, i) => reach[i].functions.includes(fn));
  const rest = reasonFor(name) && near.length ? [] : sound;
  return [...first, ...exact, ...near, ...rest].filter((exploration, i, list) => list.findIndex(same(exploration)) === i);
}

const outcomeOf = ({ failure, error, reason }) =>
  error ? "error" : failure ? (reason ? "killed, though listed as equivalent" : "killed") : reason ? "equivalent" : "SURVIVED";

function describe(result) {
  const { name, by, failure, error, reason, explorations, states } = result;
  const where = by
    ? `${by.name}, ${by.kills} deaths, after ${explorations} explorations, ${states} states: ${failure}`
    : (error ?? reason ?? "");
  return `${outcomeOf(result).padEnd(10)} ${name}${where ? `\n${" ".repeat(26)}${where.slice(0, 160)}` : ""}`;
}

/** A line a mutant, without schedules too long to read. */
function table(summary, mutants) {
  const rows = mutants.map((mutant) => JSON.stringify(mutant.trace?.length > LONG ? { ...mutant, trace: undefined } : mutant));
  return `{"summary":${JSON.stringify(summary)},"mutants":[\n${rows.join(",\n")}\n]}\n`;
}

function report(results, { json, out, quick }, seconds) {
  const count = (outcome) => results.filter((result) => outcomeOf(result) === outcome).length;
  const killed = count("killed");
  const equivalent = count("equivalent");
  const wrong = results.filter((result) => !["killed", "equivalent"].includes(outcomeOf(result)));
  const summary = { tried: results.length, killed, equivalent, survived: count("SURVIVED"), seconds: Math.round(seconds), quick };
  const mutants = results
    .map((result) => ({ ...result, outcome: outcomeOf(result), ms: Math.round(result.ms) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (out) mkdirSync(dirname(out), { recursive: true });
  if (out) writeFileSync(out, table(summary, mutants));
  if (json) console.log(JSON.stringify({ summary, mutants }));
  else {
    for (const result of wrong) console.log(describe(result));
    console.log(
      `${results.length} mutants: ${killed} killed, ${equivalent} equivalent, ${wrong.length} not as they should be; ${summary.seconds} s`,
    );
  }
  process.exitCode = wrong.length ? 1 : 0;
}

if (isMainThread) await main();
