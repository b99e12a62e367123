// The public interface of numaheap/topology. Apart from the heap's, which no dependency comes along with.

export { AcpiError, type AcpiErrorCode, type AcpiTable } from "./acpi/errors.js";
export type { AcpiHeader } from "./acpi/header.js";
export { decodeSlit, encodeSlit, type SlitTable } from "./acpi/slit.js";
export {
  type ApicAffinity,
  decodeSrat,
  encodeSrat,
  type MemoryAffinity,
  type SratEntry,
  type SratTable,
  type UnknownAffinity,
  type X2ApicAffinity,
} from "./acpi/srat.js";
export { type AcpiOptions, type AcpiTopology, topologyFromAcpi, topologyToAcpi } from "./acpi/tables.js";
export { formatCpuList, parseCpuList } from "./cpu-list.js";
export { apply, type Change, diff } from "./diff.js";
export { TopologyError, type TopologyErrorCode } from "./errors.js";
export { formatTopology } from "./format.js";
export { assertFitsHeap, HEAP_LIMITS } from "./limits.js";
export { type Preset, type PresetName, presets } from "./presets.js";
export { distance, memoryOfNode, nearestNodes, nodeById, nodeOfAddress, nodeOfCpu } from "./queries.js";
export type { MemoryRange, OwnedRange } from "./ranges.js";
export { flatTopology, parseTopology, type Topology, type TopologyNode } from "./topology.js";
export { type DistanceName, type UniformOptions, uniformTopology } from "./uniform.js";
