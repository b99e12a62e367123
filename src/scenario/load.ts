// The load of a scenario: a trace that worker threads replay in the machine, over and over until they are told that the round under way is
// the last. Worker i runs on vCPU i.

import type { NumaHeap } from "../heap/numa-heap.js";
import type { Vm } from "../host/vm.js";
import { wallClock } from "../hypervisor/connection.js";
import type { Trace } from "../trace/format.js";
import { layOut } from "../trace/plan.js";
import { Replay, type ReplayOutcome, type ReplayProgress } from "../trace/replay.js";
import { vmGround } from "../trace/vm-ground.js";
import { ScenarioError } from "./errors.js";

/** Allocations on the node that the worker truly was on, and on others: exact. */
export interface Locality {
  readonly local: number;
  readonly remote: number;
}

export const lessLocality = (all: Locality, before: Locality): Locality => ({
  local: all.local - before.local,
  remote: all.remote - before.remote,
});

export interface LoadOptions {
  readonly threads: number;
  readonly nodes: number;
  readonly verify: boolean;
}

export class Load {
  readonly replay: Replay;
  /** How far it is, as of a moment ago. */
  progress: ReplayProgress | undefined;
  #playing: Promise<void> = Promise.resolve();
  #over = false;
  #ended = false;
  #givenUp = false;

  private constructor(replay: Replay) {
    this.replay = replay;
  }

  /**
   * Lays the trace down in the machine.
   * @throws {ScenarioError} NUMAHEAP_SCENARIO_VALUE for a machine that is too small for it
   * @throws {PlanError} where it can lie in none
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY
   */
  static async prepare(trace: Trace, vm: Vm, heap: NumaHeap, options: LoadOptions): Promise<Load> {
    const { end: bytes } = layOut(trace, options.threads, 0);
    const { byteLength: all } = vm.memory.buffer;
    if (bytes >= all)
      throw new ScenarioError("NUMAHEAP_SCENARIO_VALUE", "vm.memory", `the load's events alone take ${bytes} bytes of ${all}`);
    let load: Load | undefined;
    const replay = await Replay.prepare(
      trace,
      { ...options, again: () => !load!.#over, onProgress: (progress) => load!.#note(progress) },
      vmGround(vm, heap, options.threads),
    );
    return (load = new Load(replay));
  }

  /** It has failed, or was told to finish and has. */
  get ended(): boolean {
    return this.#ended;
  }

  get locality(): Locality {
    return this.replay.locality();
  }

  /** Resolves when the workers run, with the time. */
  async begin(): Promise<number> {
    this.#playing = this.replay
      .play()
      .catch((error: Error) => void this.replay.failures.push(error.message))
      .finally(() => (this.#ended = true));
    const idle = (): boolean => this.locality.local + this.locality.remote === 0 && !this.progress && !this.#ended;
    while (idle()) await new Promise((resolve) => setTimeout(resolve, 1));
    return wallClock();
  }

  #note(progress: ReplayProgress): void {
    this.progress = progress;
    // An allocation that fails takes long, for everything was tried: at the worst of them the round would go on for minutes.
    if (!this.#over || this.#givenUp || progress.failures === 0 || progress.done === progress.events) return;
    this.#givenUp = true;
    this.replay.giveUp("it had failed, and all events were over");
  }

  /** Lets the round under way be the last, and waits for its end, or for that of the event in hand once anything has gone wrong. */
  async finish(): Promise<ReplayOutcome> {
    this.#over = true;
    await this.#playing;
    return this.replay.outcome();
  }
}
