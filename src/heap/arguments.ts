// What a caller passes, as WebAssembly takes it. A number outside 32 bits would be cut to some other one on the way: 4 GiB and 16 bytes
// would be a block of 16. So what does not fit becomes what the heap refuses, or a HeapError.

import { HeapError } from "./errors.js";
import { MAX_NODES } from "./exports.js";
import { shown } from "../shown.js";

const U32 = 0xffff_ffff;

/** A size or a count; one that does not fit is more than there is. */
export function size(value: number): number {
  return value >= 0 && value <= U32 ? value : U32;
}

/**
 * A pointer, also as the raw functions return it, signed.
 * @throws {HeapError} NUMAHEAP_INVALID_FREE for what is none
 */
export function address(ptr: number): number {
  if (Number.isInteger(ptr) && ptr >= -(2 ** 31) && ptr <= U32) return ptr;
  throw new HeapError("NUMAHEAP_INVALID_FREE", `${shown(ptr)} is no live block: pass the whole number below 2 ** 32 that malloc returned`);
}

/** The number of a node or vCPU, or another small value; what is none becomes one that is out of every range. */
export function index(value: number): number {
  return Number.isInteger(value) && value >= 0 && value <= U32 ? value : U32;
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT unless `value` is a whole number from `least` to `most` */
export function integer(value: number, least: number, most: number, what: string): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", `${what} must be a whole number from ${least} to ${most}, not ${shown(value)}`);
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT unless `value` is one of `choices` */
export function oneOf<Choice extends string>(value: Choice, choices: readonly Choice[], what: string): Choice {
  if (choices.includes(value)) return value;
  throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", `${what} must be one of ${choices.join(", ")}, not ${shown(value)}`);
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT for what is no node */
export function nodeMask(nodes: readonly number[]): number {
  if (!Array.isArray(nodes)) throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", `nodes must be an array, not ${shown(nodes)}`);
  return nodes.reduce((bits, node) => bits | (1 << integer(node, 0, MAX_NODES - 1, "a node")), 0);
}
