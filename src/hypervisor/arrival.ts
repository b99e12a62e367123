// How a virtual machine comes to a host: room is made for it, its memory is filled from elsewhere, and then it is placed. Everything here may
// cross threads: a live migration awaits whatever it gets.

import type { VmImage } from "./vm.js";

/** What is behind a frame of a machine that arrives. */
export const ARRIVES_BALLOONED = 0;
export const ARRIVES_UNTOUCHED = 1;
export const ARRIVES_BACKED = 2;

/** Room made for a virtual machine that comes from another host. Exactly one of commit and cancel ends it. */
export interface Incoming {
  readonly memory: WebAssembly.Memory;
  /**
   * Places its frames and vCPUs; `states` has an ARRIVES_... for each frame.
   * @returns the number it has here
   * @throws {HypervisorError} NUMAHEAP_OVERCOMMIT
   */
  commit(image: VmImage, states: Uint8Array): number | Promise<number>;
  cancel(): void | Promise<void>;
}

/** Where a live migration can go; a hypervisor, or one in another worker. */
export interface MigrationTarget {
  readonly nodes: number | Promise<number>;
  /** @throws {HypervisorError} NUMAHEAP_OVERCOMMIT */
  prepare(image: VmImage, reserved: number): Incoming | Promise<Incoming>;
}
