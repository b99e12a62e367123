// A virtual machine as the ground of a replay: the heap is one of its guest's, the events lie in the guest's memory, and where vCPUs and
// frames really are is read from the tables that its hypervisor keeps there. Worker i runs on vCPU i.

import { HEAP_PAGE } from "../heap/exports.js";
import type { NumaHeap } from "../heap/numa-heap.js";
import type { Vm } from "../host/vm.js";
import { vmLayout } from "../hypervisor/vm-layout.js";
import { compile } from "./engine.js";
import type { Ground, GroundMaker } from "./ground.js";
import { PlanError } from "./plan.js";
import type { Replay } from "./replay.js";

/**
 * Makes the ground in a machine of the host's, with room beside its heap that is kept until the machine is destroyed.
 * @throws {PlanError} if the machine has fewer vCPUs than the replay has workers
 */
export function vmGround(vm: Vm, heap: NumaHeap, threads: number): GroundMaker {
  return async (planBytes): Promise<Ground> => {
    if (threads > vm.vcpus) throw new PlanError(`${threads} workers want as many vCPUs, and ${vm.name} has ${vm.vcpus}`);
    const { address } = await vm.reserve(planBytes);
    const { base, modules } = heap.handle(0);
    const layout = vmLayout(vm.memory.buffer.byteLength / HEAP_PAGE);
    return {
      memory: vm.memory,
      plan: address,
      heapBase: base,
      modules: { heap: modules.heap, replay: await compile("replay.wasm") },
      inspect: modules.inspect,
      hostVcpu: 0,
      truth: { vcpus: layout.vcpuTruth, frames: layout.frameTruth, touchers: layout.frameToucher },
      quiet: () => vm.guest.hold(),
      nextKey: () => heap.handle(0).key,
    };
  };
}

/** For a live migration (`pause` of its options): the replay's workers stop between two events, and go on over the memory they came to. */
export function pauseReplay(replay: Replay): (memory: WebAssembly.Memory) => Promise<(moved: boolean) => Promise<void>> {
  return (memory) =>
    new Promise((stopped, failed) => {
      const done = replay.stopFor(() => new Promise((go) => stopped((moved) => (go(moved ? memory : undefined), done))));
      done.catch(failed);
    });
}
