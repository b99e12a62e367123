// The heaps of a guest, as its kernel tells them of changes. A heap whose lock is out of reach answers busy (NUMAHEAP_BUSY); it is told
// again a moment later, everything as it is then instead of what it missed: so nothing piles up, and order does not matter.

import type { ActualTopology } from "./actual-topology.js";
import type { FrameRange } from "./platform.js";
import { Retry } from "./retry.js";

/** What the kernel calls in a heap (guest-heap.ts). Each may throw an error of code NUMAHEAP_BUSY. */
export interface HeapLink {
  setNodes(count: number): void;
  setDistance(from: number, to: number, distance: number): void;
  setVcpuNode(vcpu: number, node: number): void;
  /** Guest frames [first, first + count) lie on `node` now, whether they are the heap's or not. */
  rebind(first: number, count: number, node: number): void;
  /** Gives free frames back; whether there were any. */
  trim(): boolean;
}

/** What has changed, in the end. Ranges are maximal and ascend. */
export interface TopologyUpdate {
  readonly vcpus: readonly { readonly vcpu: number; readonly node: number }[];
  readonly ranges: readonly FrameRange[];
  /** Nodes are other ones now, or their distances are. */
  readonly nodes: boolean;
}

const isBusy = (error: unknown): boolean => (error as { code?: unknown } | undefined)?.code === "NUMAHEAP_BUSY";

interface Entry {
  readonly link: HeapLink;
  /** Nodes it has been told of. */
  nodes: number;
  /** It has missed something. */
  behind: boolean;
}

export class HeapLinks {
  readonly #topology: ActualTopology;
  readonly #onProblem: (error: unknown) => void;
  readonly #entries = new Set<Entry>();
  readonly #retry: Retry;
  #suspended = false;

  /** @param onProblem told why a heap was dropped: it threw something other than busy */
  constructor(topology: ActualTopology, onProblem: (error: unknown) => void) {
    this.#topology = topology;
    this.#onProblem = onProblem;
    this.#retry = new Retry(() => this.catchUp(), 1, 64);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Tells a heap everything, now and of each change. Answers with what ends it. */
  add(link: HeapLink): () => void {
    const entry: Entry = { link, nodes: 0, behind: true };
    this.#entries.add(entry);
    this.catchUp();
    return () => void this.#entries.delete(entry);
  }

  tell(update: TopologyUpdate): void {
    for (const entry of this.#entries) {
      if (this.#suspended) entry.behind = true;
      else if (!entry.behind) this.#attempt(entry, () => this.#say(entry, update));
    }
    this.catchUp();
  }

  /** Tells those that were busy. True: all heaps know everything. */
  catchUp(): boolean {
    if (this.#suspended) return false;
    let late = false;
    for (const entry of this.#entries) {
      if (entry.behind) this.#attempt(entry, () => this.#say(entry, this.#everything()));
      late ||= entry.behind && this.#entries.has(entry);
    }
    if (late) this.#retry.later();
    else this.#retry.done();
    return !late;
  }

  /** Heaps are not told anything until they are resumed: then, everything they missed. */
  suspend(): void {
    this.#suspended = true;
    this.#retry.done();
  }

  resume(): void {
    this.#suspended = false;
    this.catchUp();
  }

  /** Asks all heaps for free frames; whether any gave some. */
  trim(): boolean {
    let gave = false;
    for (const entry of this.#entries) {
      try {
        if (entry.link.trim()) gave = true;
      } catch (error) {
        if (!isBusy(error)) this.#drop(entry, error);
      }
    }
    return gave;
  }

  stop(): void {
    this.#retry.done();
    this.#entries.clear();
  }

  #attempt(entry: Entry, say: () => void): void {
    try {
      say();
      entry.behind = false;
    } catch (error) {
      entry.behind = true;
      if (!isBusy(error)) this.#drop(entry, error);
    }
  }

  #drop(entry: Entry, error: unknown): void {
    this.#entries.delete(entry);
    this.#onProblem(error);
  }

  #everything(): TopologyUpdate {
    const vcpus = Array.from({ length: this.#topology.vcpus }, (_, vcpu) => ({ vcpu, node: this.#topology.homeOf(vcpu) }));
    return { vcpus, ranges: this.#topology.ranges(), nodes: true };
  }

  /** Nodes come before what lies on them, and go after what lay there. */
  #say(entry: Entry, { vcpus, ranges, nodes }: TopologyUpdate): void {
    const { link } = entry;
    const grows = this.#topology.nodes >= entry.nodes;
    if (nodes && grows) this.#sayNodes(entry);
    for (const { first, count, node } of ranges) link.rebind(first, count, node);
    for (const { vcpu, node } of vcpus) link.setVcpuNode(vcpu, node);
    if (nodes && !grows) this.#sayNodes(entry);
  }

  #sayNodes(entry: Entry): void {
    const { distances, nodes } = this.#topology;
    if (entry.nodes !== nodes) entry.link.setNodes(nodes);
    entry.nodes = nodes;
    distances.forEach((row, from) => row.forEach((distance, to) => from !== to && entry.link.setDistance(from, to, distance)));
  }
}
