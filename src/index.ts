// The public interface of the package. Its declarations bring Disposable along, which the libraries of many a project lack.
/// <reference lib="esnext.disposable" preserve="true" />

export { Allocation, type ViewConstructor } from "./heap/allocation.js";
export { HeapError, type HeapErrorCode } from "./heap/errors.js";
export type { HeapExports } from "./heap/exports.js";
export type { BadCalls, HeapStats, HeapWalk, NodeStats, ThreadStats, UnaccountedBlock, WalkOptions } from "./heap/inspect.js";
export type { HeapBuild, HeapModules } from "./heap/modules.js";
export type { HeapHandle } from "./heap/handle.js";
export { type EndingWorker, isSupported, NumaHeap, type Policy } from "./heap/numa-heap.js";
export type { AttachOptions, CreateOptions } from "./heap/options.js";
export type { WasmMemory, WasmModule } from "./heap/wasm.js";
export { MIXED, type MovedRange, type TopologyChange, TopologyChangeEvent } from "./heap/topology-event.js";
