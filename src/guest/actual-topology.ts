// The fake tables: the actual topology, kept beside what the firmware showed. The handler of topology changes writes it; the page allocator,
// the NUMA API and the heaps read it. It is also to be had as a value, and as the SRAT and SLIT that a firmware would show now.

import { MAX_NODES, FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { topologyToAcpi } from "../topology/acpi/tables.js";
import { parseTopology, type Topology } from "../topology/topology.js";
import { type FrameTable, OWNER_BALLOON, OWNER_NONE } from "./frame-table.js";
import { maskOf, type Nodemask } from "./node-set.js";
import type { FrameRange, VirtualTopology } from "./platform.js";

/** Whether the guest has the frame now: one in the balloon lies nowhere. */
const isPresent = (owner: number): boolean => owner !== OWNER_NONE && owner !== OWNER_BALLOON;

export class ActualTopology {
  /** Another one of the same content after a live migration. */
  table: FrameTable;
  #distances: readonly (readonly number[])[];
  readonly #vcpuNode: number[];
  /** The guest's frames on each node. */
  readonly #present = new Int32Array(MAX_NODES);
  /** Of each node: those with memory, nearest first. Made when asked for. */
  readonly #nearest = new Map<number, readonly number[]>();
  #value: Topology | undefined;

  /** Frames are counted by `frameCame`. */
  constructor(table: FrameTable, { distances, vcpuNode }: VirtualTopology) {
    this.table = table;
    this.#distances = distances;
    this.#vcpuNode = [...vcpuNode];
  }

  /** Nodes are 0 .. nodes - 1. */
  get nodes(): number {
    return this.#distances.length;
  }

  get distances(): readonly (readonly number[])[] {
    return this.#distances;
  }

  get vcpus(): number {
    return this.#vcpuNode.length;
  }

  /** Node a vCPU really runs on. */
  runsOn(vcpu: number): number {
    return this.#vcpuNode[vcpu]!;
  }

  /** The guest's frames on a node. */
  framesOn(node: number): number {
    return this.#present[node]!;
  }

  hasMemory(node: number): boolean {
    return node < this.nodes && this.#present[node]! > 0;
  }

  /** Nodes with memory of the guest's. */
  get withMemory(): Nodemask {
    return maskOf([...this.#distances.keys()].filter((node) => this.hasMemory(node)));
  }

  /** Nodes with memory of the guest's, nearest to `node` first; the lower number first where they are as far. */
  nearest(node: number): readonly number[] {
    let order = this.#nearest.get(node);
    if (!order) {
      const row = this.#distances[node]!;
      order = [...row.keys()].filter((other) => this.hasMemory(other)).sort((a, b) => row[a]! - row[b]!);
      this.#nearest.set(node, order);
    }
    return order;
  }

  /** Node where what runs on the vCPU finds its memory: its own, or the nearest that has some. */
  homeOf(vcpu: number): number {
    const node = this.runsOn(vcpu);
    return this.nearest(node)[0] ?? node;
  }

  // ---- changes

  setDistances(distances: readonly (readonly number[])[]): void {
    this.#distances = distances;
    this.#changed();
  }

  setVcpu(vcpu: number, node: number): void {
    this.#vcpuNode[vcpu] = node;
    this.#changed();
  }

  /** The frame lies on `node` now. Its node in the frame table is written first of all. */
  setFrame(gfn: number, node: number): void {
    const present = isPresent(this.table.ownerOf(gfn));
    if (present) this.#count(this.table.nodeOf(gfn), -1);
    this.table.setNode(gfn, node);
    if (present) this.#count(node, 1);
    this.#value = undefined;
  }

  /** A frame is the guest's that was not. */
  frameCame(gfn: number): void {
    this.#count(this.table.nodeOf(gfn), 1);
    this.#value = undefined;
  }

  /** A frame went into the balloon. */
  frameWent(gfn: number): void {
    this.#count(this.table.nodeOf(gfn), -1);
    this.#value = undefined;
  }

  /** Who has memory matters to others only when it begins and ends. */
  #count(node: number, change: number): void {
    const before = this.#present[node]!;
    this.#present[node] = before + change;
    if (before === 0 || before + change === 0) this.#nearest.clear();
  }

  #changed(): void {
    this.#nearest.clear();
    this.#value = undefined;
  }

  // ---- as values

  /** Maximal ranges of the guest's frames on one node, ascending. */
  ranges(): FrameRange[] {
    const ranges: FrameRange[] = [];
    let last: { first: number; count: number; node: number } | undefined;
    for (let gfn = 0; gfn < this.table.frames; ++gfn) {
      if (!isPresent(this.table.ownerOf(gfn))) continue;
      const node = this.table.nodeOf(gfn);
      if (last?.node === node && last.first + last.count === gfn) ++last.count;
      else ranges.push((last = { first: gfn, count: 1, node }));
    }
    return ranges;
  }

  /** CPUs on the nodes they really run on. */
  value(): Topology {
    return (this.#value ??= this.#parse());
  }

  /** What a firmware would show. Who decodes it finds the same numbers of nodes as long as those without CPUs come last. */
  tables(): { srat: Uint8Array; slit: Uint8Array } {
    return topologyToAcpi(this.value());
  }

  #parse(): Topology {
    const ranges = this.ranges();
    const nodes = this.#distances.map((_, id) => ({
      id,
      cpus: this.#vcpuNode.flatMap((node, vcpu) => (node === id ? [vcpu] : [])),
      memory: ranges.flatMap(({ first, count, node }) =>
        node === id ? [{ start: first * FRAME_BYTES, end: (first + count) * FRAME_BYTES }] : [],
      ),
    }));
    return parseTopology({ nodes, distances: this.#distances });
  }

  /** Where the counts differ from the frame table, in words. */
  check(): string[] {
    const counts = new Int32Array(MAX_NODES);
    const problems: string[] = [];
    for (let gfn = 0; gfn < this.table.frames; ++gfn) {
      const node = this.table.nodeOf(gfn);
      if (node >= this.nodes) problems.push(`frame ${gfn} lies on node ${node}, and there are ${this.nodes}`);
      else if (isPresent(this.table.ownerOf(gfn))) ++counts[node]!;
    }
    counts.forEach((count, node) => {
      if (count !== this.#present[node]) problems.push(`node ${node} has ${count} frames, not ${this.#present[node]}`);
    });
    this.#vcpuNode.forEach((node, vcpu) => {
      if (node >= this.nodes) problems.push(`vCPU ${vcpu} runs on node ${node}, and there are ${this.nodes}`);
    });
    return problems;
  }
}
