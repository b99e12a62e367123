// The counters of /sys/devices/system/node/nodeX/numastat (Linux: zone_statistics of mm/page_alloc.c, numastat(8)).

import { MAX_NODES } from "../../hypervisor/vm-layout.js";

export interface NodeStat {
  /** Pages the node got that were meant for it. */
  numa_hit: number;
  /** Pages it got that were meant for another. */
  numa_miss: number;
  /** Pages meant for it that another got. */
  numa_foreign: number;
  /** Interleaved pages it got that were meant for it. */
  interleave_hit: number;
  /** Pages it got while the task ran on it, and while it ran elsewhere. */
  local_node: number;
  other_node: number;
}

const zero = (): NodeStat => ({ numa_hit: 0, numa_miss: 0, numa_foreign: 0, interleave_hit: 0, local_node: 0, other_node: 0 });

export class NumaStat {
  readonly #nodes = Array.from({ length: MAX_NODES }, zero);

  of(node: number): Readonly<NodeStat> {
    return this.#nodes[node]!;
  }

  /** A page was meant for node `wanted`, came from `got`, and is for a task that runs on `runsOn`. */
  count(wanted: number, got: number, runsOn: number): void {
    if (got === wanted) {
      ++this.#nodes[got]!.numa_hit;
    } else {
      ++this.#nodes[got]!.numa_miss;
      ++this.#nodes[wanted]!.numa_foreign;
    }
    if (got === runsOn) ++this.#nodes[got]!.local_node;
    else ++this.#nodes[got]!.other_node;
  }

  countInterleaved(node: number): void {
    ++this.#nodes[node]!.interleave_hit;
  }
}
