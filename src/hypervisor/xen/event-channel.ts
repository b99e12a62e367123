// Event channels (xen/include/public/event_channel.h), 2-level ABI: a pending and a mask bit each in shared_info, a selector and an
// upcall flag for each vCPU. A channel is an edge: a second event before the guest has cleared the first is the same event. An event on a
// masked channel stays pending without an upcall, so whoever unmasks looks again: EVTCHNOP_unmask does, and so must a guest that
// clears the bit itself.
//
// Modelled: VIRQs of a vCPU, and the channel of XenStore, which Xen's toolstack would have made. VIRQ_TOPOLOGY is not upstream's; its
// number is one that upstream leaves free.

import { EEXIST, EINVAL, ENOENT, ENOSPC } from "../errors.js";
import type { Line } from "../connection.js";
import { CHANNELS, type SharedInfo } from "./shared-info.js";

/** A vCPU or a range of frames changed its node. One for each vCPU. */
export const VIRQ_TOPOLOGY = 14;
const NR_VIRQS = 24;
/** The channel of XenStore, open from the start. Channel 0 is never used. */
export const XENSTORE_PORT = 1;

interface Channel {
  readonly vcpu: number;
  readonly virq: number | undefined;
}

export class EventChannels {
  readonly #info: SharedInfo;
  readonly #vcpus: number;
  readonly #interrupt: Line;
  readonly #channels = new Map<number, Channel>();

  constructor(info: SharedInfo, vcpus: number, interrupt: Line) {
    this.#info = info;
    this.#vcpus = vcpus;
    this.#interrupt = interrupt;
    this.reset();
  }

  /** EVTCHNOP_reset: a guest begins anew. */
  reset(): void {
    this.#channels.clear();
    this.#channels.set(XENSTORE_PORT, { vcpu: 0, virq: undefined });
    this.#info.reset();
  }

  /** EVTCHNOP_bind_virq: the new channel, or a negative errno. */
  bindVirq(virq: number, vcpu: number): number {
    if (virq >= NR_VIRQS) return -EINVAL;
    if (vcpu >= this.#vcpus) return -ENOENT;
    if (this.portOf(virq, vcpu) !== undefined) return -EEXIST;
    let port = XENSTORE_PORT + 1;
    while (this.#channels.has(port)) ++port;
    if (port >= CHANNELS) return -ENOSPC;
    this.#channels.set(port, { vcpu, virq });
    return port;
  }

  /** EVTCHNOP_close. */
  close(port: number): number {
    if (this.#channels.get(port)?.virq === undefined) return -EINVAL;
    this.#channels.delete(port);
    this.#info.clearPending(port);
    return 0;
  }

  /** EVTCHNOP_unmask: what became pending meanwhile is delivered. */
  unmask(port: number): number {
    const channel = this.#channels.get(port);
    if (!channel) return -EINVAL;
    this.#info.unmask(port);
    if (this.#info.isPending(port)) this.#select(channel, port);
    return 0;
  }

  /** EVTCHNOP_send by the guest: only to XenStore, which reads each request as it is made and needs no bell. */
  send(port: number): number {
    return port === XENSTORE_PORT ? 0 : -EINVAL;
  }

  /** Xen's send_guest_vcpu_virq. A vCPU that has not bound it is not told. */
  raiseVirq(virq: number, vcpu: number): void {
    const port = this.portOf(virq, vcpu);
    if (port !== undefined) this.setPending(port);
  }

  setPending(port: number): void {
    const channel = this.#channels.get(port);
    if (!channel || this.#info.setPending(port) || this.#info.isMasked(port)) return;
    this.#select(channel, port);
  }

  portOf(virq: number, vcpu: number): number | undefined {
    for (const [port, channel] of this.#channels) if (channel.virq === virq && channel.vcpu === vcpu) return port;
    return undefined;
  }

  #select({ vcpu }: Channel, port: number): void {
    if (this.#info.setSelector(vcpu, port)) return;
    if (!this.#info.setUpcall(vcpu) && !this.#info.upcallsMasked(vcpu)) this.#interrupt.raise();
  }
}
