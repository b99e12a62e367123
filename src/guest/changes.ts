// What a platform tells, looked at before anything of it is done: a batch that cannot be changes nothing.

import { MAX_NODES } from "../hypervisor/vm-layout.js";
import { GuestError } from "./errors.js";
import type { PlatformChange, VirtualTopology } from "./platform.js";

/** What changes are judged by. */
export interface Bounds {
  /** Nodes before the first change. */
  readonly nodes: number;
  readonly vcpus: number;
  readonly frames: number;
}

const isIndex = (value: number, count: number): boolean => Number.isInteger(value) && value >= 0 && value < count;

/** Why these can be no distances; undefined if they can. */
function distancesProblem(distances: readonly (readonly number[])[]): string | undefined {
  const count = distances.length;
  if (count < 1 || count > MAX_NODES) return `there can be 1 to ${MAX_NODES} nodes, not ${count}`;
  for (const [from, row] of distances.entries()) {
    if (row.length !== count) return `${row.length} distances from node ${from}, of ${count}`;
    for (const [to, distance] of row.entries()) {
      if (!isIndex(distance, 256) || (from === to ? distance !== 10 : distance <= 10)) return `distance ${distance} from ${from} to ${to}`;
    }
  }
  return undefined;
}

function problemOf(change: PlatformChange, { nodes, vcpus, frames }: Bounds): string | undefined {
  if (change.kind === "nodes") return distancesProblem(change.distances);
  if (!isIndex(change.node, nodes)) return `node ${change.node}, of ${nodes}`;
  if (change.kind === "vcpu") return isIndex(change.vcpu, vcpus) ? undefined : `vCPU ${change.vcpu}, of ${vcpus}`;
  const { first, count } = change;
  const fits = isIndex(first, frames) && isIndex(count - 1, frames - first);
  return fits ? undefined : `frames ${first} to ${first + count - 1}, of ${frames}`;
}

/** @throws {GuestError} NUMAHEAP_TOPOLOGY_CHANGE for the first change that cannot be */
export function assertChanges(changes: readonly PlatformChange[], bounds: Bounds): void {
  let { nodes } = bounds;
  changes.forEach((change, i) => {
    const problem = problemOf(change, { ...bounds, nodes });
    if (problem !== undefined)
      throw new GuestError("NUMAHEAP_TOPOLOGY_CHANGE", `change ${i} of ${changes.length} (${change.kind}): ${problem}`);
    if (change.kind === "nodes") nodes = change.distances.length;
  });
}

/** @throws {GuestError} NUMAHEAP_TOPOLOGY_CHANGE for a topology that cannot be */
export function assertVirtual({ distances, vcpuNode, ranges }: VirtualTopology, bounds: Omit<Bounds, "nodes">): void {
  const vcpus = vcpuNode.map((node, vcpu): PlatformChange => ({ kind: "vcpu", vcpu, node }));
  const frames = ranges.map((range): PlatformChange => ({ kind: "frames", ...range }));
  assertChanges([{ kind: "nodes", distances }, ...vcpus, ...frames], { ...bounds, nodes: 0 });
  if (vcpuNode.length === bounds.vcpus) return;
  throw new GuestError("NUMAHEAP_TOPOLOGY_CHANGE", `the topology has ${vcpuNode.length} vCPUs, of ${bounds.vcpus}`);
}
