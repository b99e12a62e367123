// A platform for guests without a hypervisor: it keeps what really lies where, and tells what tests change of it.
import type { HeapLink } from "../../src/guest/heap-links.js";
import type { PlacementPolicy, Platform, PlatformChange, PlatformHandler, VirtualTopology } from "../../src/guest/platform.js";
import { vmLayout } from "../../src/hypervisor/vm-layout.js";
import { topologyToAcpi } from "../../src/topology/acpi/tables.js";
import { parseTopology } from "../../src/topology/topology.js";
import { bareMemory } from "./frames.js";

export const FRAME = 8192;

export interface FakeOptions {
  /** A multiple of 8. Default 1024. */
  frames?: number;
  vcpus?: number;
  /** Default: 4 nodes in a ring, 10, 20, 30. */
  distances?: readonly (readonly number[])[];
  /** Default: equal shares, ascending. */
  nodeOf?: (gfn: number) => number;
  /** Default: vCPU v on node v mod nodes. */
  vcpuNode?: readonly number[];
  /** adaptive: flat tables, and told of everything; static: tables as of boot, flat: flat ones, both told nothing. */
  mode?: "adaptive" | "static" | "flat";
  /** In the balloon from the beginning. */
  ballooned?: readonly number[];
}

/** Distances of a ring: 10, 20 to neighbours, 10 more a hop. */
export const ring = (nodes: number): number[][] =>
  Array.from({ length: nodes }, (_, a) =>
    Array.from({ length: nodes }, (_, b) => 10 + 10 * Math.min((a - b + nodes) % nodes, (b - a + nodes) % nodes)),
  );

export class FakePlatform implements Platform {
  readonly name = "xen";
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
  readonly frames: number;
  readonly vcpus: number;
  readonly memory: WebAssembly.Memory;
  distances: readonly (readonly number[])[];
  readonly vcpuNode: number[];
  readonly nodeOf: Uint8Array;
  readonly ballooned = new Set<number>();
  readonly mode: "adaptive" | "static" | "flat";
  handler: PlatformHandler | undefined;
  /** Frames that can be had for deflating. */
  room = Infinity;
  /** Node of a frame that comes back. */
  comesBackOn: (gfn: number) => number = (gfn) => this.nodeOf[gfn]!;
  /** Whether the guest is told where frames lie before it hears that they are back, or after. */
  tellsFirst = true;
  /** Whether advice on a frame is followed. */
  follows: (gfn: number, node: number) => boolean = () => true;
  /** What the next request is refused with. */
  refusal: Error | undefined;
  readonly requests: string[] = [];
  stopped = false;

  constructor(options: FakeOptions = {}) {
    const { frames = 1024, distances = ring(4), vcpus = 4, mode = "adaptive" } = options;
    const nodes = distances.length;
    this.frames = frames;
    this.vcpus = vcpus;
    this.mode = mode;
    this.distances = distances;
    this.memory = bareMemory(frames).memory;
    this.vcpuNode = [...(options.vcpuNode ?? Array.from({ length: vcpus }, (_, vcpu) => vcpu % nodes))];
    const nodeOf = options.nodeOf ?? ((gfn: number) => Math.floor((gfn * nodes) / frames));
    this.nodeOf = Uint8Array.from({ length: frames }, (_, gfn) => nodeOf(gfn));
    for (const gfn of options.ballooned ?? []) this.ballooned.add(gfn);
    const cpus = Array.from({ length: vcpus }, (_, vcpu) => vcpu);
    const flat = { nodes: [{ id: 0, cpus, memory: [{ start: 0, end: frames * FRAME }] }], distances: [[10]] };
    const actual = {
      nodes: distances.map((_, id) => ({
        id,
        cpus: cpus.filter((vcpu) => this.vcpuNode[vcpu] === id),
        memory: [...this.nodeOf.keys()]
          .filter((gfn) => this.nodeOf[gfn] === id)
          .map((gfn) => ({ start: gfn * FRAME, end: (gfn + 1) * FRAME })),
      })),
      distances,
    };
    const tables = topologyToAcpi(parseTopology(mode === "static" ? actual : flat));
    this.srat = tables.srat;
    this.slit = tables.slit;
    this.#writeTruth();
  }

  #writeTruth(): void {
    new Uint8Array(this.memory.buffer).set(this.vcpuNode, vmLayout(this.frames).vcpuTruth);
  }

  /** What the guest should know, with frames of the balloon in no range. */
  truth(): VirtualTopology {
    const ranges: { first: number; count: number; node: number }[] = [];
    for (let gfn = 0; gfn < this.frames; ++gfn) {
      if (this.ballooned.has(gfn)) continue;
      const last = ranges.at(-1);
      if (last && last.first + last.count === gfn && last.node === this.nodeOf[gfn]) ++last.count;
      else ranges.push({ first: gfn, count: 1, node: this.nodeOf[gfn]! });
    }
    return { distances: this.distances, vcpuNode: [...this.vcpuNode], ranges };
  }

  readTopology(): Promise<VirtualTopology | undefined> {
    return Promise.resolve(this.mode === "adaptive" ? this.truth() : undefined);
  }

  start(handler: PlatformHandler): Promise<void> {
    this.handler = handler;
    return Promise.resolve();
  }

  stop(): void {
    this.stopped = true;
  }

  /** Things happen, and the guest is told of them at once. */
  happen(...changes: PlatformChange[]): void {
    for (const change of changes) {
      if (change.kind === "vcpu") this.vcpuNode[change.vcpu] = change.node;
      else if (change.kind === "frames") this.nodeOf.fill(change.node, change.first, change.first + change.count);
      else this.distances = change.distances;
    }
    this.#writeTruth();
    if (this.mode === "adaptive") this.handler!.topologyChanged(changes);
  }

  moveVcpu(vcpu: number, node: number): void {
    this.happen({ kind: "vcpu", vcpu, node });
  }

  moveFrames(first: number, count: number, node: number): void {
    this.happen({ kind: "frames", first, count, node });
  }

  target(frames: number): void {
    this.handler!.balloonTargetChanged(frames);
  }

  async #request(what: string): Promise<void> {
    this.requests.push(what);
    await Promise.resolve();
    const { refusal } = this;
    this.refusal = undefined;
    if (refusal) throw refusal;
  }

  async inflate(gfns: readonly number[]): Promise<void> {
    await this.#request(`inflate ${gfns.length}`);
    for (const gfn of gfns) {
      if (this.ballooned.has(gfn)) throw new Error(`frame ${gfn} is in the balloon already`);
      this.ballooned.add(gfn);
    }
  }

  async deflate(gfns: readonly number[]): Promise<number> {
    await this.#request(`deflate ${gfns.length}`);
    const given = gfns.slice(0, this.room);
    this.room -= given.length;
    for (const gfn of given) {
      if (!this.ballooned.delete(gfn)) throw new Error(`frame ${gfn} is not in the balloon`);
      new Uint8Array(this.memory.buffer, gfn * FRAME, FRAME).fill(0);
    }
    // On a node that there is when the guest is told: nodes may have gone since it asked.
    const tell = () =>
      this.happen(...given.map((first): PlatformChange => ({ kind: "frames", first, count: 1, node: this.comesBackOn(first) })));
    if (this.tellsFirst) tell();
    else queueMicrotask(() => queueMicrotask(() => queueMicrotask(tell)));
    return given.length;
  }

  async advise(first: number, count: number, node: number): Promise<number> {
    await this.#request(`advise ${first}+${count} ${node}`);
    let there = 0;
    for (let gfn = first; gfn < first + count; ++gfn) {
      if (this.nodeOf[gfn] !== node && this.follows(gfn, node)) this.moveFrames(gfn, 1, node);
      if (this.nodeOf[gfn] === node) ++there;
    }
    return there;
  }

  async setPlacement(policy: PlacementPolicy): Promise<void> {
    await this.#request(`placement ${policy}`);
  }
}

/** What a heap learns, as maps, and the calls it learnt it by. */
export class FakeHeap implements HeapLink {
  readonly calls: string[] = [];
  readonly nodeOf = new Map<number, number>();
  readonly vcpuNode = new Map<number, number>();
  distances: number[][] = [];
  nodes = 1;
  /** Thrown by calls until it is undefined. */
  failure: Error | undefined;
  /** What trim does. */
  onTrim: () => boolean = () => false;

  #call(call: string): void {
    this.calls.push(call);
    if (this.failure) throw this.failure;
  }

  #node(node: number): number {
    if (node >= this.nodes) throw new Error(`the heap has no node ${node}`);
    return node;
  }

  setNodes(count: number): void {
    this.#call(`nodes ${count}`);
    this.nodes = count;
    this.distances = Array.from({ length: count }, (_, from) =>
      Array.from({ length: count }, (_, to) => this.distances[from]?.[to] ?? (from === to ? 10 : 20)),
    );
  }

  setDistance(from: number, to: number, distance: number): void {
    this.#call(`distance ${from} ${to} ${distance}`);
    this.distances[this.#node(from)]![this.#node(to)] = distance;
  }

  setVcpuNode(vcpu: number, node: number): void {
    this.#call(`vcpu ${vcpu} ${node}`);
    this.vcpuNode.set(vcpu, this.#node(node));
  }

  rebind(first: number, count: number, node: number): void {
    this.#call(`rebind ${first}+${count} ${node}`);
    for (let gfn = first; gfn < first + count; ++gfn) this.nodeOf.set(gfn, this.#node(node));
  }

  trim(): boolean {
    this.#call("trim");
    return this.onTrim();
  }

  /** The calls since it was asked last. */
  news(): string[] {
    return this.calls.splice(0);
  }
}

export const busy = (): Error => Object.assign(new Error("busy"), { code: "NUMAHEAP_BUSY" });
