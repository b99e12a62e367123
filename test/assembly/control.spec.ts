// What a thread asks of the heap beside memory: who and where it is, its policy, what went wrong.

import { MAX_VCPUS, PAGE_SIZE } from "../../assembly/layout";
import { EINVAL, ENOMEM, cacheList, lengthOf, self, theThread, thread, weightOf, EBUSY } from "../../assembly/instance";
import { classOf } from "../../assembly/size-class";
import { free, malloc } from "../../assembly/malloc";
import {
  POLICY_BIND,
  POLICY_DEFAULT,
  POLICY_INTERLEAVE,
  POLICY_LOCAL,
  POLICY_PREFERRED,
  POLICY_WEIGHTED_INTERLEAVE,
} from "../../assembly/policy";
import { detach } from "../../assembly/reap";
import { setNodes, setVcpuNode } from "../../assembly/topology";
import { epoch, errno, moveThread, nodeOf, setPolicy, setWeight, settle, threadId, threadNode } from "../../assembly/control";
import { BASE, END, KEY, another, become, expectOnly, expectSound, fresh, freshSpread, ELSEWHERE, allowBlocking } from "./rig";
import { centralOf } from "../../assembly/central";

describe("errno", () => {
  it("is that of the last failed call, once", () => {
    fresh();
    expect<i32>(errno()).toBe(0);
    expect<usize>(malloc(8 << 20)).toBe(0);
    free(malloc(100)); // what succeeds leaves it alone
    expect<i32>(errno()).toBe(ENOMEM);
    expect<i32>(errno()).toBe(0);
  });
});

describe("a thread", () => {
  it("knows its id and its node, and moves to another vCPU", () => {
    freshSpread();
    expect<u32>(threadId()).toBe(self);
    expect<i32>(threadNode()).toBe(0);
    expect<i32>(moveThread(2)).toBe(0);
    expect<i32>(threadNode()).toBe(2);
    expect<i32>(nodeOf(malloc(100))).toBe(2);
    expect<i32>(moveThread(MAX_VCPUS)).toBe(EINVAL);
    expect<i32>(threadNode()).toBe(2);
    expectSound();
  });

  it("that moves sends back what it had cached of the node it leaves", () => {
    freshSpread();
    for (let i = 0; i < 20; ++i) free(malloc(100));
    expect<bool>(lengthOf(cacheList(thread, classOf(100))) > 0).toBe(true);
    expect<i32>(moveThread(1)).toBe(0);
    expect<u32>(lengthOf(cacheList(thread, classOf(100)))).toBe(0);
    expectOnly([]);
  });

  it("settles at once, if there is something to settle", () => {
    freshSpread();
    const before = epoch();
    settle();
    expect<u32>(epoch()).toBe(before);
    expect<i32>(setVcpuNode(0, 3)).toBe(0);
    expect<i32>(threadNode()).toBe(0);
    settle();
    expect<i32>(threadNode()).toBe(3);
    expectSound();
  });

  it("that is nobody has no id, no node and no policy", () => {
    fresh();
    expect<i32>(detach()).toBe(0);
    expect<u32>(threadId()).toBe(0);
    expect<i32>(threadNode()).toBe(-1);
    expect<i32>(setPolicy(POLICY_LOCAL, 0)).toBe(EINVAL);
    expect<i32>(setWeight(0, 1)).toBe(EINVAL);
    expect<i32>(moveThread(0)).toBe(EINVAL);
    settle();
    expect<i32>(nodeOf(BASE)).toBe(0); // of pages it may ask
    expectSound();
  });
});

describe("the node of an address", () => {
  it("is its page's, and -1 outside the heap", () => {
    freshSpread();
    expect<i32>(nodeOf(BASE)).toBe(0);
    expect<i32>(nodeOf(END - 1)).toBe(1);
    expect<i32>(nodeOf(END - 64 * PAGE_SIZE - 1)).toBe(2);
    expect<i32>(nodeOf(BASE - 1)).toBe(-1);
    expect<i32>(nodeOf(END)).toBe(-1);
    expect<i32>(nodeOf(0)).toBe(-1);
    expect<i32>(nodeOf(0xffff_ffff)).toBe(-1);
  });
});

describe("a policy", () => {
  it("is refused if its mode or its mask cannot be", () => {
    fresh();
    expect<i32>(setPolicy(POLICY_WEIGHTED_INTERLEAVE + 1, 1)).toBe(EINVAL);
    expect<i32>(setPolicy(POLICY_BIND, 0)).toBe(EINVAL);
    expect<i32>(setPolicy(POLICY_BIND, 1 << 4)).toBe(EINVAL);
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 0xffff_fff0)).toBe(EINVAL);
    expect<i32>(setPolicy(POLICY_LOCAL, 1)).toBe(EINVAL);
    expect<i32>(setPolicy(POLICY_DEFAULT, 0xf)).toBe(EINVAL);
    expect<u32>(theThread().policy).toBe(POLICY_DEFAULT);
    expect<u32>(theThread().mask).toBe(0);
    expectSound();
  });

  it("may name nodes that do not exist beside one that does", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_PREFERRED, (1 << 3) | (1 << 9))).toBe(0);
    expect<u32>(theThread().home).toBe(3);
    expect<i32>(setNodes(10)).toBe(0);
    expect<i32>(setNodes(4)).toBe(0);
    settle();
    expect<u32>(theThread().home).toBe(3);
    expectSound();
  });

  it("is each thread's own", () => {
    freshSpread();
    expect<i32>(setPolicy(POLICY_BIND, 1 << 2)).toBe(0);
    const first = another(KEY + 1, 1);
    expect<u32>(theThread().policy).toBe(POLICY_DEFAULT);
    const mine = malloc(100);
    expect<i32>(nodeOf(mine)).toBe(1);
    become(first);
    const theirs = malloc(100);
    expect<i32>(nodeOf(theirs)).toBe(2);
    expectOnly([mine, theirs]);
  });

  it("that binds gives all back that was cached before", () => {
    freshSpread();
    for (let i = 0; i < 20; ++i) free(malloc(100));
    expect<i32>(setPolicy(POLICY_BIND, 1 << 2)).toBe(0);
    expect<u32>(lengthOf(cacheList(thread, classOf(100)))).toBe(0);
    expect<i32>(nodeOf(malloc(100))).toBe(2);
    expectSound();
  });

  it("a policy whose cached blocks cannot go back yet says EBUSY", () => {
    fresh();
    free(malloc(100));
    allowBlocking(false);
    const central = centralOf(0, classOf(100));
    atomic.store<u32>(central, ELSEWHERE);
    expect<i32>(setPolicy(POLICY_PREFERRED, 1 << 1)).toBe(EBUSY);
    atomic.store<u32>(central, 0);
    expect<i32>(setPolicy(POLICY_PREFERRED, 1 << 1)).toBe(0);
    expectOnly([]);
  });
});

describe("weights", () => {
  it("are of nodes that exist, from 1 to 255", () => {
    fresh();
    expect<i32>(setWeight(4, 1)).toBe(EINVAL);
    expect<i32>(setWeight(0, 0)).toBe(EINVAL);
    expect<i32>(setWeight(0, 256)).toBe(EINVAL);
    expect<i32>(setWeight(3, 255)).toBe(0);
    expect<u32>(weightOf(thread, 3)).toBe(255);
    expect<u32>(weightOf(thread, 2)).toBe(0);
    expectSound();
  });
});
