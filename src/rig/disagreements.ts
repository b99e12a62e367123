// What hypervisor, guest and heap say of the same machine, compared. Nobody may allocate meanwhile, nor change the machine.

import { NumaHeap } from "../heap/numa-heap.js";
import { differences, type Truth } from "../hypervisor/truth.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import type { Rig } from "./rig.js";

/** Node where what runs on `node` finds its memory: there, or on the nearest where the machine has some. */
function homeOf(node: number, { frames }: Truth, distances: readonly (readonly number[])[]): number {
  const withMemory = new Set(frames);
  const away = distances[node]!;
  const candidates = [...away.keys()].filter((other) => withMemory.has(other));
  return candidates.sort((a, b) => away[a]! - away[b]! || a - b)[0] ?? node;
}

/** Node of each vCPU as the heap has it: that of a thread which attaches on it. */
async function nodesOfVcpus({ ground, vm }: Rig): Promise<number[]> {
  const nodes: number[] = [];
  for (let vcpu = 0; vcpu < vm.vcpus; ++vcpu) {
    using heap = await NumaHeap.attach(ground!.heap.handle(vcpu), { mayBlock: false });
    nodes.push(heap.node);
  }
  return nodes;
}

/**
 * Where a map of an adaptive machine's guest or heap is not the hypervisor's truth, a free frame is filed on another node than its own,
 * or the kernel's books do not tally; in words. Empty: nowhere.
 */
export async function disagreements(rig: Rig): Promise<string[]> {
  await rig.guest.balloon.idle();
  if (!(await rig.settle())) return ["the heap does not know everything: a lock is out of reach"];
  const { guest, hypervisor, vm, ground } = rig;
  const truth = hypervisor.truth(vm);
  const { heap } = ground!.heap;
  const ofVcpus = await nodesOfVcpus(rig);
  const { distances } = hypervisor.machine;
  const homes = { ...truth, vcpus: truth.vcpus.map((node) => homeOf(node, truth, distances)) };
  const ballooned = (gfn: number): boolean => truth.frames[gfn]! < 0;
  const said = (who: string, found: readonly string[]): string[] => found.map((words) => `${who}: ${words}`);
  return [
    ...said(
      "heap",
      differences(
        homes,
        (vcpu) => ofVcpus[vcpu]!,
        (gfn) => heap.nodeOf(gfn * FRAME_BYTES),
        (gfn) => guest.table.ownerOf(gfn) !== ground!.heap.owner,
      ),
    ),
    ...said(
      "guest",
      differences(
        truth,
        (vcpu) => guest.topology.runsOn(vcpu),
        (gfn) => guest.table.nodeOf(gfn),
        ballooned,
      ),
    ),
    ...said("kernel", guest.check()),
    ...(guest.balloon.size === truth.frames.filter((node) => node < 0).length
      ? []
      : ["the balloon is of another size than the hypervisor's"]),
  ];
}
