// What KVM keeps of a guest beside p2m and vCPUs: its MMU notifier and its two devices, on one interrupt line. Tracking hangs on the end of
// each invalidation, which says that a range may lie elsewhere now, and on the fault that populates a frame.

import type { PlatformChange } from "../../guest/platform.js";
import { GuestLine } from "../connection.js";
import type { Hypervisor } from "../hypervisor.js";
import { announces } from "../modes.js";
import { isBacked } from "../p2m.js";
import type { GuestPort, VirtualMachine } from "../vm.js";
import { MmuNotifier } from "./mmu-notifier.js";
import { TopologyDevice } from "./topology-device.js";
import { BalloonDevice } from "./virtio-balloon.js";

export class KvmGuest implements GuestPort {
  readonly interrupt = new GuestLine();
  readonly notifier: MmuNotifier;
  readonly topology: TopologyDevice;
  readonly balloon: BalloonDevice;

  constructor(
    hypervisor: Hypervisor,
    private readonly vm: VirtualMachine,
    now: () => number,
    private readonly ended: () => void,
  ) {
    const { buffer } = vm.memory;
    const interrupt = (): void => this.interrupt.raise();
    const shape = { vcpus: vm.vcpus, frames: vm.frames, distances: hypervisor.machine.distances };
    const requests = {
      topology: () => hypervisor.topology(vm),
      advise: (first: number, count: number, node: number) => hypervisor.advise(vm, first, count, node),
      setPlacement: (policy: VirtualMachine["policy"]) => hypervisor.setPlacement(vm, policy),
      inflate: (gfns: readonly number[]) => hypervisor.inflate(vm, gfns),
      deflate: (gfns: readonly number[]) => hypervisor.deflate(vm, gfns),
    };
    this.notifier = new MmuNotifier((first, count) => this.#rangeChanged(first, count));
    this.topology = new TopologyDevice(buffer, shape, announces(vm.mode), requests, interrupt, now);
    this.balloon = new BalloonDevice(buffer, vm.frames, requests, interrupt);
    this.balloon.target(vm.balloonTarget);
  }

  entryChanged(gfn: number, from: number): void {
    if (this.notifier.covers(gfn)) return;
    if (isBacked(from)) throw new Error(`frame ${gfn} is taken from behind the guest without an invalidation`);
    this.vm.tracker.frame(gfn, this.vm.nodeOf(gfn));
  }

  changing(first: number, count: number, edit: () => void): void {
    this.notifier.rangeStart(first, count);
    try {
      edit();
    } finally {
      this.notifier.rangeEnd(first, count);
    }
  }

  announce(changes: readonly PlatformChange[]): void {
    this.topology.announce(changes);
  }

  balloonTarget(frames: number): void {
    this.balloon.target(frames);
  }

  /** The guest rang. */
  notified(): void {
    this.topology.notified();
    this.balloon.notified();
  }

  close(): void {
    this.interrupt.disconnect();
    this.ended();
  }

  #rangeChanged(first: number, count: number): void {
    for (let gfn = first; gfn < first + count; ++gfn) this.vm.tracker.frame(gfn, this.vm.nodeOf(gfn));
  }
}
