// What a caller passes, as WebAssembly takes it. A number outside 32 bits would be cut to some other one on the way: 4 GiB and 16 bytes
// would be a block of 16. So what does not fit becomes what the heap refuses, or a HeapError.

import { badCall, HeapError } from "./errors.js";
import { MAX_NODES } from "./exports.js";

const U32 = 0xffff_ffff;
/** Kind of a bad call: outside the heap. */
const OUTSIDE_HEAP = 1;

/** A size or a count; one that does not fit is more than there is. */
export function size(value: number): number {
  return value >= 0 && value <= U32 ? value : U32;
}

/** A pointer, also as the raw functions return it, signed. */
export function address(ptr: number): number {
  if (ptr >= -(2 ** 31) && ptr <= U32) return ptr;
  throw badCall(OUTSIDE_HEAP, ptr);
}

/** The number of a node or vCPU, or another small value; what is none becomes one that is out of every range. */
export function index(value: number): number {
  return Number.isInteger(value) && value >= 0 && value <= U32 ? value : U32;
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT unless `value` is a whole number from `least` to `most` */
export function integer(value: number, least: number, most: number, what: string): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", `${what} must be a whole number from ${least} to ${most}, not ${value}`);
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT for what is no node */
export function nodeMask(nodes: readonly number[]): number {
  return nodes.reduce((bits, node) => bits | (1 << integer(node, 0, MAX_NODES - 1, "a node")), 0);
}
