// What Xen keeps of a guest beside p2m and vCPUs: its shared_info page, its event channels, its home in XenStore. Tracking hangs on the
// p2m's set-entry path here: each entry that is set is one frame that may have changed its node.

import type { PlatformChange } from "../../guest/platform.js";
import { GuestLine } from "../connection.js";
import type { GuestPort, VirtualMachine } from "../vm.js";
import { FRAME_BYTES } from "../vm-layout.js";
import { EventChannels, VIRQ_TOPOLOGY, XENSTORE_PORT } from "./event-channel.js";
import type { Domain } from "./hypercalls.js";
import { SharedInfo } from "./shared-info.js";
import { DOM0, homeOf, type XenStore } from "./xenstore.js";
import type { Hypervisor } from "../hypervisor.js";

const FRAME_KIB = FRAME_BYTES / 1024;

export class XenDomain implements GuestPort, Domain {
  readonly interrupt = new GuestLine();
  readonly info: SharedInfo;
  readonly channels: EventChannels;

  constructor(
    readonly hypervisor: Hypervisor,
    readonly vm: VirtualMachine,
    readonly store: XenStore,
    private readonly now: () => number,
    private readonly ended: () => void,
  ) {
    this.info = new SharedInfo(vm.memory.buffer);
    this.channels = new EventChannels(this.info, vm.vcpus, this.interrupt);
    store.write(DOM0, `${homeOf(vm.id)}/name`, vm.name);
    this.balloonTarget(vm.balloonTarget);
  }

  entryChanged(gfn: number): void {
    this.vm.tracker.frame(gfn, this.vm.nodeOf(gfn));
  }

  changing(_first: number, _count: number, edit: () => void): void {
    edit();
  }

  /** Changes first, then the versions, then the event: who sees the event sees all. */
  announce(changes: readonly PlatformChange[]): void {
    const moved = new Set<number>();
    for (const change of changes) {
      if (change.kind !== "vcpu") continue;
      this.info.setNode(change.vcpu, change.node);
      moved.add(change.vcpu);
    }
    const memory = changes.some(({ kind }) => kind === "frames");
    this.info.bump(memory, this.now());
    // A vCPU hears of its own moves, the first one of memory.
    if (memory) moved.add(0);
    for (const vcpu of moved) this.channels.raiseVirq(VIRQ_TOPOLOGY, vcpu);
  }

  balloonTarget(frames: number): void {
    this.store.write(DOM0, `${homeOf(this.vm.id)}/memory/target`, String(frames * FRAME_KIB));
  }

  /** A watch of this guest's fired. */
  watchFired(): void {
    this.channels.setPending(XENSTORE_PORT);
  }

  close(): void {
    this.interrupt.disconnect();
    this.store.forget(this.vm.id);
    this.ended();
  }
}
