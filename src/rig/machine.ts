// A machine that is changed in order to see how soon the change is known. Two of them: one whose hypervisor and guest run in the thread that
// makes the changes, so that nothing but the delivery is measured, and one of threads of their own (host-machine.ts), as programs have it.

import type { HeapHandle } from "../heap/handle.js";
import { type VmLayout } from "../hypervisor/vm-layout.js";
import { type Pairing, Rig, type StopFor } from "./rig.js";

export interface MachineOptions extends Pairing {
  /** Nodes of the host. Default 4. */
  readonly nodes?: number;
  /** Bytes the heap begins with, in the machine's lowest frames. Default: 64 KiB. */
  readonly initialBytes?: number;
}

export interface Machine {
  /** Nodes of the host it is on. */
  readonly nodes: number;
  readonly frames: number;
  readonly layout: VmLayout;
  /** Names another thread to its heap. */
  handle(vcpu: number): HeapHandle;
  migrateVcpu(vcpu: number, node: number): Promise<unknown>;
  /** Frames [first, first + frames) go to a node. */
  migratePages(first: number, frames: number, node: number): Promise<unknown>;
  /** Frames the guest is to do with. */
  setBalloonTarget(frames: number): Promise<unknown>;
  /** Moves to a host of so many nodes. `stopFor` has the thread that allocates stand still, and go on over the memory that is answered, if one is. */
  migrateLive(nodes: number, stopFor: StopFor): Promise<unknown>;
  /** Everything that has happened so far is known everywhere, and the balloon is as large as it is to be. */
  settle(): Promise<unknown>;
  end(): Promise<void>;
}

/** All of it in this thread. */
export class RigMachine implements Machine {
  readonly #rig: Rig;
  readonly layout: VmLayout;

  static async boot({ initialBytes, ...options }: MachineOptions): Promise<RigMachine> {
    const rig = await Rig.boot(options);
    await rig.makeHeap(initialBytes);
    return new RigMachine(rig);
  }

  private constructor(rig: Rig) {
    this.#rig = rig;
    this.layout = rig.guest.layout;
  }

  get nodes(): number {
    return this.#rig.hypervisor.nodes;
  }

  get frames(): number {
    return this.#rig.vm.frames;
  }

  handle(vcpu: number): HeapHandle {
    return this.#rig.heap!.handle(vcpu);
  }

  async migrateVcpu(vcpu: number, node: number): Promise<void> {
    this.#rig.hypervisor.migrateVcpu(this.#rig.vm, vcpu, { toNode: node });
    await this.#rig.driver.settled();
  }

  async migratePages(first: number, frames: number, node: number): Promise<void> {
    this.#rig.hypervisor.migratePages(this.#rig.vm, first, frames, node);
    await this.#rig.driver.settled();
  }

  async setBalloonTarget(frames: number): Promise<void> {
    this.#rig.hypervisor.setBalloonTarget(this.#rig.vm, frames);
    await this.#rig.driver.settled();
  }

  migrateLive(nodes: number, stopFor: StopFor): Promise<unknown> {
    return this.#rig.migrateLive(nodes, stopFor);
  }

  async settle(): Promise<void> {
    await this.#rig.driver.settled();
    await this.#rig.guest.balloon.idle();
    await this.#rig.settle();
  }

  end(): Promise<void> {
    return this.#rig.end();
  }
}
