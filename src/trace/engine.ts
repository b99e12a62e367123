// The compiled modules a replay runs on, and instances of them over one memory.

import { readFile } from "node:fs/promises";
import type { HeapExports } from "../heap/exports.js";

/** Compiled modules; they can be posted to other threads. */
export interface Modules {
  readonly heap: WebAssembly.Module;
  readonly replay: WebAssembly.Module;
}

/** The replayer's exports. */
export interface ReplayExports {
  run(control: number, worker: number): number;
  freeRest(control: number, worker: number, part: number): void;
  bindHost(base: number): void;
  ownedPages(): number;
  spansRebound(): number;
  pagesMoved(): number;
  pagesMovedInUse(): number;
  pagesInUse(first: number, pages: number): number;
  badCalls(kind: number): number;
}

/** Compiles a module that stands beside the compiled package. */
export async function compile(name: string): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await readFile(new URL(`../${name}`, import.meta.url)));
}

export interface Engine {
  readonly heap: HeapExports;
  readonly replay: ReplayExports;
}

/** Instantiates heap and replayer over `memory`: one more thread's worth of both. */
export async function instantiate(modules: Modules, memory: WebAssembly.Memory): Promise<Engine> {
  const env = { memory };
  const heap = (await WebAssembly.instantiate(modules.heap, { env })).exports;
  const replay = (await WebAssembly.instantiate(modules.replay, { env, heap, host: { now: () => performance.now() } })).exports;
  return { heap: heap as unknown as HeapExports, replay: replay as unknown as ReplayExports };
}
