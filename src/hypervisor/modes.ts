// The modes a virtual machine can be booted in: where its memory is put, what its firmware says of that, and whether it hears of changes.
//
//   mode             placed                                   firmware (ACPI)   told of changes
//   adaptive         a contiguous share of frames a node      flat              yes
//   static           the same                                 that of boot      no
//   flat             blindly: stripes of 256 frames in turn   flat              no
//   first-touch      where its toucher runs                   flat              no
//   policy-hypercall as the guest chooses, when touched       flat              no

import type { PlacementPolicy } from "../guest/platform.js";
import { onDemand, UNPLACED } from "./p2m.js";

export const BOOT_MODES = ["adaptive", "static", "flat", "first-touch", "policy-hypercall"] as const;
export type BootMode = (typeof BOOT_MODES)[number];

export const PLACEMENT_POLICIES = ["first-touch", "round-robin", "interleave"] as const satisfies readonly PlacementPolicy[];

/** Frames of a stripe of mode flat: 2 MiB. */
export const STRIPE_FRAMES = 256;

/** The guest is told the actual topology, and of its changes. */
export const announces = (mode: BootMode): boolean => mode === "adaptive";

/** The firmware's tables show the nodes as of boot. */
export const showsNodes = (mode: BootMode): boolean => mode === "static";

/** Who touches a frame first, or the policy of that time, says where it lies. */
export const placesAtTouch = (mode: BootMode): boolean => mode === "first-touch" || mode === "policy-hypercall";

/** The p2m entry of a frame that nobody has touched. `nodes`: those with memory. */
export function bootEntry(mode: BootMode, gfn: number, frames: number, nodes: readonly number[]): number {
  if (placesAtTouch(mode)) return UNPLACED;
  const turn = mode === "flat" ? Math.floor(gfn / STRIPE_FRAMES) % nodes.length : Math.floor((gfn * nodes.length) / frames);
  return onDemand(nodes[turn]!);
}
