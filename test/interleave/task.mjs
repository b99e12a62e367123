// One scenario explored: what run.mjs and mutants.mjs hand to their workers.

import { heapScenario } from "./heap.mjs";
import { Machine } from "./machine.mjs";
import { RaceDetector, isMeant } from "./races.mjs";
import { sample } from "./sample.mjs";
import { mixes, scenarios } from "./scenarios.mjs";
import { search } from "./search.mjs";
import { formatTrace, parseTrace, replay } from "./trace.mjs";

/** Random runs in which the race detector watches a scenario that has been searched. */
const WATCHED_RUNS = 40;

export const machineFor = (built, name, kills) => new Machine(built, heapScenario(built, scenarios[name] ?? mixes[name], kills));

/**
 * Explores scenario or mix `name` with up to `kills` deaths: a search of at most `maxStates` states after `rounds` random runs, or `runs` random runs of a mix.
 * `races: false` only looks for failures.
 */
export function explore(built, { name, kills = 0, maxStates, rounds, runs, seed = 1, races = true }) {
  const machine = machineFor(built, name, kills);
  const detector = races ? new RaceDetector(machine) : null;
  const searched = name in scenarios;
  const result = searched ? search(machine, { kills, maxStates, rounds, seed }) : sample(machine, { kills, runs, seed, detector });
  if (searched && races && !result.failure) sample(machine, { kills, runs: WATCHED_RUNS, seed, detector });
  const found = new Set([...(detector?.found.keys() ?? []), ...(result.races ?? []).map(({ key }) => key)]);
  const unmeant = races ? [...found].filter((key) => !isMeant(key)) : [];
  const failure = result.failure ?? (unmeant.length ? `races: ${unmeant.join("; ")}` : null);
  const trace = result.trace ? formatTrace(result.trace) : null;
  return {
    scenario: name,
    threads: machine.threads.filter(({ spec }) => !spec.dormant).length,
    calls: machine.threads.reduce((sum, { spec }) => sum + (spec.dormant ? 0 : spec.steps.length), 0),
    deaths: kills,
    outcome: failure ? "failed" : result.status,
    states: result.states ?? 0,
    transitions: result.transitions ?? 0,
    ends: result.ends ?? 0,
    runs: result.runs ?? 0,
    seed: result.seed ?? seed,
    contendedWords: machine.contention.count,
    races: found.size,
    failure,
    trace,
    story: trace ? retell(built, name, kills, trace).lines : [],
  };
}

/** Runs a schedule again: { outcome, lines }. */
export function retell(built, name, kills, trace) {
  const machine = machineFor(built, name, kills);
  return replay(machine, parseTrace(trace), machine.scenario.nameOf);
}
