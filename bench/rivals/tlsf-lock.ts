// AssemblyScript's own allocator behind C's names and a spin lock. The allocator keeps the address of its root in a global, which each thread's
// instance has for itself; here all of them use the root that the first one makes, where it makes it.

import { BLOCK_OVERHEAD } from "rt/common";
import { allocateBlock, Block, freeBlock, reallocateBlock, ROOT } from "rt/tlsf";

/** On a cache line of its own. */
const lock: usize = memory.data(128, 64);

// @ts-ignore: decorator
@inline
function shared<Root>(_own: Root): Root {
  return changetype<Root>((__heap_base + 15) & ~15);
}

// @ts-ignore: decorator
@inline
function acquire(): void {
  while (atomic.xchg<i32>(lock, 1)) while (atomic.load<i32>(lock)) {}
}

// @ts-ignore: decorator
@inline
function release(): void {
  atomic.store<i32>(lock, 0);
}

/** The first thread makes the root, while it is the only one. */
export function thread_start(thread: u32): void {
  if (!thread) heap.free(heap.alloc(0));
}

export function malloc(size: usize): usize {
  acquire();
  const block = changetype<usize>(allocateBlock(shared(ROOT), size));
  release();
  return block + BLOCK_OVERHEAD;
}

export function free(block: usize): void {
  if (!block) return;
  acquire();
  freeBlock(shared(ROOT), changetype<Block>(block - BLOCK_OVERHEAD));
  release();
}

export function calloc(count: usize, size: usize): usize {
  const bytes = count * size;
  const block = malloc(bytes);
  memory.fill(block, 0, bytes);
  return block;
}

export function realloc(block: usize, size: usize): usize {
  if (!block) return malloc(size);
  acquire();
  const moved = changetype<usize>(reallocateBlock(shared(ROOT), changetype<Block>(block - BLOCK_OVERHEAD), size));
  release();
  return moved + BLOCK_OVERHEAD;
}
