// The mapping tracker of a virtual machine: every change of where its vCPUs run and its frames lie comes here, whichever operation made
// it, and leaves in the order it happened. It remembers what the guest is to believe, so that what changes nothing (a frame that moved
// within its node) is dropped here, and a frame that comes out of the balloon is always news.

import type { PlatformChange } from "../guest/platform.js";

/** No node: a frame of the balloon, or one that nobody touched and whose node the toucher will choose. */
export const NOWHERE = -1;

export class Tracker {
  readonly #vcpuNode: Int8Array;
  readonly #frameNode: Int8Array;
  readonly #publish: (changes: readonly PlatformChange[]) => void;
  #pending: PlatformChange[] = [];
  /** Changes so far, those of a range of frames one by one. */
  #count = 0;

  /** @param publish receives what has gathered, at the end of each operation */
  constructor(frames: number, vcpus: number, publish: (changes: readonly PlatformChange[]) => void) {
    this.#vcpuNode = new Int8Array(vcpus).fill(NOWHERE);
    this.#frameNode = new Int8Array(frames).fill(NOWHERE);
    this.#publish = publish;
  }

  get count(): number {
    return this.#count;
  }

  /** Node of each vCPU as tracked. */
  get vcpus(): readonly number[] {
    return [...this.#vcpuNode];
  }

  /** Node of each frame as tracked, NOWHERE for what has none; to be read only. */
  get frames(): Int8Array {
    return this.#frameNode;
  }

  vcpu(vcpu: number, node: number): void {
    if (this.#vcpuNode[vcpu] === node) return;
    this.#vcpuNode[vcpu] = node;
    ++this.#count;
    this.#pending.push({ kind: "vcpu", vcpu, node });
  }

  frame(gfn: number, node: number): void {
    if (this.#frameNode[gfn] === node) return;
    this.#frameNode[gfn] = node;
    // The guest gave it away itself, or is never told of frames that wait for a toucher.
    if (node === NOWHERE) return;
    ++this.#count;
    const last = this.#pending.at(-1);
    if (last?.kind === "frames" && last.node === node && last.first + last.count === gfn) {
      this.#pending[this.#pending.length - 1] = { ...last, count: last.count + 1 };
    } else {
      this.#pending.push({ kind: "frames", first: gfn, count: 1, node });
    }
  }

  /** Hands over what has gathered. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const changes = this.#pending;
    this.#pending = [];
    this.#publish(changes);
  }
}
