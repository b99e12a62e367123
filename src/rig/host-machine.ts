// A machine as programs have it: the hypervisor in one thread, the guest's kernel in another, operations by remote call.

import type { HeapHandle } from "../heap/handle.js";
import type { NumaHeap } from "../heap/numa-heap.js";
import { Host } from "../host/host.js";
import type { Vm } from "../host/vm.js";
import { FRAME_BYTES, vmLayout } from "../hypervisor/vm-layout.js";
import type { Machine, MachineOptions } from "./machine.js";
import { hostShape, MACHINE_BYTES, MACHINE_VCPUS, type StopFor } from "./rig.js";

export class HostMachine implements Machine {
  readonly layout = vmLayout(MACHINE_BYTES / FRAME_BYTES);
  readonly frames = this.layout.frames;
  #host: Host;
  readonly #vm: Vm;
  readonly #heap: NumaHeap;

  static async boot({ platform, os, nodes = 4, initialBytes }: MachineOptions): Promise<HostMachine> {
    const host = await Host.create({ hypervisor: platform, ...hostShape(MACHINE_BYTES, nodes) });
    const vm = await host.boot({ guest: os, vcpus: MACHINE_VCPUS, memory: MACHINE_BYTES });
    return new HostMachine(host, vm, await vm.createHeap(initialBytes === undefined ? {} : { initialBytes }));
  }

  private constructor(host: Host, vm: Vm, heap: NumaHeap) {
    this.#host = host;
    this.#vm = vm;
    this.#heap = heap;
  }

  get nodes(): number {
    return this.#host.topology.nodes.length;
  }

  handle(vcpu: number): HeapHandle {
    return this.#heap.handle(vcpu);
  }

  migrateVcpu(vcpu: number, node: number): Promise<unknown> {
    return this.#host.migrateVcpu(this.#vm, vcpu, { toNode: node });
  }

  migratePages(first: number, frames: number, node: number): Promise<unknown> {
    return this.#host.migratePages(this.#vm, { start: first * FRAME_BYTES, bytes: frames * FRAME_BYTES, toNode: node });
  }

  setBalloonTarget(frames: number): Promise<unknown> {
    return this.#host.setBalloonTarget(this.#vm, frames * FRAME_BYTES);
  }

  /** The kernel has the thread move over: it only has to stand where it hears of it. */
  migrateLive(nodes: number, stopFor: StopFor): Promise<unknown> {
    return stopFor(async () => {
      const destination = await Host.create({ hypervisor: this.#host.hypervisor, ...hostShape(MACHINE_BYTES, nodes) });
      await this.#host.migrateLive(this.#vm, destination);
      await this.#host.dispose();
      this.#host = destination;
      return undefined;
    });
  }

  settle(): Promise<unknown> {
    return this.#vm.guest.settle();
  }

  end(): Promise<void> {
    return this.#host.dispose();
  }
}
