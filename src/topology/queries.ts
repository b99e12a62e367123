// What is asked of a topology. -1 is "none", as elsewhere.

import { TopologyError } from "./errors.js";
import type { Topology, TopologyNode } from "./topology.js";

/** Node a CPU is on, -1 if it is on none. */
export function nodeOfCpu({ nodes }: Topology, cpu: number): number {
  return nodes.find(({ cpus }) => cpus.includes(cpu))?.id ?? -1;
}

/** Node the byte at `address` lies on, -1 if on none. */
export function nodeOfAddress({ nodes }: Topology, address: number): number {
  return nodes.find(({ memory }) => memory.some(({ start, end }) => start <= address && address < end))?.id ?? -1;
}

/** Place of a node in `nodes`, which is its row and column in `distances`. */
function placeOf({ nodes }: Topology, node: number): number {
  const place = nodes.findIndex(({ id }) => id === node);
  if (place < 0) throw new TopologyError("NUMAHEAP_TOPOLOGY_UNKNOWN", "node", `there is no node ${node}`);
  return place;
}

/**
 * The node of this number.
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_UNKNOWN
 */
export function nodeById(topology: Topology, node: number): TopologyNode {
  return topology.nodes[placeOf(topology, node)]!;
}

/**
 * Distance as a SLIT has it, by node numbers: 10 of a node to itself, 255 if it cannot be reached.
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_UNKNOWN
 */
export function distance(topology: Topology, from: number, to: number): number {
  return topology.distances[placeOf(topology, from)]![placeOf(topology, to)]!;
}

/**
 * All nodes by their distance from `node`, itself first; the lower number first where they are as far.
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_UNKNOWN
 */
export function nearestNodes(topology: Topology, node: number): number[] {
  const row = topology.distances[placeOf(topology, node)]!;
  // Nodes ascend and the sort is stable: ties stay in order.
  return topology.nodes
    .map(({ id }, j) => ({ id, far: row[j]! }))
    .sort((a, b) => a.far - b.far)
    .map(({ id }) => id);
}

/**
 * Bytes of memory a node has.
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_UNKNOWN
 */
export function memoryOfNode(topology: Topology, node: number): number {
  return nodeById(topology, node).memory.reduce((sum, { start, end }) => sum + end - start, 0);
}
