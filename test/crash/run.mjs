// Dies at every step of every slow path, reaps, walks and goes on: `node test/crash/run.mjs [--path NAME] [--all] [--json]`.
// With one death, every step k. With two, the reaper dies as well, at its own step k': a sample of the pairs (k, k'), or with --all every k
// with some k', and every k' with SPREAD values of k, which takes a quarter of an hour.

import { isMainThread } from "node:worker_threads";
import { argumentsOf, fail } from "../../bench/arguments.mjs";
import { performAll } from "../interleave/pool.mjs";
import { paths } from "./paths.mjs";
import { Stage } from "./stage.mjs";

/** Pairs (k, k') a path is sampled with. */
const PAIRS = 400;
/** Steps k, spread over a path, that --all takes every k' with. */
const SPREAD = 6;

/** Runs `calls` with a death at step k: true if it died. */
function dies(actor, k, calls) {
  actor.arm(k);
  try {
    calls();
    actor.arm(0);
    return false;
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError) || actor.raw.countdown.value !== 0) throw error;
    return true;
  }
}

function prepare({ attached = true, isGuest, before }) {
  const stage = new Stage(isGuest);
  if (attached) stage.victim.attach();
  return { stage, state: before?.(stage) };
}

/** One case. Returns { ended } when the path ended before its k-th step, { reaped } when the reaper ended before its own, else { failure }. */
function play(path, k, reaperStep) {
  const { stage, state } = prepare(path);
  if (!dies(stage.victim, k, () => path.calls(stage.victim, state, stage))) return { ended: true };
  const { inFlight } = stage.victim;
  const dead = [stage.victim.key, ...(path.alsoDead ?? [])];
  let reaper = stage.reaper;
  let reaped = true;
  if (reaperStep > 0 && dies(reaper, reaperStep, () => dead.forEach((key) => reaper.call("reap", key)))) {
    reaped = false;
    dead.unshift(reaper.key);
    reaper = stage.survivor;
  }
  // As a host does: whoever cannot be reaped yet, since another dead thread has the lock, is tried again.
  for (let tries = 0; dead.length; ++tries) {
    if (tries === 8) return { failure: `threads ${dead} cannot be reaped: a lock is out of reach` };
    const key = dead.shift();
    if (reaper.call("reap", key) === -1) dead.push(key);
  }
  return { reaped, failure: stage.audit(inFlight) ?? stage.goOn() };
}

/** PAIRS of all pairs, as long as reaping takes after a death in the middle of the path. */
function sampled(result, check) {
  let reaping = 1;
  while (!check(Math.ceil(result.steps / 2), reaping).reaped) reaping += 7;
  const count = Math.min(PAIRS, result.steps * reaping);
  for (let i = 0; i < count; ++i) {
    if (!check(1 + (i % result.steps), 1 + Math.floor((i * reaping) / count)).reaped) ++result.pairs;
  }
}

/** Every k' after SPREAD of the deaths, and every k with one of the k' or another. */
function every(result, check) {
  let longest = 1;
  for (let i = 1; i <= SPREAD; ++i) {
    const k = Math.ceil((result.steps * i) / SPREAD);
    let r = 1;
    while (!check(k, r).reaped) ++r;
    result.pairs += r - 1;
    longest = Math.max(longest, r);
  }
  for (let k = 1; k <= result.steps; ++k) if (!check(k, 1 + ((k * 7919) % longest)).reaped) ++result.pairs;
}

/** A path with a death at each of its steps: { path, steps, pairs, failed, failures: the first few in words }. In a worker. */
export function perform({ name, all }) {
  const path = paths[name];
  const result = { path: name, steps: 0, pairs: 0, failed: 0, failures: [] };
  const check = (k, reaperStep) => {
    let outcome;
    try {
      outcome = play(path, k, reaperStep);
    } catch (error) {
      outcome = { failure: error.stack.split("\n").slice(0, 6).join(" ") };
    }
    if (outcome.failure) {
      ++result.failed;
      outcome.reaped = true; // enough of this death
      if (result.failures.length < 5)
        result.failures.push(`death at ${k}${reaperStep ? `, of the reaper at ${reaperStep}` : ""}: ${outcome.failure}`);
    }
    return outcome;
  };
  for (let k = 1; !check(k, 0).ended; ++k) result.steps = k;
  if (result.steps > 0) (all ? every : sampled)(result, check);
  return result;
}

function describe({ path, steps, pairs, failures }) {
  const counts = `${String(steps).padStart(5)} steps, ${String(pairs).padStart(5)} with the reaper's death`;
  return [`${path.padEnd(42)} ${counts}${failures.length ? "  FAILED" : ""}`, ...failures.map((failure) => `    ${failure}`)].join("\n");
}

async function main() {
  const { values } = argumentsOf(import.meta.url, { path: "", all: false, json: false });
  const names = Object.keys(paths).filter((name) => name.includes(values.path));
  if (!names.length) fail(`no path is called "${values.path}": paths.mjs names them`);
  const tasks = names.map((name) => ({ name, all: values.all }));
  const results = await performAll(import.meta.url, tasks, {
    onResult({ name }, result) {
      if (result.error) throw new Error(`${name}: ${result.error}`);
      if (!values.json) console.log(describe(result));
    },
  });
  const sum = (field) => results.reduce((total, result) => total + result[field], 0);
  if (values.json) console.log(JSON.stringify(results));
  else console.log(`${sum("steps")} deaths, and ${sum("pairs")} with the reaper's death after it; ${sum("failed")} failed`);
  process.exitCode = sum("failed") ? 1 : 0;
}

if (isMainThread) await main();
