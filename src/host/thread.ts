// A service in a thread of its own, in Node and in browsers. Calls go over a MessagePort, which Comlink takes as it is in both; the thread's
// own channel carries that port and nothing else. Whoever waits for an answer when the thread ends is told that it will not come.

import * as Comlink from "comlink";
import { HypervisorError } from "../hypervisor/errors.js";
import { inNode } from "../notify/channel.js";
import { carryErrors } from "./error-transfer.js";

/** A thread as it was started. */
export interface StartedThread {
  post(port: MessagePort): void;
  /** Calls back once, when it has ended or failed. */
  onEnd(listener: (why: string) => void): void;
  terminate(): void | Promise<unknown>;
}

/** @param browserWorker starts the script in a browser: spelt out by the caller, for bundlers to find it */
export function startThread(script: URL, browserWorker: () => Worker): StartedThread {
  if (inNode) {
    const { Worker: NodeWorker } = process.getBuiltinModule("node:worker_threads");
    const worker = new NodeWorker(script);
    return {
      post: (port) => worker.postMessage(port, [port as never]),
      onEnd: (listener) => {
        worker.once("error", (error) => listener(String(error)));
        worker.once("exit", (code) => listener(`it exited with ${code}`));
      },
      terminate: () => worker.terminate(),
    };
  }
  const worker = browserWorker();
  return {
    post: (port) => worker.postMessage(port, [port]),
    onEnd: (listener) =>
      worker.addEventListener("error", (event) => listener(event.message || "its script cannot be loaded"), { once: true }),
    terminate: () => worker.terminate(),
  };
}

/** Called by the script of a thread: serves whoever started it. */
export function serveStarter(service: object): void {
  carryErrors();
  const start = (port: MessagePort): void => Comlink.expose(service, port);
  const starter = globalThis.process?.getBuiltinModule?.("node:worker_threads").parentPort;
  if (starter) starter.once("message", start);
  else addEventListener("message", ({ data }) => start(data as MessagePort), { once: true });
}

export class ServiceThread<Service extends object> {
  readonly #what: string;
  readonly #thread: StartedThread;
  readonly #port: MessagePort;
  readonly #service: Comlink.Remote<Service>;
  readonly #waiting = new Set<(error: Error) => void>();
  #ended: HypervisorError | undefined;

  /** @param what names it in messages */
  constructor(what: string, thread: StartedThread) {
    carryErrors();
    this.#what = what;
    this.#thread = thread;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    thread.onEnd((why) => this.#end(why));
    thread.post(port2);
    this.#service = Comlink.wrap<Service>(port1);
  }

  /**
   * Calls the service.
   * @throws {HypervisorError} NUMAHEAP_DISCONNECTED if the thread ends first, NUMAHEAP_INVALID_ARGUMENT for what cannot be posted
   */
  call<T>(make: (service: Comlink.Remote<Service>) => PromiseLike<T>): Promise<T> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise<T>((resolve, reject) => {
      this.#waiting.add(reject);
      const done = (): void => void this.#waiting.delete(reject);
      make(this.#service).then(
        (value) => (done(), resolve(value)),
        (error: unknown) => (done(), reject(notPosted(error) ?? error)),
      );
    });
  }

  /** Ends the thread, wherever it is. */
  async end(): Promise<void> {
    this.#end("it was ended");
    await this.#thread.terminate();
  }

  #end(why: string): void {
    if (this.#ended) return;
    this.#ended = new HypervisorError("NUMAHEAP_DISCONNECTED", `the thread of ${this.#what} has ended: ${why}`);
    for (const reject of this.#waiting) reject(this.#ended);
    this.#waiting.clear();
    this.#port.close();
  }
}

function notPosted(error: unknown): HypervisorError | undefined {
  if (!(error instanceof DOMException) || error.name !== "DataCloneError") return undefined;
  return new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `an argument cannot be sent to another thread: ${error.message}`, {
    cause: error,
  });
}
