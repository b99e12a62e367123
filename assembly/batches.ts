// Stacks of batches: the transfer cache of a central list and the remote queue of a node. A batch is a chain of blocks; the second word
// of its first block links to the next batch. `stack` is the address of the word that names the first one, atomic, written under the
// lock of its place.
//
// The first block of a transfer cache's batch has a directory, too: its word i + 1 names block i, from 1 on and as far as the block reaches.
// The blocks are in the cache of the core that gave them, so whoever takes them would wait for each to learn the next one's address.

import { CachedBlock, Thread } from "./layout";
import { sentinel } from "./instance";
import { tagOf } from "./page-map";

/** Bytes of a block of `size` that link, or name others. */
function directoryBytes(size: u32): u32 {
  return isDefined(HARDENED_BUILD) ? 0 : size; // the hardened build has something of its own in freed blocks
}

/** Record `t`'s carry names the chain from `head` up to `end` from now on. */
export function carryChain(t: usize, head: u32, end: u32): void {
  changetype<Thread>(t).carryEnd = end;
  atomic.store<u32>(t, head, offsetof<Thread>("carry"));
}

/** Moves record `t`'s carry, a chain that ends at 0, onto the stack. */
export function pushBatch(stack: usize, t: usize): void {
  const batch = changetype<Thread>(t).carry;
  store<u32>(batch, load<u32>(stack), 4);
  atomic.store<u32>(stack, batch);
  atomic.store<u32>(t, 0, offsetof<Thread>("carry"));
}

/** Moves the first batch of the stack into record `t`'s carry; false if there is none. */
export function popBatch(stack: usize, t: usize): bool {
  const batch = load<u32>(stack);
  if (batch == 0) return false;
  carryChain(t, batch, 0);
  atomic.store<u32>(stack, load<u32>(batch, 4));
  return true;
}

/** The last of the first `count` blocks, if all of them have this tag; else 0. Writes the directory of a batch of blocks of `size` bytes, 0 = none. */
export function lastOf(head: usize, count: u32, tag: u32, size: u32): usize {
  const end = head + directoryBytes(size);
  let at = head + 4;
  let last: usize = 0;
  for (let block = head; count; --count) {
    if (tagOf(block) != tag) return 0;
    if (at < end) store<u32>(at, <u32>block);
    at += 4;
    last = block;
    block = load<u32>(block);
  }
  return last;
}

/** Makes a batch of `count` blocks of `size` bytes in the carry a cache list. */
export function relink(record: Thread, count: u32, size: u32): void {
  record.carryEnd = <u32>sentinel();
  const head: usize = record.carry;
  const end = head + directoryBytes(size);
  let block = head;
  for (let at = head + 8; ; at += 4) {
    changetype<CachedBlock>(block).depth = count;
    if (--count == 0) break;
    block = at < end ? load<u32>(at) : changetype<CachedBlock>(block).next;
  }
  changetype<CachedBlock>(block).next = <u32>sentinel();
}
