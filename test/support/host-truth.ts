// What a guest's kernel and a heap of its believe, against the hypervisor's truth. Nobody may allocate meanwhile.
import { attachHeap, differences, type Host, type Vm } from "../../dist/host/index.js";
import type { NumaHeap } from "../../dist/index.js";

const FRAME = 8192;

/** Node of each vCPU as the heap has it: that of a thread that attaches on it. */
async function vcpuNodesOf(heap: NumaHeap, vcpus: number): Promise<number[]> {
  const nodes: number[] = [];
  for (let vcpu = 0; vcpu < vcpus; ++vcpu) {
    const thread = await attachHeap(heap.handle(vcpu), { mayBlock: false });
    nodes.push(thread.node);
    thread.detach();
  }
  return nodes;
}

/** Where kernel or heap are wrong, and what the kernel finds wrong with itself. */
export async function falseBeliefs(host: Host, vm: Vm, heap: NumaHeap): Promise<string[]> {
  const truth = await host.truth(vm);
  const [{ vcpuNode }, nodes] = [await vm.guest.view(), await vm.guest.frameNodes()];
  const vcpus = await vcpuNodesOf(heap, vm.vcpus);
  return [
    ...differences(
      truth,
      (vcpu) => vcpuNode[vcpu]!,
      (gfn) => nodes[gfn]!,
      (gfn) => truth.frames[gfn]! < 0,
    ),
    ...differences(
      truth,
      (vcpu) => vcpus[vcpu]!,
      (gfn) => heap.nodeOf(gfn * FRAME),
      (gfn) => heap.nodeOf(gfn * FRAME) < 0,
    ),
    ...(await vm.guest.check()),
    ...(await vm.guest.problems()).map(String),
  ];
}
