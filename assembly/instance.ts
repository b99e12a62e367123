// What an instance keeps to itself. Globals of a WebAssembly instance are not shared, so these are the
// thread-locals. Other files read them as imports and write them through the functions here.

import { CacheList, CachedBlock, Heap, NO_LEAF, Thread, THREAD_CACHE, THREAD_REMOTE, THREAD_ORDER, THREAD_WEIGHTS } from "./layout";

/** Address of the Heap this instance is bound to, 0 before. */
export let heap: usize = 0;
/** Address of this thread's record, 0 while not attached. */
export let thread: usize = 0;
/** Thread id (slot + 1): the holder written into locks. */
export let self: u32 = 0;
/** No tag is like this one. */
export const NO_HOME: u32 = 0x10000;
/** The lowest tag (class 1) of the pages whose small blocks this thread caches; NO_HOME while it caches none. */
export let homeTag: u32 = 0x10000; // a literal: anything else would become a start function
/** Address of the cache list of class 1, less homeTag: adding a tag of the home node gives the list. */
export let listBase: usize = 0;
/** Epoch this thread has acted upon. */
export let epochSeen: u32 = 0;
/** This thread may sleep (a browser's main thread may not). */
export let mayBlock: bool = false;
/** Loads of a held lock before sleeping, or before giving up where sleeping is not allowed. */
export let spins: u32 = 256;
/** A lock was out of reach of the call under way. */
export let missed: bool = false;
/** errno of the last call, 0 = none. */
export let lastError: i32 = 0;
/** Kind of the last bad call, 0 = none (bad-call.ts). */
export let lastBadCall: i32 = 0;

export const EBUSY: i32 = 10;
export const EINVAL: i32 = 28;
export const ENOMEM: i32 = 48;

export function bindHeap(address: usize): void {
  heap = address;
}

export function bindThread(record: usize, id: u32, block: bool): void {
  thread = record;
  self = id;
  mayBlock = block;
}

export function setMayBlock(block: bool): void {
  mayBlock = block;
}

export function setHome(tag: u32, epoch: u32): void {
  homeTag = tag;
  listBase = thread + THREAD_CACHE + offsetof<CacheList>() - tag;
  epochSeen = epoch;
}

export function setMissed(value: bool): void {
  missed = value;
}

export function setError(error: i32): void {
  lastError = error;
}

/** The answer 0 of a call that failed: errno says why. */
export function fail(error: i32): usize {
  lastError = error;
  return 0;
}

export function setBadCall(kind: i32): void {
  lastBadCall = kind;
}

// @ts-ignore: decorator
@inline
export function theHeap(): Heap {
  return changetype<Heap>(heap);
}

// @ts-ignore: decorator
@inline
export function theThread(): Thread {
  return changetype<Thread>(thread);
}

/** Address of the cache list of class `c` in thread record `t`. */
// @ts-ignore: decorator
@inline
export function cacheList(t: usize, c: u32): usize {
  return t + THREAD_CACHE + ((<usize>c) << 4);
}

/** Where every cache list ends. */
// @ts-ignore: decorator
@inline
export function sentinel(): usize {
  return heap + NO_LEAF;
}

/** Blocks of a cache list. */
// @ts-ignore: decorator
@inline
export function lengthOf(list: usize): u32 {
  return changetype<CachedBlock>(<usize>changetype<CacheList>(list).head).depth;
}

/** Address of the remote list for `node` in thread record `t`. */
export function remoteList(t: usize, node: u32): usize {
  return t + THREAD_REMOTE + ((<usize>node) << 3);
}

/** The i-th nearest node to that of thread `t`. */
export function nearest(t: usize, i: u32): u32 {
  return load<u8>(t + i, THREAD_ORDER);
}

export function weightOf(t: usize, node: u32): u32 {
  return load<u8>(t + node, THREAD_WEIGHTS);
}

let random: u64 = 0x9e37_79b9_7f4a_7c15;

/** Begins the sequence anew; the host gives true randomness. */
export function seed(low: u32, high: u32): void {
  random = max<u64>(1, ((<u64>high) << 32) | low); // of zeros nothing but zeros would come
}

/** The next of a xorshift sequence, for the hardened build's placement. */
export function nextRandom(): u64 {
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return random ^ ((<u64>self) << 32);
}
