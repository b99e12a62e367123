// Tests of the simulator on programs whose behaviour is known: `node test/interleave/selftest.mjs [NAME PART]`.
//
// For every toy: what must fail fails and its schedule replays, what is right passes exhaustively; and the search that stops
// only where it has learned to finds the same ends and the same failures as the one that stops at every access.

import { argumentsOf, fail } from "../../bench/arguments.mjs";
import { compile } from "./compile.mjs";
import { instrument } from "./instrument.mjs";
import { Machine } from "./machine.mjs";
import { RaceDetector } from "./races.mjs";
import { sample } from "./sample.mjs";
import { search } from "./search.mjs";
import { formatTrace, parseTrace, replay } from "./trace.mjs";
import { toys } from "./toys/scenarios.mjs";

const {
  positionals: [only = ""],
} = argumentsOf(import.meta.url, {}, { positionals: 1 });
const chosen = Object.entries(toys).filter(([name]) => name.includes(only));
if (!chosen.length) fail(`no toy is called "${only}": toys/scenarios.mjs names them`);
const problems = [];
const expect = (holds, what) => void (holds || problems.push(what));
const kindOf = (failure) => failure?.replace(/\d+ states/, "states") ?? null;

/** Results of all threads of all ends. */
function watched(scenario, ends) {
  return {
    ...scenario,
    check(machine) {
      ends.add(machine.threads.map(({ status, results }) => `${status} ${results}`).join("; "));
      return scenario.check?.(machine);
    },
  };
}

const built = instrument(await compile("test/interleave/toys/toys.ts"));
built.module = new WebAssembly.Module(built.bytes);
console.log(["toy", "states", "everywhere", "ends", "outcome"].map((h, i) => (i ? h.padStart(11) : h.padEnd(32))).join(""));
for (const [name, { scenario, fails, races, outcomes, kills = 0 }] of chosen) {
  const [ends, allEnds] = [new Set(), new Set()];
  const machine = new Machine(built, watched(scenario, ends));
  const result = search(machine, { kills, rounds: 0 });
  const whole = search(new Machine(built, watched(scenario, allEnds), { everywhere: true }), { kills });
  console.log(
    [name, result.states, whole.states, ends.size, result.failure ?? result.status]
      .map((c, i) => (i ? String(c).padStart(11) : c.padEnd(32)))
      .join(""),
  );
  expect(result.status === (fails ? "failed" : "exhausted"), `${name}: ${result.status} ${result.failure ?? ""}`);
  if (fails) {
    expect(fails.test(result.failure), `${name}: failed otherwise: ${result.failure}`);
    expect(fails.test(whole.failure), `${name}: with stops everywhere: ${whole.status} ${whole.failure}`);
    const again = replay(machine, parseTrace(formatTrace(result.trace)));
    expect(
      again.outcome === result.failure || /livelock/.test(result.failure),
      `${name}: replays as ${again.outcome}\n  ${again.lines.join("\n  ")}`,
    );
    if (!/livelock|beyond/.test(result.failure)) {
      const sampled = sample(new Machine(built, scenario), { kills, runs: 20_000, seed: 7 });
      expect(sampled.failure && fails.test(sampled.failure), `${name}: not found by random schedules`);
      const replayed = replay(new Machine(built, scenario), parseTrace(formatTrace(sampled.trace ?? [])));
      expect(replayed.outcome === sampled.failure, `${name}: random schedule replays as ${replayed.outcome}, was ${sampled.failure}`);
    }
  } else {
    expect(
      [...ends].sort().join() === [...allEnds].sort().join(),
      `${name}: ${ends.size} kinds of end, ${allEnds.size} with stops everywhere`,
    );
    expect(kindOf(whole.failure) === null, `${name}: with stops everywhere: ${whole.failure}`);
    const detecting = new Machine(built, scenario);
    const detector = new RaceDetector(detecting);
    sample(detecting, { kills, runs: 300, detector });
    for (const found of [...detector.found.values(), ...result.races, ...whole.races])
      expect(races?.test(found.key), `${name}: race ${found.key}`);
    expect(!races || (detector.found.size && whole.races.length), `${name}: no race found`);
  }
  if (outcomes) {
    const seen = [...new Set([...ends].map((end) => /^2 (\d+)/.exec(end)[1]))].sort().join(" ");
    expect(seen === outcomes, `${name}: thread 0 ended with ${seen}, wanted ${outcomes}`);
  }
}
console.log(problems.length ? `\n${problems.join("\n")}` : "\nthe simulator behaves");
process.exitCode = problems.length ? 1 : 0;
