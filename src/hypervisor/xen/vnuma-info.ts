// XENMEM_get_vnumainfo (xen/include/public/memory.h: struct xen_vnuma_topology_info): the guest says how many nodes, vCPUs and ranges it
// has room for, and is answered with how many there are; with the tables too if they fit, else with ENOBUFS.
//
// Departures from Xen. The tables come as values with the answer, where Xen writes through guest handles: a hypercall crosses threads
// here. And they show the topology as of now, with Xen's own node numbers, as vcpu_to_pnode does; upstream's are fixed when the domain
// is built, which is the very thing that adaptable vNUMA does away with.

import type { VirtualTopology } from "../../guest/platform.js";
import { ENOBUFS } from "../errors.js";
import { FRAME_BYTES } from "../vm-layout.js";

/** In: what there is room for. Out: what there is. */
export interface VnumaCounts {
  readonly nr_vnodes: number;
  readonly nr_vcpus: number;
  readonly nr_vmemranges: number;
}

/** Doubles of a struct xen_vmemrange: start and end in bytes, flags, nid. */
export const VMEMRANGE_FIELDS = 4;

export interface VnumaInfo extends VnumaCounts {
  /** nr_vnodes x nr_vnodes, row by row. */
  readonly vdistance: Uint32Array;
  readonly vcpu_to_vnode: Uint32Array;
  /** nr_vmemranges x VMEMRANGE_FIELDS. */
  readonly vmemrange: Float64Array;
}

export type VnumaAnswer = { readonly status: number; readonly info: VnumaCounts | VnumaInfo };

export function vnumaInfo(topology: VirtualTopology, room: VnumaCounts): VnumaAnswer {
  const { distances, vcpuNode, ranges } = topology;
  const counts = { nr_vnodes: distances.length, nr_vcpus: vcpuNode.length, nr_vmemranges: ranges.length };
  if (room.nr_vnodes < counts.nr_vnodes || room.nr_vcpus < counts.nr_vcpus || room.nr_vmemranges < counts.nr_vmemranges) {
    return { status: -ENOBUFS, info: counts };
  }
  const vmemrange = new Float64Array(ranges.length * VMEMRANGE_FIELDS);
  ranges.forEach(({ first, count, node }, i) =>
    vmemrange.set([first * FRAME_BYTES, (first + count) * FRAME_BYTES, 0, node], i * VMEMRANGE_FIELDS),
  );
  return {
    status: 0,
    info: { ...counts, vdistance: Uint32Array.from(distances.flat()), vcpu_to_vnode: Uint32Array.from(vcpuNode), vmemrange },
  };
}
