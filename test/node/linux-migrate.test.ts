// Linux's move_pages and migrate_pages: where pages go, the status of each, and the errno of every misuse.
import { describe, expect, test } from "vitest";
import { pairs } from "../../src/guest/linux/migrate.js";
import { maskOf } from "../../src/guest/linux/nodemask.js";
import * as S from "../../src/guest/linux/syscalls.js";
import { pageOf } from "../../src/guest/process.js";
import { FRAME } from "../support/fake-platform.js";
import { expectSound } from "../support/guests.js";
import {
  bootBeforeEach,
  addresses,
  calls,
  callsOf,
  EACCES,
  EFAULT,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOMEM,
  EPERM,
  ESRCH,
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
