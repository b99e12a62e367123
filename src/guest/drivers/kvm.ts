// The guest's side of KVM: the drivers of the topology device and of virtio-balloon, on one interrupt line. Events are consumed one by one
// and acknowledged by returning their buffers. After an overflow, a reset or a move to another host everything is read anew and
// the difference is handed over; events that come meanwhile wait in the ring, and those no newer than what was read are skipped.

import { disconnected, HypervisorError } from "../../hypervisor/errors.js";
import type { KvmConnection } from "../../hypervisor/kvm/kvm.js";
import * as T from "../../hypervisor/kvm/topology-device.js";
import * as B from "../../hypervisor/kvm/virtio-balloon.js";
import type { Segment } from "../../hypervisor/kvm/virtqueue.js";
import { PLACEMENT_POLICIES } from "../../hypervisor/modes.js";
import { MAX_NODES } from "../../hypervisor/vm-layout.js";
import type { FrameRange, PlacementPolicy, PlatformChange, PlatformHandler, VirtualTopology } from "../platform.js";
import { type Connection, Deliverer, type Driver, type DriverOptions, ofKind } from "./driver.js";
import { Known } from "./known.js";
import * as L from "./kvm-layout.js";
import { VirtioDriver } from "./virtio.js";

/** Raised at a time nobody knows. */
const UNKNOWN = 0;

interface Reading {
  readonly topology: VirtualTopology;
  /** Generations of the device when vCPUs and frames were read. */
  readonly vcpuGeneration: number;
  readonly frameGeneration: number;
}

export class KvmPlatform implements Driver {
  readonly name = "kvm";
  readonly frames: number;
  readonly vcpus: number;
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
  readonly #known: Known;
  readonly #deliverer: Deliverer;
  #connection: KvmConnection;
  #view: DataView;
  #topology: VirtioDriver;
  #balloon: VirtioDriver;
  /** Requests and readings, one at a time. */
  #last: Promise<unknown> = Promise.resolve();
  #waiting: (() => void)[] = [];
  /** Buffers of events on their way, by the head of their chain. */
  readonly #buffers = new Map<number, Segment>();
  #started = false;
  #stopped = false;
  #suspended = false;
  /** Events wait: everything is being read. */
  #reading = false;
  #recovering = false;
  /** Generations of what was adopted last. */
  #vcpuGeneration: number | undefined;
  #frameGeneration = 0;
  /** Events consumed. */
  #consumed = 0;

  constructor(connection: KvmConnection, options: DriverOptions = {}) {
    const { frames, vcpus, srat, slit } = connection;
    this.frames = frames;
    this.vcpus = vcpus;
    this.srat = srat;
    this.slit = slit;
    this.#known = new Known(vcpus, frames);
    this.#deliverer = new Deliverer(frames, options);
    this.#connection = connection;
    this.#view = new DataView(connection.memory.buffer);
    [this.#topology, this.#balloon] = this.#drivers();
    this.#attach();
    void this.#exclusive(() => this.#reset()).catch(ignoreEnd);
  }

  readTopology(): Promise<VirtualTopology | undefined> {
    return this.#exclusive(async () => {
      if (!this.#told) return undefined;
      const reading = await this.#readAll();
      // Whoever only asks takes nothing away from the handler.
      if (!this.#started) this.#adopt(reading);
      return reading.topology;
    });
  }

  async start(handler: PlatformHandler): Promise<void> {
    this.#deliverer.handler = handler;
    await this.#exclusive(async () => {
      this.#started = true;
      this.#offerBuffers();
      if (this.#told && this.#vcpuGeneration === undefined) await this.#readAndDeliver("start", UNKNOWN);
    });
    await this.settled();
  }

  inflate(gfns: readonly number[]): Promise<void> {
    return this.#exclusive(async () => {
      for (let i = 0; i < gfns.length; i += LIST_FRAMES) {
        const more = i + LIST_FRAMES < gfns.length;
        await this.#list(B.INFLATE_QUEUE, gfns.slice(i, i + LIST_FRAMES), more ? B.LIST_MORE : 0);
      }
    });
  }

  deflate(gfns: readonly number[]): Promise<number> {
    return this.#exclusive(async () => {
      // Whatever is believed of them, where they come back is news.
      this.#known.forget(gfns);
      let given = 0;
      while (given < gfns.length) {
        const portion = gfns.slice(given, given + LIST_FRAMES);
        const accepted = await this.#list(B.DEFLATE_QUEUE, portion, 0);
        given += accepted;
        if (accepted < portion.length) break;
      }
      return given;
    });
  }

  advise(first: number, count: number, node: number): Promise<number> {
    return this.#exclusive(async () => (await this.#command(T.ADVISE, first, count, node)).value);
  }

  async setPlacement(policy: PlacementPolicy): Promise<void> {
    await this.#exclusive(() => this.#command(T.SET_PLACEMENT, PLACEMENT_POLICIES.indexOf(policy) >>> 0));
  }

  stop(): void {
    this.#topology.reset();
    this.#balloon.reset();
    this.#connection.doorbell.raise();
    this.#connection.close();
    this.#end();
  }

  /** Whoever waits for an answer is told that there is none. */
  #end(): void {
    this.#stopped = true;
    this.#started = false;
    this.#wake();
  }

  async settled(): Promise<void> {
    // Between two hosts nobody tells anything: what is different then, resume hands over.
    if (this.#suspended) return;
    for (;;) {
      const consumed = this.#consumed;
      this.#look();
      // The device answers behind all it had to tell, and behind the buffers that this returned.
      await this.#exclusive(() => this.#command(T.NOTHING)).catch(ignoreEnd);
      this.#look();
      if (this.#stopped) return;
      if (this.#consumed === consumed && !this.#reading && !this.#recovering) return;
    }
  }

  async suspend(): Promise<void> {
    await this.settled();
    this.#suspended = true;
    this.#connection.onInterrupt(() => {});
    this.#connection.onClose(() => {});
  }

  /** QEMU would move the devices' state too, and the driver would notice nothing; but it would have to be told everything all the same. */
  async resume(connection: Connection): Promise<void> {
    this.#connection = ofKind("kvm", connection);
    this.#view = new DataView(connection.memory.buffer);
    [this.#topology, this.#balloon] = this.#drivers();
    this.#attach();
    this.#suspended = false;
    await this.#restart("resume");
  }

  // ---- interrupts

  #attach(): void {
    this.#connection.onInterrupt(() => {
      this.#topology.takeInterrupts();
      this.#balloon.takeInterrupts();
      this.#look();
    });
    this.#connection.onClose(() => this.#end());
    // What was raised while nobody was here must not keep the line from being raised.
    this.#topology.takeInterrupts();
    this.#balloon.takeInterrupts();
  }

  #look(): void {
    if (this.#stopped) return;
    if (this.#topology.needsReset || this.#balloon.needsReset) this.#recover();
    // Events first: whoever waits for an answer finds what was told before it handed over.
    this.#consume();
    if (this.#started) {
      const pages = this.#balloon.read((config) => config.getUint32(B.CONFIG_NUM_PAGES, true));
      this.#deliverer.target(this.frames - pages / B.FRAME_PFNS);
    }
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  #consume(): void {
    if (!this.#started || this.#reading || this.#recovering) return;
    const queue = this.#topology.queues[T.EVENT_QUEUE];
    const before = this.#consumed;
    // The handler may stop the driver.
    while (queue && this.#started && !this.#reading) {
      const head = queue.take();
      if (head === undefined) break;
      ++this.#consumed;
      const buffer = this.#buffers.get(head)!;
      const [kind, first, count, node] = [0, 4, 8, 12].map((at) => this.#view.getUint32(buffer.at + at, true));
      const raised = this.#view.getFloat64(buffer.at + 16, true);
      const generation = this.#view.getUint32(buffer.at + 24, true);
      this.#buffers.delete(head);
      this.#buffers.set(queue.offer([], [buffer]), buffer);
      if (kind === T.EVENT_OVERFLOW) this.#reread(raised);
      else if (kind === T.EVENT_VCPU)
        this.#tell(generation, this.#vcpuGeneration ?? 0, raised, { kind: "vcpu", vcpu: first!, node: node! });
      else this.#tell(generation, this.#frameGeneration, raised, { kind: "frames", first: first!, count: count!, node: node! });
    }
    if (this.#consumed !== before) this.#connection.doorbell.raise();
  }

  #tell(generation: number, read: number, raised: number, change: PlatformChange): void {
    if (((generation - read) | 0) <= 0) return;
    this.#known.apply(change);
    this.#deliverer.deliver("event", raised, [change]);
  }

  #reread(raised: number): void {
    this.#reading = true;
    void this.#exclusive(() => this.#readAndDeliver("overflow", raised)).catch(ignoreEnd);
  }

  #recover(): void {
    if (this.#recovering) return;
    this.#recovering = true;
    void this.#restart("reset").catch(ignoreEnd);
  }

  #restart(what: string): Promise<void> {
    return this.#exclusive(async () => {
      try {
        await this.#reset();
        if (this.#started) this.#offerBuffers();
        if (this.#told) await this.#readAndDeliver(what, UNKNOWN);
      } finally {
        this.#recovering = false;
      }
      this.#look();
    });
  }

  // ---- the devices

  #drivers(): [VirtioDriver, VirtioDriver] {
    const { buffer } = this.#connection.memory;
    return [
      new VirtioDriver(buffer, T.TOPOLOGY_REGISTERS, [L.EVENT_QUEUE, L.CONTROL_QUEUE]),
      new VirtioDriver(buffer, B.BALLOON_REGISTERS, [L.INFLATE_QUEUE, L.DEFLATE_QUEUE]),
    ];
  }

  get #told(): boolean {
    return (this.#topology.features & T.F_ACTUAL) !== 0;
  }

  async #reset(): Promise<void> {
    const drivers = [this.#topology, this.#balloon];
    for (const step of ["reset", "start"] as const) {
      for (const driver of drivers) driver[step]();
      this.#connection.doorbell.raise();
      await this.#until(() => drivers.every((driver) => driver.reached));
    }
  }

  #offerBuffers(): void {
    this.#buffers.clear();
    for (const buffer of L.EVENT_BUFFERS) this.#buffers.set(this.#topology.queues[T.EVENT_QUEUE]!.offer([], [buffer]), buffer);
    this.#connection.doorbell.raise();
  }

  /** Everything as of now. */
  async #readAll(): Promise<Reading> {
    const {
      distances,
      vcpuNode,
      generation: vcpuGeneration,
    } = this.#topology.read((config, at) => {
      const nodes = [...Array(config.getUint32(T.CONFIG_NODES, true)).keys()];
      return {
        distances: nodes.map((from) => nodes.map((to) => config.getUint8(T.CONFIG_DISTANCE + from * MAX_NODES + to))),
        vcpuNode: Array.from({ length: this.vcpus }, (_, vcpu) => config.getUint8(T.CONFIG_VCPU_NODE + vcpu)),
        generation: at,
      };
    });
    const ranges: FrameRange[] = [];
    let frameGeneration = 0;
    let from = 0;
    do {
      const { value, next, count } = await this.#command(T.READ_RANGES, from);
      frameGeneration = value;
      for (let i = 0; i < count; ++i) {
        const [first, frames, node] = [0, 4, 8].map((at) =>
          this.#view.getUint32(L.ANSWER.at + T.ANSWER_BYTES + i * T.RANGE_BYTES + at, true),
        );
        ranges.push({ first: first!, count: frames!, node: node! });
      }
      from = next;
    } while (from !== 0);
    return { topology: { distances, vcpuNode, ranges }, vcpuGeneration, frameGeneration };
  }

  /** This is what the guest knows from now on; the changes that lead to it. */
  #adopt({ topology, vcpuGeneration, frameGeneration }: Reading): PlatformChange[] {
    this.#vcpuGeneration = vcpuGeneration;
    this.#frameGeneration = frameGeneration;
    return this.#known.replace(topology);
  }

  async #readAndDeliver(what: string, raised: number): Promise<void> {
    this.#reading = true;
    try {
      const reading = await this.#readAll();
      this.#deliverer.deliver(what, raised, this.#adopt(reading));
    } finally {
      this.#reading = false;
    }
    this.#consume();
  }

  async #command(command: number, ...args: number[]): Promise<{ value: number; next: number; count: number }> {
    [command, ...args].forEach((value, i) => this.#view.setUint32(L.REQUEST.at + i * 4, value, true));
    await this.#exchange(this.#topology, T.CONTROL_QUEUE, L.REQUEST, L.ANSWER);
    const [errno, value, next, count] = [0, 4, 8, 12].map((at) => this.#view.getUint32(L.ANSWER.at + at, true));
    if (errno !== 0) throw refused(`request ${command}`, errno!);
    return { value: value!, next: next!, count: count! };
  }

  /** How many frames of the list were accepted. */
  async #list(queue: number, gfns: readonly number[], flags: number): Promise<number> {
    const { at } = L.LIST;
    this.#view.setUint32(at, flags, true);
    this.#view.setUint32(at + 4, 0, true);
    gfns.forEach((gfn, i) => {
      for (let half = 0; half < B.FRAME_PFNS; ++half) {
        this.#view.setUint32(at + B.LIST_HEAD_BYTES + (i * B.FRAME_PFNS + half) * 4, gfn * B.FRAME_PFNS + half, true);
      }
    });
    const bytes = B.LIST_HEAD_BYTES + gfns.length * B.FRAME_PFNS * 4;
    await this.#exchange(this.#balloon, queue, { at, bytes }, L.LIST_ANSWER);
    const errno = this.#view.getUint32(L.LIST_ANSWER.at, true);
    if (errno !== 0) throw refused("a list of pages", errno);
    return this.#view.getUint32(L.LIST_ANSWER.at + 4, true);
  }

  async #exchange(driver: VirtioDriver, index: number, readable: Segment, writable: Segment): Promise<void> {
    const queue = driver.queues[index]!;
    queue.offer([readable], [writable]);
    this.#connection.doorbell.raise();
    await this.#until(() => {
      if (driver.needsReset) throw new HypervisorError("NUMAHEAP_DEVICE_NEEDS_RESET", "a device wants to be reset: this request is lost");
      return queue.take() !== undefined;
    });
  }

  /** Waits for interrupts until it is so. */
  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.#stopped) throw disconnected();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #exclusive<T>(run: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(run);
    this.#last = mine.catch(() => {});
    return mine;
  }
}

const LIST_FRAMES = L.LIST_PFNS / B.FRAME_PFNS;

const refused = (what: string, errno: number): HypervisorError =>
  new HypervisorError("NUMAHEAP_PLATFORM_REFUSED", `${what}: the hypervisor refuses, errno ${errno}`, { errno });

/** Work of the driver's own that ends because it was stopped, or a device fell over: that is dealt with where it is seen. */
function ignoreEnd(error: unknown): void {
  const code = error instanceof HypervisorError ? error.code : undefined;
  if (code !== "NUMAHEAP_DISCONNECTED" && code !== "NUMAHEAP_DEVICE_NEEDS_RESET") throw error;
}
