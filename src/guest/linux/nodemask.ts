// Sets of nodes as Linux computes with them (include/linux/nodemask.h, lib/bitmap.c).

import { MAX_NODES } from "../../hypervisor/vm-layout.js";
import { firstNode, maskOf, type Nodemask, nodesOf } from "../node-set.js";

export { both, firstNode, hasNode, isSubset, maskOf, NO_NODES, type Nodemask, nodesOf, weight } from "../node-set.js";

/** The next after `node`, the lowest after the highest; MAX_NODES if there is none. */
export function nextNodeIn(node: number, mask: Nodemask): number {
  const above = node + 1 < MAX_NODES ? (mask & (-1 << (node + 1))) >>> 0 : 0;
  return firstNode(above !== 0 ? above : mask);
}

/** Place of a node among those of the set, from 0; -1 if it is none of them. */
const placeIn = (node: number, mask: Nodemask): number => nodesOf(mask).indexOf(node);

/** Node n becomes node n mod `size` (bitmap_fold). */
export const fold = (mask: Nodemask, size: number): Nodemask => maskOf(nodesOf(mask).map((node) => node % size));

/** Node n becomes the n-th of `onto`; those for which there is none are lost (bitmap_onto). */
export function onto(mask: Nodemask, target: Nodemask): Nodemask {
  const targets = nodesOf(target);
  return maskOf(nodesOf(mask).flatMap((node) => targets[node] ?? []));
}

/** Whatever is the n-th of `from` becomes the n-th of `to`, counted round where `to` has fewer; what is not of `from` stays (bitmap_bitremap). */
export function remapNode(node: number, from: Nodemask, to: Nodemask): number {
  const place = placeIn(node, from);
  const targets = nodesOf(to);
  return place < 0 || targets.length === 0 ? node : targets[place % targets.length]!;
}

/** The same of each node of a set (bitmap_remap). */
export const remap = (mask: Nodemask, from: Nodemask, to: Nodemask): Nodemask =>
  maskOf(nodesOf(mask).map((node) => remapNode(node, from, to)));
