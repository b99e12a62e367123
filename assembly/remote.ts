// Remote queues: blocks freed on one node on their way to the spans of another. Each node has a stack of batches
// under Arena.queueLock; whoever refills on that node takes one batch at a time and returns it.

import { Arena } from "./layout";
import { remoteList } from "./instance";
import { RANK_QUEUE, acquire, release } from "./lock";
import { carryChain, popBatch, pushBatch } from "./batches";
import { arenaOf } from "./page-map";

/** A thread hands its blocks for a node on when their cost reaches this: at most 64 blocks, or 16 KiB. */
export const REMOTE_COST: u32 = 2048;

/** Cost of a block on a remote list. */
export function costOf(size: u32): u32 {
  return 32 + (size >> 3);
}

/** Hands record `t`'s blocks for `node` to its queue. False, and nothing has changed, if the lock is out of reach. */
export function handOver(t: usize, node: u32): bool {
  const list = remoteList(t, node);
  const arena = arenaOf(node);
  const lock = arena + offsetof<Arena>("queueLock");
  const batch = load<u32>(list);
  if (batch == 0) return true;
  if (!acquire(lock, RANK_QUEUE)) return false;
  carryChain(t, batch, 0);
  store<u64>(list, 0);
  pushBatch(arena + offsetof<Arena>("queueHead"), t);
  release(lock, RANK_QUEUE);
  return true;
}

/** Takes one batch from the queue of `node` into record `t`'s carry; false if there is none to be had. */
export function takeRemote(t: usize, node: u32): bool {
  const arena = arenaOf(node);
  if (!arena || atomic.load<u32>(arena, offsetof<Arena>("queueHead")) == 0) return false;
  const lock = arena + offsetof<Arena>("queueLock");
  if (!acquire(lock, RANK_QUEUE)) return false;
  const taken = popBatch(arena + offsetof<Arena>("queueHead"), t);
  release(lock, RANK_QUEUE);
  return taken;
}
