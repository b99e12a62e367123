// The frames of the machine: who has which is the p2m's business, what is free is known here. Machine frames are numbered node by node,
// so that a frame's number says its node.

import { HypervisorError } from "./errors.js";

const MIB_FRAMES = 128;
const NONE = -1;

export class MachineFrames {
  readonly total: number;
  readonly nodes: number;
  /** First frame of each node, and the end of the last. */
  readonly #base: readonly number[];
  /** Frames that were released, the last one first to be taken again; then those nobody ever had, from #next on. */
  readonly #released: number[][];
  readonly #next: number[];
  readonly #taken: Uint8Array;
  /** Frames of each node that are kept for those who wait for them. */
  readonly #kept: number[];
  readonly #spill: readonly (readonly number[])[];

  /** @param nodeFrames frames of each node; a node may have none */
  constructor(nodeFrames: readonly number[], distances: readonly (readonly number[])[]) {
    this.nodes = nodeFrames.length;
    const base = [0];
    for (const frames of nodeFrames) base.push(base.at(-1)! + frames);
    this.#base = base;
    this.total = base.at(-1)!;
    this.#taken = new Uint8Array(this.total);
    this.#released = nodeFrames.map(() => []);
    this.#next = base.slice(0, -1);
    this.#kept = nodeFrames.map(() => 0);
    this.#spill = distances.map((row, node) =>
      [...row.keys()].filter((other) => other !== node).sort((a, b) => row[a]! - row[b]! || a - b),
    );
  }

  nodeOf(mfn: number): number {
    let node = 0;
    while (mfn >= this.#base[node + 1]!) ++node;
    return node;
  }

  freeOn(node: number): number {
    return this.#released[node]!.length + this.#base[node + 1]! - this.#next[node]!;
  }

  get free(): number {
    return this.#next.reduce((sum, _, node) => sum + this.freeOn(node), 0);
  }

  isTaken(mfn: number): boolean {
    return this.#taken[mfn] === 1;
  }

  /** The other nodes, nearest first; among equals the lower number. */
  spillOrder(node: number): readonly number[] {
    return this.#spill[node]!;
  }

  /** Frames of `node` that are free and kept for nobody. */
  roomOn(node: number): number {
    return this.freeOn(node) - this.#kept[node]!;
  }

  /** `node`, or the nearest to it that has room, -1 if none has. */
  nearestRoom(node: number): number {
    if (this.roomOn(node) > 0) return node;
    return this.spillOrder(node).find((other) => this.roomOn(other) > 0) ?? NONE;
  }

  /** A frame of `node` is kept for somebody, until it is kept no more. */
  keep(node: number): void {
    ++this.#kept[node]!;
  }

  unkeep(node: number): void {
    --this.#kept[node]!;
  }

  /** A frame of `node`, also of those that are kept; -1 if it has none left. */
  take(node: number): number {
    const mfn = this.#released[node]!.pop() ?? (this.#next[node]! < this.#base[node + 1]! ? this.#next[node]!++ : NONE);
    if (mfn === NONE) return NONE;
    this.#taken[mfn] = 1;
    return mfn;
  }

  /**
   * A frame of `node`, or of the nearest that has room.
   * @throws {HypervisorError} NUMAHEAP_NO_MACHINE_FRAME
   */
  alloc(node: number): number {
    const nearest = this.nearestRoom(node);
    if (nearest !== NONE) return this.take(nearest);
    throw new HypervisorError(
      "NUMAHEAP_NO_MACHINE_FRAME",
      `no node has a frame left, asked was one of node ${node}; all ${this.total} (${this.total / MIB_FRAMES} MiB) are taken: inflate a balloon or destroy a virtual machine`,
    );
  }

  release(mfn: number): void {
    if (this.#taken[mfn] !== 1) throw new Error(`machine frame ${mfn} is released, but nobody has it`);
    this.#taken[mfn] = 0;
    this.#released[this.nodeOf(mfn)]!.push(mfn);
  }

  /** What is free, in words. */
  describe(): string {
    const free = this.#next.map((_, node) => `node ${node} ${this.freeOn(node)}`).join(", ");
    return `${this.free} of ${this.total} frames free (${free})`;
  }
}
