// Xen: memory is populated when the domain is built; changes are tracked where an entry of the p2m is set; a guest is told by
// VIRQ_TOPOLOGY that something has changed, and looks what: vCPUs in shared_info, frames by hypercall. Its balloon's target is a node
// of XenStore. What has changed between two looks of the guest is one event, however much it is.
//
// Departures from Xen stand at the head of each part: shared-info.ts, event-channel.ts, vnuma-info.ts, xenstore.ts, hypercalls.ts.

import {
  ANSWER,
  BOOT,
  bootInfo,
  CALL,
  type Defer,
  type GuestConnection,
  INTERRUPT,
  LocalLine,
  type Port,
  PortLine,
} from "../connection.js";
import { disconnected } from "../errors.js";
import { Hypervisor, type PlatformDescription } from "../hypervisor.js";
import type { GuestPort, VirtualMachine } from "../vm.js";
import { XenDomain } from "./domain.js";
import { type Hypercall, hypercall, type HypercallAnswer } from "./hypercalls.js";
import { XenStore } from "./xenstore.js";

/** A guest's end of a connection to Xen. */
export interface XenConnection extends GuestConnection {
  readonly name: "xen";
  hypercall(call: Hypercall): Promise<HypercallAnswer>;
}

export class Xen extends Hypervisor {
  override readonly name = "xen";
  protected override readonly populatesAtBuild = true;
  readonly #domains = new Map<number, XenDomain>();
  readonly store = new XenStore((domain) => this.#domains.get(domain)?.watchFired());

  override describe(): PlatformDescription {
    return {
      name: "xen",
      populated: "when the domain is built",
      batched: "all changes since the guest last looked are one VIRQ_TOPOLOGY",
      acknowledged: "by clearing the channel's pending bit; until then the event is not raised again",
      seen: "when its handler has read vcpu_to_pnode and, if frames changed, asked XENMEM_get_vnumainfo: the state of then, not the steps to it",
    };
  }

  /** Connects a guest in this thread. Whatever was connected before, here or by serve, is closed. */
  connect(vm: VirtualMachine, defer?: Defer): XenConnection {
    const domain = this.#domainOf(vm);
    const line = new LocalLine(defer);
    let open = true;
    let closed = (): void => {};
    const close = (): void => {
      open = false;
      line.disconnect();
    };
    domain.interrupt.connect(line, () => {
      close();
      closed();
    });
    return {
      ...bootInfo("xen", vm),
      onInterrupt: (handler) => line.connect(handler),
      onClose: (handler) => void (closed = handler),
      hypercall: (call) => (open ? Promise.resolve(hypercall(domain, call)) : Promise.reject(disconnected())),
      close,
    };
  }

  /** Serves a guest at the other end of a port, which is connected by connectPort. */
  serve(vm: VirtualMachine, port: Port): void {
    const domain = this.#domainOf(vm);
    domain.interrupt.connect(new PortLine(port, { is: INTERRUPT }), () => port.close());
    port.addEventListener("message", ({ data }) => {
      const { is, id, call } = (data ?? {}) as { is?: unknown; id?: unknown; call?: unknown };
      if (is === CALL) port.postMessage({ is: ANSWER, id, answer: hypercall(domain, call) });
    });
    port.start();
    port.postMessage({ is: BOOT, boot: bootInfo("xen", vm) });
  }

  protected override portOf(vm: VirtualMachine): GuestPort {
    const domain = new XenDomain(this, vm, this.store, this.now, () => this.#domains.delete(vm.id));
    this.#domains.set(vm.id, domain);
    return domain;
  }

  #domainOf(vm: VirtualMachine): XenDomain {
    this.vm(vm.id);
    return this.#domains.get(vm.id)!;
  }
}
