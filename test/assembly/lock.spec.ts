// Locks: the word names its holder, whoever may not sleep gives up, and the order of locks is kept.

import { Central, Heap, Thread } from "../../assembly/layout";
import { bindThread, heap, self, spins, theThread, thread } from "../../assembly/instance";
import { RANK_CENTRAL, RANK_PAGE_HEAP, RANK_QUEUE, RANK_REAP, RANK_TOPOLOGY, acquire, release } from "../../assembly/lock";
import { classOf } from "../../assembly/size-class";
import { makeCentral } from "../../assembly/central";
import { free, malloc } from "../../assembly/malloc";
import { setNodeLimit, setVcpuNode } from "../../assembly/topology";
import { EBUSY } from "../../assembly/instance";
import { errno } from "../../assembly/control";
import { ELSEWHERE, KEY, allowBlocking, another, become, expectOnly, expectSound, fresh } from "./rig";

function pageHeapLock(): usize {
  return heap + offsetof<Heap>("pageHeapLock");
}
function topologyLock(): usize {
  return heap + offsetof<Heap>("topologyLock");
}

describe("a lock", () => {
  it("names its holder, and is free again", () => {
    fresh();
    expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(true);
    expect<u32>(atomic.load<u32>(pageHeapLock())).toBe(self << 1);
    release(pageHeapLock(), RANK_PAGE_HEAP);
    expect<u32>(atomic.load<u32>(pageHeapLock())).toBe(0);
    another(KEY + 1, 1);
    expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(true);
    expect<u32>(atomic.load<u32>(pageHeapLock())).toBe(2 << 1);
    release(pageHeapLock(), RANK_PAGE_HEAP);
    expectSound();
  });

  it("is given up by a thread that may not sleep, and nothing about it changes", () => {
    fresh();
    allowBlocking(false);
    expect<bool>(spins > 0).toBe(true);
    for (let contended: u32 = 0; contended < 2; ++contended) {
      atomic.store<u32>(pageHeapLock(), ELSEWHERE | contended);
      expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(false);
      expect<u32>(atomic.load<u32>(pageHeapLock())).toBe(ELSEWHERE | contended);
      expect<u32>(theThread().waiting).toBe(0);
      expect<u32>(theThread().held).toBe(0);
    }
    atomic.store<u32>(pageHeapLock(), 0);
    expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(true);
    release(pageHeapLock(), RANK_PAGE_HEAP);
    expectSound();
  });

  it("that was contended is free after its release too", () => {
    fresh();
    expect<bool>(acquire(topologyLock(), RANK_TOPOLOGY)).toBe(true);
    atomic.store<u32>(topologyLock(), (self << 1) | 1); // as one who goes to sleep leaves it
    release(topologyLock(), RANK_TOPOLOGY);
    expect<u32>(atomic.load<u32>(topologyLock())).toBe(0);
    expectSound();
  });

  it("out of reach is an answer to every call", () => {
    fresh();
    const block = malloc(100);
    const large = malloc(100_000);
    const central = makeCentral(0, classOf(3000));
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    atomic.store<u32>(topologyLock(), ELSEWHERE);
    atomic.store<u32>(central, ELSEWHERE);
    expect<i32>(setNodeLimit(0, 9)).toBe(EBUSY);
    expect<i32>(setVcpuNode(0, 1)).toBe(EBUSY);
    expect<usize>(malloc(100_000)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    expect<usize>(malloc(3000)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    free(block);
    free(large);
    atomic.store<u32>(pageHeapLock(), 0);
    atomic.store<u32>(topologyLock(), 0);
    atomic.store<u32>(central, 0);
    expectOnly([]);
  });
});

describe("the order of locks", () => {
  it("is from the outermost in, and what is held is on record", () => {
    fresh();
    const central = makeCentral(0, 1);
    const queue = makeCentral(0, 2); // any word will do
    expect<bool>(acquire(heap + offsetof<Heap>("reapLock"), RANK_REAP)).toBe(true);
    expect<bool>(acquire(topologyLock(), RANK_TOPOLOGY)).toBe(true);
    expect<bool>(acquire(central, RANK_CENTRAL)).toBe(true);
    expect<bool>(acquire(queue, RANK_QUEUE)).toBe(true);
    expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(true);
    expect<u32>(theThread().held).toBe(0b11111);
    release(pageHeapLock(), RANK_PAGE_HEAP);
    release(queue, RANK_QUEUE);
    release(central, RANK_CENTRAL);
    release(topologyLock(), RANK_TOPOLOGY);
    release(heap + offsetof<Heap>("reapLock"), RANK_REAP);
    expect<u32>(theThread().held).toBe(0);
    expectSound();
  });

  it("lets two central lists be held at a time, as a rebind does", () => {
    fresh();
    const first = makeCentral(0, 1);
    const second = makeCentral(1, 1);
    expect<bool>(acquire(first, RANK_CENTRAL)).toBe(true);
    expect<bool>(acquire(second, RANK_CENTRAL)).toBe(true);
    release(second, RANK_CENTRAL);
    release(first, RANK_CENTRAL);
    expect<u32>(changetype<Central>(first).lock).toBe(0);
    expectSound();
  });

  throws("traps in a debug build when it is broken: outer after inner", () => {
    fresh();
    acquire(pageHeapLock(), RANK_PAGE_HEAP);
    acquire(topologyLock(), RANK_TOPOLOGY);
  });

  throws("traps in a debug build when it is broken: one lock twice", () => {
    fresh();
    acquire(topologyLock(), RANK_TOPOLOGY);
    acquire(topologyLock(), RANK_TOPOLOGY);
  });

  it("is each thread's own", () => {
    fresh();
    expect<bool>(acquire(pageHeapLock(), RANK_PAGE_HEAP)).toBe(true);
    const first = thread;
    release(pageHeapLock(), RANK_PAGE_HEAP);
    another(KEY + 1, 1);
    changetype<Thread>(first).held = 1 << RANK_PAGE_HEAP; // as if it were inside
    expect<bool>(acquire(topologyLock(), RANK_TOPOLOGY)).toBe(true);
    release(topologyLock(), RANK_TOPOLOGY);
    changetype<Thread>(first).held = 0;
    become(first);
    expectSound();
    bindThread(0, 0, false);
  });
});
