// What a replay stands on: a memory with a heap in it, and room beside the heap for the events.

import { errorOf } from "../heap/errors.js";
import { type CreateExports, HEAP_GROWS_ALONE, HEAP_PAGE, WASM_PAGE, WASM_PAGES } from "../heap/exports.js";
import { compile, type Modules } from "./engine.js";

export interface Ground {
  readonly memory: WebAssembly.Memory;
  /** Address of the room for the events, a multiple of 64 KiB. */
  readonly plan: number;
  readonly heapBase: number;
  readonly modules: Modules;
  readonly inspect: WebAssembly.Module;
  /** vCPU of the thread that conducts. */
  readonly hostVcpu: number;
  /** Addresses of what is really so, where the heap's topology page need not be the truth; see replay-layout.ts. */
  readonly truth?: { readonly vcpus: number; readonly frames: number; readonly touchers: number };
  /** Where others than the replay's threads touch the heap: resolves when they hold still, with what lets them go on. */
  quiet?(): Promise<() => void>;
  /** What the heap is to know the next thread by. */
  nextKey(): number;
}

/** Makes a ground with so many bytes of room for the events. */
export type GroundMaker = (planBytes: number) => Promise<Ground>;

/** A memory of its own, the room for the events below the heap. */
export async function ownGround(planBytes: number, nodes: number, maxMemory: number, hostVcpu: number): Promise<Ground> {
  const plan = WASM_PAGE;
  const heapBase = plan + planBytes;
  const limit = Math.min(Math.floor(maxMemory / WASM_PAGE), WASM_PAGES - heapBase / WASM_PAGE);
  const memory = new WebAssembly.Memory({ initial: heapBase / WASM_PAGE + 1, maximum: heapBase / WASM_PAGE + limit, shared: true });
  const [heap, replay, create, inspect] = await Promise.all([
    compile("heap.wasm"),
    compile("replay.wasm"),
    compile("create.wasm"),
    compile("inspect.wasm"),
  ]);
  const creator = (await WebAssembly.instantiate(create, { env: { memory } })).exports as unknown as CreateExports;
  const error = creator.create(heapBase, heapBase + WASM_PAGE, limit * (WASM_PAGE / HEAP_PAGE), nodes, HEAP_GROWS_ALONE);
  if (error !== 0) throw errorOf(error, "the heap cannot be made");
  let key = 0;
  return { memory, plan, heapBase, modules: { heap, replay }, inspect, hostVcpu, nextKey: () => ++key };
}
