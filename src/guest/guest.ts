// The kernel of a guest, as far as Linux and FreeBSD are alike: it boots on the tables its firmware shows, keeps the actual topology beside
// them, and follows its changes. What each system adds, policies and the calls that set them, is in linux/ and freebsd/.
//
// Two views stand side by side for as long as the guest runs. `flat` is what the firmware showed; the unmodified part of the kernel, such as
// the scheduler and /sys, sees nothing else. `actual` is what the platform tells; the page allocator, the NUMA API and the heaps see it.

import { vmLayout, type VmLayout } from "../hypervisor/vm-layout.js";
import type { Topology } from "../topology/topology.js";
import { ActualTopology } from "./actual-topology.js";
import { Balloon } from "./balloon.js";
import { BootTables } from "./boot-tables.js";
import { assertChanges, assertVirtual } from "./changes.js";
import { GuestError, whole } from "./errors.js";
import { FrameMoves } from "./frame-moves.js";
import { FrameTable, MAX_HEAPS, OWNER_BALLOON, OWNER_FREE, OWNER_HEAP, OWNER_KERNEL, OWNER_NONE, OWNER_PROCESS } from "./frame-table.js";
import { FreeLists, SYNC_FRAMES } from "./free-lists.js";
import { type HeapLink, HeapLinks, type TopologyUpdate } from "./heap-links.js";
import { Listeners, type TopologyListener } from "./listeners.js";
import type { Nodemask } from "./node-set.js";
import type { FrameRange, Platform, PlatformChange, PlatformHandler, VirtualTopology } from "./platform.js";
import { type Credentials, type GuestThread, type Mapping, PAGE_BYTES, Process, type ProcessHost } from "./process.js";

export interface BootOptions {
  readonly platform: Platform;
  /** The virtual machine's memory. */
  readonly memory: WebAssembly.Memory;
  /** Told of what the guest gets over: a listener or a heap that threw and was dropped, a request the platform refused. */
  readonly onProblem?: (error: unknown) => void;
}

type GuestClass<G> = new (options: BootOptions, boot: BootTables, actual: VirtualTopology) => G;

/** Policies both systems have, for programs that are to run on either. */
export type PortablePolicy =
  /** On the node of whoever touches it first; elsewhere when that is full. */
  | { readonly kind: "local" }
  /** On this node; elsewhere when it is full. */
  | { readonly kind: "prefer"; readonly node: number }
  /** In turn on these nodes: Linux page by page, FreeBSD stripe by stripe; on others when they are full if the system does that. */
  | { readonly kind: "interleave"; readonly nodes: readonly number[] }
  /** On these nodes and no others. */
  | { readonly kind: "bind"; readonly nodes: readonly number[] };

/** What became of pages that were to move: those that are in neither figure lie on the node now. */
export interface PageMove {
  /** Anonymous pages that stayed because no frame of the node is free. */
  readonly full: number;
  /** Pages of heaps that the hypervisor did not move. */
  readonly refused: number;
}

/** Frames a heap begins with. */
export interface HeapGrant {
  readonly owner: number;
  readonly first: number;
  readonly count: number;
}

export abstract class Guest<T extends GuestThread = GuestThread, P = unknown> implements ProcessHost<T, P> {
  abstract readonly os: "linux" | "freebsd";
  readonly platform: Platform;
  readonly boot: BootTables;
  readonly topology: ActualTopology;
  readonly lists: FreeLists;
  readonly balloon: Balloon;
  readonly heaps: HeapLinks;
  readonly processes = new Map<number, Process<T, P>>();
  readonly layout: VmLayout;
  /** To be told of what the guest gets over. */
  readonly onProblem: (error: unknown) => void;
  /** Times the handler of topology changes was invoked. */
  handlerInvocations = 0;
  /** Changes with everything the heaps and the listeners are told. */
  epoch = 0;
  /** What the platform calls. */
  readonly handler: PlatformHandler = {
    topologyChanged: (changes) => this.topologyChangeHdlr(changes),
    balloonTargetChanged: (frames) => this.balloon.setTarget(Math.min(Math.max(0, frames), this.layout.frames)),
  };
  #memory: WebAssembly.Memory;
  readonly #listeners: Listeners;
  readonly #moves: FrameMoves;
  /** Node of each vCPU as heaps know it. */
  readonly #homes: number[];
  /** Nodes with memory as of the last change. */
  #withMemory: Nodemask;
  /** Frames of the kernel beyond those it was booted with. */
  readonly #kernelPages = new Set<number>();
  readonly #heapOwners = new Set<number>();
  #nextPid = 1;
  #nextTid = 1;

  /**
   * Boots a guest on its platform: `const linux = await Linux.boot({ platform, memory })`.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_TOPOLOGY_CHANGE
   */
  static async boot<G extends { readonly handler: PlatformHandler }>(this: GuestClass<G>, options: BootOptions): Promise<G> {
    const { platform, memory } = options;
    if (memory.buffer.byteLength < platform.frames * PAGE_BYTES) {
      throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `the memory has ${memory.buffer.byteLength} bytes, for ${platform.frames} frames`);
    }
    const boot = new BootTables(platform);
    const actual = (await platform.readTopology()) ?? boot.asVirtual();
    assertVirtual(actual, { vcpus: platform.vcpus, frames: platform.frames });
    const guest = new this(options, boot, actual);
    await platform.start(guest.handler);
    return guest;
  }

  constructor({ platform, memory, onProblem = () => {} }: BootOptions, boot: BootTables, actual: VirtualTopology) {
    this.platform = platform;
    this.boot = boot;
    this.onProblem = onProblem;
    this.#memory = memory;
    this.layout = vmLayout(platform.frames);
    const table = new FrameTable(memory.buffer as unknown as SharedArrayBuffer, this.layout);
    this.topology = new ActualTopology(table, actual);
    this.lists = new FreeLists(table);
    const ballooned = this.#markFrames(table, actual.ranges);
    this.lists.sync();
    this.#moves = new FrameMoves(platform.frames);
    this.#homes = Array.from({ length: platform.vcpus }, (_, vcpu) => this.topology.homeOf(vcpu));
    this.#withMemory = this.topology.withMemory;
    this.heaps = new HeapLinks(this.topology, onProblem);
    this.#listeners = new Listeners(onProblem);
    const host = { platform, lists: this.lists, topology: this.topology, refused: onProblem };
    const framesChanged = (): void => this.#publish([], false);
    this.balloon = new Balloon({ ...host, framesChanged, trim: () => this.trimHeaps() }, platform.frames, ballooned);
  }

  /** Gives every frame its node and owner; those that lie nowhere are in the balloon. */
  #markFrames(table: FrameTable, ranges: readonly FrameRange[]): number[] {
    const lies = new Uint8Array(table.frames);
    for (const { first, count, node } of ranges) {
      for (let gfn = first; gfn < first + count; ++gfn) table.setNode(gfn, node);
      lies.fill(1, first, first + count);
    }
    const ballooned: number[] = [];
    for (let gfn = 0; gfn < table.frames; ++gfn) {
      const kernel = gfn < this.layout.kernelFrames;
      table.transfer(gfn, OWNER_NONE, kernel ? OWNER_KERNEL : lies[gfn] === 1 ? OWNER_FREE : OWNER_BALLOON);
      if (kernel || lies[gfn] === 1) this.topology.frameCame(gfn);
      else ballooned.push(gfn);
    }
    return ballooned;
  }

  // ---- views

  get memory(): WebAssembly.Memory {
    return this.#memory;
  }

  get table(): FrameTable {
    return this.lists.table;
  }

  get vcpus(): number {
    return this.platform.vcpus;
  }

  /** What the firmware showed. */
  get flat(): Topology {
    return this.boot.topology;
  }

  /** What the platform tells. */
  get actual(): Topology {
    return this.topology.value();
  }

  /** Node where what runs on the vCPU finds its memory. */
  nodeOfVcpu(vcpu: number): number {
    return this.topology.homeOf(vcpu);
  }

  // ---- changes

  /**
   * The platform's changes, in order. First the fake tables and the nodes of frames, then lists, policies, heaps and listeners.
   * @throws {GuestError} NUMAHEAP_TOPOLOGY_CHANGE if any cannot be: then nothing is changed
   */
  topologyChangeHdlr(changes: readonly PlatformChange[]): void {
    ++this.handlerInvocations;
    const { topology } = this;
    assertChanges(changes, { nodes: topology.nodes, vcpus: this.vcpus, frames: this.layout.frames });
    let nodes = false;
    for (const change of changes) {
      if (change.kind === "vcpu") topology.setVcpu(change.vcpu, change.node);
      else if (change.kind === "frames") this.#moveFrames(change);
      else {
        nodes = true;
        topology.setDistances(change.distances);
        this.#leaveVanished();
      }
    }
    const ranges = this.#moves.take(this.table);
    for (const { first, count, node } of ranges) this.lists.refile(first, count, node);
    this.#publish(ranges, nodes);
  }

  #moveFrames({ first, count, node }: FrameRange): void {
    for (let gfn = first; gfn < first + count; ++gfn) {
      const before = this.table.nodeOf(gfn);
      if (before === node) continue;
      this.#moves.note(gfn, before);
      this.topology.setFrame(gfn, node);
    }
  }

  /** Nodes are gone. What still has one of theirs, above all frames of the balloon, which lie nowhere, has node 0 until told otherwise. */
  #leaveVanished(): void {
    const { nodes } = this.topology;
    for (let gfn = 0; gfn < this.layout.frames; ++gfn)
      if (this.table.nodeOf(gfn) >= nodes) this.#moveFrames({ first: gfn, count: 1, node: 0 });
    for (let vcpu = 0; vcpu < this.vcpus; ++vcpu) if (this.topology.runsOn(vcpu) >= nodes) this.topology.setVcpu(vcpu, 0);
  }

  /** Tells whoever is to know. vCPUs follow from everything else: where one finds memory changes with the memory, too. */
  #publish(ranges: readonly FrameRange[], nodes: boolean): void {
    const mask = this.topology.withMemory;
    if (nodes || mask !== this.#withMemory) {
      this.#withMemory = mask;
      this.nodesChanged();
    }
    const vcpus: { vcpu: number; node: number }[] = [];
    this.#homes.forEach((before, vcpu) => {
      const node = this.topology.homeOf(vcpu);
      if (node === before) return;
      this.#homes[vcpu] = node;
      vcpus.push({ vcpu, node });
    });
    if (!nodes && vcpus.length === 0 && ranges.length === 0) return;
    ++this.epoch;
    const update: TopologyUpdate = { vcpus, ranges, nodes };
    this.heaps.tell(update);
    this.#listeners.notify({ ...update, epoch: this.epoch, nodeCount: this.topology.nodes });
  }

  /** Nodes, their distances, or which of them have memory changed; frames are filed, heaps and listeners not told yet. */
  protected abstract nodesChanged(): void;

  /** Calls `listener` after each change. One that throws, or whose promise is rejected, is dropped. Answers with what ends it. */
  onTopologyChange(listener: TopologyListener): () => void {
    return this.#listeners.add(listener);
  }

  // ---- heaps

  /** Tells a heap everything, now and of each change. Answers with what ends it. */
  registerHeap(link: HeapLink): () => void {
    return this.heaps.add(link);
  }

  /**
   * Frames for a new heap that a thread on `vcpu` makes: `count` adjacent ones, zero, the lowest there are, for a heap looks for more only above.
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_INVALID_ARGUMENT
   */
  grantHeap(count: number, vcpu: number): HeapGrant {
    whole(count, 1, this.layout.frames, "count");
    whole(vcpu, 0, this.vcpus - 1, "vcpu");
    let owner = OWNER_HEAP;
    while (this.#heapOwners.has(owner)) ++owner;
    const perWasmPage = 65536 / PAGE_BYTES;
    const first = owner < OWNER_HEAP + MAX_HEAPS ? this.lists.allocLowest(count, perWasmPage, owner) : -1;
    if (first < 0) throw new GuestError("NUMAHEAP_OUT_OF_MEMORY", `there are no ${count} adjacent frames for a heap`);
    this.#heapOwners.add(owner);
    for (let gfn = first; gfn < first + count; ++gfn) this.prepare(gfn, vcpu);
    return { owner, first, count };
  }

  /** A heap has ended: all its frames are free. How many there were. */
  endHeap(owner: number): number {
    if (!this.#heapOwners.delete(owner)) return 0;
    let freed = 0;
    for (let gfn = 0; gfn < this.layout.frames; ++gfn) {
      if (this.table.ownerOf(gfn) !== owner) continue;
      this.lists.free(gfn, 1, owner);
      ++freed;
    }
    return freed;
  }

  trimHeaps(): boolean {
    return this.heaps.trim();
  }

  // ---- processes

  spawn(credentials: Credentials = { uid: 0 }): Process<T, P> {
    const process = new Process<T, P>(this, this.#nextPid++, credentials);
    this.processes.set(process.pid, process);
    return process;
  }

  abstract newThread(process: Process<T, P>, vcpu: number): T;
  abstract newMappingPolicy(first: number): P;
  abstract placePage(thread: T, mapping: Mapping<P>, page: number): number;
  /**
   * Sets a thread's policy in the way its system has it.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT if the system refuses
   */
  abstract setPolicy(thread: T, policy: PortablePolicy): void;

  /** A thread accesses a byte, whose page is populated if it was not: node it lies on. */
  access(thread: T, address: number): number {
    const process = thread.process as Process<T, P>;
    return this.table.nodeOf(process.touch(thread, address));
  }

  protected newTid(): number {
    return this.#nextTid++;
  }

  ended(process: Process<T, P>): void {
    this.processes.delete(process.pid);
  }

  moved(gfn: number, _wanted: number, vcpu: number): void {
    this.#touch(gfn, vcpu);
  }

  #touch(gfn: number, vcpu: number): void {
    // Where the fault comes from is what the processor knows, not what the guest was told.
    const node = new Uint8Array(this.#memory.buffer)[this.layout.vcpuTruth + vcpu]!;
    if (this.table.toucherOf(gfn) < 0) this.table.touch(gfn, node);
  }

  prepare(gfn: number, vcpu: number): void {
    if (this.table.isDirty(gfn)) new Uint8Array(this.#memory.buffer, gfn * PAGE_BYTES, PAGE_BYTES).fill(0);
    this.#touch(gfn, vcpu);
  }

  /** A page of the kernel's own: the first of `nodes` that has one; -1 if none has. */
  protected takeKernelPage(nodes: Iterable<number>, vcpu: number): number {
    const gfn = this.lists.alloc(0, nodes, OWNER_KERNEL);
    if (gfn < 0) return gfn;
    this.#kernelPages.add(gfn);
    this.prepare(gfn, vcpu);
    return gfn;
  }

  freeKernelPage(gfn: number): void {
    if (!this.#kernelPages.delete(gfn)) throw new Error(`frame ${gfn} is no page of the kernel's`);
    this.lists.free(gfn, 1, OWNER_KERNEL);
  }

  /**
   * Moves pages of a process to `node`, by a thread on `vcpu`: anonymous ones at once, and pages of heaps by asking the hypervisor, for
   * their addresses are their frames. Pages that are not populated are passed over.
   */
  async movePages(process: Process<T, P>, pages: readonly number[], node: number, vcpu: number): Promise<PageMove> {
    let full = 0;
    const frames: number[] = [];
    for (const page of pages) {
      const gfn = process.frameOf(page);
      if (gfn < 0) continue;
      if (gfn === page) frames.push(gfn);
      else if (this.table.nodeOf(gfn) !== node && !process.migratePage(page, [node], vcpu)) ++full;
    }
    return { full, refused: await this.advise(frames, node) };
  }

  /** Advises the hypervisor to have these frames on `node`. How many do not lie there now. */
  async advise(gfns: readonly number[], node: number): Promise<number> {
    const frames = [...gfns].sort((a, b) => a - b);
    let refused = 0;
    for (let i = 0; i < frames.length;) {
      let end = i + 1;
      while (end < frames.length && frames[end] === frames[end - 1]! + 1) ++end;
      refused += end - i - (await this.platform.advise(frames[i]!, end - i, node));
      i = end;
    }
    return refused;
  }

  // ---- the whole

  /** A bounded piece of what a kernel does when it has nothing else to do: to be called now and then. */
  poll(): void {
    this.lists.sync(SYNC_FRAMES);
    this.heaps.catchUp();
  }

  /** Learns all that heaps did behind the kernel's back. True: they know everything, too. */
  settle(): boolean {
    this.lists.sync();
    return this.heaps.catchUp();
  }

  /**
   * Before the machine stands still to be moved to another host, and before its driver does: until it is resumed, the kernel does nothing
   * of its own, and tells no heap. What was written to the old memory after the last copy would be lost.
   */
  async suspend(): Promise<void> {
    await this.balloon.suspend();
    this.heaps.suspend();
  }

  /** It goes on, over whichever memory. */
  resume(): void {
    this.heaps.resume();
    this.balloon.resume();
  }

  /** Runs on over another memory with the same bytes: the new host's, after a live migration. Nothing else may run meanwhile. */
  moveOver(memory: WebAssembly.Memory): void {
    this.#memory = memory;
    const table = new FrameTable(memory.buffer as unknown as SharedArrayBuffer, this.layout);
    this.lists.table = table;
    this.topology.table = table;
  }

  stop(): void {
    this.balloon.stop();
    this.heaps.stop();
    this.platform.stop();
  }

  /** What is wrong in the kernel, in words. Nobody may claim or release frames meanwhile, and all is to be settled, the balloon idle. */
  check(): string[] {
    return [...this.lists.check(), ...this.topology.check(), ...this.balloon.check(), ...this.#checkOwners(), ...this.#checkHomes()];
  }

  #checkOwners(): string[] {
    const problems: string[] = [];
    const pages = new Map<number, number>();
    for (const process of this.processes.values()) {
      for (const gfn of process.frames()) {
        if (pages.has(gfn)) problems.push(`frame ${gfn} is a page of processes ${pages.get(gfn)} and ${process.pid}`);
        pages.set(gfn, process.pid);
      }
    }
    for (let gfn = 0; gfn < this.layout.frames; ++gfn) {
      const owner = this.table.ownerOf(gfn);
      const kernel = gfn < this.layout.kernelFrames || this.#kernelPages.has(gfn);
      const name = `frame ${gfn} is owner ${owner}'s`;
      if (kernel !== (owner === OWNER_KERNEL)) problems.push(`${name} and ${kernel ? "a" : "no"} page of the kernel's`);
      if (pages.has(gfn) !== (owner === OWNER_PROCESS)) problems.push(`${name} and ${pages.has(gfn) ? "a" : "no"} page of a process`);
      const heap = owner >= OWNER_HEAP && !this.#heapOwners.has(owner);
      if (owner === OWNER_NONE || heap || (owner > OWNER_PROCESS && owner < OWNER_HEAP)) problems.push(`${name}, who is nobody`);
    }
    return problems;
  }

  #checkHomes(): string[] {
    return this.#homes.flatMap((told, vcpu) => {
      const home = this.topology.homeOf(vcpu);
      return home === told ? [] : [`heaps were told that vCPU ${vcpu} is on node ${told}, and it is on ${home}`];
    });
  }
}
