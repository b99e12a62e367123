// What is refused leaves everything as it was, whatever was asked for and whoever holds a lock.

import { Heap, THREAD_CACHE } from "../../assembly/layout";
import { EBUSY, EINVAL, bindHeap, heap, theHeap } from "../../assembly/instance";
import { CLASSES } from "../../assembly/size-class";
import { free, malloc, mallocOnNode, realloc } from "../../assembly/malloc";
import { attach, detach } from "../../assembly/reap";
import { rebind, setDistance, setNodeLimit, setNodes, setVcpuNode } from "../../assembly/topology";
import { errno } from "../../assembly/control";
import { takeBadCall } from "../../assembly/bad-call";
import { BASE, ELSEWHERE, END, KEY, allowBlocking, another, expectOnly, expectSound, fresh } from "./rig";

describe("a refused malloc", () => {
  it("takes no pages", () => {
    fresh(1);
    const before = theHeap().metadataPages;
    expect<usize>(malloc(0xf000_0000)).toBe(0);
    expect<u32>(theHeap().metadataPages).toBe(before);
  });
});

describe("a bad free whose lock is out of reach", () => {
  it("writes nothing outside the heap", () => {
    fresh();
    store<u64>(64, 0x1234);
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    free(64);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    const word = load<u64>(64);
    store<u64>(64, 0);
    expect<u64>(word).toBe(0x1234);
  });

  it("does not trap", () => {
    fresh();
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    free(0xffff_fff0);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expect<i32>(takeBadCall()).not.toBe(0);
  });

  it("does not write into a free run: a double free", () => {
    fresh();
    const block = malloc(100_000);
    free(block);
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    free(block);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expectOnly([]);
  });
});

describe("attach", () => {
  it("that is refused leaves the instance bound to its heap", () => {
    fresh();
    expect<u32>(attach(END, KEY + 1, 0, 1)).toBe(0);
    const bound = heap;
    bindHeap(BASE);
    expect<usize>(bound).toBe(BASE);
  });

  it("writes nothing outside the heap, in a debug build either", () => {
    fresh();
    memory.fill(0, 0xff, 1024);
    another(KEY + 1, 0);
    let untouched = true;
    for (let i: usize = 0; i < 1024; ++i) if (load<u8>(i) != 0xff) untouched = false;
    memory.fill(0, 0, 1024);
    expect<bool>(untouched).toBe(true);
  });
});

describe("an instance that is nobody's", () => {
  it("gets nothing from malloc, whatever stands at the bottom of the memory", () => {
    fresh();
    expect<i32>(detach()).toBe(0);
    memory.fill(THREAD_CACHE, 0xf0, CLASSES * 16);
    expect<usize>(malloc(100)).toBe(0);
    memory.fill(THREAD_CACHE, 0, CLASSES * 16);
  });

  it("changes neither topology nor blocks", () => {
    fresh();
    const block = malloc(90_000);
    expect<i32>(detach()).toBe(0);
    const before = theHeap().epoch;
    expect<i32>(setNodes(2)).toBe(EINVAL);
    expect<i32>(setDistance(0, 1, 30)).toBe(EINVAL);
    expect<i32>(setVcpuNode(0, 1)).toBe(EINVAL);
    expect<i32>(setNodeLimit(1, 8)).toBe(EINVAL);
    expect<i32>(rebind(0, 100, 1)).toBe(EINVAL);
    expect<usize>(realloc(block, 60_000)).toBe(0);
    expect<u32>(theHeap().epoch).toBe(before);
    expectOnly([block]);
  });

  it("leaves no trace", () => {
    memory.fill(0, 0, 4096);
    fresh();
    expectSound();
  });
});

describe("mallocOnNode", () => {
  it("says EBUSY when a lock is out of reach", () => {
    fresh();
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    expect<usize>(mallocOnNode(3000, 0)).toBe(0);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expect<i32>(errno()).toBe(EBUSY);
  });
});
