// What no allocator can be much faster than: bare free lists, one a class, which are told the class and never look whether they are empty,
// whose a block is, or what has changed; and a bump pointer. Both are one thread's.

/** Addresses of the list heads, and where the bump pointer begins, ends, and is. */
let lists: usize = 0;
let start: usize = 0;
let end: usize = 0;
let top: usize = 0;

/**
 * [base, base + bytes) becomes `classes` lists of blocks, as many of each class; class i has blocks of 16 i bytes.
 */
export function initLists(base: usize, bytes: u32, classes: u32): void {
  lists = base;
  let at = (base + (classes << 2) + 63) & ~63;
  const share = (bytes - <u32>(at - base)) / (classes - 1);
  for (let sizeClass: u32 = 1; sizeClass < classes; ++sizeClass) {
    const size = sizeClass << 4;
    let head: usize = 0;
    for (let count = share / size; count; --count) {
      store<u32>(at, <u32>head);
      head = at;
      at += size;
    }
    store<u32>(lists + (sizeClass << 2), <u32>head);
  }
}

export function take(sizeClass: u32): usize {
  const list = lists + (sizeClass << 2);
  const block = <usize>load<u32>(list);
  store<u32>(list, load<u32>(block));
  return block;
}

export function give(block: usize, sizeClass: u32): void {
  const list = lists + (sizeClass << 2);
  store<u32>(block, load<u32>(list));
  store<u32>(list, <u32>block);
}

/** The bump pointer takes [base, base + bytes), again and again: what it gives may still be in use. */
export function initBump(base: usize, bytes: u32): void {
  start = top = base;
  end = base + bytes;
}

export function malloc(size: u32): usize {
  let block = top;
  if (block + size > end) block = start;
  top = block + ((size + 15) & ~15);
  return block;
}

export function free(_block: usize): void {}
