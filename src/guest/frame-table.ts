// Who has each frame of the guest's memory, and where it lies: bytes in the memory itself, so that the allocator's threads can claim
// and release frames without asking the kernel's worker, by compare-and-swap.
//
//   owner byte = owner << 1 | dirty      dirty: somebody may have written to the frame since it was zero
//
// The owner bytes are the truth; the kernel's free lists only remember where to look.

import type { VmLayout } from "../hypervisor/vm-layout.js";

export const OWNER_NONE = 0; // no such frame
export const OWNER_FREE = 1;
export const OWNER_KERNEL = 2;
/** Given back to the hypervisor. */
export const OWNER_BALLOON = 3;
/** Memory of the guest's processes other than heaps. */
export const OWNER_PROCESS = 4;
/** Heap h has frames of owner OWNER_HEAP + h. */
export const OWNER_HEAP = 8;
export const MAX_HEAPS = 127 - OWNER_HEAP;
export const DIRTY = 1;

export class FrameTable {
  readonly frames: number;
  readonly #owner: Uint8Array;
  readonly #node: Uint8Array;
  readonly #toucher: Uint8Array;

  constructor(buffer: SharedArrayBuffer, layout: VmLayout) {
    const { frames, frameOwner, frameNode, frameToucher } = layout;
    this.frames = frames;
    this.#owner = new Uint8Array(buffer, frameOwner, frames);
    this.#node = new Uint8Array(buffer, frameNode, frames);
    this.#toucher = new Uint8Array(buffer, frameToucher, frames);
  }

  ownerOf(gfn: number): number {
    return Atomics.load(this.#owner, gfn) >> 1;
  }

  isFree(gfn: number): boolean {
    return this.ownerOf(gfn) === OWNER_FREE;
  }

  isDirty(gfn: number): boolean {
    return (Atomics.load(this.#owner, gfn) & DIRTY) !== 0;
  }

  /** Gives a frame whose owner is `from` to `to`. False: somebody else has it. The dirty bit stays, or is set by `dirty`. */
  transfer(gfn: number, from: number, to: number, dirty = false): boolean {
    for (;;) {
      const seen = Atomics.load(this.#owner, gfn);
      if (seen >> 1 !== from) return false;
      const wanted = (to << 1) | (seen & DIRTY) | (dirty ? DIRTY : 0);
      if (Atomics.compareExchange(this.#owner, gfn, seen, wanted) === seen) return true;
    }
  }

  /** The frame comes back zeroed, as one that a hypervisor has just backed. Its owner alone may say so. */
  markZero(gfn: number): void {
    Atomics.and(this.#owner, gfn, ~DIRTY & 0xff);
  }

  /** Node of the frame as the guest knows it. */
  nodeOf(gfn: number): number {
    return Atomics.load(this.#node, gfn);
  }

  /** To be written before any list or heap is told of it: who claims the frame afterwards reads it here. */
  setNode(gfn: number, node: number): void {
    Atomics.store(this.#node, gfn, node);
  }

  /** Node of the vCPU that first touched the frame since it was backed, -1 = nobody. */
  toucherOf(gfn: number): number {
    return Atomics.load(this.#toucher, gfn) - 1;
  }

  touch(gfn: number, node: number): void {
    Atomics.store(this.#toucher, gfn, node + 1);
  }
}
