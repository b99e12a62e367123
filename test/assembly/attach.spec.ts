// Attach and detach: slots and their generations.

import { Heap, MAX_THREADS, MAX_VCPUS, SLOTS, SLOT_ATTACHED, SLOT_FREE, THREAD_MAY_BLOCK } from "../../assembly/layout";
import { EINVAL, ENOMEM, bindThread, heap, mayBlock, self, theHeap, theThread, thread } from "../../assembly/instance";
import { attach, detach } from "../../assembly/reap";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import { errno, threadId } from "../../assembly/control";
import { BASE, END, KEY, check, expectEmpty, expectOnly, expectSound, fresh, stateOf, slotWord } from "./rig";

describe("attaching", () => {
  it("takes the first free slot, under a key, on a vCPU", () => {
    fresh();
    expect<u32>(stateOf(0)).toBe(SLOT_ATTACHED);
    expect<u32>(<u32>(slotWord(0) >> 32)).toBe(KEY);
    bindThread(0, 0, false);
    const id = attach(BASE, 9, 2, THREAD_MAY_BLOCK);
    expect<u32>(id & 0xffff).toBe(2);
    expect<u32>(self).toBe(2);
    expect<u32>(threadId()).toBe(2);
    expect<u32>(theThread().id).toBe(2);
    expect<u32>(theThread().vcpu).toBe(2);
    expect<u32>(theThread().node).toBe(2);
    expect<bool>(mayBlock).toBe(true);
    expect<u32>(theHeap().records).toBe(2);
    expectSound();
  });

  it("is refused to who is attached, without a key, beyond the vCPUs, and where no heap stands", () => {
    fresh();
    expect<u32>(attach(BASE, 9, 0, 1)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    expect<i32>(detach()).toBe(0);
    expect<u32>(attach(BASE, 0, 0, 1)).toBe(0);
    expect<u32>(attach(BASE, 9, MAX_VCPUS, 1)).toBe(0);
    expect<u32>(attach(END, 9, 0, 1)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    theHeapAt(BASE).abiVersion += 1;
    expect<u32>(attach(BASE, 9, 0, 1)).toBe(0);
    theHeapAt(BASE).abiVersion -= 1;
    expect<u32>(attach(BASE, 9, MAX_VCPUS - 1, 0)).not.toBe(0);
    expect<bool>(mayBlock).toBe(false);
    expectSound();
  });

  it("ends at the stated number of threads, and goes on when one has left", () => {
    fresh(1);
    for (let i: u32 = 1; i < MAX_THREADS; ++i) {
      bindThread(0, 0, false);
      check(attach(BASE, KEY + i, i, 1) != 0, "refused");
    }
    const last = thread;
    bindThread(0, 0, false);
    expect<u32>(attach(BASE, 9999, 0, 1)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    bindThread(last, MAX_THREADS, true);
    expect<i32>(detach()).toBe(0);
    expect<u32>(attach(BASE, 9999, 0, 1) & 0xffff).toBe(MAX_THREADS);
    expectSound();
  });

  it("leaves the slot free when there is no memory for a record", () => {
    fresh(1);
    while (mallocOnNode(8192, 0));
    while (mallocOnNode(8, 0));
    bindThread(0, 0, false);
    let attached: u32 = 0;
    while (attach(BASE, KEY + 1 + attached, 0, 1)) {
      ++attached;
      bindThread(0, 0, false);
    }
    expect<i32>(errno()).toBe(ENOMEM);
    expect<u32>(stateOf(attached + 1)).toBe(SLOT_FREE);
    expect<u32>(self).toBe(0);
    expect<u32>(theHeap().records).toBe(attached + 1);
    expectSound();
  });
});

function theHeapAt(base: usize): Heap {
  return changetype<Heap>(base);
}

describe("detaching", () => {
  it("gives everything back, and the instance gets nothing from then on", () => {
    fresh();
    for (let i = 0; i < 100; ++i) free(malloc(i * 30));
    const block = malloc(100);
    expect<i32>(detach()).toBe(0);
    expect<i32>(detach()).toBe(EINVAL);
    expect<usize>(malloc(100)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    expect<usize>(malloc(100_000)).toBe(0);
    expect<u32>(stateOf(0)).toBe(SLOT_FREE);
    expectOnly([block]);
    expect<u32>(attach(BASE, 8, 0, 1)).not.toBe(0);
    free(block);
    expectEmpty();
  });

  it("frees the slot and its record for the next, in another generation", () => {
    fresh();
    let before: u32 = 0;
    for (let i: u32 = 0; i < 5; ++i) {
      expect<i32>(detach()).toBe(0);
      const id = attach(BASE, 20 + i, 0, 1);
      expect<u32>(id & 0xffff).toBe(1);
      expect<u32>(id >> 16).not.toBe(before);
      before = id >> 16;
    }
    expect<u32>(theHeap().records).toBe(1);
    expectSound();
  });

  it("counts generations within 16 bits", () => {
    fresh();
    expect<i32>(detach()).toBe(0);
    store<u64>(heap, (<u64>0xffff) << 8, SLOTS);
    expect<u32>(attach(BASE, 20, 0, 1)).toBe(1); // generation 0 again
    expectSound();
  });
});
