// The workers of a replay: started, told what to do, terminated and replaced. Everything here runs on a thread that never
// sleeps in the heap, since that is the thread a worker's death is confirmed on.

import { Worker } from "node:worker_threads";
import type { ReplayAnswer, ReplayCommand, ReplayWorkerData } from "./replay-worker.js";

/** Milliseconds without any progress after which a replay counts as hung. */
export const WATCHDOG_MS = 60_000;

/** Nobody moved for WATCHDOG_MS, or a worker failed outside the heap. */
export class CrewError extends Error {
  override readonly name = "CrewError";
  readonly code = "NUMAHEAP_REPLAY_HUNG";
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Pending {
  resolve(answer: ReplayAnswer | undefined): void;
  reject(error: Error): void;
}

/** One seat of the crew; the worker on it may be replaced. */
export class Seat {
  private worker: Worker | undefined;
  private pending: Pending | undefined;
  private exited: Promise<void> = Promise.resolve();
  /** What the heap knows its worker by. */
  key = 0;
  dying = false;

  constructor(
    private readonly script: URL,
    private common: Omit<ReplayWorkerData, "key">,
    private readonly nextKey: () => number,
  ) {}

  /** A command is under way. */
  get busy(): boolean {
    return this.pending !== undefined;
  }

  /** Starts a worker on this seat and waits until it is attached. False: it was terminated before. */
  async start(): Promise<boolean> {
    this.key = this.nextKey();
    const worker = new Worker(this.script, { workerData: { ...this.common, key: this.key } satisfies ReplayWorkerData });
    this.worker = worker;
    this.exited = new Promise((resolve) => worker.once("exit", () => resolve()));
    worker.on("message", (answer: ReplayAnswer) => this.settle((pending) => pending.resolve(answer)));
    worker.on("error", (error) => this.settle((pending) => pending.reject(error as Error)));
    return (await this.answer()) !== undefined;
  }

  /** Sends a command and waits for its answer; undefined when the worker was terminated before it answered. */
  command(command: ReplayCommand): Promise<ReplayAnswer | undefined> {
    this.worker!.postMessage(command);
    return this.answer();
  }

  /** The worker, which must be idle, and whoever replaces it go on over another memory. */
  async moveTo(memory: WebAssembly.Memory): Promise<void> {
    this.common = { ...this.common, memory };
    await this.command(memory);
  }

  /** Terminates the worker wherever it is and waits until its death is confirmed. True: a command was cut off by it. */
  async kill(): Promise<boolean> {
    this.dying = true;
    await this.worker?.terminate();
    await this.exited;
    this.worker = undefined;
    this.dying = false;
    const cut = this.busy;
    this.settle((pending) => pending.resolve(undefined));
    return cut;
  }

  private answer(): Promise<ReplayAnswer | undefined> {
    return new Promise((resolve, reject) => (this.pending = { resolve, reject }));
  }

  private settle(how: (pending: Pending) => void): void {
    const { pending } = this;
    this.pending = undefined;
    if (pending) how(pending);
  }
}

/**
 * Waits for `work`; throws a CrewError when `progress` has not changed for WATCHDOG_MS.
 * @param stuck says who is stuck, for the message
 */
export async function watch<T>(work: Promise<T>, progress: () => number, stuck: () => string, patience: number = WATCHDOG_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_, reject) => {
    let last = progress();
    let since = performance.now();
    timer = setInterval(
      () => {
        const now = progress();
        if (now !== last) {
          last = now;
          since = performance.now();
        } else if (performance.now() - since > patience) {
          reject(new CrewError(`nothing moved for ${patience / 1000} s: ${stuck()}`));
        }
      },
      Math.min(1000, patience / 4),
    );
  });
  try {
    return await Promise.race([work, hung]);
  } finally {
    clearInterval(timer);
  }
}
