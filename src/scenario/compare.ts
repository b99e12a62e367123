// The maps that guest and heap keep, against the hypervisor's truth. Nobody may allocate meanwhile, nor change the machine.

import { NumaHeap } from "../heap/numa-heap.js";
import { differences, type Truth } from "../hypervisor/truth.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import type { Stage } from "./perform.js";
import type { MapCheck, Maps } from "./result.js";

/** Differences that are put into words. */
const MOST_EXAMPLES = 6;
const NO_FRAMES = new Int8Array();

/** Node where what runs on each vCPU finds its memory: its own, or the nearest where the machine has some. */
function homesOf({ vcpus, frames }: Truth, distances: readonly (readonly number[])[]): number[] {
  const withMemory = new Set(frames);
  return vcpus.map((node) => {
    const away = distances[node]!;
    const candidates = [...away.keys()].filter((other) => withMemory.has(other));
    return candidates.sort((a, b) => away[a]! - away[b]! || a - b)[0] ?? node;
  });
}

/** Node of each vCPU as the heap has it: that of a thread which attaches on it. */
async function vcpuNodesOf(heap: NumaHeap, vcpus: number): Promise<number[]> {
  const nodes: number[] = [];
  for (let vcpu = 0; vcpu < vcpus; ++vcpu) {
    const thread = await NumaHeap.attach(heap.handle(vcpu), { mayBlock: false });
    nodes.push(thread.node);
    thread.detach();
  }
  return nodes;
}

/** What is wrong in somebody's map, in words. `counts`: frames that count. */
function check(
  truth: Truth,
  nodeOfVcpu: readonly number[],
  nodeOfFrame: (gfn: number) => number,
  counts: (gfn: number) => boolean,
): { check: MapCheck; words: string[] } {
  const vcpus = differences(
    { ...truth, frames: NO_FRAMES },
    (vcpu) => nodeOfVcpu[vcpu]!,
    () => 0,
  );
  const frames = differences(
    { ...truth, vcpus: [] },
    () => 0,
    nodeOfFrame,
    (gfn) => !counts(gfn),
  );
  const all = truth.frames.reduce((sum, _, gfn) => sum + Number(counts(gfn)), 0);
  return {
    check: { vcpusWrong: vcpus.length, vcpus: truth.vcpus.length, framesWrong: frames.length, frames: all },
    words: [...vcpus, ...frames].slice(0, MOST_EXAMPLES),
  };
}

/** Compares. Frames of the balloon, and those that wait for whoever touches them first, lie nowhere and do not count. */
export async function compareMaps({ host, vm, heap }: Stage): Promise<Maps> {
  const truth = await host.truth(vm);
  const { vcpuNode } = await vm.guest.view();
  const known = await vm.guest.frameNodes();
  const homes: Truth = { ...truth, vcpus: homesOf(truth, host.topology.distances) };
  const lies = (gfn: number): boolean => truth.frames[gfn]! >= 0;
  const nodeOf = (gfn: number): number => heap.nodeOf(gfn * FRAME_BYTES);
  const guests = check(homes, vcpuNode, (gfn) => known[gfn]!, lies);
  const heaps = check(homes, await vcpuNodesOf(heap, vm.vcpus), nodeOf, (gfn) => lies(gfn) && nodeOf(gfn) >= 0);
  return {
    guest: guests.check,
    heap: heaps.check,
    examples: [...guests.words.map((words) => `guest: ${words}`), ...heaps.words.map((words) => `heap: ${words}`)],
  };
}
