// What really lies where, as a value, for comparing with what a guest or a heap believes. Computed from the p2m and the scheduler, never
// from what was tracked or announced.

import type { FrameRange } from "../guest/platform.js";
import { NOWHERE } from "./tracker.js";

export interface Truth {
  /** Node of each vCPU. */
  readonly vcpus: readonly number[];
  /** Node of each guest frame; of one not yet touched, the node it waits for; NOWHERE for one of the balloon, or that waits for a toucher. */
  readonly frames: Int8Array;
  /** 1 for each frame that a machine frame is behind. */
  readonly backed: Uint8Array;
}

/** Maximal ranges of frames on one node, ascending. */
export function rangesOf(frames: Int8Array): FrameRange[] {
  const ranges: FrameRange[] = [];
  for (let first = 0; first < frames.length;) {
    const node = frames[first]!;
    let end = first + 1;
    while (end < frames.length && frames[end] === node) ++end;
    if (node !== NOWHERE) ranges.push({ first, count: end - first, node });
    first = end;
  }
  return ranges;
}

/**
 * Where a map differs from the truth, in words; empty if nowhere. Frames of `ignored` count as equal.
 * @param nodeOfVcpu what somebody believes
 * @param nodeOfFrame the same of frames; NOWHERE for what has no node
 */
export function differences(
  truth: Truth,
  nodeOfVcpu: (vcpu: number) => number,
  nodeOfFrame: (gfn: number) => number,
  ignored: (gfn: number) => boolean = () => false,
): string[] {
  const found: string[] = [];
  truth.vcpus.forEach((node, vcpu) => {
    const believed = nodeOfVcpu(vcpu);
    if (believed !== node) found.push(`vCPU ${vcpu} is on node ${node}, not ${believed}`);
  });
  truth.frames.forEach((node, gfn) => {
    const believed = nodeOfFrame(gfn);
    if (believed !== node && !ignored(gfn)) found.push(`frame ${gfn} is on node ${node}, not ${believed}`);
  });
  return found;
}
