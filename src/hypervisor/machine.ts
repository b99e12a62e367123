// The machine below a hypervisor, as it uses it: out of a topology, in frames and without gaps.

import type { Topology } from "../topology/topology.js";
import { formatSize } from "../topology/size.js";
import { HypervisorError } from "./errors.js";
import { FRAME_BYTES, MAX_NODES } from "./vm-layout.js";

/** 8 TiB. A byte is kept of each frame of a machine, and tables number them in 31 bits. */
const MAX_FRAMES = 2 ** 30;

export interface Machine {
  /** As in a SLIT: 10 to itself. */
  readonly distances: readonly (readonly number[])[];
  /** Node of each pCPU. */
  readonly cpuNode: readonly number[];
  /** Frames of each node; a node may have none. */
  readonly nodeFrames: readonly number[];
}

/**
 * The machine of a topology: its nodes and CPUs must be numbered from 0 on without gaps, since the guests' tables are indexed by them.
 * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
 */
export function machineOf({ nodes, distances }: Topology): Machine {
  const fail = (message: string): never => {
    throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", message);
  };
  if (nodes.length > MAX_NODES) fail(`a hypervisor has nodes 0 to ${MAX_NODES - 1}, and this machine has ${nodes.length}`);
  const cpuNode: number[] = [];
  nodes.forEach(({ id, cpus }, node) => {
    if (id !== node) fail(`nodes must be numbered without gaps, and there is a node ${id} but no node ${node}`);
    for (const cpu of cpus) cpuNode[cpu] = node;
  });
  const cpus = nodes.reduce((sum, node) => sum + node.cpus.length, 0);
  if (cpus === 0) fail("a machine needs a CPU at least");
  if (cpus !== cpuNode.length) fail(`CPUs must be numbered without gaps: there are ${cpus}, the last of which is ${cpuNode.length - 1}`);
  const nodeFrames = nodes.map(({ memory }) => memory.reduce((sum, { start, end }) => sum + Math.floor((end - start) / FRAME_BYTES), 0));
  const frames = nodeFrames.reduce((sum, count) => sum + count, 0);
  if (frames === 0) fail("a machine needs memory");
  if (frames > MAX_FRAMES) {
    const [most, asked] = [MAX_FRAMES, frames].map((count) => formatSize(count * FRAME_BYTES));
    fail(`memory: the nodes of a machine have at most ${most} together, and of this one ${asked}: give each node less (memoryPerNode)`);
  }
  return { distances, cpuNode, nodeFrames };
}
