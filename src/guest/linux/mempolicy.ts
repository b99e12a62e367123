// Memory policies (Linux: mm/mempolicy.c, set_mempolicy(2), Documentation/admin-guide/mm/numa_memory_policy.rst). A policy is a value:
// rebinding it to other nodes makes another one.
//
// Departs from the original in one thing: a preferred node that does not exist any more, which cannot be there, means the local one until
// it comes back.

import { EINVAL, Errno } from "./errno.js";
import { both, firstNode, fold, hasNode, maskOf, nextNodeIn, NO_NODES, type Nodemask, nodesOf, onto, remap, weight } from "./nodemask.js";

export const MPOL_DEFAULT = 0;
export const MPOL_PREFERRED = 1;
export const MPOL_BIND = 2;
export const MPOL_INTERLEAVE = 3;
export const MPOL_LOCAL = 4;
export const MPOL_PREFERRED_MANY = 5;
export const MPOL_WEIGHTED_INTERLEAVE = 6;
const MPOL_MAX = 7;

export const MPOL_F_NUMA_BALANCING = 1 << 13;
export const MPOL_F_RELATIVE_NODES = 1 << 14;
export const MPOL_F_STATIC_NODES = 1 << 15;
const MODE_FLAGS = MPOL_F_NUMA_BALANCING | MPOL_F_RELATIVE_NODES | MPOL_F_STATIC_NODES;
/** With either of them what the user said is kept, and what it means is worked out anew each time. */
const KEEPS_USER_NODES = MPOL_F_RELATIVE_NODES | MPOL_F_STATIC_NODES;

export interface Mempolicy {
  readonly mode: number;
  /** MPOL_F_... */
  readonly flags: number;
  /** Nodes in force. */
  readonly nodes: Nodemask;
  /** With MPOL_F_STATIC_NODES or MPOL_F_RELATIVE_NODES: what the user said; else the nodes that were allowed when it was bound. */
  readonly reference: Nodemask;
}

/** Where nothing else is said. */
export const SYSTEM_POLICY: Mempolicy = { mode: MPOL_LOCAL, flags: 0, nodes: NO_NODES, reference: NO_NODES };

/** Nodes a policy is made for. */
export interface Allowed {
  /** Of the task's cpuset. */
  readonly mems: Nodemask;
  readonly withMemory: Nodemask;
}

export const keepsUserNodes = ({ flags }: Mempolicy): boolean => (flags & KEEPS_USER_NODES) !== 0;

export const isInterleaved = ({ mode }: Mempolicy): boolean => mode === MPOL_INTERLEAVE || mode === MPOL_WEIGHTED_INTERLEAVE;

/**
 * Mode and flags of the mode argument of a system call.
 * @throws {Errno} EINVAL
 */
export function splitMode(argument: number): { mode: number; flags: number } {
  const flags = argument & MODE_FLAGS;
  const mode = argument & ~MODE_FLAGS;
  if (!Number.isInteger(argument) || mode < 0 || mode >= MPOL_MAX) throw new Errno(EINVAL);
  if ((flags & KEEPS_USER_NODES) === KEEPS_USER_NODES) throw new Errno(EINVAL);
  if ((flags & MPOL_F_NUMA_BALANCING) !== 0 && mode !== MPOL_BIND && mode !== MPOL_PREFERRED_MANY) throw new Errno(EINVAL);
  return { mode, flags };
}

const relativeNodes = (nodes: Nodemask, to: Nodemask): Nodemask => onto(fold(nodes, weight(to)), to);

/**
 * A policy for whoever is allowed these nodes; undefined: the default, which is whatever holds without one.
 * @throws {Errno} EINVAL
 */
export function newPolicy(asked: number, flags: number, user: Nodemask, allowed: Allowed): Mempolicy | undefined {
  const isEmpty = user === NO_NODES;
  if (asked === MPOL_DEFAULT) {
    if (!isEmpty) throw new Errno(EINVAL);
    return undefined;
  }
  const mode = asked === MPOL_PREFERRED && isEmpty ? MPOL_LOCAL : asked;
  if (mode === MPOL_LOCAL) {
    if (!isEmpty || (flags & KEEPS_USER_NODES) !== 0) throw new Errno(EINVAL);
    return { ...SYSTEM_POLICY, flags };
  }
  const usable = both(allowed.mems, allowed.withMemory);
  // Relative to nothing there is no node.
  const relative = (flags & MPOL_F_RELATIVE_NODES) !== 0 && usable !== NO_NODES;
  const nodes = relative ? relativeNodes(user, usable) : both(user, usable);
  if (nodes === NO_NODES) throw new Errno(EINVAL);
  return {
    mode,
    flags,
    nodes: mode === MPOL_PREFERRED ? maskOf([firstNode(nodes)]) : nodes,
    reference: (flags & KEEPS_USER_NODES) !== 0 ? user : allowed.mems,
  };
}

/** What a policy is where other nodes are allowed (mpol_rebind_policy). Preferences are not rebound, as in the original. */
export function rebind(policy: Mempolicy, mems: Nodemask): Mempolicy {
  const { mode, flags, nodes, reference } = policy;
  if (mode === MPOL_LOCAL) return policy;
  if (mode === MPOL_PREFERRED || mode === MPOL_PREFERRED_MANY) return keepsUserNodes(policy) ? policy : { ...policy, reference: mems };
  let bound: Nodemask;
  if ((flags & MPOL_F_STATIC_NODES) !== 0) bound = both(reference, mems);
  else if ((flags & MPOL_F_RELATIVE_NODES) !== 0) bound = relativeNodes(reference, mems);
  else bound = remap(nodes, reference, mems);
  return { ...policy, nodes: bound === NO_NODES ? mems : bound, reference: keepsUserNodes(policy) ? reference : mems };
}

/** How far a task's own interleaving has come: for memory that has no place in an address space. */
export interface InterleaveState {
  /** il_prev */
  previous: number;
  /** Pages the node before still gets (il_weight). */
  left: number;
}

/** As set_mempolicy leaves it. */
export const freshInterleave = (): InterleaveState => ({ previous: 31, left: 0 });

/** Node of the next page, and the step towards it. */
export function interleaveNext(policy: Mempolicy, state: InterleaveState, weights: ArrayLike<number>): number {
  if (policy.mode === MPOL_INTERLEAVE) return (state.previous = nextNodeIn(state.previous, policy.nodes));
  if (state.left === 0 || !hasNode(policy.nodes, state.previous)) {
    state.previous = nextNodeIn(state.previous, policy.nodes);
    state.left = weights[state.previous]!;
  }
  --state.left;
  return state.previous;
}

/** Node the next page would be on (get_mempolicy with MPOL_F_NODE). */
export function interleavePeek(policy: Mempolicy, { previous, left }: InterleaveState): number {
  return policy.mode === MPOL_WEIGHTED_INTERLEAVE && left > 0 ? previous : nextNodeIn(previous, policy.nodes);
}

/** Node of the page in place `index` of its mapping. */
export function interleaveAt(policy: Mempolicy, index: number, weights: ArrayLike<number>): number {
  const nodes = nodesOf(policy.nodes);
  if (policy.mode === MPOL_INTERLEAVE) return nodes[index % nodes.length]!;
  let left = index % nodes.reduce((sum, node) => sum + weights[node]!, 0);
  return nodes.find((node) => (left -= weights[node]!) < 0)!;
}
