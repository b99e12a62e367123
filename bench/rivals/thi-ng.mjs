// @thi.ng/malloc, an allocator in JavaScript for one thread, behind the names of the others.
import { MemPool } from "@thi.ng/malloc";

/** malloc, free, calloc and realloc over `buffer`, all of it. Blocks are aligned to 8; 0 is no block. */
export function allocatorOf(buffer) {
  const pool = new MemPool({ buf: buffer, start: 8 });
  return {
    malloc: (size) => pool.malloc(size),
    free: (block) => pool.free(block),
    calloc: (count, size) => pool.calloc(count * size),
    realloc: (block, size) => pool.realloc(block, size),
  };
}
