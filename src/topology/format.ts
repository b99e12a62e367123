// A topology in words.

import { formatCpuList } from "./cpu-list.js";
import { memoryOfNode } from "./queries.js";
import type { Topology } from "./topology.js";

const MIB = 2 ** 20;

/** As `numactl --hardware` prints it, but for the free memory, which a topology does not know. Sizes in MiB, rounded down. Ends with a newline. */
export function formatTopology(topology: Topology): string {
  const ids = topology.nodes.map(({ id }) => id);
  const lines = [`available: ${ids.length} nodes (${formatCpuList(ids)})`];
  for (const { id, cpus } of topology.nodes) {
    lines.push(["node", id, "cpus:", ...cpus].join(" "), `node ${id} size: ${Math.floor(memoryOfNode(topology, id) / MIB)} MB`);
  }
  const cell = (value: number): string => `${value}`.padStart(3);
  lines.push("node distances:", ["node", ...ids.map(cell)].join(" "));
  topology.distances.forEach((row, i) => lines.push([`${cell(ids[i]!)}:`, ...row.map(cell)].join(" ")));
  return `${lines.join("\n")}\n`;
}
