// What a probe and its conductor say to each other.

import type { HeapHandle } from "../heap/handle.js";
import type { VmLayout } from "../hypervisor/vm-layout.js";

export interface ProbeData {
  readonly handle: HeapHandle;
  readonly layout: VmLayout;
  /** The thread is told by its machine's kernel, which has it move over; else by whoever asks this probe. */
  readonly follows: boolean;
  /** Words of FLAG_. */
  readonly flags: SharedArrayBuffer;
}

/** The probe watches: what happens from now on, it sees. */
export const FLAG_WATCHING = 0;
/** It is to stand still between two calls. */
export const FLAG_PARK = 1;

/** A memory: the machine has moved, the thread goes on over that one. */
export type ProbeCommand = "prime" | "watch" | "detach" | WebAssembly.Memory;

export type ProbeAnswer =
  | { readonly is: "ready" | "parked" | "moved" | "detached" }
  /** Frames [first, end) hold what the thread has cached. */
  | { readonly is: "primed"; readonly first: number; readonly end: number }
  | ({ readonly is: "seen" } & Seen);

/** Times in nanoseconds of process.hrtime.bigint(), which all threads share. */
export interface Seen {
  /** A change of the topology could be seen in the heap. */
  readonly epoch: bigint;
  /** The first block on the thread's true node was had. */
  readonly local: bigint;
  /** From here on no block came from another node. */
  readonly clean: bigint;
  /** Blocks that did after the epoch. */
  readonly stale: number;
  /** All of that was seen before the probe lost its patience. */
  readonly complete: boolean;
}
