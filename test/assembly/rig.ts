// A heap for the suites, below as-pect's own data (16 MiB). One instance has one set of globals, so threads take turns in them.

import { Thread } from "../../assembly/layout";
import { bindThread, heap, self, setHome, thread } from "../../assembly/instance";
import { pageOf, tagFor } from "../../assembly/page-map";
import { create } from "../../assembly/create";
import { attach } from "../../assembly/reap";
import { epoch } from "../../assembly/control";
import { bind, hold, unaccounted, walk } from "../../assembly/inspect";
import { problems } from "../../assembly/inspect-problem";

// @ts-ignore: decorator
@external("inspect", "reset")
declare function reset(): void;

export const BASE: usize = 65536;
export const END: usize = 4 << 20;
/** Key of the thread that `fresh` attaches. */
export const KEY: u32 = 7;

/** A heap over [BASE, end) that may own `limit` pages, and this instance as its thread on vCPU 0. */
export function fresh(nodes: u32 = 4, end: usize = END, limit: u32 = pageOf(END - BASE), flags: u32 = 0): void {
  if (self) bindThread(0, 0, false);
  memory.fill(BASE, 0, END - BASE); // create takes the range to be zero, as new memory is
  expect<i32>(create(BASE, end, limit, nodes, flags)).toBe(0);
  expect<u32>(attach(BASE, KEY, 0, 1)).not.toBe(0);
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
  setHome(tagFor(t.home, 0), epoch());
}

/** The walk finds nothing wrong. */
export function expectSound(): void {
  reset();
  expect<bool>(bind(heap)).toBe(true);
  expect<u32>(walk()).toBe(0);
}

/** Nor does anybody but the heap have a block, other than those given: nothing is lost. */
export function expectOnly(blocks: usize[]): void {
  expectSound();
  for (let i = 0; i < blocks.length; ++i) hold(blocks[i]);
  unaccounted();
  expect<u32>(problems).toBe(0);
}
