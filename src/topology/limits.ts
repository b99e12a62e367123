// What a heap can be told of. A topology may be larger; it is refused where a heap is to follow it.

import { MAX_NODES, MAX_VCPUS } from "../heap/exports.js";
import { TopologyError } from "./errors.js";
import type { Topology } from "./topology.js";

/** Most a heap knows: nodes 0 to 31, vCPUs 0 to 255. */
export const HEAP_LIMITS = { nodes: MAX_NODES, cpus: MAX_VCPUS } as const;

/** @throws {TopologyError} NUMAHEAP_TOPOLOGY_LIMIT for the first node or CPU whose number is beyond what a heap knows */
export function assertFitsHeap({ nodes }: Topology): void {
  nodes.forEach(({ id, cpus }, i) => {
    if (id >= HEAP_LIMITS.nodes)
      throw new TopologyError("NUMAHEAP_TOPOLOGY_LIMIT", `nodes[${i}].id`, `a heap has nodes 0 to ${HEAP_LIMITS.nodes - 1}, not ${id}`);
    cpus.forEach((cpu, k) => {
      if (cpu >= HEAP_LIMITS.cpus)
        throw new TopologyError(
          "NUMAHEAP_TOPOLOGY_LIMIT",
          `nodes[${i}].cpus[${k}]`,
          `a heap has vCPUs 0 to ${HEAP_LIMITS.cpus - 1}, not ${cpu}`,
        );
    });
  });
}
