// Loops for bench/hit-path.mjs: the allocator's malloc and free against a bare free list, all in one module. The bare list is one thread's, its head in that thread's memory; it never looks whether it is empty, which class a block
// is of, or whose it is.

import { free, malloc } from "../../assembly/malloc";

export { attach, detach } from "../../assembly/reap";

/** Address of the head of the bare list. */
let list: usize = 0;

/** Makes `count` blocks of `size` bytes from `at` on the bare list; its head is at `at - 64`. */
export function bareInit(at: usize, count: u32, size: u32): void {
  list = at - 64;
  for (let i: u32 = 0; i < count; ++i) store<u32>(at + i * size, i + 1 < count ? <u32>(at + (i + 1) * size) : 0);
  store<u32>(list, <u32>at);
}

// @ts-ignore: decorator
@inline
function pop(): usize {
  const block = <usize>load<u32>(list);
  store<u32>(list, load<u32>(block));
  return block;
}

// @ts-ignore: decorator
@inline
function push(block: usize): void {
  store<u32>(block, load<u32>(list));
  store<u32>(list, <u32>block);
}

function popNoInline(): usize {
  return pop();
}
function pushNoInline(block: usize): void {
  push(block);
}

// ---- ping: one block, again and again

export function pingBare(rounds: u32): void {
  for (let i: u32 = 0; i < rounds; ++i) {
    const block = pop();
    store<u32>(block, i);
    push(block);
  }
}
export function pingBareCalled(rounds: u32): void {
  for (let i: u32 = 0; i < rounds; ++i) {
    const block = popNoInline();
    store<u32>(block, i);
    pushNoInline(block);
  }
}
export function pingHeap(rounds: u32): void {
  for (let i: u32 = 0; i < rounds; ++i) {
    const block = malloc(16);
    store<u32>(block, i);
    free(block);
  }
}

// ---- batch: `width` blocks taken, then given back in the same order; their addresses are kept from `table` on

export function batchBare(rounds: u32, table: usize, width: u32): void {
  const end = table + (width << 2);
  for (let i: u32 = 0; i < rounds; ++i) {
    for (let at = table; at < end; at += 4) {
      const block = pop();
      store<u32>(block, i);
      store<u32>(at, <u32>block);
    }
    for (let at = table; at < end; at += 4) push(load<u32>(at));
  }
}
export function batchBareCalled(rounds: u32, table: usize, width: u32): void {
  const end = table + (width << 2);
  for (let i: u32 = 0; i < rounds; ++i) {
    for (let at = table; at < end; at += 4) {
      const block = popNoInline();
      store<u32>(block, i);
      store<u32>(at, <u32>block);
    }
    for (let at = table; at < end; at += 4) pushNoInline(load<u32>(at));
  }
}
export function batchHeap(rounds: u32, table: usize, width: u32): void {
  const end = table + (width << 2);
  for (let i: u32 = 0; i < rounds; ++i) {
    for (let at = table; at < end; at += 4) {
      const block = malloc(16);
      store<u32>(block, i);
      store<u32>(at, <u32>block);
    }
    for (let at = table; at < end; at += 4) free(load<u32>(at));
  }
}

// ---- larson: a random one of `slots` blocks is replaced by one of `least` to `least + range - 1` bytes (the bare list has one size)

let random: u32 = 1;

// @ts-ignore: decorator
@inline
function next(): u32 {
  random ^= random << 13;
  random ^= random >> 17;
  random ^= random << 5;
  return random;
}

export function larsonBare(rounds: u32, table: usize, slots: u32, least: u32, range: u32): void {
  random = 12345;
  for (let i: u32 = 0; i < rounds; ++i) {
    const at = table + ((next() % slots) << 2);
    const old = <usize>load<u32>(at);
    if (old) push(old);
    const block = pop();
    store<u32>(block, least + ((random >> 8) % range));
    store<u32>(at, <u32>block);
  }
}
export function larsonBareCalled(rounds: u32, table: usize, slots: u32, least: u32, range: u32): void {
  random = 12345;
  for (let i: u32 = 0; i < rounds; ++i) {
    const at = table + ((next() % slots) << 2);
    const old = <usize>load<u32>(at);
    if (old) pushNoInline(old);
    const block = popNoInline();
    store<u32>(block, least + ((random >> 8) % range));
    store<u32>(at, <u32>block);
  }
}
export function larsonHeap(rounds: u32, table: usize, slots: u32, least: u32, range: u32): void {
  random = 12345;
  for (let i: u32 = 0; i < rounds; ++i) {
    const at = table + ((next() % slots) << 2);
    const old = <usize>load<u32>(at);
    if (old) free(old);
    const size = least + ((random >> 8) % range);
    const block = malloc(size);
    store<u32>(block, size);
    store<u32>(at, <u32>block);
  }
}

/** Frees the blocks of a table and empties it. */
export function clear(table: usize, slots: u32): void {
  for (let i: u32 = 0; i < slots; ++i) {
    const at = table + (i << 2);
    if (load<u32>(at)) free(load<u32>(at));
    store<u32>(at, 0);
  }
}
