// A heap out of the guest's frames, and the kernel's own hold on it: one of the heap's threads, which tells it where everything lies and has
// it give frames back. It never sleeps on a lock: whoever holds that may have died, or may wait for the kernel.

import type { HeapHandle } from "../heap/handle.js";
import { NumaHeap } from "../heap/numa-heap.js";
import { GuestError, whole } from "./errors.js";
import type { Guest } from "./guest.js";
import type { HeapLink } from "./heap-links.js";
import { PAGE_BYTES } from "./process.js";

export interface GuestHeapOptions {
  /** Bytes it begins with beside its own structs, in adjacent frames. Default: 64 KiB. */
  readonly initialBytes?: number;
  /** Most bytes it may claim, its own structs included. Default: as many as the guest has. */
  readonly maximumBytes?: number;
  /** vCPU that makes it: its first frames are touched from there. Default 0. */
  readonly vcpu?: number;
}

const WASM_PAGE = 65536;
/** Heaps know frames below the last page of 4 GiB. */
const MOST_FRAMES = 2 ** 19 - 1;

/** Bytes of a heap's own before its first block: the head, and a page map of 8 KiB for each 1024 frames. */
const structsOf = (frames: number): number => WASM_PAGE + Math.ceil(frames / 1024) * 8192;

export class GuestHeap implements HeapLink {
  /** The kernel's thread of the heap. */
  readonly heap: NumaHeap;
  /** What the heap knows that thread by: its maker's. */
  readonly key = 1;
  /** Owner of its frames in the frame table. */
  readonly owner: number;
  readonly #guest: Guest;
  readonly #unregister: () => void;
  #ended = false;

  /**
   * Makes a heap, which knows the topology and hears of its changes from now on. It claims frames only above its own first one, so it gets
   * the lowest there are.
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_INVALID_ARGUMENT
   */
  static async create(guest: Guest, options: GuestHeapOptions = {}): Promise<GuestHeap> {
    const { layout, memory } = guest;
    const all = layout.frames * PAGE_BYTES;
    const vcpu = whole(options.vcpu ?? 0, 0, guest.vcpus - 1, "vcpu");
    const initial = whole(options.initialBytes ?? WASM_PAGE, 1, all, "initialBytes") + structsOf(layout.frames);
    const pages = Math.ceil(initial / WASM_PAGE);
    const maximumBytes = whole(options.maximumBytes ?? all, pages * WASM_PAGE, 2 ** 32, "maximumBytes");
    const { owner, first, count } = guest.grantHeap(pages * (WASM_PAGE / PAGE_BYTES), vcpu);
    try {
      const heap = await NumaHeap.createInFrames({
        memory,
        base: first * PAGE_BYTES,
        end: (first + count) * PAGE_BYTES,
        maximumBytes,
        nodes: guest.topology.nodes,
        frames: Math.min(layout.frames, MOST_FRAMES),
        owner,
        tables: { owners: layout.frameOwner, nodes: layout.frameNode, touchers: layout.frameToucher, vcpuTruth: layout.vcpuTruth },
        vcpu,
        mayBlock: false,
      });
      return new GuestHeap(guest, heap, owner);
    } catch (error) {
      guest.endHeap(owner);
      throw error;
    }
  }

  private constructor(guest: Guest, heap: NumaHeap, owner: number) {
    this.#guest = guest;
    this.heap = heap;
    this.owner = owner;
    this.#unregister = guest.registerHeap(this);
  }

  /**
   * A handle for a thread on `vcpu`.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT
   */
  handle(vcpu: number): HeapHandle {
    return this.heap.handle(whole(vcpu, 0, this.#guest.vcpus - 1, "vcpu"));
  }

  // ---- what the kernel tells it

  setNodes(count: number): void {
    this.heap.setNodes(count);
  }

  setDistance(from: number, to: number, distance: number): void {
    this.heap.setDistance(from, to, distance);
  }

  setVcpuNode(vcpu: number, node: number): void {
    this.heap.setVcpuNode(vcpu, node);
  }

  rebind(first: number, count: number, node: number): void {
    this.heap.rebind(first * PAGE_BYTES, count * PAGE_BYTES, node);
  }

  trim(): boolean {
    return this.heap.trim();
  }

  /** The guest has moved to another host: the kernel's thread goes on over the memory there. */
  moveOver(memory: WebAssembly.Memory): Promise<void> {
    return this.heap.moveOver(memory);
  }

  /**
   * Ends the heap: its frames are the guest's again. Twice is once.
   * @returns how many frames there were
   * @throws {GuestError} NUMAHEAP_HEAP_IN_USE while other threads are attached to it
   */
  end(): number {
    if (this.#ended) return 0;
    const others = this.heap.stats().threads.length - 1;
    if (others > 0) throw new GuestError("NUMAHEAP_HEAP_IN_USE", `${others} other threads are attached to the heap: detach or reap them`);
    this.heap.detach();
    this.#ended = true;
    this.#unregister();
    return this.#guest.endHeap(this.owner);
  }
}
