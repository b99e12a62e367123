// What a driver last told its guest of the topology. A platform that says "it is different now" is compared with this, and the difference
// is what the guest is told.

import type { FrameRange, PlatformChange, VirtualTopology } from "../platform.js";

/** No node: not told yet, or in the balloon. */
const NOWHERE = -1;

export class Known {
  #distances: readonly (readonly number[])[] = [];
  readonly #vcpus: Int8Array;
  #frames: Int8Array;
  /** Filled anew by each comparison, then the two change places. */
  #spare: Int8Array;

  /** @param frames a multiple of 8, as there are in a page of WebAssembly */
  constructor(vcpus: number, frames: number) {
    this.#vcpus = new Int8Array(vcpus).fill(NOWHERE);
    this.#frames = new Int8Array(frames).fill(NOWHERE);
    this.#spare = new Int8Array(frames);
  }

  /** The guest gave these away, and is to hear of it when they come back, wherever that is. */
  forget(gfns: readonly number[]): void {
    for (const gfn of gfns) this.#frames[gfn] = NOWHERE;
  }

  /** Takes over a change that is told as such. */
  apply(change: PlatformChange): void {
    if (change.kind === "vcpu") this.#vcpus[change.vcpu] = change.node;
    else if (change.kind === "frames") this.#frames.fill(change.node, change.first, change.first + change.count);
    else this.#distances = change.distances;
  }

  /** Takes over all of a topology; the changes that lead to it. More nodes come before what lies on them, fewer after what lay there. */
  replace({ distances, vcpuNode, ranges }: VirtualTopology): PlatformChange[] {
    const changes = [...this.vcpus(vcpuNode), ...this.#ranges(ranges)];
    if (sameDistances(distances, this.#distances)) return changes;
    const nodes: PlatformChange = { kind: "nodes", distances };
    const fewer = distances.length < this.#distances.length;
    this.#distances = distances;
    return fewer ? [...changes, nodes] : [nodes, ...changes];
  }

  /** The same of vCPUs alone. */
  vcpus(vcpuNode: readonly number[]): PlatformChange[] {
    const changes: PlatformChange[] = [];
    vcpuNode.forEach((node, vcpu) => {
      if (this.#vcpus[vcpu] !== node) changes.push({ kind: "vcpu", vcpu, node });
      this.#vcpus[vcpu] = node;
    });
    return changes;
  }

  #ranges(ranges: readonly FrameRange[]): PlatformChange[] {
    const before = this.#frames;
    const now = this.#spare.fill(NOWHERE);
    for (const { first, count, node } of ranges) now.fill(node, first, first + count);
    const changes: PlatformChange[] = [];
    const [wordsBefore, wordsNow] = [before, now].map(({ buffer }) => new Int32Array(buffer));
    for (let word = 0; word < wordsNow!.length; ++word) {
      if (wordsNow![word] === wordsBefore![word]) continue;
      for (let gfn = word * 4; gfn < word * 4 + 4; ++gfn) {
        const node = now[gfn]!;
        if (node === before[gfn] || node === NOWHERE) continue;
        const last = changes.at(-1);
        if (last?.kind === "frames" && last.node === node && last.first + last.count === gfn) {
          changes[changes.length - 1] = { ...last, count: last.count + 1 };
        } else {
          changes.push({ kind: "frames", first: gfn, count: 1, node });
        }
      }
    }
    this.#frames = now;
    this.#spare = before;
    return changes;
  }
}

const sameDistances = (a: readonly (readonly number[])[], b: readonly (readonly number[])[]): boolean =>
  a.length === b.length && a.every((row, i) => row.every((distance, j) => distance === b[i]![j]));
