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

/** Where the thread allocates first, unless it interleaves. Its order of nodes is written. */
export function homeOf(record: Thread): u32 {
  return isInterleaving(record) ? record.node : nearest(changetype<usize>(record), 0);
}

/** Whether freed blocks of its home may serve the thread again: not where each block has its turn, nor where the policy forbids the node. */
export function cachesHome(record: Thread): bool {
  return !isInterleaving(record) && ((allowedNodes(record) >> record.home) & 1) != 0;
}

/** Writes the record's order of nodes: its policy's before others, then by distance from its own, then by number; those that do not exist come last. */
export function writeOrder(t: usize): void {
  const record = changetype<Thread>(t);
  let left = existingNodes();
  for (let i: u32 = 0; i < MAX_NODES; ++i) {
    // The nodes to choose from; all others at last.
    let from = left & record.mask;
    if (from == 0) from = left;
    let next = i;
    let best: u32 = -1;
    for (let n: u32 = 0; n < MAX_NODES; ++n) {
      if (((from >> n) & 1) == 0) continue;
      const distance = distanceOf(record.node, n);
      if (distance < best) {
        best = distance;
        next = n;
      }
    }
    left &= ~(1 << next);
    store<u8>(t + i, <u8>next, THREAD_ORDER);
  }
}

/** The node the next `want` blocks (pages, where a large one is interleaved) should come from. Whoever takes some says so by `charge`. */
export function nextTarget(t: usize, want: u32): u32 {
  const record = changetype<Thread>(t);
  const mask = isInterleaving(record) ? record.mask & existingNodes() : 0;
  if (mask == 0) return record.home;
  if (record.credit == 0 || ((mask >> record.cursor) & 1) == 0) {
    do record.cursor = (record.cursor + 1) & (MAX_NODES - 1);
    while (((mask >> record.cursor) & 1) == 0);
    record.credit = record.policy == POLICY_INTERLEAVE ? want : want * max<u32>(1, weightOf(t, record.cursor));
  }
  return record.cursor;
}

/** `count` blocks came from the node of nextTarget: the turn is another node's once all it is due are taken. */
export function charge(record: Thread, count: u32): void {
  record.credit -= min<u32>(record.credit, count);
}
