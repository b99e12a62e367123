// Random schedules with a seed: for cases too large to search, and to learn which words are contended before a search.
//
// `pct` is Burckhardt et al.'s strategy: random priorities, the highest runs, and at `depth` - 1 random places the running
// thread's priority drops below all others. `random` picks anybody at every stop.

import { Kind } from "./linear.mjs";
import { Status } from "./thread.mjs";

/** Stops in a run that no correct scenario needs. */
const MOST_STOPS = 100_000;

export function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const strategies = {
  random: (random) => ({ pick: (runnable) => runnable[Math.floor(random() * runnable.length)] }),
  pct(random, { threads, depth, stops }) {
    const priorities = threads.map((_, i) => depth + i);
    for (let i = priorities.length - 1; i > 0; --i) {
      const j = Math.floor(random() * (i + 1));
      [priorities[i], priorities[j]] = [priorities[j], priorities[i]];
    }
    const drops = new Map(Array.from({ length: depth - 1 }, (_, i) => [1 + Math.floor(random() * stops), i]));
    let stop = 0;
    let lowest = -1;
    let before = null;
    return {
      pick(runnable, current) {
        const drop = drops.get(++stop);
        if (current && drop !== undefined) priorities[current.id] = drop;
        // A thread back at the same place waits for somebody: it gives way.
        const place = current && `${current.id} ${current.op.point} ${current.op.address}`;
        if (current && place === before && !current.machine.wrote) priorities[current.id] = lowest--;
        if (current) current.machine.wrote = false;
        before = place;
        return runnable.reduce((a, b) => (priorities[b.id] > priorities[a.id] ? b : a));
      },
    };
  },
};

/**
 * Up to `runs` random runs with up to `kills` deaths. Returns { status: "sampled" | "failed", runs, failure, trace, seed of the
 * failing run }. `seed` and `runs` make it repeatable.
 */
export function sample(machine, { kills = 0, runs = 1000, seed = 1, depth = 3, strategy = "pct", detector = null } = {}) {
  // How long runs are, as far as is known: where preemptions and deaths are put.
  let stops = 10;
  let accesses = 10;
  for (let i = 0; i < runs; ++i) {
    const random = randomNumbers(seed + i);
    const pilot = strategies[strategy](random, { threads: machine.threads, depth, stops });
    const deaths = Array.from({ length: kills }, () => Math.floor(random() * accesses)).sort((a, b) => a - b);
    const run = runOnce(machine, pilot, deaths, detector);
    if (machine.outcome === "learned") {
      machine.contention.learned = false;
      continue;
    }
    stops = Math.max(stops, run.stops);
    accesses = Math.max(accesses, run.accesses);
    if (machine.outcome) return { status: "failed", runs: i + 1, failure: machine.outcome, trace: run.trace, seed: seed + i };
  }
  return { status: "sampled", runs, failure: null, trace: null, seed };
}

function runOnce(machine, pilot, deaths, detector) {
  const run = { trace: [], stops: 0, accesses: 0 };
  let doomed = null;
  machine.reset();
  machine.detector = detector;
  detector?.reset();
  machine.onMayDie = null;
  machine.stopsAt = (thread, op) => {
    if (++run.accesses > deaths[machine.deaths.length] && !thread.spec.immortal) {
      doomed = thread;
      return true;
    }
    return machine.contention.stops(op);
  };
  machine.choose = (current) => {
    if (machine.contention.learned) machine.fail("learned");
    if (machine.outcome) return null;
    const note = () => {
      if (!current) return;
      const ended = current.op.kind === Kind.Call || current.status !== Status.Ready;
      run.trace.push({ thread: current.id, count: machine.count + (ended ? 1 : 0), ended });
    };
    if (doomed) {
      note();
      run.trace.push({ killed: doomed.id });
      machine.kill(doomed);
      doomed = current = null;
    }
    const runnable = machine.runnable();
    if (runnable.length === 0 || ++run.stops > MOST_STOPS) {
      note();
      machine.fail(runnable.length ? `no end after ${MOST_STOPS} stops` : machine.verdict());
      return null;
    }
    const next = pilot.pick(runnable, current?.isRunnable ? current : null);
    if (next !== current || next.isBetweenCalls || next.status === Status.Blocked) note();
    return next;
  };
  let thread = machine.choose(null);
  while (thread) {
    machine.next = null;
    machine.run(thread);
    if (machine.outcome?.startsWith("trap")) run.trace.push({ thread: thread.id, count: machine.count + 1, ended: true });
    thread = machine.next;
  }
  machine.choose = null;
  machine.stopsAt = null;
  machine.detector = null;
  return run;
}
