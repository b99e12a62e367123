// AssemblyScript's own allocator behind C's names. Blocks are aligned to 16 and no more, so there is no aligned_alloc.

export function malloc(size: usize): usize {
  return heap.alloc(size);
}

export function free(block: usize): void {
  heap.free(block);
}

export function calloc(count: usize, size: usize): usize {
  const bytes = count * size;
  const block = heap.alloc(bytes);
  memory.fill(block, 0, bytes);
  return block;
}

export function realloc(block: usize, size: usize): usize {
  return block ? heap.realloc(block, size) : heap.alloc(size);
}
