// The storm's end on the conductor's thread: starts its worker, lets it blow for a round, and calms it.

import { Worker } from "node:worker_threads";
import type { StormAnswer, StormData } from "./storm-worker.js";

export class Storm {
  readonly #worker: Worker;
  readonly #blow: Int32Array<SharedArrayBuffer>;

  private constructor(worker: Worker, blow: Int32Array<SharedArrayBuffer>) {
    this.#worker = worker;
    this.#blow = blow;
  }

  /** A storm that does not blow yet; its thread is attached to the heap. */
  static async start(data: Omit<StormData, "blow">): Promise<Storm> {
    const blow = new SharedArrayBuffer(4);
    const worker = new Worker(new URL("./storm-worker.js", import.meta.url), { workerData: { ...data, blow } satisfies StormData });
    const storm = new Storm(worker, new Int32Array(blow));
    await storm.#answer();
    return storm;
  }

  /** Blows until it is calmed; the changes it made. */
  async blow(): Promise<number> {
    Atomics.store(this.#blow, 0, 1);
    return (await this.#command("blow")).changes;
  }

  calm(): void {
    Atomics.store(this.#blow, 0, 0);
    Atomics.notify(this.#blow, 0);
  }

  async detach(): Promise<void> {
    await this.#command("detach");
  }

  async terminate(): Promise<void> {
    this.calm();
    await this.#worker.terminate();
  }

  #command(command: "blow" | "detach"): Promise<StormAnswer> {
    const answer = this.#answer();
    this.#worker.postMessage(command);
    return answer;
  }

  #answer(): Promise<StormAnswer> {
    return new Promise((resolve, reject) => {
      this.#worker.removeAllListeners();
      this.#worker.once("message", resolve);
      this.#worker.once("error", reject);
    });
  }
}
