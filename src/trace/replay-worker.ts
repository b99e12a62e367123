// One worker of a replay: a thread of the heap that runs its share of the events on command.

import { parentPort, workerData } from "node:worker_threads";
import { errorOf } from "../heap/errors.js";
import { instantiate, MAY_BLOCK, type Modules } from "./engine.js";

/** What a worker is started with. */
export interface ReplayWorkerData {
  readonly modules: Modules;
  readonly memory: WebAssembly.Memory;
  readonly heapBase: number;
  readonly control: number;
  /** Address of its record. */
  readonly record: number;
  /** Which worker it is; also its vCPU. */
  readonly part: number;
  /** What the heap knows it by. */
  readonly key: number;
}

export type ReplayCommand = "run" | "freeRest" | "detach";

/** Answer to a command; `ready` once attached. Times in ms since the epoch. */
export interface ReplayAnswer {
  readonly done: "ready" | ReplayCommand;
  readonly start: number;
  readonly end: number;
}

const { modules, memory, heapBase, control, record, part, key } = workerData as ReplayWorkerData;
const port = parentPort!;
const { heap, replay } = await instantiate(modules, memory);
const clock = (): number => performance.timeOrigin + performance.now();

if (heap.attach(heapBase, key, part, MAY_BLOCK) === 0) throw errorOf(heap.errno(), `worker ${part} cannot attach to the heap`);
port.on("message", (command: ReplayCommand) => {
  const start = clock();
  if (command === "run") replay.run(control, record);
  else if (command === "freeRest") replay.freeRest(control, record, part);
  else heap.detach();
  port.postMessage({ done: command, start, end: clock() } satisfies ReplayAnswer);
  if (command === "detach") port.close();
});
port.postMessage({ done: "ready", start: clock(), end: clock() } satisfies ReplayAnswer);
