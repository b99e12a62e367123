// Linux's calls about nodes: what they do, and the errno of every misuse.
import { beforeEach, describe, expect, test } from "vitest";
import { OWNER_FREE, OWNER_KERNEL } from "../../src/guest/frame-table.js";
import type { Linux, LinuxProcess, Task } from "../../src/guest/linux/linux.js";
import * as M from "../../src/guest/linux/mempolicy.js";
import { pairs } from "../../src/guest/linux/migrate.js";
import { maskOf } from "../../src/guest/linux/nodemask.js";
import * as S from "../../src/guest/linux/syscalls.js";
import { ADDRESS_END, pageOf } from "../../src/guest/process.js";
import { type FakePlatform, FRAME } from "../support/fake-platform.js";
import { bootLinux, expectSound } from "../support/guests.js";

const [EPERM, ESRCH, EIO, ENOMEM, EACCES, EFAULT, ENODEV, EINVAL, ENOENT] = [-1, -3, -5, -12, -13, -14, -19, -22, -2] as const;

let linux: Linux;
let platform: FakePlatform;
let process: LinuxProcess;
let task: Task;
let calls: S.Syscalls;

beforeEach(async () => {
  ({ guest: linux, platform } = await bootLinux());
  process = linux.spawn({ uid: 1000 });
  task = process.newThread(0);
  calls = linux.syscalls(task);
});

const word = (...nodes: number[]): Uint32Array => Uint32Array.of(maskOf(nodes));
/** A process of another user, or of root. */
const callsOf = (uid: number, sysNice = false): S.Syscalls => linux.syscalls(linux.spawn({ uid, sysNice }).newThread(0));

function populate(pages: number, by = calls): number {
  const address = by.process.mmap(pages * FRAME);
  for (let i = 0; i < pages; ++i) linux.access(by.task, address + i * FRAME);
  return address;
}
const nodesAt = (address: number, pages: number, of = process): number[] =>
  Array.from({ length: pages }, (_, i) => of.nodeOf(pageOf(address) + i));
const addresses = (address: number, pages: number): number[] => Array.from({ length: pages }, (_, i) => address + i * FRAME);

function exhaust(node: number, left = 0): void {
  while (linux.lists.freeOn(node) > left) linux.lists.alloc(0, [node], OWNER_KERNEL);
}

/** Gives the process a heap of `count` frames. */
function mapHeap(count: number, of = process): number {
  const { owner, first } = linux.grantHeap(count, 0);
  of.mapHeap(owner, first * FRAME, 1024 * FRAME);
  return first * FRAME;
}

describe("masks of users", () => {
  const set = (mask: unknown, maxnode: number): number => calls.set_mempolicy(M.MPOL_BIND, mask as Uint32Array, maxnode);

  test("are read up to maxnode - 1", () => {
    expect(set(word(0, 1), 33)).toBe(0);
    // Bits beyond are not looked at: of nodes 1 and 3, only 1.
    expect(set(word(1, 3), 4)).toBe(0);
    expect(task.policy!.nodes).toBe(maskOf([1]));
    expect(set(word(3), 4)).toBe(EINVAL);
    expect(set(word(3), 5)).toBe(0);
    expect(set(Uint32Array.of(1, 0, 0), 97)).toBe(0);
  });

  test.each([
    ["bits that no kernel has", Uint32Array.of(1, 1), 65, EINVAL],
    ["a mask longer than a page", new Uint32Array(2048).fill(1), 65_538, EINVAL],
    ["maxnode of 0", word(1), 0, EINVAL],
    ["half a node", word(1), 2.5, EINVAL],
    ["no number", word(1), NaN, EINVAL],
    ["memory that ends too early", word(1), 34, EFAULT],
    ["an address that is none", [1], 33, EFAULT],
    ["no mask", null, 33, EINVAL],
    ["a mask of no bits", word(1), 1, EINVAL],
  ])("%s", (_, mask, maxnode, errno) => {
    expect(set(mask, maxnode)).toBe(errno);
    expect(task.policy).toBeUndefined();
  });

  test("bits of a longer mask may be set beyond its end", () => {
    expect(set(Uint32Array.of(1, 2), 34)).toBe(0);
    expect(set(Uint32Array.of(1, 2), 35)).toBe(EINVAL);
  });
});

describe("set_mempolicy", () => {
  test.each([
    ["an unknown mode", 7, [], EINVAL],
    ["a negative mode", -1, [], EINVAL],
    ["static and relative", M.MPOL_BIND | M.MPOL_F_STATIC_NODES | M.MPOL_F_RELATIVE_NODES, [1], EINVAL],
    ["balancing of an interleaving", M.MPOL_INTERLEAVE | M.MPOL_F_NUMA_BALANCING, [1], EINVAL],
    ["default with nodes", M.MPOL_DEFAULT, [1], EINVAL],
    ["local with nodes", M.MPOL_LOCAL, [1], EINVAL],
    ["local, relative", M.MPOL_LOCAL | M.MPOL_F_RELATIVE_NODES, [], EINVAL],
    ["preferred, static, without nodes", M.MPOL_PREFERRED | M.MPOL_F_STATIC_NODES, [], EINVAL],
    ["interleave without nodes", M.MPOL_INTERLEAVE, [], EINVAL],
    ["bind to nodes that are not there", M.MPOL_BIND, [4, 9], EINVAL],
  ])("%s leaves what was set before", (_, mode, nodes, errno) => {
    expect(calls.set_mempolicy(M.MPOL_BIND, word(2), 33)).toBe(0);
    const before = task.policy;
    expect(calls.set_mempolicy(mode, word(...nodes), 33)).toBe(errno);
    expect(task.policy).toBe(before);
  });

  test("nodes the cpuset does not allow are left out, and none is left: EINVAL", () => {
    linux.attach(process, linux.newCpuset(maskOf([1, 2])));
    expect(calls.set_mempolicy(M.MPOL_INTERLEAVE, word(2, 3), 33)).toBe(0);
    expect(task.policy!.nodes).toBe(maskOf([2]));
    expect(calls.set_mempolicy(M.MPOL_INTERLEAVE, word(0, 3), 33)).toBe(EINVAL);
  });

  test("is of the task, not of the process", () => {
    const other = process.newThread(1);
    expect(calls.set_mempolicy(M.MPOL_BIND, word(2), 33)).toBe(0);
    expect(other.policy).toBeUndefined();
  });
});

describe("get_mempolicy", () => {
  const get = (addr: number, flags: number, maxnode = 33): [number, number, number[]] => {
    const [mode, mask] = [new Int32Array(1), new Uint32Array(1)];
    const status = calls.get_mempolicy(mode, mask, maxnode, addr, flags);
    return [status, mode[0]!, [...mask]];
  };

  test("of the task", () => {
    expect(get(0, 0)).toEqual([0, M.MPOL_DEFAULT, [0]]);
    calls.set_mempolicy(M.MPOL_INTERLEAVE | M.MPOL_F_STATIC_NODES, word(1, 2, 9), 33);
    // What the user said, where that is kept.
    expect(get(0, 0)).toEqual([0, M.MPOL_INTERLEAVE | M.MPOL_F_STATIC_NODES, [maskOf([1, 2, 9])]]);
    calls.set_mempolicy(M.MPOL_BIND | M.MPOL_F_NUMA_BALANCING, word(1, 2, 9), 33);
    expect(get(0, 0)).toEqual([0, M.MPOL_BIND | M.MPOL_F_NUMA_BALANCING, [maskOf([1, 2])]]);
    calls.set_mempolicy(M.MPOL_PREFERRED, null, 0);
    expect(get(0, 0)).toEqual([0, M.MPOL_LOCAL, [0]]);
    expect(calls.get_mempolicy(null, null, 0, 0, 0)).toBe(0);
  });

  test("of an address, without regard to the task's", async () => {
    const address = process.mmap(4 * FRAME);
    calls.set_mempolicy(M.MPOL_BIND, word(3), 33);
    expect(await calls.mbind(address + FRAME, FRAME, M.MPOL_PREFERRED, word(2), 33, 0)).toBe(0);
    expect(get(address + FRAME + 5, S.MPOL_F_ADDR)).toEqual([0, M.MPOL_PREFERRED, [maskOf([2])]]);
    expect(get(address, S.MPOL_F_ADDR)).toEqual([0, M.MPOL_DEFAULT, [0]]);
  });

  test("the node of a page, which is populated for it", async () => {
    const address = process.mmap(2 * FRAME);
    await calls.mbind(address, FRAME, M.MPOL_BIND, word(3), 33, 0);
    expect(get(address, S.MPOL_F_NODE | S.MPOL_F_ADDR)).toEqual([0, 3, [maskOf([3])]]);
    expect(process.nodeOf(pageOf(address))).toBe(3);
    exhaust(3);
    await calls.mbind(address + FRAME, FRAME, M.MPOL_BIND, word(3), 33, 0);
    expect(get(address + FRAME, S.MPOL_F_NODE | S.MPOL_F_ADDR)[0]).toBe(ENOMEM);
    const heap = mapHeap(8);
    platform.moveFrames(pageOf(heap), 8, 2);
    expect(get(heap, S.MPOL_F_NODE | S.MPOL_F_ADDR)[1]).toBe(2);
    expect(get(heap + 8 * FRAME, S.MPOL_F_NODE | S.MPOL_F_ADDR)[0]).toBe(EFAULT);
  });

  test("the node of the next page of an interleaving", () => {
    calls.set_mempolicy(M.MPOL_INTERLEAVE, word(1, 3), 33);
    expect(get(0, S.MPOL_F_NODE)[1]).toBe(1);
    linux.allocPage(task);
    expect(get(0, S.MPOL_F_NODE)[1]).toBe(3);
    linux.weights[1] = 2;
    calls.set_mempolicy(M.MPOL_WEIGHTED_INTERLEAVE, word(1, 3), 33);
    for (const node of [1, 1, 3, 1]) {
      expect(get(0, S.MPOL_F_NODE)[1]).toBe(node);
      linux.allocPage(task);
    }
  });

  test("the nodes the cpuset allows", () => {
    expect(get(0, S.MPOL_F_MEMS_ALLOWED)).toEqual([0, 0, [maskOf([0, 1, 2, 3])]]);
    linux.attach(process, linux.newCpuset(maskOf([3])));
    expect(get(0, S.MPOL_F_MEMS_ALLOWED)).toEqual([0, 0, [maskOf([3])]]);
  });

  test("a mask that has more room is cleared", () => {
    const mask = Uint32Array.of(7, 7, 7, 7);
    expect(calls.get_mempolicy(null, mask, 97, 0, S.MPOL_F_MEMS_ALLOWED)).toBe(0);
    expect([...mask]).toEqual([15, 0, 0, 7]);
  });

  test.each([
    ["an unknown flag", () => get(0, 8)[0], EINVAL],
    ["an address without the flag", () => get(FRAME, 0)[0], EINVAL],
    ["allowed nodes of a node", () => get(0, S.MPOL_F_MEMS_ALLOWED | S.MPOL_F_NODE)[0], EINVAL],
    ["allowed nodes of an address", () => get(0, S.MPOL_F_MEMS_ALLOWED | S.MPOL_F_ADDR)[0], EINVAL],
    ["an address that is not mapped", () => get(FRAME, S.MPOL_F_ADDR)[0], EFAULT],
    ["the next node of what is no interleaving", () => get(0, S.MPOL_F_NODE)[0], EINVAL],
    ["a mask too small for all nodes", () => get(0, 0, 3)[0], EINVAL],
    ["a mask larger than a page", () => calls.get_mempolicy(null, new Uint32Array(4000), 80_000, 0, 0), EINVAL],
    ["a mask shorter than it should be", () => calls.get_mempolicy(null, word(), 65, 0, 0), EFAULT],
    ["a mode that is nowhere", () => calls.get_mempolicy(new Int32Array(0), null, 0, 0, 0), EFAULT],
  ])("%s", (_, call, errno) => expect(call()).toBe(errno));
});

describe("mbind", () => {
  const { MPOL_MF_STRICT: STRICT, MPOL_MF_MOVE: MOVE, MPOL_MF_MOVE_ALL: MOVE_ALL } = S;
  const bind = (address: number, pages: number, mode: number, nodes: number[], flags = 0, by = calls): Promise<number> =>
    by.mbind(address, pages * FRAME, mode, word(...nodes), 33, flags);

  test("is of pages not touched yet; those that are stay", async () => {
    const address = populate(2);
    process.unmap(pageOf(address) + 1, pageOf(address) + 2);
    const other = process.mmap(2 * FRAME);
    linux.access(task, other);
    expect(await bind(other, 2, M.MPOL_BIND, [2])).toBe(0);
    linux.access(task, other + FRAME);
    expect(nodesAt(other, 2)).toEqual([0, 2]);
  });

  test("lengths are rounded up, and nothing is nothing", async () => {
    const address = process.mmap(3 * FRAME);
    expect(await calls.mbind(address, FRAME + 1, M.MPOL_BIND, word(3), 33, 0)).toBe(0);
    expect([0, 1, 2].map((i) => linux.access(task, address + i * FRAME))).toEqual([3, 3, 0]);
    expect(await calls.mbind(0, 0, M.MPOL_BIND, word(3), 33, 0)).toBe(0);
  });

  test("splits mappings where it begins and ends", async () => {
    const address = process.mmap(10 * FRAME);
    expect(await bind(address + 3 * FRAME, 4, M.MPOL_BIND, [1])).toBe(0);
    expect(process.mappings.map(({ first, end, policy }) => [first - pageOf(address), end - pageOf(address), policy?.nodes])).toEqual([
      [0, 3, undefined],
      [3, 7, 2],
      [7, 10, undefined],
    ]);
  });

  test("with MPOL_MF_STRICT, pages elsewhere are an error, and nothing is set", async () => {
    const address = populate(3);
    expect(await bind(address, 3, M.MPOL_BIND, [1], STRICT)).toBe(EIO);
    expect(process.mappingAt(pageOf(address))!.policy).toBeUndefined();
    expect(await bind(address, 3, M.MPOL_BIND, [0, 1], STRICT)).toBe(0);
    expect(await bind(address, 3, M.MPOL_DEFAULT, [], STRICT)).toBe(0);
  });

  test("with MPOL_MF_MOVE, pages move to where the policy has them", async () => {
    const address = populate(6);
    expect(await bind(address, 6, M.MPOL_BIND, [3], MOVE | STRICT)).toBe(0);
    expect(nodesAt(address, 6)).toEqual([3, 3, 3, 3, 3, 3]);
    expect(await bind(address, 6, M.MPOL_INTERLEAVE, [1, 2], MOVE)).toBe(0);
    const place = pageOf(address) % 2;
    expect(nodesAt(address, 6)).toEqual([0, 1, 2, 3, 4, 5].map((i) => 1 + ((place + i) % 2)));
    // The default is the task's policy.
    calls.set_mempolicy(M.MPOL_PREFERRED, word(2), 33);
    expect(await bind(address, 6, M.MPOL_DEFAULT, [], MOVE)).toBe(0);
    expect(nodesAt(address, 6)).toEqual([2, 2, 2, 2, 2, 2]);
    expectSound(linux, platform);
  });

  test("what cannot move is an error only with MPOL_MF_STRICT; the policy is set", async () => {
    const address = populate(4);
    exhaust(2, 1);
    expect(await bind(address, 4, M.MPOL_BIND, [2], MOVE)).toBe(0);
    expect(nodesAt(address, 4)).toEqual([2, 0, 0, 0]);
    expect(await bind(address, 4, M.MPOL_BIND, [2], MOVE | STRICT)).toBe(EIO);
    expect(process.mappingAt(pageOf(address))!.policy!.nodes).toBe(maskOf([2]));
  });

  test("of a preference that is full, pages move as near as can be, and no farther", async () => {
    const address = populate(2);
    exhaust(2);
    // From 2: 2, 3, 1, 0.
    expect(await bind(address, 1, M.MPOL_PREFERRED, [2], MOVE | STRICT)).toBe(0);
    expect(nodesAt(address, 2)).toEqual([3, 0]);
    exhaust(3);
    exhaust(1);
    expect(await bind(address, 2, M.MPOL_PREFERRED, [2], MOVE | STRICT)).toBe(0);
    expect(nodesAt(address, 2)).toEqual([3, 0]);
  });

  test("pages of a heap are moved by the hypervisor, where their place says", async () => {
    const heap = mapHeap(16);
    expect(await bind(heap, 16, M.MPOL_BIND, [3], MOVE | STRICT)).toBe(0);
    expect(platform.requests.splice(0)).toEqual([`advise ${pageOf(heap)}+16 3`]);
    expect(nodesAt(heap, 16)).toEqual(Array(16).fill(3));
    platform.follows = (gfn) => gfn % 2 === 0;
    expect(await bind(heap, 4, M.MPOL_BIND, [1], MOVE)).toBe(0);
    expect(await bind(heap, 4, M.MPOL_BIND, [1], MOVE | STRICT)).toBe(EIO);
    expect(nodesAt(heap, 4)).toEqual([1, 3, 1, 3]);
    platform.follows = () => true;
    expect(await bind(heap, 4, M.MPOL_INTERLEAVE, [0, 2], MOVE | STRICT)).toBe(0);
    expect(nodesAt(heap, 4)).toEqual([0, 2, 0, 2]);
    expectSound(linux, platform);
  });

  test("a heap of two processes moves only with MPOL_MF_MOVE_ALL, and only for who may", async () => {
    const heap = mapHeap(8);
    const root = callsOf(0);
    root.process.mapHeap(linux.table.ownerOf(pageOf(heap)), heap, 1024 * FRAME);
    expect(await bind(heap, 8, M.MPOL_BIND, [3], MOVE)).toBe(0);
    expect(nodesAt(heap, 8)).toEqual(Array(8).fill(0));
    expect(await bind(heap, 8, M.MPOL_BIND, [3], MOVE_ALL)).toBe(EPERM);
    expect(await bind(heap, 8, M.MPOL_BIND, [3], MOVE_ALL, root)).toBe(0);
    expect(nodesAt(heap, 8)).toEqual(Array(8).fill(3));
    expect(await bind(process.mmap(1), 1, M.MPOL_BIND, [3], MOVE_ALL, callsOf(5, true))).toBe(EFAULT);
  });

  test("across holes only the default can be set, and not in nothing but one", async () => {
    const [one, two] = [process.mmap(2 * FRAME), process.mmap(2 * FRAME)];
    const pages = pageOf(two) - pageOf(one) + 2;
    expect(pages).toBe(5);
    for (const [address, count] of [
      [one, pages],
      [one, 3],
      [one - FRAME, 2],
      [two + FRAME, 2],
    ] as const) {
      expect(await bind(address, count, M.MPOL_BIND, [1])).toBe(EFAULT);
      expect(await bind(address, count, M.MPOL_DEFAULT, [])).toBe(0);
    }
    expect(await bind(one + 2 * FRAME, 1, M.MPOL_DEFAULT, [])).toBe(EFAULT);
    expect(process.mappings.every(({ policy }) => policy === undefined)).toBe(true);
  });

  test.each<[string, (address: number) => Promise<number>, number]>([
    ["an address within a page", (address) => bind(address + 1, 1, M.MPOL_BIND, [1]), EINVAL],
    ["a negative address", () => bind(-FRAME, 1, M.MPOL_BIND, [1]), EINVAL],
    ["a negative length", (address) => bind(address, -1, M.MPOL_BIND, [1]), EINVAL],
    ["an end beyond all addresses", (address) => bind(address, ADDRESS_END / FRAME, M.MPOL_BIND, [1]), EINVAL],
    ["no address", () => bind(NaN, 1, M.MPOL_BIND, [1]), EINVAL],
    ["an unknown flag", (address) => bind(address, 1, M.MPOL_BIND, [1], 8), EINVAL],
    ["an unknown mode", (address) => bind(address, 1, 9, [1]), EINVAL],
    ["no nodes", (address) => bind(address, 1, M.MPOL_BIND, []), EINVAL],
    ["nodes that are not there", (address) => bind(address, 1, M.MPOL_BIND, [6]), EINVAL],
    ["a mask that is not there", (address) => calls.mbind(address, FRAME, M.MPOL_BIND, word(1), 65, 0), EFAULT],
    ["everybody's pages without the right to", (address) => bind(address, 1, M.MPOL_BIND, [1], MOVE_ALL), EPERM],
  ])("%s", async (_, call, errno) => {
    const address = process.mmap(2 * FRAME);
    expect(await call(address)).toBe(errno);
    expect(process.mappings).toHaveLength(1);
    expect(process.mappings[0]!.policy).toBeUndefined();
  });
});

describe("move_pages", () => {
  const { MPOL_MF_MOVE: MOVE, MPOL_MF_MOVE_ALL: MOVE_ALL } = S;
  const UNTOUCHED = -99;
  async function move(
    pages: number[] | null,
    nodes: number[] | null,
    flags = MOVE,
    pid = 0,
    by = calls,
  ): Promise<{ status: number; each: number[] }> {
    const each = new Int32Array(pages?.length ?? 0).fill(UNTOUCHED);
    const status = await by.move_pages(pid, pages?.length ?? 0, pages, nodes, each, flags);
    return { status, each: [...each] };
  }

  test("moves each page to its node, and says where each is", async () => {
    const address = populate(4);
    for (let i = 0; i < 4; ++i) process.write(task, address + i * FRAME, Uint8Array.of(i + 1));
    expect(await move(addresses(address, 4), [1, 1, 3, 0])).toEqual({ status: 0, each: [1, 1, 3, 0] });
    expect(nodesAt(address, 4)).toEqual([1, 1, 3, 0]);
    expect([0, 1, 2, 3].map((i) => process.read(task, address + i * FRAME, 1)[0])).toEqual([1, 2, 3, 4]);
    expectSound(linux, platform);
  });

  test("without nodes only says where they are", async () => {
    const address = populate(2);
    await move([address], [2]);
    const more = process.mmap(2 * FRAME);
    expect(await move([address + 77, address + FRAME, more, more + 2 * FRAME, -5], null, 0)).toEqual({
      status: 0,
      each: [2, 0, ENOENT, EFAULT, EFAULT],
    });
    expect(process.populated(pageOf(more), pageOf(more) + 1)).toEqual([]);
  });

  test("pages that are not there have their own status; the others move", async () => {
    const address = populate(3);
    const more = process.mmap(FRAME);
    const pages = [address, more, address + FRAME, more + FRAME, address + 2 * FRAME];
    expect(await move(pages, [2, 2, 2, 2, 2])).toEqual({ status: 0, each: [2, ENOENT, 2, EFAULT, 2] });
    expect(nodesAt(address, 3)).toEqual([2, 2, 2]);
  });

  test("what came before an error is done", async () => {
    const address = populate(4);
    expect(await move(addresses(address, 4), [1, 1, 4, 1])).toEqual({ status: ENODEV, each: [1, 1, UNTOUCHED, UNTOUCHED] });
    expect(nodesAt(address, 4)).toEqual([1, 1, 0, 0]);
    expect(await move(addresses(address, 2), [-1, 0])).toEqual({ status: ENODEV, each: [UNTOUCHED, UNTOUCHED] });
    linux.attach(process, linux.newCpuset(maskOf([0, 1])));
    expect(await move(addresses(address, 4), [0, 2, 0, 0])).toEqual({ status: EACCES, each: [0, UNTOUCHED, UNTOUCHED, UNTOUCHED] });
    expect(nodesAt(address, 4)).toEqual([0, 1, 0, 0]);
  });

  test("a node that is full is ENOMEM", async () => {
    const address = populate(3);
    exhaust(3, 2);
    expect((await move(addresses(address, 3), [3, 3, 3])).status).toBe(ENOMEM);
    expect(nodesAt(address, 3)).toEqual([3, 3, 0]);
    const more = populate(2);
    expect(await move(addresses(more, 2), [1, 3])).toEqual({ status: ENOMEM, each: [1, UNTOUCHED] });
    expect(nodesAt(more, 2)).toEqual([1, 0]);
  });

  test("pages of a heap move by advice; how many did not is the answer, with those not tried", async () => {
    const heap = mapHeap(8);
    expect(await move(addresses(heap, 3), [3, 3, 3])).toEqual({ status: 0, each: [3, 3, 3] });
    platform.follows = (_, node) => node !== 2;
    expect(await move(addresses(heap, 4), [1, 2, 2, 1])).toEqual({ status: 3, each: [1, UNTOUCHED, UNTOUCHED, UNTOUCHED] });
    expect(nodesAt(heap, 4)).toEqual([1, 3, 3, 0]);
    const hole = heap + 8 * FRAME;
    expect(await move([heap + FRAME, hole, heap], [2, 2, 1])).toEqual({ status: 2, each: [UNTOUCHED, ENOENT, UNTOUCHED] });
    platform.follows = () => true;
    const mixed = populate(1);
    expect(await move([heap, mixed, heap + FRAME], [2, 2, 2])).toEqual({ status: 0, each: [2, 2, 2] });
    expectSound(linux, platform);
  });

  test("a shared page is EACCES, unless all may be moved", async () => {
    const heap = mapHeap(8);
    const root = callsOf(0);
    root.process.mapHeap(linux.table.ownerOf(pageOf(heap)), heap, 1024 * FRAME);
    expect(await move([heap], [2])).toEqual({ status: 0, each: [EACCES] });
    expect(await move([heap], [2], MOVE_ALL)).toEqual({ status: EPERM, each: [UNTOUCHED] });
    expect(await move([heap], [2], MOVE_ALL, 0, root)).toEqual({ status: 0, each: [2] });
  });

  test("of another process, who may", async () => {
    const address = populate(2);
    expect(await move([address], [1], MOVE, process.pid, callsOf(1000))).toEqual({ status: 0, each: [1] });
    expect(await move([address], [2], MOVE, process.pid, callsOf(0))).toEqual({ status: 0, each: [2] });
    expect(await move([address], [3], MOVE, process.pid, callsOf(7))).toEqual({ status: EPERM, each: [UNTOUCHED] });
    expect(await move([address], [3], MOVE, process.pid, callsOf(7, true))).toEqual({ status: EPERM, each: [UNTOUCHED] });
    expect(await move([address], [3], MOVE, 999)).toEqual({ status: ESRCH, each: [UNTOUCHED] });
  });

  test.each<[string, (address: number) => Promise<number>, number]>([
    ["an unknown flag", async (address) => (await move([address], [1], 1)).status, EINVAL],
    ["no pages", () => calls.move_pages(0, 1, null, [1], new Int32Array(1), MOVE), EFAULT],
    ["pages that end too early", (address) => calls.move_pages(0, 2, [address], [1, 1], new Int32Array(2), MOVE), EFAULT],
    ["nodes that end too early", (address) => calls.move_pages(0, 2, addresses(address, 2), [1], new Int32Array(2), MOVE), EFAULT],
    ["no status", (address) => calls.move_pages(0, 1, [address], [1], null, MOVE), EFAULT],
    ["a status that ends too early", (address) => calls.move_pages(0, 2, addresses(address, 2), null, new Int32Array(1), 0), EFAULT],
    ["a status of a page in place that is nowhere", (address) => calls.move_pages(0, 1, [address], [0], new Int32Array(0), MOVE), EFAULT],
  ])("%s", async (_, call, errno) => expect(await call(populate(2))).toBe(errno));

  test("of nothing is nothing", async () => expect(await calls.move_pages(0, 0, null, null, null, 0)).toBe(0));
});

describe("migrate_pages", () => {
  const migrate = (from: number[], to: number[], pid = 0, by = calls): Promise<number> =>
    by.migrate_pages(pid, 33, word(...from), word(...to));

  async function spread(): Promise<number> {
    const address = populate(4);
    await calls.move_pages(0, 4, addresses(address, 4), [0, 1, 2, 3], new Int32Array(4), S.MPOL_MF_MOVE);
    return address;
  }

  test("keeps the relations of nodes", async () => {
    const address = await spread();
    expect(await migrate([0, 1], [2, 3])).toBe(0);
    expect(nodesAt(address, 4)).toEqual([2, 3, 2, 3]);
    expect(await migrate([], [3])).toBe(0);
    expectSound(linux, platform);
  });

  test("pairs of the comments in the kernel", () => {
    const of = (from: number[], to: number[]) => pairs(maskOf(from), maskOf(to));
    // 4 goes first, so that nothing that came there goes on.
    expect(of([2, 3, 4], [3, 4, 5])).toEqual([
      [4, 5],
      [3, 4],
      [2, 3],
    ]);
    expect(
      of([0, 1, 2, 3, 4, 5, 6, 7], [3, 4, 5])
        .map(([source]) => source)
        .sort(),
    ).toEqual([0, 1, 2, 6, 7]);
    expect(of([1, 2], [2, 1])).toEqual([]);
    expect(of([0, 1, 2], [1, 2, 5])).toEqual([
      [2, 5],
      [1, 2],
      [0, 1],
    ]);
  });

  test("a heap's pages move by advice, and those that do not are counted", async () => {
    const heap = mapHeap(8);
    platform.follows = (gfn) => gfn % 4 !== 0;
    expect(await migrate([0], [2])).toBe(2);
    expect(nodesAt(heap, 8)).toEqual([0, 2, 2, 2, 0, 2, 2, 2]);
    expectSound(linux, platform);
  });

  test("a heap of two processes stays, unless who may everything moves it", async () => {
    const heap = mapHeap(8);
    const root = callsOf(0);
    root.process.mapHeap(linux.table.ownerOf(pageOf(heap)), heap, 1024 * FRAME);
    expect(await migrate([0], [2])).toBe(0);
    expect(nodesAt(heap, 1)).toEqual([0]);
    expect(await migrate([0], [2], process.pid, root)).toBe(0);
    expect(nodesAt(heap, 1)).toEqual([2]);
  });

  test("a node that is full is ENOMEM", async () => {
    populate(3);
    exhaust(2, 1);
    expect(await migrate([0], [2])).toBe(ENOMEM);
  });

  test("nodes of the target's cpuset, unless who asks may everything; nodes of one's own at any rate", async () => {
    const address = await spread();
    linux.attach(process, linux.newCpuset(maskOf([0, 1])));
    expect(await migrate([0], [2])).toBe(EPERM);
    expect(await migrate([0], [2], process.pid, callsOf(1000, true))).toBe(0);
    expect(nodesAt(address, 1)).toEqual([2]);
    const confined = callsOf(0);
    linux.attach(confined.process, linux.newCpuset(maskOf([1])));
    expect(await migrate([2], [0, 3], process.pid, confined)).toBe(EINVAL);
  });

  test.each<[string, () => Promise<number>, number]>([
    ["nowhere to go", () => migrate([0], []), EINVAL],
    ["nodes that are not there", () => migrate([0], [9]), EPERM],
    ["a mask of old nodes that is not there", () => calls.migrate_pages(0, 65, word(0), Uint32Array.of(1, 0)), EFAULT],
    ["a mask of new nodes that is not there", () => calls.migrate_pages(0, 65, Uint32Array.of(1, 0), word(0)), EFAULT],
    ["too many nodes", () => calls.migrate_pages(0, 100_000, word(0), word(1)), EINVAL],
    ["nobody", () => migrate([0], [1], 999), ESRCH],
    ["somebody else's", () => migrate([0], [1], process.pid, callsOf(7)), EPERM],
  ])("%s", async (_, call, errno) => expect(await call()).toBe(errno));
});

test("mmap and munmap", () => {
  for (const length of [0, -1, 1.5, ADDRESS_END]) expect(calls.mmap(length)).toBe(EINVAL);
  const address = calls.mmap(3 * FRAME);
  for (const [addr, length] of [
    [address + 1, FRAME],
    [-FRAME, FRAME],
    [address, 0],
    [address, ADDRESS_END],
    [NaN, 1],
  ] as const) {
    expect(calls.munmap(addr, length)).toBe(EINVAL);
  }
  expect(calls.munmap(address + FRAME, 1)).toBe(0);
  expect(process.mappings.map(({ first, end }) => end - first)).toEqual([1, 1]);
  // Where nothing is mapped there is nothing to do.
  expect(calls.munmap(address + FRAME, FRAME)).toBe(0);
  expect(linux.table.transfer(500, OWNER_FREE, OWNER_KERNEL)).toBe(true);
});
