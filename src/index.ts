// The public interface of the package. Its declarations bring Disposable along, which the libraries of many a project lack.
/// <reference lib="esnext.disposable" preserve="true" />

export { Allocation, type ViewConstructor } from "./heap/allocation.js";
export { HeapError, type HeapErrorCode } from "./heap/errors.js";
export type { HeapExports } from "./heap/exports.js";
export type { BadCalls, HeapStats, HeapWalk, NodeStats, ThreadStats, UnaccountedBlock, WalkOptions } from "./heap/inspect.js";
export type { HeapBuild, HeapModules } from "./heap/modules.js";
export {
  type AttachOptions,
  type CreateOptions,
  type EndingWorker,
  type HeapHandle,
  isSupported,
  NumaHeap,
  type Policy,
} from "./heap/numa-heap.js";
export { AcpiError, type AcpiErrorCode, type AcpiTable } from "./topology/acpi/errors.js";
export type { AcpiHeader } from "./topology/acpi/header.js";
export { decodeSlit, encodeSlit, type SlitTable } from "./topology/acpi/slit.js";
export {
  type ApicAffinity,
  decodeSrat,
  encodeSrat,
  type MemoryAffinity,
  type SratEntry,
  type SratTable,
  type UnknownAffinity,
  type X2ApicAffinity,
} from "./topology/acpi/srat.js";
export { type AcpiOptions, type AcpiTopology, topologyFromAcpi, topologyToAcpi } from "./topology/acpi/tables.js";
export { formatCpuList, parseCpuList } from "./topology/cpu-list.js";
export { apply, type Change, diff } from "./topology/diff.js";
export { TopologyError, type TopologyErrorCode } from "./topology/errors.js";
export { formatTopology } from "./topology/format.js";
export { assertFitsHeap, HEAP_LIMITS } from "./topology/limits.js";
export { type Preset, type PresetName, presets } from "./topology/presets.js";
export { distance, memoryOfNode, nearestNodes, nodeById, nodeOfAddress, nodeOfCpu } from "./topology/queries.js";
export type { MemoryRange, OwnedRange } from "./topology/ranges.js";
export { flatTopology, parseTopology, type Topology, type TopologyNode } from "./topology/topology.js";
