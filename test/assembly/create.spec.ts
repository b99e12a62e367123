// Making a heap: what is refused, and that what comes out is a heap of exactly the range that was given.

import {
  ABI_VERSION,
  Arena,
  DISTANCES,
  HEAP_BYTES,
  HEAP_GROWS_ALONE,
  LEAF_SHIFT,
  MAGIC,
  MAX_NODES,
  MAX_VCPUS,
  PAGE_OWNED,
  PAGE_SHIFT,
  PAGE_TOUCHED,
  VCPU_NODE,
} from "../../assembly/layout";
import { EINVAL, ENOMEM, heap, self, theHeap } from "../../assembly/instance";
import { addressOf, arenaOf, flagsOf, isOwnedLeaf, leafOf, nodeOfPage, pageOf } from "../../assembly/page-map";
import { freeRunAt } from "../../assembly/free-run";
import { create } from "../../assembly/create";
import { attach, detach } from "../../assembly/reap";
import { free, malloc } from "../../assembly/malloc";
import { nodeOf } from "../../assembly/control";
import { BASE, END, KEY, check, expectEmpty, expectOnly, expectSound, fresh } from "./rig";

const KIB64: usize = 65536;

function pagesOf(base: usize, end: usize): u32 {
  return pageOf(end - base);
}

describe("create", () => {
  it("refuses what cannot be, and touches nothing then", () => {
    fresh();
    expect<i32>(detach()).toBe(0);
    const limit = pagesOf(BASE, END);
    expect<i32>(create(0, END, limit, 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE + 8, END, limit, 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, END - 8192, limit, 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, BASE, limit, 1, 0)).toBe(EINVAL);
    expect<i32>(create(END, BASE, limit, 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, END, limit, 0, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, END, limit, MAX_NODES + 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, END, limit - 1, 1, 0)).toBe(EINVAL);
    expect<i32>(create(BASE, (<usize>memory.size() + 1) << 16, -1, 1, 0)).toBe(ENOMEM);
    expectOnly([]); // the heap from before is as it was
  });

  it("makes a heap that says what it is", () => {
    fresh(3, END, 777, HEAP_GROWS_ALONE);
    const h = theHeap();
    expect<u32>(h.magic).toBe(MAGIC);
    expect<u32>(h.abiVersion).toBe(ABI_VERSION);
    expect<u32>(h.base).toBe(<u32>BASE);
    expect<u32>(h.flags).toBe(HEAP_GROWS_ALONE);
    expect<u32>(h.limitPages).toBe(777);
    expect<u32>(h.nodes).toBe(3);
    expect<u32>(h.epoch).not.toBe(0); // nobody's
    expect<u32>(h.ownedPages).toBe(pagesOf(BASE, END));
    expect<u32>(h.freePages + h.metadataPages).toBe(h.ownedPages);
    expectSound();
  });

  it("owns its range and not a page more, all of it on node 0", () => {
    fresh();
    for (let page = pageOf(BASE); page < pageOf(END); ++page) {
      check((flagsOf(page) & PAGE_OWNED) != 0 && nodeOfPage(page) == 0, "not the heap's");
    }
    expect<u32>(flagsOf(pageOf(BASE) - 1)).toBe(0);
    expect<u32>(flagsOf(pageOf(END))).toBe(0);
    expect<u32>(changetype<Arena>(arenaOf(0)).ownedPages).toBe(theHeap().ownedPages);
    expectSound();
  });

  it("counts on fresh memory: free pages but the first of the run are untouched", () => {
    fresh();
    let page = pageOf(BASE);
    while (!freeRunAt(page)) ++page;
    for (++page; page < pageOf(END); ++page) check((flagsOf(page) & PAGE_TOUCHED) == 0, "touched");
  });

  it("makes nodes equally far apart, and spreads the vCPUs over them", () => {
    fresh(3);
    for (let from: u32 = 0; from < MAX_NODES; ++from) {
      for (let to: u32 = 0; to < MAX_NODES; ++to) {
        check(load<u8>(BASE + from * MAX_NODES + to, DISTANCES) == (from == to ? 10 : 20), "another distance");
      }
    }
    for (let vcpu: u32 = 0; vcpu < MAX_VCPUS; ++vcpu) check(load<u8>(BASE + vcpu, VCPU_NODE) == vcpu % 3, "another node");
  });

  it("makes nobody a thread of it", () => {
    fresh();
    expect<i32>(detach()).toBe(0);
    expect<i32>(create(BASE, END, pagesOf(BASE, END), 1, 0)).toBe(0);
    expect<u32>(self).toBe(0);
    expect<usize>(heap).toBe(BASE);
    expect<u32>(theHeap().records).toBe(0);
  });
});

describe("a heap", () => {
  it("of 64 KiB serves", () => {
    fresh(1, BASE + KIB64, 8);
    const block = malloc(100);
    expect<usize>(block).not.toBe(0);
    expect<bool>(block < BASE + KIB64).toBe(true);
    expectOnly([block]);
    free(block);
    expectEmpty();
  });

  it("of every number of nodes serves on node 0", () => {
    for (let nodes: u32 = 1; nodes <= MAX_NODES; ++nodes) {
      fresh(nodes);
      const block = malloc(100);
      check(nodeOf(block) == 0, "another node");
      free(block);
    }
    expectEmpty();
  });

  it("across a border of leaves has the leaves of both sides", () => {
    const border = addressOf(1 << LEAF_SHIFT); // 8 MiB
    const base = border - 2 * KIB64;
    const end = border + 6 * KIB64;
    fresh();
    expect<i32>(detach()).toBe(0);
    memory.fill(base, 0, end - base);
    expect<i32>(create(base, end, pagesOf(base, end), 2, 0)).toBe(0);
    expect<u32>(attach(base, KEY, 0, 1)).not.toBe(0);
    expect<bool>(isOwnedLeaf(leafOf(pageOf(base)))).toBe(true);
    expect<bool>(isOwnedLeaf(leafOf(pageOf(end)))).toBe(true);
    const large = malloc((theHeap().freePages - 1) << PAGE_SHIFT); // less the page of its header
    expect<bool>(large < border).toBe(true);
    expect<bool>(large + ((<usize>theHeap().ownedPages - 20) << PAGE_SHIFT) > border).toBe(true);
    expectOnly([large]);
    free(large);
    expectEmpty();
  });

  it("keeps its head out of everybody's hands", () => {
    fresh();
    let lowest: usize = -1;
    for (let block = malloc(8); block != 0; block = malloc(8)) lowest = min<usize>(lowest, block);
    expect<bool>(lowest >= BASE + HEAP_BYTES).toBe(true);
    expectSound();
  });
});
