// KVM: a frame is backed by a fault, when it is first touched, on the node its memory slot is bound to; the host moves pages under the
// eyes of an MMU notifier. A guest is told by the events of a virtio device, one for each change, which it
// acknowledges by returning their buffers. Its balloon is virtio's.
//
// A frame that nobody has touched lies nowhere. Its home is what the guest is told, and unlike KVM's it is kept: a node has room for all
// frames that wait for it, and what is to wait for a full one waits as near to it as there is room.
// Departures from KVM and virtio stand at the head of each part: mmu-notifier.ts, virtqueue.ts, virtio-device.ts and the devices.

import {
  BOOT,
  bootInfo,
  type Defer,
  DOORBELL,
  type GuestConnection,
  INTERRUPT,
  type Line,
  LocalLine,
  type Port,
  PortLine,
} from "../connection.js";
import { Hypervisor, type PlatformDescription } from "../hypervisor.js";
import { isBacked } from "../p2m.js";
import type { GuestPort, VirtualMachine } from "../vm.js";
import { KvmGuest } from "./guest-port.js";
import { Fault } from "./mmu-notifier.js";

/** A guest's end of a connection to KVM. */
export interface KvmConnection extends GuestConnection {
  readonly name: "kvm";
  /** To be rung after writing to a device's registers or rings. */
  readonly doorbell: Line;
}

export class Kvm extends Hypervisor {
  override readonly name = "kvm";
  protected override readonly populatesAtBuild = false;
  readonly #guests = new Map<number, KvmGuest>();

  override describe(): PlatformDescription {
    return {
      name: "kvm",
      populated: "by a fault at the first touch",
      batched: "nothing: each change is an event, in order; those that find no buffer become one event of overflow",
      acknowledged: "by returning the event's buffer",
      seen: "when its handler takes the event, every step of the way; upon overflow, the state of when it reads everything anew",
    };
  }

  /** Connects a guest in this thread. Whatever was connected before, here or by serve, is closed. */
  connect(vm: VirtualMachine, defer?: Defer): KvmConnection {
    const guest = this.guest(vm);
    const line = new LocalLine(defer);
    const doorbell = new LocalLine(defer);
    let closed = (): void => {};
    const close = (): void => {
      line.disconnect();
      doorbell.disconnect();
    };
    guest.interrupt.connect(line, () => {
      close();
      closed();
    });
    doorbell.connect(() => guest.notified());
    return {
      ...bootInfo("kvm", vm),
      doorbell,
      onInterrupt: (handler) => line.connect(handler),
      onClose: (handler) => void (closed = handler),
      close: () => {
        // The last thing a driver rings for is its reset.
        doorbell.flush();
        close();
      },
    };
  }

  /** Serves a guest at the other end of a port, which is connected by connectPort. */
  serve(vm: VirtualMachine, port: Port): void {
    const guest = this.guest(vm);
    guest.interrupt.connect(new PortLine(port, { is: INTERRUPT }), () => port.close());
    port.addEventListener("message", ({ data }) => {
      if ((data as { is?: unknown } | null)?.is === DOORBELL) guest.notified();
    });
    port.start();
    port.postMessage({ is: BOOT, boot: bootInfo("kvm", vm) });
  }

  /** The devices and the notifier of a guest. */
  guest(vm: VirtualMachine): KvmGuest {
    this.vm(vm.id);
    return this.#guests.get(vm.id)!;
  }

  /** The first step of a fault; the second is its install. */
  fault(vm: VirtualMachine, gfn: number, node: number): Fault {
    return new Fault(this.guest(vm).notifier, gfn, {
      find: () => vm.frameFor(gfn, node),
      isBacked: () => isBacked(vm.p2m.get(gfn)),
      set: (mfn) => vm.p2m.set(gfn, mfn),
      drop: (mfn) => this.frames.release(mfn),
    });
  }

  protected override back(vm: VirtualMachine, gfn: number, node: number): void {
    while (!this.fault(vm, gfn, node).install());
  }

  protected override portOf(vm: VirtualMachine): GuestPort {
    const guest = new KvmGuest(this, vm, this.now, () => this.#guests.delete(vm.id));
    this.#guests.set(vm.id, guest);
    return guest;
  }
}
