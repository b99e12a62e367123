// Memory policies of a thread: which node an allocation should come from, and which it may come from. The modes have the
// numbers and meanings of Linux's mempolicy (include/uapi/linux/mempolicy.h).

import { DISTANCES, Heap, MAX_NODES, THREAD_ORDER, Thread } from "./layout";
import { heap, nearest, weightOf } from "./instance";

export const POLICY_DEFAULT: u32 = 0;
export const POLICY_PREFERRED: u32 = 1;
export const POLICY_BIND: u32 = 2;
export const POLICY_INTERLEAVE: u32 = 3;
export const POLICY_LOCAL: u32 = 4;
export const POLICY_PREFERRED_MANY: u32 = 5;
export const POLICY_WEIGHTED_INTERLEAVE: u32 = 6;

/** Nodes that exist, as a mask. */
export function existingNodes(): u32 {
  return ~(<u32>0) >> (MAX_NODES - atomic.load<u32>(heap, offsetof<Heap>("nodes")));
}

export function isInterleaving(record: Thread): bool {
  return record.policy == POLICY_INTERLEAVE || record.policy == POLICY_WEIGHTED_INTERLEAVE;
}

/** Nodes the thread's allocations may come from. */
export function allowedNodes(record: Thread): u32 {
  return record.policy == POLICY_BIND ? record.mask & existingNodes() : existingNodes();
}

export function distanceOf(from: u32, to: u32): u32 {
  return atomic.load<u8>(heap + from * MAX_NODES + to, DISTANCES);
}

/** Where the thread allocates first: the nearest node of its mask, if its policy has one. Its order of nodes is written. */
export function homeOf(t: usize): u32 {
  const record = changetype<Thread>(t);
  const mask = record.mask & existingNodes();
  let home = record.node;
  if (mask != 0 && !isInterleaving(record)) {
    // Nodes may come and go meanwhile: the search is bounded.
    for (let i: u32 = 0; i < MAX_NODES && ((mask >> (home = nearest(t, i))) & 1) == 0;) ++i;
  }
  return home;
}

/** Writes the record's order of nodes: by distance from its own, then by number. */
export function writeOrder(t: usize): void {
  const node = changetype<Thread>(t).node;
  const nodes = atomic.load<u32>(heap, offsetof<Heap>("nodes"));
  let left = existingNodes();
  for (let i: u32 = 0; i < nodes; ++i) {
    let next: u32 = 0;
    let best: u32 = -1;
    for (let n: u32 = 0; n < nodes; ++n) {
      const distance: u32 = n == node ? 0 : distanceOf(node, n);
      if (((left >> n) & 1) != 0 && distance < best) {
        best = distance;
        next = n;
      }
    }
    left &= ~(1 << next);
    store<u8>(t + i, <u8>next, THREAD_ORDER);
  }
}

/** The node the next blocks should come from. */
export function nextTarget(t: usize): u32 {
  const record = changetype<Thread>(t);
  if (!isInterleaving(record)) return record.home;
  const mask = record.mask & existingNodes();
  if (mask == 0) return record.home;
  if (record.credit == 0 || ((mask >> record.cursor) & 1) == 0) {
    do record.cursor = (record.cursor + 1) & (MAX_NODES - 1);
    while (((mask >> record.cursor) & 1) == 0);
    record.credit = record.policy == POLICY_INTERLEAVE ? 1 : max<u32>(1, weightOf(t, record.cursor));
  }
  record.credit -= 1;
  return record.cursor;
}
