// The compiled modules a replay runs on, and instances of them over one memory.

import { readFile } from "node:fs/promises";

/** Bytes of a page of WebAssembly, and of one of the heap. */
export const WASM_PAGE = 65536;
export const HEAP_PAGE = 8192;

/** Compiled modules; they can be posted to other threads. */
export interface Modules {
  readonly heap: WebAssembly.Module;
  readonly replay: WebAssembly.Module;
}

/** The allocator's exports, as far as a replay calls them from JavaScript. */
export interface HeapExports {
  attach(base: number, key: number, vcpu: number, flags: number): number;
  detach(): number;
  /** Of heap.guest.wasm only. */
  resume?(base: number, key: number, flags: number): number;
  reap(key: number): number;
  errno(): number;
  free(ptr: number): void;
  nodeOf(ptr: number): number;
  setVcpuNode(vcpu: number, node: number): number;
  rebind(firstPage: number, pages: number, node: number): number;
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

/** Attach flag: the thread may sleep. */
export const MAY_BLOCK = 1;

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
