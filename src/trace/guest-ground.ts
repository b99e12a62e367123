// The ground of a replay within a virtual machine: the heap is made of the guest's frames, the events lie in frames of their own behind it,
// and what is local is judged by the hypervisor's tables, not by what guest or heap believe.

import { type Guest } from "../guest/guest.js";
import { GuestHeap, type GuestHeapOptions } from "../guest/guest-heap.js";
import { HEAP_PAGE, WASM_PAGE } from "../heap/exports.js";
import { type BootMode, placesAtTouch } from "../hypervisor/modes.js";
import { compile, type Modules } from "./engine.js";
import type { Ground } from "./ground.js";

export interface GuestGroundOptions extends GuestHeapOptions {
  /** How the machine was booted: where a frame that nobody has touched will lie depends on it. Default: adaptive. */
  readonly mode?: BootMode;
}

export class GuestGround implements Ground {
  readonly memory: WebAssembly.Memory;
  readonly heapBase: number;
  readonly hostVcpu: number;
  readonly truth: { readonly vcpus: number; readonly frames: number; readonly touchers: number };
  readonly #guest: Guest;
  /** Owner of the frames with the events. */
  readonly #owner: number;

  /**
   * Makes a heap and room for the events. The heap comes first: it may claim what lies behind it, the frames beyond the events included.
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_INVALID_ARGUMENT
   */
  static async create(guest: Guest, planBytes: number, options: GuestGroundOptions = {}): Promise<GuestGround> {
    const { mode = "adaptive", ...given } = options;
    const replay = await compile("replay.wasm");
    const heap = await GuestHeap.create(guest, given);
    try {
      const { owner, first } = guest.grantHeap(Math.ceil(planBytes / WASM_PAGE) * (WASM_PAGE / HEAP_PAGE), given.vcpu ?? 0);
      return new GuestGround(guest, heap, owner, first * HEAP_PAGE, replay, mode);
    } catch (error) {
      heap.end();
      throw error;
    }
  }

  readonly modules: Modules;
  readonly inspect: WebAssembly.Module;

  private constructor(
    guest: Guest,
    readonly heap: GuestHeap,
    owner: number,
    readonly plan: number,
    replay: WebAssembly.Module,
    mode: BootMode,
  ) {
    const { base, modules, vcpu } = heap.heap.handle(0);
    const { vcpuTruth, frameTruth, frameToucher } = guest.layout;
    this.memory = guest.memory;
    this.heapBase = base;
    this.hostVcpu = vcpu;
    this.modules = { heap: modules.heap, replay };
    this.inspect = modules.inspect;
    this.truth = { vcpus: vcpuTruth, frames: frameTruth, touchers: placesAtTouch(mode) ? frameToucher : 0 };
    this.#guest = guest;
    this.#owner = owner;
  }

  /** The kernel is of this thread, and holds still while it looks. What it could not tell the heap while a worker had a lock, it tells it now. */
  quiet(): Promise<() => void> {
    this.#guest.heaps.catchUp();
    return Promise.resolve(() => {});
  }

  nextKey(): number {
    return this.heap.handle(this.hostVcpu).key;
  }

  /**
   * After the replay, whose threads have detached: all frames are the guest's again.
   * @throws {GuestError} NUMAHEAP_HEAP_IN_USE
   */
  end(): void {
    this.heap.end();
    this.#guest.endHeap(this.#owner);
  }
}
