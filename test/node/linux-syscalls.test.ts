// Linux's calls about policies: what they do, and the errno of every misuse. Those that move pages: linux-migrate.test.ts.
import { describe, expect, test } from "vitest";
import { OWNER_FREE, OWNER_KERNEL } from "../../src/guest/frame-table.js";
import * as M from "../../src/guest/linux/mempolicy.js";
import { maskOf } from "../../src/guest/linux/nodemask.js";
import * as S from "../../src/guest/linux/syscalls.js";
import { ADDRESS_END, pageOf } from "../../src/guest/process.js";
import { FRAME } from "../support/fake-platform.js";
import { expectSound } from "../support/guests.js";
import {
  bootBeforeEach,
  calls,
  callsOf,
  EFAULT,
  EINVAL,
  EIO,
  ENOMEM,
  EPERM,
  exhaust,
  linux,
  mapHeap,
  nodesAt,
  platform,
  populate,
  process,
  task,
  word,
} from "../support/linux-calls.js";

bootBeforeEach();

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
    ["an end beyond all addresses", (address) => bind(address, ADDRESS_END / FRAME, M.MPOL_BIND, [1]), EFAULT],
    ["nothing but what is beyond", () => bind(ADDRESS_END, 1, M.MPOL_BIND, [1]), EFAULT],
    ["an end beyond 2^64", (address) => bind(address, 2 ** 52, M.MPOL_BIND, [1]), EINVAL],
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

test("mmap and munmap", () => {
  for (const length of [0, -1, 1.5]) expect(calls.mmap(length)).toBe(EINVAL);
  for (const length of [ADDRESS_END, 2 ** 48]) expect(calls.mmap(length)).toBe(ENOMEM);
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

test("an address space can be full", async () => {
  const address = calls.mmap(2 ** 46);
  expect(address).toBeGreaterThan(0);
  expect(calls.mmap(2 ** 46)).toBe(ENOMEM);
  expect(process.mappings).toHaveLength(1);
  // What is left is had, to the last page.
  const { unmapped } = process;
  expect(calls.mmap(unmapped + 1)).toBe(ENOMEM);
  expect(calls.mmap(unmapped)).toBeGreaterThan(address);
  expect(calls.mmap(1)).toBe(ENOMEM);
  expect(await calls.mbind(address, 2 ** 46, M.MPOL_BIND, word(1), 33, 0)).toBe(0);
  expect(calls.munmap(address, 2 ** 46)).toBe(0);
});
