// FreeBSD's cpuset calls about memory domains: sets, threads, processes, and the errno of every misuse.
import { beforeEach, describe, expect, test } from "vitest";
import * as C from "../../src/guest/freebsd/cpuset.js";
import * as D from "../../src/guest/freebsd/domainset.js";
import type { FreeBsd, FreeBsdProcess, FreeBsdThread } from "../../src/guest/freebsd/freebsd.js";
import { type FakePlatform, FRAME } from "../support/fake-platform.js";
import { bootFreeBsd } from "../support/guests.js";

const [EPERM, ESRCH, EDEADLK, EFAULT, EINVAL, ERANGE] = [1, 3, 11, 14, 22, 34] as const;
const { CPU_LEVEL_ROOT: ROOT, CPU_LEVEL_CPUSET: CPUSET, CPU_LEVEL_WHICH: WHICH } = C;
const { CPU_WHICH_TID: TID, CPU_WHICH_PID: PID, CPU_WHICH_CPUSET: SET, CPU_WHICH_TIDPID: TIDPID } = C;
const {
  DOMAINSET_POLICY_ROUNDROBIN: RR,
  DOMAINSET_POLICY_FIRSTTOUCH: FT,
  DOMAINSET_POLICY_PREFER: PREFER,
  DOMAINSET_POLICY_INTERLEAVE: IL,
} = D;

let freebsd: FreeBsd;
let platform: FakePlatform;
/** Root's. */
let process: FreeBsdProcess;
let thread: FreeBsdThread;
let calls: C.CpusetCalls;

beforeEach(async () => {
  ({ guest: freebsd, platform } = await bootFreeBsd());
  process = freebsd.spawn({ uid: 0 });
  thread = process.newThread(0);
  calls = freebsd.syscalls(thread);
});

const bits = (...domains: number[]): Uint32Array => Uint32Array.of(domains.reduce((mask, domain) => mask | (1 << domain), 0));
const set = (level: number, which: number, id: number, domains: number[], policy: number, by = calls): number =>
  by.cpuset_setdomain(level, which, id, 4, bits(...domains), policy);
/** Mask of domains and policy, or the errno. */
function get(level: number, which: number, id: number, by = calls): [number, number] | number {
  const [mask, policy] = [new Uint32Array(1), new Int32Array(1)];
  return by.cpuset_getdomain(level, which, id, 4, mask, policy) || [mask[0]!, policy[0]!];
}
const someone = (uid: number): C.CpusetCalls => freebsd.syscalls(freebsd.spawn({ uid }).newThread(1));

describe("cpuset_setdomain", () => {
  test("of a thread: its own, by its number or without", () => {
    const other = process.newThread(1);
    expect(set(WHICH, TID, -1, [1, 3], RR)).toBe(0);
    expect(get(WHICH, TID, thread.tid)).toEqual([0b1010, RR]);
    expect(set(WHICH, TID, other.tid, [2], IL)).toBe(0);
    expect(get(WHICH, TID, other.tid)).toEqual([0b0100, IL]);
    expect(get(WHICH, TID, -1)).toEqual([0b1010, RR]);
    const address = process.mmap(2 * FRAME);
    expect(freebsd.access(other, address)).toBe(2);
    expect(freebsd.access(thread, address + FRAME)).toBe(3);
    // Its base has not changed.
    expect(get(CPUSET, TID, -1)).toEqual([0b1111, FT]);
    expect(set(WHICH, TID, -1, [0], RR)).toBe(0);
    expect(freebsd.cpusets.initial.children.size).toBe(2);
    process.exit();
    expect(freebsd.cpusets.initial.children.size).toBe(0);
  });

  test("of a process: all its threads, not those to come", () => {
    const other = process.newThread(1);
    expect(set(WHICH, PID, -1, [2, 3], RR)).toBe(0);
    expect([thread, other].map(({ tid }) => get(WHICH, TID, tid))).toEqual([
      [0b1100, RR],
      [0b1100, RR],
    ]);
    expect(get(WHICH, TID, process.newThread(2).tid)).toEqual([0b1111, FT]);
    expect(set(WHICH, PID, process.pid, [0], IL)).toBe(0);
    expect(get(WHICH, PID, process.pid)).toEqual([0b0001, IL]);
  });

  test("a preferred domain is shown alone, and falls back on the rest", () => {
    expect(set(WHICH, TID, -1, [2], PREFER)).toBe(0);
    expect(get(WHICH, TID, -1)).toEqual([0b0100, PREFER]);
    expect(thread.domainset).toEqual({ policy: PREFER, mask: D.ALL_NODES, prefer: 2 });
  });

  test("of a numbered set: all who belong to it, but for what they differ in", () => {
    const other = process.newThread(1);
    expect(set(WHICH, TID, other.tid, [0, 1, 2], IL)).toBe(0);
    expect(set(CPUSET, PID, process.pid, [1, 2, 3], RR)).toBe(0);
    expect(get(WHICH, SET, 1)).toEqual([0b1110, RR]);
    expect(get(WHICH, TID, -1)).toEqual([0b1110, RR]);
    // It keeps its policy, within the new set.
    expect(get(WHICH, TID, other.tid)).toEqual([0b0110, IL]);
    expect(get(WHICH, TID, freebsd.spawn().newThread(0).tid)).toEqual([0b1110, RR]);
    expect(set(WHICH, SET, 1, [3], RR)).toBe(EDEADLK);
    expect(get(WHICH, SET, 1)).toEqual([0b1110, RR]);
    expect(set(CPUSET, SET, -1, [1], PREFER)).toBe(0);
    expect(get(WHICH, SET, 1)).toEqual([0b0010, PREFER]);
    // What is preferred falls back on what the set had.
    expect(freebsd.cpusets.initial.domain.mask).toBe(0b1110);
    expect(get(WHICH, TID, other.tid)).toEqual([0b0110, IL]);
  });

  test("a thread's domains are within its base's", () => {
    expect(set(WHICH, SET, 1, [0, 1], RR)).toBe(0);
    expect(set(WHICH, TID, -1, [1, 2], RR)).toBe(EINVAL);
    expect(set(WHICH, PID, -1, [2], RR)).toBe(EINVAL);
    expect(set(WHICH, TID, -1, [2], PREFER)).toBe(EINVAL);
    expect(set(WHICH, TID, -1, [1], PREFER)).toBe(0);
    expect(thread.domainset.mask).toBe(0b11);
    // A set can be made larger again: only the root's bounds it.
    expect(set(WHICH, SET, 1, [0, 1, 2], RR)).toBe(0);
  });

  test("one number for both: threads have those above all processes'", () => {
    expect(thread.tid).toBeGreaterThan(C.PID_MAX);
    const other = process.newThread(1);
    expect(set(WHICH, TIDPID, other.tid, [3], RR)).toBe(0);
    expect(get(WHICH, TIDPID, other.tid)).toEqual([0b1000, RR]);
    expect(get(WHICH, TIDPID, -1)).toEqual([0b1111, FT]);
    expect(set(WHICH, TIDPID, process.pid, [2], RR)).toBe(0);
    expect(get(WHICH, TIDPID, other.tid)).toEqual([0b0100, RR]);
    expect(get(WHICH, TIDPID, -1)).toEqual([0b0100, RR]);
  });

  test("domains are numbers of now, and sets keep their nodes", () => {
    platform.moveFrames(0, 256, 1);
    expect(freebsd.ndomains).toBe(3);
    expect(set(WHICH, TID, -1, [2], RR)).toBe(0);
    expect(freebsd.access(thread, process.mmap(FRAME))).toBe(3);
    expect(set(WHICH, TID, -1, [3], RR)).toBe(EINVAL);
    platform.moveFrames(0, 256, 0);
    expect(get(WHICH, TID, -1)).toEqual([0b1000, RR]);
  });

  test.each<[string, () => number, number]>([
    ["a mask smaller than the kernel's", () => calls.cpuset_setdomain(WHICH, TID, -1, 3, bits(1), RR), ERANGE],
    ["a mask larger than any", () => calls.cpuset_setdomain(WHICH, TID, -1, 33, new Uint32Array(9), RR), ERANGE],
    ["no size", () => calls.cpuset_setdomain(WHICH, TID, -1, NaN, bits(1), RR), ERANGE],
    ["policy 0", () => set(WHICH, TID, -1, [1], 0), EINVAL],
    ["policy 5", () => set(WHICH, TID, -1, [1], 5), EINVAL],
    ["half a policy", () => set(WHICH, TID, -1, [1], 1.5), EINVAL],
    ["a mask that is not there", () => calls.cpuset_setdomain(WHICH, TID, -1, 8, bits(1), RR), EFAULT],
    ["a mask that is no memory", () => calls.cpuset_setdomain(WHICH, TID, -1, 4, [1] as unknown as Uint32Array, RR), EFAULT],
    ["bits beyond all domains", () => calls.cpuset_setdomain(WHICH, TID, -1, 8, Uint32Array.of(1, 1), RR), EINVAL],
    ["no domain", () => set(WHICH, TID, -1, [], RR), EDEADLK],
    ["a domain that is not there", () => set(WHICH, TID, -1, [1, 4], RR), EINVAL],
    ["two to prefer", () => set(WHICH, TID, -1, [1, 2], PREFER), EINVAL],
    ["level 0", () => set(0, TID, -1, [1], RR), EINVAL],
    ["level 4, of nobody", () => set(4, TID, 5, [1], RR), EINVAL],
    ["a kind of thing that is none", () => set(WHICH, 0, -1, [1], RR), EINVAL],
    ["an interrupt's handler", () => set(WHICH, C.CPU_WHICH_INTRHANDLER, 1, [1], RR), EINVAL],
    ["a thread of an interrupt", () => set(WHICH, C.CPU_WHICH_ITHREAD, 1, [1], RR), EINVAL],
    ["an interrupt", () => set(WHICH, C.CPU_WHICH_IRQ, 1, [1], RR), EINVAL],
    ["an interrupt's set", () => set(CPUSET, C.CPU_WHICH_IRQ, 1, [1], RR), EINVAL],
    ["a domain", () => set(WHICH, C.CPU_WHICH_DOMAIN, 1, [1], RR), EINVAL],
    ["a jail", () => set(WHICH, C.CPU_WHICH_JAIL, 1, [1], RR), ESRCH],
    ["a thread that is not there", () => set(WHICH, TID, 100_999, [1], RR), ESRCH],
    ["a process that is not there", () => set(WHICH, PID, 999, [1], RR), ESRCH],
    ["a set that is not there", () => set(WHICH, SET, 7, [1], RR), ESRCH],
    ["neither", () => set(WHICH, TIDPID, 998, [1], RR), ESRCH],
    ["the root's set", () => set(ROOT, PID, -1, [1], RR), EPERM],
    ["the root's set, by number", () => set(WHICH, SET, 0, [1], RR), EPERM],
    ["somebody else's thread", () => set(WHICH, TID, thread.tid, [1], RR, someone(5)), EPERM],
    ["somebody else's process", () => set(WHICH, PID, process.pid, [1], RR, someone(5)), EPERM],
    ["a set, by who is not root", () => set(WHICH, SET, 1, [1], RR, someone(5)), EPERM],
    ["one's own set, by who is not root", () => set(CPUSET, PID, -1, [1], RR, someone(5)), EPERM],
  ])("%s", (_, call, errno) => {
    expect(call()).toBe(errno);
    expect(get(WHICH, SET, 1)).toEqual([0b1111, FT]);
    expect(get(WHICH, TID, -1)).toEqual([0b1111, FT]);
  });

  test("who is not root may set what is his own", () => {
    const by = someone(5);
    expect(set(WHICH, TID, -1, [2], RR, by)).toBe(0);
    expect(set(WHICH, PID, by.thread.process.pid, [1], RR, by)).toBe(0);
    expect(get(WHICH, TID, -1, by)).toEqual([0b0010, RR]);
  });
});

describe("cpuset_getdomain", () => {
  test("of each level", () => {
    expect(set(WHICH, SET, 1, [0, 1, 2], RR)).toBe(0);
    expect(set(WHICH, TID, -1, [1], IL)).toBe(0);
    expect([ROOT, CPUSET, WHICH].map((level) => get(level, TID, -1))).toEqual([
      [0b1111, FT],
      [0b0111, RR],
      [0b0010, IL],
    ]);
    expect([ROOT, CPUSET, WHICH].map((level) => get(level, SET, 1))).toEqual([
      [0b1111, FT],
      [0b0111, RR],
      [0b0111, RR],
    ]);
    expect(get(WHICH, SET, 0)).toEqual([0b1111, FT]);
  });

  test("of a process: what all its threads have, and the last one's policy", () => {
    const other = process.newThread(1);
    expect(set(WHICH, TID, -1, [0], IL)).toBe(0);
    expect(set(WHICH, TID, other.tid, [2], RR)).toBe(0);
    expect(get(WHICH, PID, -1)).toEqual([0b0101, RR]);
    expect(set(WHICH, TID, other.tid, [3], PREFER)).toBe(0);
    expect(get(WHICH, PID, -1)).toEqual([0b1000, PREFER]);
  });

  test("a larger mask is cleared", () => {
    const mask = Uint32Array.of(9, 9, 9);
    expect(calls.cpuset_getdomain(WHICH, TID, -1, 8, mask, new Int32Array(1))).toBe(0);
    expect([...mask]).toEqual([15, 0, 9]);
  });

  test.each<[string, () => unknown, number]>([
    ["a mask smaller than the kernel's", () => calls.cpuset_getdomain(WHICH, TID, -1, 2, bits(), new Int32Array(1)), ERANGE],
    ["a mask larger than any", () => calls.cpuset_getdomain(WHICH, TID, -1, 40, new Uint32Array(10), new Int32Array(1)), ERANGE],
    ["a mask that is not there", () => calls.cpuset_getdomain(WHICH, TID, -1, 8, bits(), new Int32Array(1)), EFAULT],
    ["a policy that is nowhere", () => calls.cpuset_getdomain(WHICH, TID, -1, 4, bits(), new Int32Array(0)), EFAULT],
    ["level 0", () => get(0, TID, -1), EINVAL],
    ["level 4, of nobody", () => get(4, PID, 999), ESRCH],
    ["a kind of thing that is none", () => get(WHICH, 10, -1), EINVAL],
    ["an interrupt", () => get(WHICH, C.CPU_WHICH_IRQ, 1), EINVAL],
    ["a domain's set", () => get(CPUSET, C.CPU_WHICH_DOMAIN, 1), EINVAL],
    ["a jail", () => get(ROOT, C.CPU_WHICH_JAIL, 1), ESRCH],
    ["nobody", () => get(WHICH, TID, 5), ESRCH],
    ["somebody else", () => get(WHICH, TID, thread.tid, someone(5)), EPERM],
  ])("%s", (_, call, errno) => expect(call()).toBe(errno));
});

describe("numbered sets", () => {
  const id = new Int32Array(1);

  test("a process makes one and is in it, with what is its threads' own", () => {
    const other = process.newThread(1);
    expect(set(WHICH, TID, other.tid, [1, 2], IL)).toBe(0);
    expect(set(WHICH, SET, 1, [1, 2, 3], RR)).toBe(0);
    expect(calls.cpuset(id)).toBe(0);
    expect(id[0]).toBe(2);
    expect(calls.cpuset_getid(CPUSET, PID, -1, id)).toBe(0);
    expect(id[0]).toBe(2);
    expect(get(WHICH, TID, -1)).toEqual([0b1111, FT]);
    expect(get(WHICH, TID, other.tid)).toEqual([0b0110, IL]);
    expect(process.newThread(2).cpuset.id).toBe(2);
    expect(set(WHICH, SET, 2, [2], RR)).toBe(0);
    expect(get(WHICH, TID, other.tid)).toEqual([0b0100, IL]);
    // Back: a thread's own must have something there.
    expect(set(WHICH, SET, 2, [0, 2], RR)).toBe(0);
    expect(set(WHICH, TID, other.tid, [0], IL)).toBe(0);
    expect(calls.cpuset_setid(PID, -1, 1)).toBe(EDEADLK);
    expect(set(WHICH, TID, other.tid, [0, 2], RR)).toBe(0);
    expect(calls.cpuset_setid(PID, process.pid, 1)).toBe(0);
    // What was its base's is its new base's.
    expect(get(WHICH, TID, other.tid)).toEqual([0b1110, RR]);
    expect(calls.cpuset_getid(ROOT, SET, 1, id)).toBe(0);
    expect(id[0]).toBe(0);
    expect(calls.cpuset_getid(WHICH, SET, -1, id)).toBe(0);
    expect(id[0]).toBe(1);
  });

  test.each<[string, () => number, number]>([
    ["a number that goes nowhere", () => calls.cpuset(new Int32Array(0)), EFAULT],
    ["a thread cannot change set alone", () => calls.cpuset_setid(TID, -1, 1), EINVAL],
    ["a set that is not there", () => calls.cpuset_setid(PID, -1, 5), ESRCH],
    ["a process that is not there", () => calls.cpuset_setid(PID, 999, 1), ESRCH],
    ["somebody else's process", () => someone(5).cpuset_setid(PID, process.pid, 1), EPERM],
    ["a thread's own has no number", () => calls.cpuset_getid(WHICH, TID, -1, id), EINVAL],
    ["nor has an interrupt's", () => calls.cpuset_getid(CPUSET, C.CPU_WHICH_IRQ, 1, id), EINVAL],
    ["nobody's set", () => calls.cpuset_getid(CPUSET, PID, 999, id), ESRCH],
    ["somewhere to put it", () => calls.cpuset_getid(CPUSET, PID, -1, new Int32Array(0)), EFAULT],
  ])("%s", (_, call, errno) => expect(call()).toBe(errno));
});
