// Every interleaving of the heap's scenarios: `node test/interleave/run.mjs [--quick] [--scenario PART] [--json] [--replay TRACE]`.
//
// Searches each scenario without and with a death, runs the mixes on random schedules, and detects races in all of them.
// --quick bounds the states of each search. A failure prints its schedule; --replay with --scenario NAME and --kills N runs it again.

import { parseArgs } from "node:util";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { heapScenario, loadHeap, releaseText } from "./heap.mjs";
import { Machine } from "./machine.mjs";
import { RaceDetector, isMeant } from "./races.mjs";
import { sample } from "./sample.mjs";
import { mixes, scenarios } from "./scenarios.mjs";
import { search } from "./search.mjs";
import { formatTrace, parseTrace, replay } from "./trace.mjs";

/** [states of a search, random runs of a mix] at most. */
const BOUNDS = { quick: [40_000, 300], full: [1_000_000, 10_000] };

/** Does one task { name, kills, bounds, seed } with the heap's modules. */
export function perform(built, { name, kills, bounds: [maxStates, runs], seed }) {
  const spec = scenarios[name] ?? mixes[name];
  const machine = new Machine(built, heapScenario(built, spec, kills));
  const detector = new RaceDetector(machine);
  let result;
  if (name in scenarios) {
    result = search(machine, { kills, maxStates, seed });
    if (!result.failure) sample(machine, { kills, runs: 30, seed, detector });
  } else {
    result = sample(machine, { kills, runs, seed, detector });
  }
  const races = new Map([...detector.found, ...(result.races ?? []).map((race) => [race.key, race])]);
  const unmeant = [...races.keys()].filter((key) => !isMeant(key));
  const trace = result.trace ? formatTrace(result.trace) : null;
  const failure = result.failure ?? (unmeant.length ? `race: ${unmeant[0]}` : null);
  return {
    name,
    kills,
    threads: spec.threads.length,
    calls: spec.threads.map(({ steps }) => (typeof steps === "function" ? "?" : steps.length)),
    status: failure ? "failed" : result.status,
    states: result.states ?? 0,
    transitions: result.transitions ?? 0,
    ends: result.ends ?? 0,
    runs: result.runs ?? 0,
    seed: result.seed ?? seed,
    races: races.size,
    unmeant,
    words: result.words ?? 0,
    failure,
    trace,
    lines: trace ? replay(new Machine(built, heapScenario(built, spec, kills)), parseTrace(trace), machine.scenario.nameOf).lines : [],
  };
}
