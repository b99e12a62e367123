// The guest's side of Xen (Linux: drivers/xen/events/events_2l.c and xenbus): an upcall says that some channel is pending; the handler of
// VIRQ_TOPOLOGY reads vcpu_to_pnode[], asks for the ranges of frames if any has changed, compares both with what it saw last, and hands
// the difference over. A channel stays masked from its event until that is done; what comes meanwhile is found when it is unmasked.

import type { XenConnection } from "../../hypervisor/xen/xen.js";
import { EOPNOTSUPP, ENOBUFS, HypervisorError } from "../../hypervisor/errors.js";
import { PLACEMENT_POLICIES } from "../../hypervisor/modes.js";
import { VIRQ_TOPOLOGY, XENSTORE_PORT } from "../../hypervisor/xen/event-channel.js";
import * as X from "../../hypervisor/xen/hypercalls.js";
import { CHANNELS, SharedInfo } from "../../hypervisor/xen/shared-info.js";
import { VMEMRANGE_FIELDS, type VnumaCounts, type VnumaInfo } from "../../hypervisor/xen/vnuma-info.js";
import { FRAME_BYTES } from "../../hypervisor/vm-layout.js";
import type { FrameRange, PlacementPolicy, PlatformChange, PlatformHandler, VirtualTopology } from "../platform.js";
import { type Connection, Deliverer, type Driver, type DriverOptions, ofKind } from "./driver.js";
import { Known } from "./known.js";

const TARGET = "memory/target";
const FRAME_KIB = FRAME_BYTES / 1024;

interface Reading {
  readonly topology: VirtualTopology;
  readonly memoryVersion: number;
}

export class XenPlatform implements Driver {
  readonly name = "xen";
  readonly frames: number;
  readonly vcpus: number;
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
  #connection: XenConnection;
  #info: SharedInfo;
  readonly #known: Known;
  readonly #deliverer: Deliverer;
  /** What there is room for in the next answer. */
  #room: VnumaCounts;
  /** memory_version before those frames were asked for that the guest knows. */
  #memoryVersion: number | undefined;
  /** vCPU of each channel that is bound. */
  readonly #ports = new Map<number, number>();
  /** Channels whose events are to be handled. They are masked. */
  readonly #due = new Set<number>();
  #busy = false;
  #work: Promise<void> = Promise.resolve();
  /** Requests of the guest on their way. */
  readonly #requests = new Set<Promise<unknown>>();
  #running = false;
  #raised = 0;
  /** What the next delivery is by. */
  #why = "start";

  constructor(connection: XenConnection, options: DriverOptions = {}) {
    const { frames, vcpus, srat, slit, memory } = connection;
    this.frames = frames;
    this.vcpus = vcpus;
    this.srat = srat;
    this.slit = slit;
    this.#connection = connection;
    this.#info = new SharedInfo(memory.buffer);
    this.#known = new Known(vcpus, frames);
    this.#deliverer = new Deliverer(frames, options);
    this.#room = { nr_vnodes: 1, nr_vcpus: vcpus, nr_vmemranges: 1 };
  }

  async readTopology(): Promise<VirtualTopology | undefined> {
    const reading = await this.#request(() => this.#read());
    // Whoever only asks takes nothing away from the handler.
    if (reading && !this.#deliverer.handler) this.#adopt(reading);
    return reading?.topology;
  }

  async start(handler: PlatformHandler): Promise<void> {
    this.#deliverer.handler = handler;
    await this.#bind();
  }

  async inflate(gfns: readonly number[]): Promise<void> {
    await this.#request(() => this.#call(X.MEMORY_OP, X.XENMEM_DECREASE_RESERVATION, { gfns }));
  }

  deflate(gfns: readonly number[]): Promise<number> {
    // Whatever is believed of them, where they come back is news.
    this.#known.forget(gfns);
    return this.#request(() => this.#call(X.MEMORY_OP, X.XENMEM_POPULATE_PHYSMAP, { gfns }));
  }

  advise(first: number, count: number, node: number): Promise<number> {
    return this.#request(() => this.#call(X.MEMORY_OP, X.XENMEM_ADVISE_NODE, { first, count, node }));
  }

  async setPlacement(policy: PlacementPolicy): Promise<void> {
    await this.#request(() => this.#call(X.MEMORY_OP, X.XENMEM_PAGE_MAPPING, { policy: PLACEMENT_POLICIES.indexOf(policy) }));
  }

  stop(): void {
    this.#running = false;
    this.#connection.close();
  }

  async settled(): Promise<void> {
    for (;;) {
      if (this.#running) this.#upcall();
      if (!this.#busy) return;
      await this.#work;
    }
  }

  async suspend(): Promise<void> {
    await Promise.allSettled([...this.#requests]);
    await this.settled();
    this.#running = false;
  }

  /** Binds anew, as a domain does after xen_suspend. */
  async resume(connection: Connection): Promise<void> {
    this.#connection = ofKind("xen", connection);
    this.#info = new SharedInfo(connection.memory.buffer);
    this.#memoryVersion = undefined;
    this.#why = "resume";
    this.#raised = 0;
    await this.#bind();
  }

  // ---- events

  /** Binds the channels, then looks at everything: what happened before they were bound raised nothing. */
  async #bind(): Promise<void> {
    this.#ports.clear();
    this.#due.clear();
    await this.#call(X.EVENT_CHANNEL_OP, X.EVTCHNOP_RESET, {});
    this.#ports.set(XENSTORE_PORT, 0);
    for (let vcpu = 0; vcpu < this.vcpus; ++vcpu) {
      this.#ports.set(await this.#call(X.EVENT_CHANNEL_OP, X.EVTCHNOP_BIND_VIRQ, { virq: VIRQ_TOPOLOGY, vcpu }), vcpu);
    }
    await this.#call(X.XENSTORE_OP, X.XS_WATCH, { path: TARGET, token: TARGET });
    this.#running = true;
    this.#connection.onInterrupt(() => this.#upcall());
    for (const port of this.#ports.keys()) this.#due.add(port);
    this.#serve();
    await this.settled();
  }

  /** Gathers what is pending: vCPUs with an upcall, their selectors, the channels of each selected word. */
  #upcall(): void {
    if (!this.#running) return;
    for (let vcpu = 0; vcpu < this.vcpus; ++vcpu) {
      if (!this.#info.takeUpcall(vcpu)) continue;
      const selector = this.#info.takeSelector(vcpu);
      for (let word = 0; word < CHANNELS / 32; ++word) if ((selector & (1 << word)) !== 0) this.#gather(word);
    }
    if (this.#due.size > 0) this.#serve();
  }

  #gather(word: number): void {
    const bits = this.#info.deliverable(word);
    for (let i = 0; i < 32; ++i) {
      if ((bits & (1 << i)) === 0) continue;
      const port = word * 32 + i;
      // Masked, then cleared, then looked at: an event from here on is pending again.
      this.#info.mask(port);
      this.#info.clearPending(port);
      if (this.#ports.has(port)) this.#due.add(port);
    }
  }

  #serve(): void {
    if (this.#busy) return;
    this.#busy = true;
    this.#work = this.#drain();
  }

  async #drain(): Promise<void> {
    try {
      while (this.#due.size > 0) {
        const ports = [...this.#due];
        this.#due.clear();
        if (ports.some((port) => port !== XENSTORE_PORT)) await this.#look();
        if (ports.includes(XENSTORE_PORT)) await this.#readTarget();
        for (const port of ports) this.#unmask(port);
      }
    } catch (error) {
      if (!(error instanceof HypervisorError) || error.code !== "NUMAHEAP_DISCONNECTED") throw error;
      this.#running = false;
    } finally {
      this.#busy = false;
    }
  }

  /** What became pending while the channel was masked raised no upcall: it is made up for. */
  #unmask(port: number): void {
    const vcpu = this.#ports.get(port)!;
    this.#info.unmask(port);
    if (!this.#info.isPending(port)) return;
    this.#info.setSelector(vcpu, port);
    this.#info.setUpcall(vcpu);
    this.#upcall();
  }

  // ---- what the events are about

  async #look(): Promise<void> {
    const what = this.#why;
    this.#why = "VIRQ_TOPOLOGY";
    // 0: the last look was between the time stamp and the change.
    this.#raised = this.#info.takeRaised() || this.#raised;
    if (this.#info.memoryVersion === this.#memoryVersion) {
      this.#deliverer.deliver(what, this.#raised, this.#known.vcpus(this.#vcpuNodes()));
      return;
    }
    const reading = await this.#read();
    if (reading) this.#deliverer.deliver(what, this.#raised, this.#adopt(reading));
  }

  #vcpuNodes(): number[] {
    return Array.from({ length: this.vcpus }, (_, vcpu) => this.#info.nodeOf(vcpu));
  }

  /** This is what the guest knows from now on; the changes that lead to it. */
  #adopt({ topology, memoryVersion }: Reading): PlatformChange[] {
    this.#memoryVersion = memoryVersion;
    return this.#known.replace(topology);
  }

  /** The topology as of now; undefined: this domain is not told. */
  async #read(): Promise<Reading | undefined> {
    // The version first: a change after it was read is looked at once more.
    const { memoryVersion } = this.#info;
    for (;;) {
      const { status, value } = await this.#connection.hypercall({ op: X.MEMORY_OP, cmd: X.XENMEM_GET_VNUMAINFO, args: { ...this.#room } });
      if (status === -EOPNOTSUPP) return undefined;
      if (status === -ENOBUFS) {
        const { nr_vnodes, nr_vcpus, nr_vmemranges } = value as VnumaCounts;
        // Ranges may have become more before the next answer.
        this.#room = { nr_vnodes, nr_vcpus, nr_vmemranges: nr_vmemranges * 2 };
        continue;
      }
      if (status < 0) throw refused("XENMEM_get_vnumainfo", -status);
      return { topology: this.#decode(value as VnumaInfo), memoryVersion };
    }
  }

  #decode({ nr_vnodes, vdistance, vmemrange }: VnumaInfo): VirtualTopology {
    const distances = Array.from({ length: nr_vnodes }, (_, node) => [...vdistance.subarray(node * nr_vnodes, (node + 1) * nr_vnodes)]);
    const ranges: FrameRange[] = [];
    for (let i = 0; i < vmemrange.length; i += VMEMRANGE_FIELDS) {
      const first = vmemrange[i]! / FRAME_BYTES;
      ranges.push({ first, count: vmemrange[i + 1]! / FRAME_BYTES - first, node: vmemrange[i + 3]! });
    }
    return { distances, vcpuNode: this.#vcpuNodes(), ranges };
  }

  async #readTarget(): Promise<void> {
    await this.#connection.hypercall({ op: X.XENSTORE_OP, cmd: X.XS_WATCH_EVENT });
    const { status, value } = await this.#connection.hypercall({ op: X.XENSTORE_OP, cmd: X.XS_READ, args: { path: TARGET } });
    if (status === 0) this.#deliverer.target(Number(value) / FRAME_KIB);
  }

  // ---- requests

  async #request<T>(run: () => Promise<T>): Promise<T> {
    const request = run();
    this.#requests.add(request);
    try {
      return await request;
    } finally {
      this.#requests.delete(request);
    }
  }

  async #call(op: number, cmd: number, args: Readonly<Record<string, unknown>>): Promise<number> {
    const { status } = await this.#connection.hypercall({ op, cmd, args });
    if (status < 0) throw refused(`hypercall ${op}/${cmd}`, -status);
    return status;
  }
}

const refused = (what: string, errno: number): HypervisorError =>
  new HypervisorError("NUMAHEAP_PLATFORM_REFUSED", `${what}: the hypervisor refuses, errno ${errno}`, { errno });
