// A heap for the suites, below as-pect's own data (16 MiB). One instance has one set of globals, so threads take turns in them.

import { SLOTS, Thread } from "../../assembly/layout";
import { NO_HOME, bindThread, heap, mayBlock, self, setHome, theHeap, thread } from "../../assembly/instance";
import { pageOf, tagFor } from "../../assembly/page-map";
import { cachesHome } from "../../assembly/policy";
import { poolHeader, takeHeader } from "../../assembly/metadata";
import { create } from "../../assembly/create";
import { attach } from "../../assembly/reap";
import { malloc_trim } from "../../assembly/malloc";
import { rebind } from "../../assembly/topology";
import { settle } from "../../assembly/control";
import { bind, hold, unaccounted, walk } from "../../assembly/inspect";
import { problems } from "../../assembly/inspect-problem";

// @ts-ignore: decorator
@external("inspect", "reset")
declare function reset(): void;
// @ts-ignore: decorator
@external("inspect", "found")
export declare function found(code: u32): bool;
// @ts-ignore: decorator
@external("inspect", "print")
declare function print(): void;

export const BASE: usize = 65536;
export const END: usize = 4 << 20;
/** Key of the thread that `fresh` attaches. */
export const KEY: u32 = 7;
/** A lock word that names somebody who is not here. */
export const ELSEWHERE: u32 = 99 << 1;

/** A heap over [BASE, end) that may own `limit` pages, and this instance as its thread on vCPU 0. */
export function fresh(nodes: u32 = 4, end: usize = END, limit: u32 = pageOf(END - BASE), flags: u32 = 0): void {
  if (self) bindThread(0, 0, false);
  memory.fill(BASE, 0, END - BASE); // create takes the range to be zero, as new memory is
  expect<i32>(create(BASE, end, limit, nodes, flags)).toBe(0);
  expect<u32>(attach(BASE, KEY, 0, 1)).not.toBe(0);
}

/** A heap that is given 128 KiB and grows. */
export function freshGrowing(limit: u32 = 1 << 16, flags: u32 = 0): void {
  fresh(4, BASE + 2 * 65536, limit, flags);
}

/** A heap of four nodes of 64 pages each; node 0 has the rest. */
export function freshSpread(): void {
  fresh();
  for (let node: u32 = 1; node < 4; ++node) expect<i32>(rebind(pageOf(END) - 64 * node, 64, node)).toBe(0);
  settle();
}

/** A page of span headers, before all that follows. */
export function makeHeaders(): void {
  poolHeader(takeHeader(0), false);
}

/** Goes on as another thread, attached now; the record of the one before. */
export function another(key: u32, vcpu: u32): usize {
  const before = thread;
  bindThread(0, 0, false);
  expect<u32>(attach(BASE, key, vcpu, 1)).not.toBe(0);
  return before;
}

/** Goes on as the thread of `record`. */
export function become(record: usize, mayBlock: bool = true): void {
  const t = changetype<Thread>(record);
  bindThread(record, t.id, mayBlock);
  setHome(cachesHome(t) ? tagFor(t.home, 1) : NO_HOME, t.epoch);
}

/** This thread may sleep on a lock from now on, or may not. */
export function allowBlocking(allowed: bool): void {
  if (mayBlock != allowed) bindThread(thread, self, allowed);
}

/** As `expect`, of what is looked at too often for that: it is slow. */
export function check(ok: bool, message: string): void {
  if (!ok) expect<bool>(ok).toBe(true, message);
}

/** Whether the walk finds nothing wrong. */
export function isSound(): bool {
  reset();
  if (!bind(heap)) return false;
  if (walk()) print();
  return problems == 0;
}

/** The walk finds nothing wrong. */
export function expectSound(): void {
  expect<bool>(isSound()).toBe(true);
}

/** Nor does anybody but the heap have a block, other than those given: nothing is lost. */
export function expectOnly(blocks: usize[]): void {
  expectSound();
  for (let i = 0; i < blocks.length; ++i) hold(blocks[i]);
  unaccounted();
  if (problems) print();
  expect<u32>(problems).toBe(0);
}

/** Nobody has a block, and nothing is cached: every page is free or metadata. */
export function expectEmpty(): void {
  expectOnly([]);
  malloc_trim(0);
  expect<u32>(theHeap().freePages + theHeap().metadataPages).toBe(theHeap().ownedPages);
  expectSound();
}

/** The walk finds a problem of this code. */
export function expectProblem(code: u32): void {
  reset();
  walk();
  expect<bool>(found(code)).toBe(true);
}

/** Word of slot `i`: key, generation and state of its thread. */
export function slotWord(i: usize): u64 {
  return load<u64>(heap + (i << 3), SLOTS);
}
export function stateOf(i: usize): u32 {
  return <u32>(slotWord(i) & 0xff);
}
