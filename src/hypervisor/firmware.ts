// What the firmware of a virtual machine shows its guest: an SRAT and a SLIT of one node, or those of the nodes as of boot.

import { topologyToAcpi } from "../topology/acpi/tables.js";
import { flatTopology, parseTopology } from "../topology/topology.js";
import { type BootMode, showsNodes } from "./modes.js";
import { rangesOf, type Truth } from "./truth.js";
import type { Firmware } from "./vm.js";
import { FRAME_BYTES } from "./vm-layout.js";

/** @param truth where vCPUs and frames are when the machine boots; what is nowhere yet is on node 0 */
export function firmwareOf(mode: BootMode, truth: Truth, distances: readonly (readonly number[])[]): Firmware {
  const ranges = rangesOf(truth.frames.map((node) => Math.max(node, 0)));
  const topology = parseTopology({
    nodes: distances.map((_, id) => ({
      id,
      cpus: [...truth.vcpus.keys()].filter((vcpu) => truth.vcpus[vcpu] === id),
      memory: ranges
        .filter(({ node }) => node === id)
        .map(({ first, count }) => ({ start: first * FRAME_BYTES, end: (first + count) * FRAME_BYTES })),
    })),
    distances,
  });
  return topologyToAcpi(showsNodes(mode) ? topology : flatTopology(topology));
}
