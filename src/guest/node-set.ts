// Sets of nodes, a bit each. There are at most 32, so a set is one unsigned word.

import { MAX_NODES } from "../hypervisor/vm-layout.js";

/** Bit n: node n. */
export type Nodemask = number;

export const NO_NODES: Nodemask = 0;

export const maskOf = (nodes: Iterable<number>): Nodemask => {
  let mask = 0;
  for (const node of nodes) mask |= 1 << node;
  return mask >>> 0;
};

/** Ascending. */
export function nodesOf(mask: Nodemask): number[] {
  const nodes: number[] = [];
  for (let left = mask; left !== 0; left = (left & (left - 1)) >>> 0) nodes.push(firstNode(left));
  return nodes;
}

export const hasNode = (mask: Nodemask, node: number): boolean => node >= 0 && node < MAX_NODES && (mask & (1 << node)) !== 0;

export const both = (a: Nodemask, b: Nodemask): Nodemask => (a & b) >>> 0;

export const isSubset = (mask: Nodemask, of: Nodemask): boolean => (mask & ~of) === 0;

export const weight = (mask: Nodemask): number => nodesOf(mask).length;

/** The lowest; MAX_NODES if there is none. */
export const firstNode = (mask: Nodemask): number => (mask === 0 ? MAX_NODES : 31 - Math.clz32(mask & -mask));
