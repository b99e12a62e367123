// One worker of a replay: a thread of the heap that runs its share of the events on command.

import { parentPort, workerData } from "node:worker_threads";
import { errorOf } from "../heap/errors.js";
import { MAY_BLOCK } from "../heap/exports.js";
import { instantiate, type Modules } from "./engine.js";

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

/** A memory: the thread goes on over that one, which holds the bytes of the one before. */
export type ReplayCommand = "run" | "freeRest" | "detach" | WebAssembly.Memory;

/** Answer to a command. Times in ms since the epoch. */
export interface ReplayAnswer {
  /** Of "run": false if it was stopped before the last event. */
  readonly finished: boolean;
  readonly start: number;
  readonly end: number;
}

const { modules, memory, heapBase, control, record, part, key } = workerData as ReplayWorkerData;
const port = parentPort!;
let { heap, replay } = await instantiate(modules, memory);
const clock = (): number => performance.timeOrigin + performance.now();

if (heap.attach(heapBase, key, part, MAY_BLOCK) === 0) throw errorOf(heap.errno(), `worker ${part} cannot attach to the heap`);

async function moveTo(other: WebAssembly.Memory): Promise<void> {
  ({ heap, replay } = await instantiate(modules, other));
  if (heap.resume!(heapBase, key, MAY_BLOCK) === 0) throw errorOf(heap.errno(), `worker ${part} cannot go on over another memory`);
}

port.on("message", async (command: ReplayCommand) => {
  const start = clock();
  let finished = true;
  if (command === "run") finished = replay.run(control, record) !== 0;
  else if (command === "freeRest") replay.freeRest(control, record, part);
  else if (command === "detach") heap.detach();
  else await moveTo(command);
  port.postMessage({ finished, start, end: clock() } satisfies ReplayAnswer);
  if (command === "detach") port.close();
});
port.postMessage({ finished: true, start: clock(), end: clock() } satisfies ReplayAnswer);
