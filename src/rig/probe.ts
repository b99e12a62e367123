// The conductor's side of a probe: a thread of a machine's heap that measures how soon a change reaches it.

import { Worker } from "node:worker_threads";
import type { HeapHandle } from "../heap/handle.js";
import type { VmLayout } from "../hypervisor/vm-layout.js";
import { FLAG_PARK, FLAG_WATCHING, type ProbeAnswer, type ProbeCommand, type ProbeData, type Seen } from "./probe-protocol.js";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Probe {
  readonly #worker: Worker;
  readonly #flags = new Int32Array(new SharedArrayBuffer(8));
  /** Answers nobody has asked for yet. */
  #answers: ProbeAnswer[] = [];
  /** Whoever waits looks again. */
  readonly #waiting = new Set<() => void>();
  #error: Error | undefined;

  /** Starts a thread of the heap; one that `follows` its machine to another host by itself, while it stands still. */
  static async start(handle: HeapHandle, layout: VmLayout, follows: boolean): Promise<Probe> {
    const probe = new Probe({ handle, layout, follows });
    await probe.#next("ready");
    return probe;
  }

  private constructor(data: Omit<ProbeData, "flags">) {
    const workerData: ProbeData = { ...data, flags: this.#flags.buffer as SharedArrayBuffer };
    this.#worker = new Worker(new URL("./probe-worker.js", import.meta.url), { workerData });
    this.#worker.on("message", (answer: ProbeAnswer) => {
      this.#answers.push(answer);
      this.#wake();
    });
    this.#worker.on("error", (error: Error) => {
      this.#error = error;
      this.#wake();
    });
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const look of waiting) look();
  }

  /** Fills its cache; the frames that what is cached lies in. */
  async prime(): Promise<{ first: number; end: number }> {
    this.#send("prime");
    return this.#next("primed");
  }

  /** From when this resolves, the probe sees what happens; once, until `seen` has been asked for. */
  async watch(): Promise<void> {
    this.#send("watch");
    while (Atomics.load(this.#flags, FLAG_WATCHING) === 0) await turn();
  }

  seen(): Promise<Seen> {
    return this.#next("seen");
  }

  /** It stands still while `during` runs, and goes on over the memory that is answered, watching. */
  async stopFor(during: () => Promise<WebAssembly.Memory | undefined>): Promise<void> {
    Atomics.store(this.#flags, FLAG_PARK, 1);
    await this.#next("parked");
    const memory = await during();
    Atomics.store(this.#flags, FLAG_PARK, 0);
    this.#send(memory ?? "watch");
    if (memory) await this.#next("moved");
  }

  async end(): Promise<void> {
    this.#send("detach");
    await this.#next("detached");
    await this.#worker.terminate();
  }

  #send(command: ProbeCommand): void {
    this.#worker.postMessage(command);
  }

  /** @throws {Error} if the thread failed */
  async #next<Is extends ProbeAnswer["is"]>(is: Is): Promise<Extract<ProbeAnswer, { is: Is }>> {
    for (;;) {
      if (this.#error) throw this.#error;
      const at = this.#answers.findIndex((answer) => answer.is === is);
      if (at >= 0) return this.#answers.splice(at, 1)[0] as Extract<ProbeAnswer, { is: Is }>;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }
}
