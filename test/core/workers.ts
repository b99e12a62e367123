// Worker threads, as Node and as browsers have them.
import type { EndingWorker, HeapHandle, NumaHeap } from "../../dist/index.js";

/** What test/core/worker.mjs is to do. */
export interface Order {
  mailbox: number;
  slots: number;
  operations: number;
  seed: number;
}

type AnyWorker = Worker & EndingWorker & { on(event: "message", listener: (data: unknown) => void): void };

export const inNode = typeof process !== "undefined" && process.versions?.node !== undefined;

export class TradingWorker {
  private readonly worker: AnyWorker;
  private readonly said: string[] = [];
  private wake: () => void = () => undefined;
  readonly handle: HeapHandle;

  constructor(
    private readonly heap: NumaHeap,
    order: Order,
  ) {
    this.handle = heap.handle();
    const hear = (data: unknown): void => {
      this.said.push(String(data));
      this.wake();
    };
    if (inNode) {
      const { Worker } = process.getBuiltinModule("node:worker_threads");
      this.worker = new Worker(new URL("./worker.mjs", import.meta.url)) as unknown as AnyWorker;
      this.worker.on("message", hear);
    } else {
      this.worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" }) as AnyWorker;
      this.worker.onmessage = ({ data }) => hear(data);
    }
    this.worker.postMessage({ handle: this.handle, ...order });
  }

  /** Waits until the worker says `what`; anything unexpected is an error. */
  async says(what: string): Promise<void> {
    while (this.said.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    const heard = this.said.shift();
    if (heard !== what) throw new Error(`the worker says ${heard} instead of ${what}`);
  }

  /** Ends the worker wherever it is, and waits until it has been reaped. */
  async kill(): Promise<void> {
    const reaped = this.heap.stats().reapedThreads;
    if (inNode) this.heap.register(this.worker, this.handle);
    const told = inNode ? undefined : this.heap.reapOnDeath(this.handle);
    this.worker.terminate();
    await told;
    while (this.heap.stats().reapedThreads === reaped) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  terminate(): void {
    this.worker.terminate();
  }
}

/** A worker that does what it is told to, one order at a time. */
class OrderedWorker {
  private readonly worker: AnyWorker;
  private answered: (answer: { value?: unknown; error?: string }) => void = () => undefined;

  protected constructor(script: URL, browserWorker: () => Worker) {
    if (inNode) {
      const { Worker: NodeWorker } = process.getBuiltinModule("node:worker_threads");
      this.worker = new NodeWorker(script) as unknown as AnyWorker;
      this.worker.on("message", (answer) => this.answered(answer as object));
    } else {
      this.worker = browserWorker() as AnyWorker;
      this.worker.onmessage = ({ data }) => this.answered(data);
    }
  }

  /** What the worker answers to an order. */
  async order(order: string, data: { port?: MessagePort; [name: string]: unknown } = {}): Promise<unknown> {
    const answer = new Promise<{ value?: unknown; error?: string }>((resolve) => (this.answered = resolve));
    this.worker.postMessage({ order, ...data }, data.port ? [data.port] : []);
    const { value, error } = await answer;
    if (error) throw new Error(error);
    return value;
  }

  terminate(): unknown {
    return this.worker.terminate();
  }
}

/** A guest in a worker of its own. */
export class GuestWorker extends OrderedWorker {
  constructor() {
    super(
      new URL("./guest-worker.mjs", import.meta.url),
      () => new Worker(new URL("./guest-worker.mjs", import.meta.url), { type: "module" }),
    );
  }
}

/** A thread of an application on a virtual machine. */
export class AppWorker extends OrderedWorker {
  constructor() {
    super(new URL("./app-worker.mjs", import.meta.url), () => new Worker(new URL("./app-worker.mjs", import.meta.url), { type: "module" }));
  }
}
