// Who of the application is told of topology changes: this thread, and some that only listen. What each was told, and when.

import { Worker } from "node:worker_threads";
import type { NumaHeap } from "../heap/numa-heap.js";
import { wallClock } from "../hypervisor/connection.js";
import type { ListenerMessage } from "./listener-worker.js";

/** One `topologychange` event as a thread had it. */
export interface Notification {
  /** Milliseconds since the epoch of clocks. */
  readonly time: number;
  /** The heap's epoch as of the change. */
  readonly epoch: number;
  /** vCPUs and ranges it says to have moved. */
  readonly vcpus: number;
  readonly ranges: number;
}

/** A thread, and what it was told since it was asked last. */
interface Ear {
  readonly thread: string;
  heard: Notification[];
  /** Epoch of the last one. */
  epoch: number;
}

/** A thread that has not heard for so many milliseconds of what others know is not waited for. */
const LATE_MS = 2000;

export class Listeners {
  readonly #ears: Ear[] = [];
  readonly #workers: Worker[] = [];

  /** This thread listens, and `count` others on the last vCPUs. */
  static async start(heap: NumaHeap, count: number, vcpus: number): Promise<Listeners> {
    const listeners = new Listeners();
    const hear = listeners.#newEar("conductor, vCPU 0", heap.epoch);
    heap.addEventListener("topologychange", ({ epoch, vcpus: moved, ranges }) =>
      hear({ time: wallClock(), epoch, vcpus: moved.length, ranges: ranges.length }),
    );
    try {
      for (let i = 0; i < count; ++i) await listeners.#add(heap, (2 * vcpus - 1 - i) % vcpus);
    } catch (error) {
      await listeners.terminate();
      throw error;
    }
    return listeners;
  }

  #newEar(thread: string, epoch: number): (notification: Notification) => void {
    const ear: Ear = { thread, heard: [], epoch };
    this.#ears.push(ear);
    return (notification) => {
      ear.heard.push(notification);
      ear.epoch = notification.epoch;
    };
  }

  async #add(heap: NumaHeap, vcpu: number): Promise<void> {
    const hear = this.#newEar(`listener, vCPU ${vcpu}`, heap.epoch);
    const worker = new Worker(new URL("./listener-worker.js", import.meta.url), { workerData: heap.handle(vcpu) });
    this.#workers.push(worker);
    worker.on("message", (message: ListenerMessage) => {
      if (typeof message === "object") hear(message);
    });
    await answered(worker, "ready");
  }

  /** What each thread was told since this was asked last. */
  take(): { readonly thread: string; readonly notifications: Notification[] }[] {
    return this.#ears.map((ear) => {
      const notifications = ear.heard;
      ear.heard = [];
      return { thread: ear.thread, notifications };
    });
  }

  /** Resolves when all have heard of that epoch of the heap, or one is late. */
  async upTo(epoch: number): Promise<void> {
    const end = performance.now() + LATE_MS;
    while (this.#ears.some((ear) => ear.epoch !== epoch) && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  /** They leave the heap. */
  async detach(): Promise<void> {
    await Promise.all(
      this.#workers.map((worker) => {
        const done = answered(worker, "detached");
        worker.postMessage("detach");
        return done;
      }),
    );
  }

  async terminate(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }
}

/** Resolves with the message; rejects if the thread ends before. */
function answered(worker: Worker, wanted: ListenerMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    const hear = (message: ListenerMessage): void => {
      if (message !== wanted) return;
      worker.off("message", hear);
      resolve();
    };
    worker.on("message", hear);
    worker.once("error", reject);
    worker.once("exit", () => reject(new Error("a listening thread has ended")));
  });
}
