// Replays a trace on real threads over one shared heap. The events lie in the same memory, below the heap, and each worker
// runs its share in WebAssembly (assembly/replay.ts); here is the conducting: memory, workers, rounds, kills, the storm, the audit.

import { errorOf } from "../heap/errors.js";
import { HEAP_PAGE, WASM_PAGE } from "../heap/exports.js";
import { inspect, type HeapStats, type Inspector, type UnaccountedBlock } from "../heap/inspect.js";
import { CrewError, pause, Seat, watch } from "./crew.js";
import { type Engine, instantiate } from "./engine.js";
import { REALLOC, type Trace } from "./format.js";
import { type Ground, type GroundMaker, ownGround } from "./ground.js";
import { type Area, deal, type Deal, histogramsOf, layOut, resetRound, workerRecord, writePlan } from "./plan.js";
import { seeded } from "./random.js";
import * as L from "./replay-layout.js";
import { type CutOffCall, cutOffCallOf, failuresOf, latencyOf, liveBlocks, type ReplayResult, unexplained } from "./report.js";
import { Storm } from "./storm.js";

/** Most workers; the heap has room for as many threads and a few more. */
export const MAX_WORKERS = 128;
/** Workers a trace is folded onto unless told otherwise. */
export const DEFAULT_WORKERS = 8;
export const DEFAULT_NODES = 4;
/** 4 GiB less a page of WebAssembly. */
export const DEFAULT_MAX_MEMORY = 2 ** 32 - WASM_PAGE;

/** Kills spread over one round, about. */
const KILLS_PER_ROUND = 20;

export interface ReplayOptions {
  /** Workers, 1 to MAX_WORKERS. Default: as many as the trace has threads, at most DEFAULT_WORKERS. */
  threads?: number;
  /** Nodes, 1 to 32. Worker w runs on vCPU w, which begins on node w mod nodes. */
  nodes?: number;
  /** Most bytes the heap may claim, its metadata included. */
  maxMemory?: number;
  /** Fill every block with a pattern and verify it. Default true. */
  verify?: boolean;
  /** Topology changes a second, 0 = none. */
  storm?: number;
  /** Workers to terminate and replace, 0 = none. */
  kill?: number;
  seed?: number;
  /** Measure every allocation and a call that does nothing, in turns. */
  latency?: boolean;
  /** Called a few times a second while events run. */
  onProgress?: (progress: ReplayProgress) => void;
  /** Asked after every round, while what the trace leaves alive still is: whether to run the trace once more. */
  again?: () => boolean | Promise<boolean>;
}

export interface ReplayProgress {
  readonly trace: string;
  /** Times the trace has been run before. */
  readonly round: number;
  readonly done: number;
  readonly events: number;
  readonly liveBytes: number;
  readonly committedBytes: number;
  readonly killed: number;
  /** What has gone wrong so far, and the first of it in words, a moment later. */
  readonly failures: number;
  readonly failure?: string;
}

export interface ReplayOutcome {
  readonly result: ReplayResult;
  /** Figures of the heap at the end of the last round, before what the trace left alive was freed. */
  readonly stats: HeapStats | undefined;
  /** Seconds each worker was at it. */
  readonly workerSeconds: readonly number[];
}

/**
 * Replays `trace` and checks everything that can be checked.
 * @throws {PlanError} where the trace cannot be laid beside a heap. What goes wrong in the replay is in the result.
 */
export async function replayTrace(trace: Trace, options: ReplayOptions = {}): Promise<ReplayOutcome> {
  const replay = await Replay.prepare(trace, options);
  try {
    await replay.play();
  } catch (error) {
    replay.failures.push((error as Error).message);
  } finally {
    await replay.dismiss();
  }
  return replay.outcome();
}

type Optional = "onProgress" | "again";

/** A replay under way, for whoever conducts more than the trace: changes of the machine below, a move to another memory. */
export class Replay {
  readonly failures: string[] = [];
  private memory: WebAssembly.Memory;
  private words: Uint32Array;
  private readonly seats: Seat[] = [];
  private readonly random: () => number;
  private readonly cutOff: CutOffCall[] = [];
  private readonly workerSeconds: number[] = [];
  private storm: Storm | undefined;
  private dismissed = false;
  /** While everybody is stopped: resolves when they are to go on. */
  private interval: Promise<void> | undefined;
  private round = 0;
  private killed = 0;
  /** As of the beginning of the round before. */
  private killedBefore = 0;
  private seconds = 0;
  private topologyChanges = 0;
  private problems: string[] = [];
  /** The last walk has been made. */
  private walked = false;
  /** The last round is over: nobody can be stopped any more. */
  private ended = false;
  /** The round under way is not played to its end. */
  private cutShort = false;
  /** Events of each worker that the last round was spared by that. */
  private spared: readonly number[] = [];
  private failuresTold = 0;
  private failure: string | undefined;
  private stats: HeapStats | undefined;
  private unaccounted = 0;
  private leaked = 0;

  private constructor(
    private readonly trace: Trace,
    private readonly options: Required<Omit<ReplayOptions, Optional>> & Pick<ReplayOptions, Optional>,
    private readonly ground: Ground,
    private readonly area: Area,
    private readonly dealt: Deal,
    private readonly hostKey: number,
    private host: Engine,
    private inspector: Inspector,
  ) {
    this.memory = ground.memory;
    this.words = new Uint32Array(ground.memory.buffer, 0, area.end >> 2);
    this.random = seeded(options.seed);
  }

  /** Lays the trace down on the ground that `makeGround` makes, by default a memory of its own. */
  static async prepare(trace: Trace, given: ReplayOptions, makeGround?: GroundMaker): Promise<Replay> {
    const options = {
      threads: Math.min(trace.threads, DEFAULT_WORKERS) || 1,
      nodes: DEFAULT_NODES,
      maxMemory: DEFAULT_MAX_MEMORY,
      verify: true,
      storm: 0,
      kill: 0,
      seed: 1,
      latency: false,
      ...given,
    };
    const { threads, nodes, maxMemory, verify, latency } = options;
    const dealt = deal(trace, threads);
    const bytes = layOut(trace, threads, 0).end;
    const ground = await (makeGround?.(bytes) ?? ownGround(bytes, nodes, maxMemory, threads + 1));
    const { memory, heapBase, modules, hostVcpu, truth } = ground;
    const area = layOut(trace, threads, ground.plan);
    const flags = (verify ? L.FLAG_VERIFY : 0) | (latency ? L.FLAG_LATENCY : 0);
    writePlan(memory.buffer as unknown as SharedArrayBuffer, area, trace, dealt, { heapBase, flags, ...(truth && { truth }) });
    const host = await instantiate(modules, memory);
    host.replay.bindHost(heapBase);
    const hostKey = ground.nextKey();
    // No right to block: this thread is the one that deaths are confirmed on.
    if (host.heap.attach(heapBase, hostKey, hostVcpu, 0) === 0) throw errorOf(host.heap.errno(), "the host cannot attach to the heap");
    return new Replay(trace, options, ground, area, dealt, hostKey, host, inspect(memory, heapBase, ground.inspect));
  }

  /** Runs the trace, as often as the kills take, and audits the heap. */
  async play(): Promise<void> {
    const { threads, kill, storm } = this.options;
    const script = new URL("./replay-worker.js", import.meta.url);
    for (let part = 0; part < threads; ++part) {
      const common = {
        modules: this.ground.modules,
        memory: this.memory,
        heapBase: this.ground.heapBase,
        control: this.area.control,
        record: workerRecord(this.area, part),
        part,
      };
      this.seats.push(new Seat(script, common, () => this.ground.nextKey()));
    }
    await Promise.all(this.seats.map((seat) => seat.start()));
    if (storm > 0) await this.startStorm();
    for (let last = false; !last; ++this.round) {
      while (this.interval) await this.interval;
      resetRound(this.memory.buffer as unknown as SharedArrayBuffer, this.area, threads, this.round);
      const calls = this.cutOff.length;
      await this.runRound();
      await this.atRest(() => {
        this.freeKept(this.auditHeap(`round ${this.round + 1}, with the trace's live objects`), this.cutOff.slice(calls));
        this.stats = this.inspector.stats();
      });
      const sound = this.countFailures() === 0 && this.problems.length === 0;
      last = !sound || this.cutShort || (this.killed >= kill && !(await this.options.again?.()));
      while (this.interval) await this.interval;
      await this.watched(Promise.all(this.seats.map((seat) => seat.command("freeRest"))), "freeing what is left");
    }
    while (this.interval) await this.interval;
    await Promise.all(this.seats.map((seat) => seat.command("detach")));
    await this.storm?.detach();
    await this.atRest(() => {
      const lost = this.auditHeap("after all is freed");
      this.walked = true;
      this.unaccounted = lost.length;
      this.leaked = unexplained(lost, this.cutOff).reduce((sum, block) => sum + block.size, 0);
      this.ended = true;
    });
    const live = new DataView(this.memory.buffer).getBigInt64(this.area.control + L.CONTROL_LIVE, true);
    if (live !== 0n && this.countFailures() === 0) this.failures.push(`${live} bytes are still counted as live`);
  }

  /** One run of all events, with its kills and the storm. */
  private async runRound(): Promise<void> {
    const over = { now: false };
    const calm = (): void => {
      over.now = true;
      this.storm?.calm();
    };
    const progress = setInterval(() => this.tell(), 200);
    try {
      const runs = Promise.all(this.seats.map((_, part) => this.runSeat(part))).finally(calm);
      const all = Promise.all([runs, this.killSome(over), this.storm?.blow()]);
      const [spans, , changes = 0] = await this.watched(all, "running events");
      this.seconds += (Math.max(...spans.map((span) => span.end)) - Math.min(...spans.map((span) => span.start))) / 1000;
      if (this.cutShort) this.spared = this.dealt.counts.map((count, part) => count - this.field(part, L.WORKER_POSITION));
      spans.forEach((span, part) => (this.workerSeconds[part] = (this.workerSeconds[part] ?? 0) + (span.end - span.start) / 1000));
      this.topologyChanges += changes;
    } finally {
      calm();
      clearInterval(progress);
    }
    this.tell();
  }

  /** Runs the events of one seat, by as many workers as it takes. */
  private async runSeat(part: number): Promise<{ start: number; end: number }> {
    const seat = this.seats[part]!;
    let start = Infinity;
    for (;;) {
      while (this.interval) await this.interval;
      start = Math.min(start, performance.timeOrigin + performance.now());
      const answer = await seat.command("run");
      if (answer && (answer.finished || this.cutShort)) return { start: Math.min(start, answer.start), end: answer.end };
      if (!answer) await this.replace(part);
      else if (this.dismissed) throw new CrewError("the replay was given up");
    }
  }

  /** Terminates workers as their progress passes positions drawn at random. */
  private async killSome(over: { now: boolean }): Promise<void> {
    const { trace, dealt, options } = this;
    const before = this.killed;
    const targets = Array.from({ length: Math.min(options.kill - before, KILLS_PER_ROUND) }, () =>
      Math.floor(this.random() * trace.events),
    );
    // A trace so short that a whole round went by unseen: this time somebody dies at its first event.
    if (targets.length > 0 && before === this.killedBefore && this.round > 0) targets[0] = 0;
    this.killedBefore = before;
    const deaths: Promise<void>[] = [];
    while (!over.now && targets.length > 0) {
      for (let i = targets.length - 1; i >= 0; --i) {
        const part = dealt.workerOf[targets[i]!] ?? 0;
        const seat = this.seats[part]!;
        const progress = this.field(part, L.WORKER_PROGRESS);
        if (progress < targets[i]! || (progress !== L.DONE && (!seat.busy || seat.dying))) continue;
        targets.splice(i, 1);
        // Done before we looked: its kill comes in another round.
        if (!seat.busy || seat.dying) continue;
        const death = this.killOne(part);
        deaths.push(death);
        // Its failure is told below; until then it is not unheard.
        death.catch(() => undefined);
      }
      await pause(1);
    }
    await Promise.all(deaths);
  }

  private async killOne(part: number): Promise<void> {
    const cut = await this.seats[part]!.kill();
    ++this.killed;
    // It had answered before it died: nobody waits for it, but the seat must not stay empty.
    if (!cut) await this.replace(part);
  }

  /** Does away with what a confirmed death leaves behind, notes what was cut off, and starts a replacement. */
  private async replace(part: number): Promise<void> {
    const seat = this.seats[part]!;
    const call = cutOffCallOf(this.words, this.area, part);
    if (call) this.cutOff.push(call);
    do {
      while (this.host.heap.reap(seat.key) === -1) await pause(1);
      if (this.dismissed) throw new CrewError("the replay was given up");
    } while (!(await seat.start()));
  }

  private async startStorm(): Promise<void> {
    const { ground, memory, area, options } = this;
    const { threads: workers, nodes, storm: rate, seed } = options;
    this.storm = await Storm.start({
      modules: ground.modules,
      memory,
      heapBase: ground.heapBase,
      key: ground.nextKey(),
      workers,
      nodes,
      rate,
      seed,
      objects: area.objects,
      objectCount: area.objectCount,
    });
    if (this.dismissed) await this.storm.terminate();
  }

  /** Allocations so far on the node the worker was on then, and on others. */
  locality(): { local: number; remote: number } {
    return { local: this.sum(L.WORKER_LOCAL), remote: this.sum(L.WORKER_REMOTE) };
  }

  /**
   * Stops everybody between two events, calls `during`, and lets them go on: over the memory it answers, if any, which holds the bytes of
   * the one before.
   * @throws {CrewError} once the last round is over
   */
  async stopFor(during: () => Promise<WebAssembly.Memory | undefined>): Promise<void> {
    if (this.ended) throw new CrewError("the replay is over: there is nobody to stop");
    let goOn = (): void => {};
    this.interval = new Promise((resolve) => (goOn = resolve));
    this.stop(true);
    try {
      while (this.seats.some((seat) => seat.busy)) await pause(0);
      const memory = await during();
      if (memory) await this.moveTo(memory);
    } finally {
      this.stop(this.cutShort);
      this.interval = undefined;
      goOn();
    }
  }

  /** Ends the round under way between two events; it is the last, and audited as any other. To be called once at most, for `why`. */
  giveUp(why: string): void {
    this.cutShort = true;
    this.failures.push(`round ${this.round + 1} was given up: ${why}`);
    this.stop(true);
  }

  /** Has everybody stop at the next event, or lets them run when they are told to. */
  private stop(stopped: boolean): void {
    const tick = (this.area.control + L.CONTROL_TICK) >> 2;
    Atomics.store(this.words, (this.area.control + L.CONTROL_STOP) >> 2, Number(stopped));
    Atomics.add(this.words, tick, 1);
    Atomics.notify(new Int32Array(this.memory.buffer), tick);
  }

  /** Calls `look` while nobody touches the heap, nor moves it elsewhere. */
  private async atRest(look: () => void): Promise<void> {
    for (let looked = false; !looked;) {
      while (this.interval) await this.interval;
      const goOn = await this.ground.quiet?.();
      try {
        // Whoever stops everybody waits for those that hold still: never for each other.
        if (this.interval) continue;
        look();
        looked = true;
      } finally {
        goOn?.();
      }
    }
  }

  private async moveTo(memory: WebAssembly.Memory): Promise<void> {
    const { modules, heapBase, inspect: inspector } = this.ground;
    this.memory = memory;
    this.words = new Uint32Array(memory.buffer, 0, this.area.end >> 2);
    this.host = await instantiate(modules, memory);
    this.host.replay.bindHost(heapBase);
    if (this.host.heap.resume!(heapBase, this.hostKey, 0) === 0) throw errorOf(this.host.heap.errno(), "the host cannot go on");
    this.inspector = inspect(memory, heapBase, inspector);
    await Promise.all(this.seats.map((seat) => seat.moveTo(memory)));
  }

  /** Walks the heap, all being still, and compares it block by block with the object table: the blocks that nobody has. */
  private auditHeap(when: string): readonly UnaccountedBlock[] {
    const { problems, unaccounted } = this.inspector.walk({ live: liveBlocks(this.words, this.area) });
    this.problems.push(...problems.map((problem) => `${when}: ${problem}`));
    return unaccounted;
  }

  /**
   * A realloc that was cut off may have got its new block and not yet freed the old one, and no caller can tell. The old one is still
   * the object's if nobody else has it: it is freed here, since the object is abandoned, so that the new one at most is lost.
   */
  private freeKept(lost: readonly UnaccountedBlock[], calls: readonly CutOffCall[]): void {
    const kept = new Set(calls.filter(({ op }) => op === REALLOC).map(({ block }) => block));
    for (const { ptr } of lost) if (kept.has(ptr)) this.host.heap.free(ptr);
  }

  private watched<T>(work: Promise<T>, what: string): Promise<T> {
    const progress = (): number => this.seats.reduce((sum, _, part) => sum + this.field(part, L.WORKER_POSITION), this.killed);
    const stuck = (): string => {
      const parts = this.seats.map((seat, part) => {
        const [position, count, phase] = [L.WORKER_POSITION, L.WORKER_COUNT, L.WORKER_PHASE].map((field) => this.field(part, field));
        return `worker ${part} ${seat.busy ? `at event ${position} of ${count}, phase ${phase}` : "idle"}`;
      });
      return `${what}; ${parts.join("; ")}`;
    };
    return watch(work, progress, stuck);
  }

  /** Ends all workers, whatever they are doing, and lets none begin. */
  async dismiss(): Promise<void> {
    this.dismissed = true;
    Atomics.store(this.words, (this.area.control + L.CONTROL_STOP) >> 2, 1);
    await Promise.all([...this.seats.map((seat) => seat.kill()), this.storm?.terminate()]);
  }

  private field(part: number, offset: number): number {
    return Atomics.load(this.words, (workerRecord(this.area, part) + offset) >> 2);
  }

  private sum(offset: number): number {
    return this.seats.reduce((sum, _, part) => sum + this.field(part, offset), 0);
  }

  private countFailures(): number {
    return this.failures.length + this.sum(L.WORKER_FAILURES);
  }

  /** What has gone wrong in the workers, in words. */
  private workerFailures(): string[] {
    const view = new DataView(this.memory.buffer);
    return this.seats.flatMap((_, part) => failuresOf(view, workerRecord(this.area, part), this.trace, part));
  }

  private tell(): void {
    const { trace, options, seats } = this;
    const failures = this.countFailures();
    // A worker counts a failure before it writes it down.
    if (this.failuresTold > 0) this.failure ??= [...this.workerFailures(), ...this.failures][0];
    this.failuresTold = failures;
    options.onProgress?.({
      trace: trace.name,
      round: this.round,
      done: seats.reduce((sum, _, part) => sum + this.field(part, L.WORKER_POSITION), 0),
      events: trace.events,
      liveBytes: Number(new DataView(this.memory.buffer).getBigInt64(this.area.control + L.CONTROL_LIVE, true)),
      committedBytes: this.host.replay.ownedPages() * HEAP_PAGE,
      killed: this.killed,
      failures,
      ...(this.failure !== undefined && { failure: this.failure }),
    });
  }

  outcome(): ReplayOutcome {
    return { result: this.result(), stats: this.stats, workerSeconds: this.workerSeconds };
  }

  private result(): ReplayResult {
    const { trace, options, area, host, seats } = this;
    const { threads, nodes } = options;
    const view = new DataView(this.memory.buffer);
    const failures = [...this.failures, ...this.workerFailures()];
    for (let kind = 1; kind <= 7; ++kind) {
      if (host.replay.badCalls(kind) > 0) failures.push(`the heap counted ${host.replay.badCalls(kind)} bad calls of kind ${kind}`);
    }
    const eventsPerWorker = this.dealt.counts.map((count, part) => count * this.round - (this.spared[part] ?? 0));
    const events = eventsPerWorker.reduce((sum, count) => sum + count, 0);
    const peaks = seats.map((_, part) => Number(view.getBigInt64(workerRecord(area, part) + L.WORKER_PEAK, true)));
    const result: ReplayResult = {
      trace: trace.name,
      events,
      eventsPerWorker,
      threads,
      nodes,
      seconds: this.seconds,
      opsPerSecond: this.seconds > 0 ? Math.round(events / this.seconds) : 0,
      peakLiveBytes: Math.max(0, ...peaks),
      peakCommittedBytes: host.replay.ownedPages() * HEAP_PAGE,
      remoteFrees: this.sum(L.WORKER_REMOTE_FREES),
      localAllocations: this.sum(L.WORKER_LOCAL),
      remoteAllocations: this.sum(L.WORKER_REMOTE),
      spansRebound: host.replay.spansRebound(),
      pagesMoved: host.replay.pagesMoved(),
      pagesMovedInUse: host.replay.pagesMovedInUse(),
      topologyChanges: this.topologyChanges,
      killed: this.killed,
      skippedEvents: this.sum(L.WORKER_SKIPPED),
      unaccountedBlocks: this.unaccounted,
      leakedBytes: this.leaked,
      failures,
      walk: this.walked && this.problems.length === 0 ? "ok" : this.problems,
      rounds: this.round,
    };
    const histograms = seats.map((_, part) => histogramsOf(area, threads, part));
    if (options.latency) result.latency = latencyOf(this.memory.buffer, histograms);
    return result;
  }
}
