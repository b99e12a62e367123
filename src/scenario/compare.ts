// The maps that guest and heap keep, against the hypervisor's truth. Nobody may allocate meanwhile, nor change the machine.

import { NumaHeap } from "../heap/numa-heap.js";
import { differences, type Truth } from "../hypervisor/truth.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import type { Stage } from "./perform.js";
import { type MapCheck, type Maps, mapsAreTrue } from "./result.js";

/** Comparisons of what changes each time. */
const MOST_COMPARISONS = 10;
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

const isSame = (one: Truth, other: Truth): boolean =>
  one.vcpus.every((node, vcpu) => node === other.vcpus[vcpu]) && one.frames.every((node, gfn) => node === other.frames[gfn]);

/**
 * Compares. Frames of the balloon, and those that wait for whoever touches them first, lie nowhere and do not count. A balloon that fell short of
 * its target goes on by itself: where it did so meanwhile, and somebody seems wrong, they are compared anew.
 */
export async function compareMaps(stage: Stage): Promise<Maps> {
  const { host, vm } = stage;
  let truth = await host.truth(vm);
  for (let left = MOST_COMPARISONS - 1; ; --left) {
    const maps = await compareWith(truth, stage);
    if (left === 0 || mapsAreTrue(maps)) return maps;
    const now = await host.truth(vm);
    if (isSame(truth, now)) return maps;
    truth = now;
  }
}

async function compareWith(truth: Truth, { host, vm, heap }: Stage): Promise<Maps> {
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
