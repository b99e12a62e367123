// Stacks of batches: the transfer cache of a central list and the remote queue of a node. A batch is a chain of blocks; the second word
// of its first block links to the next batch. `stack` is the address of the word that names the first one, atomic, written under the
// lock of its place.

import { Thread } from "./layout";

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
