// What the firmware shows at boot, and what the unmodified part of the kernel believes for good (Linux: arch/x86/mm/numa.c; FreeBSD:
// x86/acpica/srat.c). In a flat machine that is one node; in one booted with a fixed topology, the nodes as of boot.
//
// As in the originals, tables that are absent, damaged, or leave out some of the memory are not used: there is one node then. Where a CPU
// is named nowhere, Linux puts it on the first node, and so do we.

import { AcpiError } from "../topology/acpi/errors.js";
import { topologyFromAcpi } from "../topology/acpi/tables.js";
import { TopologyError } from "../topology/errors.js";
import { assertFitsHeap } from "../topology/limits.js";
import { nodeOfCpu } from "../topology/queries.js";
import { parseTopology, type Topology } from "../topology/topology.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import type { FrameRange, VirtualTopology } from "./platform.js";

/** What a guest needs of its platform to know what it was booted with. */
export interface Firmware {
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
  readonly frames: number;
  readonly vcpus: number;
}

export class BootTables {
  readonly topology: Topology;
  /** Why the firmware's tables are not used; undefined: they are, or there are none. */
  readonly problem: AcpiError | TopologyError | undefined;
  readonly #vcpuNode: readonly number[];
  readonly #frameNode: Uint8Array;

  constructor({ srat, slit, frames, vcpus }: Firmware) {
    const flat = parseTopology({
      nodes: [{ id: 0, cpus: Array.from({ length: vcpus }, (_, vcpu) => vcpu), memory: [{ start: 0, end: frames * FRAME_BYTES }] }],
      distances: [[10]],
    });
    let told = flat;
    let problem: AcpiError | TopologyError | undefined;
    try {
      // A SLIT alone says how far nodes are from each other that nobody has named.
      if (srat.length > 0) told = topologyFromAcpi({ srat, slit: slit.length > 0 ? slit : undefined }).topology;
      assertFitsHeap(told);
      assertCovers(told, frames);
    } catch (error) {
      if (!(error instanceof AcpiError) && !(error instanceof TopologyError)) throw error;
      problem = error;
      told = flat;
    }
    this.problem = problem;
    this.#vcpuNode = Array.from({ length: vcpus }, (_, vcpu) => {
      const node = nodeOfCpu(told, vcpu);
      return node < 0 ? told.nodes[0]!.id : node;
    });
    this.#frameNode = new Uint8Array(frames);
    for (const { id, memory } of told.nodes) {
      for (const { start, end } of memory) this.#frameNode.fill(id, Math.floor(start / FRAME_BYTES), Math.ceil(end / FRAME_BYTES));
    }
    this.topology = parseTopology({
      nodes: told.nodes.map(({ id, memory }) => ({ id, memory, cpus: this.#cpusOf(id) })),
      distances: told.distances,
    });
  }

  /** One node: nothing the guest is told later shows here. */
  get isFlat(): boolean {
    return this.topology.nodes.length === 1;
  }

  nodeOfVcpu(vcpu: number): number {
    return this.#vcpuNode[vcpu]!;
  }

  nodeOfFrame(gfn: number): number {
    return this.#frameNode[gfn]!;
  }

  /** The topology of a guest that is told no other. */
  asVirtual(): VirtualTopology {
    const ranges: FrameRange[] = [];
    for (let first = 0; first < this.#frameNode.length;) {
      const node = this.#frameNode[first]!;
      let end = first + 1;
      while (end < this.#frameNode.length && this.#frameNode[end] === node) ++end;
      ranges.push({ first, count: end - first, node });
      first = end;
    }
    return { distances: this.topology.distances, vcpuNode: this.#vcpuNode, ranges };
  }

  #cpusOf(node: number): number[] {
    return this.#vcpuNode.flatMap((home, vcpu) => (home === node ? [vcpu] : []));
  }
}

/** As Linux has it: nodes that cover less than there is are worse than none. */
function assertCovers({ nodes }: Topology, frames: number): void {
  const ranges = nodes.flatMap(({ memory }) => memory).sort((a, b) => a.start - b.start);
  let covered = 0;
  for (const { start, end } of ranges) if (start <= covered) covered = Math.max(covered, end);
  if (covered >= frames * FRAME_BYTES) return;
  const message = `the nodes cover ${covered} bytes from 0 on, of ${frames * FRAME_BYTES}`;
  throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "nodes", message);
}
