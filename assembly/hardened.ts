// The malloc family with guards, for finding bugs in programs: interior, double and late frees of small blocks, and writes beyond a
// block's end. It wraps malloc.ts and costs a few bytes and a pass over each block.
//
//   block ┌──────────────────┬───────────┬──────┬──────┐
//         │ requested bytes  │ SLACK ... │ size │ seal │ end of the block
//         └──────────────────┴───────────┴──────┴──────┘
//
// The seal depends on address and size and says live or freed; freed bytes are POISON, but for the links of free lists.

import { SPAN_HEADER, Span } from "./layout";
import { EINVAL, ENOMEM, lastError, setError } from "./instance";
import { classInfo } from "./size-class";
import { addressOf, classOfTag, tagOf } from "./page-map";
import { indexOf, spanOf } from "./central";
import { INTERIOR_OF_SMALL, NOT_LIVE, OVERFLOWN, reportBadCall } from "./bad-call";
import * as plain from "./malloc";

const TRAILER: usize = 8;
const SLACK: u8 = 0xc5;
const POISON: u8 = 0xdf;
/** Links that a cache may write into a freed block. */
const LINKS: usize = 8;
const MAX_SIZE: usize = 0xfffe_0000;

/** Bytes to ask for: room for the trailer, beside the links. */
// @ts-ignore: decorator
@inline
function guarded(size: usize): usize {
  return max<usize>(size, LINKS) + TRAILER;
}

// @ts-ignore: decorator
@inline
function sealOf(block: usize, size: usize): u32 {
  return (<u32>block * 0x9e37_79b1) ^ (<u32>size) ^ 0x5ea1_ed00;
}

/** Writes slack and trailer of a block of `usable` bytes that serves `size`. */
function seal(block: usize, size: usize): usize {
  if (!block) return 0;
  const end = block + plain.malloc_usable_size(block) - TRAILER;
  memory.fill(block + size, SLACK, end - block - size);
  store<u32>(end, <u32>size);
  store<u32>(end, sealOf(block, size), 4);
  return block;
}

/** Address of the trailer of a live block; 0 after reporting why the pointer is not one. */
function checked(block: usize): usize {
  const tag = tagOf(block);
  if (tag) {
    const info = classInfo(classOfTag(tag));
    const header = spanOf(block);
    const index = indexOf(header, block, info);
    if (index >= info.blocks || addressOf(changetype<Span>(header).start) + index * info.size != block) return refuse(INTERIOR_OF_SMALL);
    if (((load<u64>(header + ((index >> 6) << 3), SPAN_HEADER) >> (index & 63)) & 1) == 0) return refuse(NOT_LIVE);
  }
  const usable = plain.malloc_usable_size(block);
  if (!usable) return 0;
  const end = block + usable - TRAILER;
  const size = <usize>load<u32>(end);
  const mark = load<u32>(end, 4);
  if (mark == ~sealOf(block, size)) return refuse(NOT_LIVE);
  if (mark != sealOf(block, size) || block + size > end) return refuse(OVERFLOWN);
  for (let at = block + size; at < end; ++at) if (load<u8>(at) != SLACK) return refuse(OVERFLOWN);
  return end;
}

function refuse(kind: i32): usize {
  reportBadCall(kind);
  return 0;
}

export function malloc(size: usize): usize {
  if (size > MAX_SIZE) return plain.malloc(size);
  return seal(plain.malloc(guarded(size)), size);
}

export function free(block: usize): void {
  if (block == 0) return;
  const end = checked(block);
  if (!end) return;
  const size = load<u32>(end);
  store<u32>(end, ~sealOf(block, size), 4);
  memory.fill(block + LINKS, POISON, end - block - LINKS);
  plain.free(block);
}

export function calloc(count: usize, size: usize): usize {
  const bytes = <u64>count * <u64>size;
  if (bytes > <u64>MAX_SIZE) {
    setError(ENOMEM);
    return 0;
  }
  return seal(plain.calloc(1, guarded(<usize>bytes)), <usize>bytes);
}

export function realloc(block: usize, size: usize): usize {
  if (block == 0) return malloc(size);
  const end = checked(block);
  if (!end || size > MAX_SIZE) {
    setError(end ? ENOMEM : EINVAL);
    return 0;
  }
  if (size == 0) {
    free(block);
    return 0;
  }
  const old = load<u32>(end);
  const moved = malloc(size);
  if (!moved) return 0;
  memory.copy(moved, block, min<usize>(old, size));
  free(block);
  return moved;
}

export function memalign(alignment: usize, size: usize): usize {
  if (size > MAX_SIZE) return plain.memalign(alignment, size);
  return seal(plain.memalign(alignment, guarded(size)), size);
}

export function aligned_alloc(alignment: usize, size: usize): usize {
  return memalign(alignment, size);
}

export function posix_memalign(out: usize, alignment: usize, size: usize): i32 {
  if (alignment < sizeof<usize>() || (alignment & (alignment - 1)) != 0) return EINVAL;
  const block = memalign(alignment, size);
  if (!block) return lastError;
  store<u32>(out, <u32>block);
  return 0;
}

/** Exactly what was asked for: to write beyond it is an overflow. */
export function malloc_usable_size(block: usize): usize {
  if (block == 0) return 0;
  const end = checked(block);
  return end ? <usize>load<u32>(end) : 0;
}

export function mallocOnNode(size: usize, node: u32): usize {
  if (size > MAX_SIZE) return plain.mallocOnNode(size, node);
  return seal(plain.mallocOnNode(guarded(size), node), size);
}
