// Plays a scenario: hosts, machine, heap and load are made, the events happen at their times while the load goes on, and in the end
// everything is looked at. An event waits for the one before; what cannot be done is reported, and the next one gets its turn.

import type { HeapWalk } from "../heap/inspect.js";
import { Host } from "../host/host.js";
import type { Vm } from "../host/vm.js";
import { wallClock } from "../hypervisor/connection.js";
import { ScenarioError } from "./errors.js";
import { type FoundScenario, findTrace } from "./file.js";
import { compareMaps } from "./compare.js";
import { Listeners } from "./listeners.js";
import { Load } from "./load.js";
import { Observer } from "./observer.js";
import { perform, type Stage } from "./perform.js";
import type { Scenario } from "./parse.js";
import { blankResult, type EventReport, isSound, type Outcome, type ScenarioResult, wordsOf } from "./result.js";
import type { ScenarioEvent } from "./schema.js";

/** Where a scenario is, as of a moment ago. */
export interface ScenarioProgress {
  /** Milliseconds since the load began. */
  readonly ms: number;
  /** The load's: times the trace was run before, share of this time, bytes of live blocks and of the heap. */
  readonly round: number;
  readonly share: number;
  readonly liveBytes: number;
  readonly committedBytes: number;
  /** Share of all allocations that were local, so far. */
  readonly local: number;
  readonly eventsOver: number;
  readonly events: number;
  /** What has gone wrong in the load so far, and the first of it in words, a moment later. */
  readonly failures: number;
  readonly failure: string | undefined;
}

/** Whoever looks on. */
export interface Watcher {
  /** A step that is not an event: booting, checking. */
  onStep?(words: string): void;
  onBegin?(event: ScenarioEvent, beganMs: number): void;
  onEnd?(event: ScenarioEvent, outcome: Outcome | null, error: string | null, ms: number): void;
  onProgress?(progress: ScenarioProgress): void;
}

/** An event that takes longer than this and its own time hangs. */
const PATIENCE_MS = 120_000;
const TICK_MS = 200;
/** The load goes on for so long after the last event, so that what follows from it can be counted. */
const REST_MS = 400;

/** @throws {ScenarioError} NUMAHEAP_SCENARIO_HUNG */
async function inTime<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ScenarioError("NUMAHEAP_SCENARIO_HUNG", "", `${what} has not ended in ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, hung]);
  } finally {
    clearTimeout(timer);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function runScenario({ scenario, folder }: FoundScenario, watcher: Watcher = {}): Promise<ScenarioResult> {
  const result = blankResult(scenario);
  const run = new Run(scenario, result, watcher);
  try {
    await run.play(folder);
  } catch (error) {
    result.failures.push(wordsOf(error));
  } finally {
    await run.end();
  }
  result.ok = isSound(result);
  return result;
}

class Run {
  readonly #hosts: Host[] = [];
  #listeners: Listeners | undefined;
  #load: Load | undefined;
  #eventsOver = 0;

  constructor(
    private readonly scenario: Scenario,
    private readonly result: ScenarioResult,
    private readonly watcher: Watcher,
  ) {}

  async play(folder: string): Promise<void> {
    const { scenario, result, watcher } = this;
    watcher.onStep?.("reading the trace");
    const trace = await findTrace(scenario.load.trace, folder);
    watcher.onStep?.("booting");
    const { machine, destination } = scenario;
    const host = await this.#host(machine);
    const other = destination && (await this.#host(destination));
    result.platform = host.description;
    const vm = await this.#boot(host);
    const heap = await vm.createHeap();
    const listeners = (this.#listeners = await Listeners.start(heap, scenario.load.listeners, vm.vcpus));
    const { threads, verify } = scenario.load;
    const load = (this.#load = await Load.prepare(trace, vm, heap, { threads, verify, nodes: machine.nodes.length }));
    const stage: Stage = { host, other, vm, heap, load };
    await this.#playEvents(stage, listeners);
    watcher.onStep?.("looking at everything");
    await listeners.detach();
    result.maps = await compareMaps(stage);
    await this.#look(stage);
  }

  async #host(topology: Scenario["machine"]): Promise<Host> {
    const host = await Host.create({ hypervisor: this.scenario.hypervisor, topology });
    this.#hosts.push(host);
    return host;
  }

  #boot(host: Host): Promise<Vm> {
    const { guest, mode, placement, vm } = this.scenario;
    return host.boot({ guest, mode, ...vm, ...(placement && { placement }) });
  }

  async #playEvents(stage: Stage, listeners: Listeners): Promise<void> {
    const { load } = stage;
    const { result } = this;
    const zero = await load.begin();
    const observer = new Observer(stage, listeners, zero);
    const report = (one: EventReport | undefined): void => void (one && result.events.push(one));
    const ticker = setInterval(() => this.#tick(load, zero), TICK_MS);
    // What fails here fails again at the next event, where somebody waits for it.
    const collector = setInterval(() => void observer.collect().catch(() => {}), TICK_MS);
    try {
      for (const event of this.scenario.events) {
        while (!load.ended && wallClock() < zero + event.at) await sleep(Math.min(20, zero + event.at - wallClock()));
        if (load.ended) throw new Error("the load has ended before its time: events are left");
        const { begun, before } = await observer.begin(event);
        report(before);
        this.watcher.onBegin?.(event, begun.sample.time - zero);
        const [outcome, error] = await this.#done(event, stage);
        const ms = await observer.end(begun, outcome, error);
        ++this.#eventsOver;
        this.watcher.onEnd?.(event, outcome, error, ms);
      }
      const end = wallClock() + REST_MS;
      while (!load.ended && wallClock() < end) await sleep(20);
    } finally {
      clearInterval(collector);
      await this.#finish(load);
      clearInterval(ticker);
      this.#tick(load, zero);
      report(await observer.close());
    }
  }

  /** Does an event; its outcome, or why it could not be done. */
  async #done(event: ScenarioEvent, stage: Stage): Promise<[Outcome | null, string | null]> {
    const patience = PATIENCE_MS + (event.do === "storm" ? event.for : 0);
    try {
      return [await inTime(perform(event, stage), patience, event.do), null];
    } catch (error) {
      if (error instanceof ScenarioError) throw error;
      return [null, wordsOf(error)];
    }
  }

  async #finish(load: Load): Promise<void> {
    const { result: replay, stats, workerSeconds } = await inTime(load.finish(), PATIENCE_MS, "the last round of the load");
    Object.assign(this.result, { replay, workerSeconds, heapNodes: stats?.nodes ?? [] } satisfies Partial<ScenarioResult>);
  }

  #tick(load: Load, zero: number): void {
    const { local, remote } = load.locality;
    const { round = 0, done = 0, events = 0, liveBytes = 0, committedBytes = 0, failures = 0, failure } = load.progress ?? {};
    this.watcher.onProgress?.({
      ms: wallClock() - zero,
      round,
      share: events > 0 ? done / events : 0,
      liveBytes,
      committedBytes,
      local: local + remote > 0 ? local / (local + remote) : 0,
      eventsOver: this.#eventsOver,
      events: this.scenario.events.length,
      failures,
      failure,
    });
  }

  /** The heap's last walk, all being freed, and what the kernel has to say. */
  async #look({ vm, heap }: Stage): Promise<void> {
    const goOn = await vm.guest.hold();
    let walk: HeapWalk;
    try {
      walk = heap.walk({ live: [] });
    } finally {
      goOn();
    }
    const { problems, unaccounted } = walk;
    const lost = unaccounted.map(({ ptr, size }) => `a block of ${size} bytes at 0x${ptr.toString(16)} is nobody's`);
    this.result.walk = problems.length + lost.length === 0 ? "ok" : [...problems, ...lost];
    this.result.problems = [...(await vm.guest.check()), ...(await vm.guest.problems()).map(wordsOf)];
  }

  /** Ends all threads, whatever they are doing. */
  async end(): Promise<void> {
    await this.#load?.replay.dismiss();
    await this.#listeners?.terminate();
    const disposed = Promise.all(this.#hosts.map((host) => host.dispose()));
    await inTime(disposed, PATIENCE_MS, "the end of the hosts").catch((error: unknown) => void this.result.failures.push(wordsOf(error)));
  }
}
