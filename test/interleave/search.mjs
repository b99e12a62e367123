// Every order of the threads' steps, by search over whole states: a state seen before is not explored again. Depth first, so that a
// search that is cut off has seen many ends; breadth first once more when something fails, for a short counterexample. A livelock is
// a state from which no end can be reached.

import { Kind, isPlain, isWrite } from "./linear.mjs";
import { Status } from "./thread.mjs";
import { explain } from "./races.mjs";
import { sample } from "./sample.mjs";

/** Rounds of a thread that only reads the same word, more than anybody spins before it sleeps. */
const PATIENCE = 300;

/**
 * Searches a machine's states, with up to `kills` deaths of threads that are not immortal.
 * Returns { status: "exhausted" | "bounded" | "failed", states, transitions, ends, failure, trace, races, words }.
 * `rounds` random runs come first: they learn most contended words cheaply, and each word learned later starts the search anew.
 */
export function search(machine, { kills = 0, maxStates = 200_000, rounds = 200, seed = 1 } = {}) {
  const { contention } = machine;
  if (!contention.everywhere && rounds) {
    const first = sample(machine, { kills, runs: rounds, seed, strategy: "random" });
    if (first.failure) return { ...first, states: 0, transitions: 0, ends: 0, restarts: 0, races: [], words: contention.count };
  }
  for (let restarts = 0; ; ++restarts) {
    contention.learned = false;
    let result = new Search(machine, kills, maxStates, "deep").run();
    if (contention.learned) continue;
    if (result.failure) {
      const shorter = new Search(machine, kills, 2 * result.states, "broad").run();
      if (shorter.failure && !contention.learned) result = shorter;
    }
    return { ...result, restarts, words: contention.count };
  }
}

class Search {
  constructor(machine, kills, maxStates, order) {
    Object.assign(this, { machine, kills, maxStates, order });
    this.todo = [];
    this.ids = new Map();
    this.keys = [];
    /** Per state: the state it was first reached from and how. */
    this.parents = [];
    this.steps = [];
    this.from = [];
    this.to = [];
    this.transitions = 0;
    this.ends = new Set();
    this.races = new Map();
  }

  run() {
    const { machine } = this;
    machine.choose = null;
    machine.stopsAt = null;
    machine.reset();
    this.add(-1, null);
    machine.onMayDie = (thread) => this.forkDeath(thread, this.step(thread, this.passed + machine.count));
    const { contention } = machine;
    for (let at = 0; this.order === "deep" ? this.todo.length > 0 : at < this.todo.length; ++at) {
      if (this.keys.length >= this.maxStates) return this.result("bounded");
      const failure = this.expand(this.order === "deep" ? this.todo.pop() : this.todo[at]);
      if (contention.learned) return this.result("learned");
      if (failure) return this.result("failed", failure);
    }
    const stuck = this.findLivelock();
    return stuck ? this.result("failed", stuck) : this.result("exhausted");
  }

  result(status, failure) {
    this.machine.onMayDie = null;
    return {
      status,
      states: this.keys.length,
      transitions: this.transitions,
      ends: this.ends.size,
      races: [...this.races.values()],
      failure: failure?.why ?? null,
      trace: failure ? this.path(failure.state, failure.step) : null,
    };
  }

  step(thread, count, ended = false) {
    return { thread: thread.id, count, ended };
  }

  /** Adds the machine's state as a successor of state `parent`. */
  add(parent, step, killed = -1) {
    const key = this.machine.save();
    let id = this.ids.get(key);
    if (id === undefined) {
      id = this.keys.push(key) - 1;
      this.ids.set(key, id);
      this.parents.push(parent);
      this.steps.push(killed >= 0 ? { ...step, killed } : step);
      this.todo.push(id);
    }
    if (parent >= 0) {
      this.from.push(parent);
      this.to.push(id);
    }
    return id;
  }

  /** All successors of state `n`. Returns a failure, if there is one. */
  expand(n) {
    const { machine } = this;
    this.current = n;
    const key = this.keys[n];
    machine.restore(key);
    const runnable = machine.runnable().map(({ id }) => id);
    if (runnable.length === 0) {
      this.ends.add(n);
      const why = machine.verdict();
      return why ? { why, state: n } : null;
    }
    this.findRaces();
    for (const id of runnable) {
      machine.restore(key);
      const failure = this.follow(n, machine.threads[id]);
      if (failure || machine.contention.learned) return failure;
    }
    return null;
  }

  follow(n, thread) {
    const { machine } = this;
    const { kind, point, address } = thread.op;
    this.passed = 0; // accesses before this run
    machine.woken = [];
    ++this.transitions;
    for (let spins = 0; ; ++spins) {
      machine.run(thread);
      this.passed += machine.count;
      const ended = machine.outcome !== null || thread.op.kind === Kind.Call || thread.status === Status.Blocked;
      const step = this.step(thread, this.passed + (ended ? 1 : 0), ended);
      if (machine.contention.learned) return null;
      if (machine.outcome) return { why: machine.outcome, state: n, step };
      // A thread that has only read, and is back where it was, differs in how long it will go on waiting, if at all; unless it counts
      // something else, as a walk over all pages does.
      const back = thread.op.point === point && thread.op.address === address && thread.op.kind === kind && point >= 0;
      if (!back || spins === PATIENCE || machine.wrote || (kind !== Kind.Load && kind !== Kind.PlainLoad)) {
        this.add(n, step);
        this.forkDeath(thread, step);
        for (const woken of machine.woken) this.forkDeath(woken, step);
        return null;
      }
    }
  }

  /** Adds the state in which `thread` dies now. */
  forkDeath(thread, step) {
    const { machine } = this;
    if (machine.deaths.length >= this.kills || thread.spec.immortal || thread.status === Status.Dead) return;
    const { status, tail } = thread;
    const { mayOversleep } = machine;
    const queue = [...machine.queue];
    const reaper = machine.threads.find((other) => other.status === Status.Dormant);
    machine.kill(thread);
    this.add(this.current, step, thread.id);
    machine.deaths.pop();
    machine.mayOversleep = mayOversleep;
    machine.queue = queue;
    thread.status = status;
    thread.tail = tail;
    thread.number = -1;
    if (reaper) {
      reaper.status = Status.Dormant;
      reaper.number = -1;
    }
  }

  /** Two threads about to touch the same word, one of them to write it, not both by an atomic operation. */
  findRaces() {
    const ops = this.machine.threads
      .filter((thread) => thread.isRunnable && thread.op.size > 0 && thread.op.kind !== Kind.Wake)
      .map(({ op }) => op);
    ops.forEach((a, i) => {
      for (const b of ops.slice(i + 1)) {
        if (!(isPlain(a.kind) || isPlain(b.kind)) || !spans(a).some((x) => spans(b).some((y) => collide(x, y)))) continue;
        const race = explain(this.machine, a, b);
        if (!this.races.has(race.key)) this.races.set(race.key, race);
      }
    });
  }

  findLivelock() {
    const good = new Uint8Array(this.keys.length);
    const before = Array.from({ length: this.keys.length }, () => []);
    this.to.forEach((to, edge) => before[to].push(this.from[edge]));
    const todo = [...this.ends];
    for (const n of todo) good[n] = 1;
    while (todo.length) {
      for (const n of before[todo.pop()]) {
        if (good[n]) continue;
        good[n] = 1;
        todo.push(n);
      }
    }
    const state = good.indexOf(0);
    return state < 0 ? null : { why: `livelock: no end can be reached from ${good.filter((x) => !x).length} states`, state };
  }

  path(state, last) {
    const out = last ? [last] : [];
    for (let n = state; this.parents[n] >= 0; n = this.parents[n]) {
      const { killed, ...step } = this.steps[n];
      if (killed !== undefined) out.push({ killed });
      out.push(step);
    }
    return out.reverse();
  }
}

/** What an operation touches: [first byte, byte after the last, written?]. */
function spans({ kind, address, size, source }) {
  const target = [address, address + size, isWrite(kind)];
  return source < 0 ? [target] : [target, [source, source + size, false]];
}

const collide = ([from, to, writes], [start, end, writesToo]) => from < end && start < to && (writes || writesToo);
