// In what order nodes are asked when the first one is full (Linux: build_zonelists and find_next_best_node of mm/page_alloc.c). By
// distance; of nodes as far, a node prefers the next one up, and each build spreads who comes first over them, so that not all nodes fall
// upon the same neighbour.
//
// Departs from the original: nodes without CPUs are not favoured. Which node has CPUs changes with every move of a vCPU, and lists are
// built only when nodes, distances or memory change.

import { MAX_NODES } from "../../hypervisor/vm-layout.js";
import type { ActualTopology } from "../actual-topology.js";

/** Of each node: nodes with memory, in the order they are asked. */
export function buildZonelists(topology: ActualTopology): number[][] {
  const load = new Int32Array(MAX_NODES);
  return Array.from({ length: topology.nodes }, (_, node) => zonelist(topology, node, load));
}

function zonelist(topology: ActualTopology, node: number, load: Int32Array): number[] {
  const row = topology.distances[node]!;
  const left = new Set([...row.keys()].filter((other) => topology.hasMemory(other)));
  const order: number[] = [];
  let previous = node;
  while (left.size > 0) {
    let best = node;
    let least = Infinity;
    for (const other of left.has(node) ? [node] : left) {
      const value = (row[other]! + Number(other < node)) * MAX_NODES + load[other]!;
      if (value < least) [best, least] = [other, value];
    }
    if (row[best] !== row[previous]) ++load[best]!;
    order.push(best);
    left.delete(best);
    previous = best;
  }
  return order;
}
