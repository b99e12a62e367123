// Sets of memory domains with a policy, and the order in which a policy visits them (FreeBSD: vm/vm_domainset.c, domainset(9)).
//
// Kept by node, not by domain: domains are numbered anew when a node gains its first memory or loses its last, nodes are not. So a set stays
// what it was, and nodes without memory are left out when it is used. What the original finds once, when a set is made, is found here each
// time: a set without any memory is visited as the default, an interleaving of all; a preferred domain without memory is none.
//
// Departs from the original: there is no pass that skips domains short of memory, for nothing here pages out.

import { hasNode, type Nodemask, nodesOf } from "../node-set.js";
import { PAGE_BYTES } from "../process.js";

export const DOMAINSET_POLICY_ROUNDROBIN = 1;
export const DOMAINSET_POLICY_FIRSTTOUCH = 2;
export const DOMAINSET_POLICY_PREFER = 3;
export const DOMAINSET_POLICY_INTERLEAVE = 4;
export const DOMAINSET_POLICY_MAX = DOMAINSET_POLICY_INTERLEAVE;

/** All nodes, also those that come later. */
export const ALL_NODES: Nodemask = 0xffff_ffff;
/** Pages that an interleaving keeps on one domain: those of a superpage, 2 MiB. */
export const STRIPE_PAGES = 2 ** 21 / PAGE_BYTES;

export interface Domainset {
  readonly policy: number;
  readonly mask: Nodemask;
  /** Node that is preferred, -1 without that policy. */
  readonly prefer: number;
}

export const domainset = (policy: number, mask: Nodemask = ALL_NODES, prefer = -1): Domainset => ({ policy, mask, prefer });

/** What threads begin with. */
export const FIRST_TOUCH = domainset(DOMAINSET_POLICY_FIRSTTOUCH);
/** What stands in for a set without memory. */
export const INTERLEAVE_ALL = domainset(DOMAINSET_POLICY_INTERLEAVE);

export const isEqual = (a: Domainset, b: Domainset): boolean => a.policy === b.policy && a.mask === b.mask && a.prefer === b.prefer;

/** A set in use, and how far it has come: a thread's, or an object's. */
export interface DomainsetRef {
  readonly domainset: Domainset;
  iterator: number;
}

/** What a page is for. */
export interface Place {
  /** Node of the CPU. */
  readonly cpu: number;
  readonly withMemory: Nodemask;
  /** Place in an interleaving: stripe of the object, beginning elsewhere for each object. */
  readonly stripe: number;
}

/** Nodes in the order in which they are asked for a page. The iterator moves on as far as the order is followed. */
export function* visit(ref: DomainsetRef, { cpu, withMemory, stripe }: Place): Generator<number, void> {
  const asked = nodesOf((ref.domainset.mask & withMemory) >>> 0);
  const { policy, prefer } = asked.length > 0 ? ref.domainset : INTERLEAVE_ALL;
  const order = asked.length > 0 ? asked : nodesOf(withMemory);
  const roundRobin = (): number => order[++ref.iterator % order.length]!;
  let first: number;
  if (policy === DOMAINSET_POLICY_FIRSTTOUCH && order.includes(cpu)) first = cpu;
  else if (policy === DOMAINSET_POLICY_PREFER && hasNode(withMemory, prefer)) first = prefer;
  else if (policy === DOMAINSET_POLICY_INTERLEAVE) first = order[(ref.iterator = stripe % order.length)]!;
  else first = roundRobin();
  yield first;
  const left = new Set(order);
  left.delete(first);
  while (left.size > 0) {
    const next = roundRobin();
    if (left.delete(next)) yield next;
  }
}
