// Dies at every step of every slow path, reaps, walks and goes on: `node test/crash/run.mjs [--path NAME] [--all] [--json]`.
// With one death, every step k. With two, the reaper dies as well: steps k of the path and k' of the reaping, a sample of all
// pairs that has every k and every k' in it; --all takes all pairs.

import { parseArgs } from "node:util";
import { paths } from "./paths.mjs";
import { Stage } from "./stage.mjs";

const { values } = parseArgs({
  options: { path: { type: "string", default: "" }, all: { type: "boolean", default: false }, json: { type: "boolean", default: false } },
});
/** Pairs (k, k') a path is sampled with. */
const PAIRS = 400;

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

function prepare({ attached = true, before }) {
  const stage = new Stage();
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

const results = [];
let failed = 0;
for (const [name, path] of Object.entries(paths)) {
  if (!name.includes(values.path)) continue;
  const result = { path: name, steps: 0, pairs: 0, failures: [] };
  const check = (k, reaperStep) => {
    let outcome;
    try {
      outcome = play(path, k, reaperStep);
    } catch (error) {
      outcome = { failure: error.stack.split("\n").slice(0, 6).join(" ") };
    }
    if (outcome.failure) {
      ++failed;
      if (result.failures.length < 5)
        result.failures.push(`death at ${k}${reaperStep ? `, of the reaper at ${reaperStep}` : ""}: ${outcome.failure}`);
    }
    return outcome;
  };
  for (let k = 1; !check(k, 0).ended; ++k) result.steps = k;
  // How long reaping takes differs with k: find out for the last step, and sample around it.
  let reaping = 1;
  while (result.steps > 0 && reaping < 1 << 14 && !check(Math.ceil(result.steps / 2), reaping).reaped) reaping += values.all ? 1 : 7;
  if (values.all) {
    for (let k = 1; k <= result.steps; ++k) for (let r = 1; !check(k, r).reaped; ++r) ++result.pairs;
  } else {
    const count = Math.min(PAIRS, result.steps * reaping);
    for (let i = 0; i < count; ++i) {
      const k = 1 + (i % result.steps);
      const r = 1 + Math.floor((i * reaping) / count);
      if (!check(k, r).reaped) ++result.pairs;
    }
  }
  results.push(result);
  if (!values.json) {
    console.log(
      `${name.padEnd(42)} ${String(result.steps).padStart(5)} steps, ${String(result.pairs).padStart(5)} with the reaper's death${result.failures.length ? "  FAILED" : ""}`,
    );
    for (const failure of result.failures) console.log(`    ${failure}`);
  }
}
const sum = (field) => results.reduce((total, result) => total + result[field], 0);
if (values.json) console.log(JSON.stringify(results));
else console.log(`${sum("steps")} deaths, and ${sum("pairs")} with the reaper's death after it; ${failed} failed`);
process.exitCode = failed ? 1 : 0;
