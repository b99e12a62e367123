// What a guest needs of the platform it runs on. The drivers (drivers/xen.ts, drivers/kvm.ts) bring it, each in its platform's own way;
// nothing else in the guest knows which hypervisor is below.

/** One change of what really lies where, as the guest is told of it. */
export type PlatformChange =
  /** The vCPU runs on `node` from now on. */
  | { readonly kind: "vcpu"; readonly vcpu: number; readonly node: number }
  /** Guest frames [first, first + count) lie on `node` from now on. */
  | { readonly kind: "frames"; readonly first: number; readonly count: number; readonly node: number }
  /** There are nodes 0 .. distances.length - 1 now, and these are their distances (10 to itself). */
  | { readonly kind: "nodes"; readonly distances: readonly (readonly number[])[] };

/** Adjacent guest frames on one node. */
export interface FrameRange {
  readonly first: number;
  readonly count: number;
  readonly node: number;
}

/** The whole actual topology of a virtual machine. */
export interface VirtualTopology {
  readonly distances: readonly (readonly number[])[];
  /** Node of each vCPU. */
  readonly vcpuNode: readonly number[];
  /** Maximal ranges, ascending; frames of the balloon are in none. */
  readonly ranges: readonly FrameRange[];
}

/** What the platform calls in the guest. */
export interface PlatformHandler {
  /** Changes in the order they happened, as many as the platform had gathered. To be handled before the next are handed over. */
  topologyChanged(changes: readonly PlatformChange[]): void;
  /** The hypervisor wants the guest to do with so many frames in all. */
  balloonTargetChanged(frames: number): void;
}

/** Policies of placement that a guest may choose in the hypervisor (mode policy-hypercall). */
export type PlacementPolicy = "first-touch" | "round-robin" | "interleave";

export interface Platform {
  readonly name: "xen" | "kvm";
  /** ACPI tables the firmware shows the guest: flat, or the virtual topology as of boot. */
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
  /** Most frames the guest will ever have, fewest included. */
  readonly frames: number;
  readonly vcpus: number;
  /** The actual topology as of now; undefined where the guest is not to know it (modes static, flat, first-touch, policy-hypercall). */
  readTopology(): Promise<VirtualTopology | undefined>;
  /** From now on every change comes to `handler`, those since readTopology included. */
  start(handler: PlatformHandler): Promise<void>;
  /** Gives frames back to the hypervisor: they are backed by nothing afterwards. All or none. */
  inflate(gfns: readonly number[]): Promise<void>;
  /** Has frames backed again, zeroed, on whichever node has room; changes tell where. Resolves with how many (the first ones) were. */
  deflate(gfns: readonly number[]): Promise<number>;
  /** Advice: [first, first + count) would best lie on `node`. Resolves with how many frames lie there now. */
  advise(first: number, count: number, node: number): Promise<number>;
  /** Chooses how the hypervisor places frames not yet touched. */
  setPlacement(policy: PlacementPolicy): Promise<void>;
  stop(): void;
}
