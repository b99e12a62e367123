// A machine whose nodes are all alike, from a few numbers.

import { TopologyError } from "./errors.js";
import { shown } from "../shown.js";
import { parseSize } from "./size.js";
import { defaultDistances, LOCAL_DISTANCE, parseTopology, type Topology, UNREACHABLE } from "./topology.js";

/** Distances by a name: "mesh" is 20 between any two, "ring" 20 to the neighbours and 10 more a hop. */
export const DISTANCE_NAMES = ["mesh", "ring"] as const;
export type DistanceName = (typeof DISTANCE_NAMES)[number];

export interface UniformOptions {
  /** 1 to 1024. */
  readonly nodes: number;
  /** CPUs of each node, 0 to 1024. Default 1. */
  readonly cpusPerNode?: number;
  /** Memory of each node: bytes, or a size such as "256MiB". Default: 256 MiB. */
  readonly memoryPerNode?: number | string;
  /** Default: "mesh". */
  readonly distances?: DistanceName | readonly (readonly number[])[];
}

function whole(value: unknown, least: number, most: number, field: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", field, `must be a whole number from ${least} to ${most}, not ${shown(value)}`);
}

function ring(nodes: number): number[][] {
  const hops = (a: number, b: number): number => Math.min((a - b + nodes) % nodes, (b - a + nodes) % nodes);
  return defaultDistances(nodes).map((row, a) => row.map((_, b) => Math.min(UNREACHABLE - 1, LOCAL_DISTANCE * (1 + hops(a, b)))));
}

function distancesOf(distances: unknown, nodes: number): unknown {
  if (distances === "mesh") return defaultDistances(nodes);
  if (distances === "ring") return ring(nodes);
  if (typeof distances !== "string") return distances;
  throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "distances", `must be ${DISTANCE_NAMES.join(" or ")} or rows of distances`);
}

/**
 * Nodes 0, 1, ..., each with the next CPUs and the next bytes.
 * @throws {TopologyError} which names the field
 */
export function uniformTopology(options: UniformOptions): Topology {
  const { cpusPerNode = 1, memoryPerNode = "256MiB", distances = "mesh" } = options;
  const nodes = whole(options.nodes, 1, 1024, "nodes");
  const cpus = whole(cpusPerNode, 0, 1024, "cpusPerNode");
  const size = typeof memoryPerNode === "string" ? parseSize(memoryPerNode) : memoryPerNode;
  if (size === undefined)
    throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "memoryPerNode", `"${memoryPerNode}" is no size such as 256MiB`);
  const bytes = whole(size, 0, 2 ** 42, "memoryPerNode");
  return parseTopology({
    nodes: Array.from({ length: nodes }, (_, id) => ({
      id,
      cpus: Array.from({ length: cpus }, (__, k) => id * cpus + k),
      memory: bytes > 0 ? [{ start: id * bytes, end: (id + 1) * bytes }] : [],
    })),
    distances: distancesOf(distances, nodes),
  });
}
