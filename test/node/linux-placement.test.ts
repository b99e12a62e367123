// Where Linux puts pages: every policy, which of several holds, fallback, cpusets, rebinding when nodes change, and what /sys counts of it.
import { beforeEach, describe, expect, test } from "vitest";
import { OWNER_KERNEL } from "../../src/guest/frame-table.js";
import type { Linux, LinuxProcess, Task } from "../../src/guest/linux/linux.js";
import * as M from "../../src/guest/linux/mempolicy.js";
import { maskOf, nodesOf } from "../../src/guest/linux/nodemask.js";
import { Sysfs } from "../../src/guest/linux/sysfs.js";
import { pageOf } from "../../src/guest/process.js";
import { type FakePlatform, FRAME, ring } from "../support/fake-platform.js";
import { bootLinux, expectSound } from "../support/guests.js";

let linux: Linux;
let platform: FakePlatform;
let process: LinuxProcess;
let task: Task;

beforeEach(async () => {
  ({ guest: linux, platform } = await bootLinux({ frames: 1024 }));
  process = linux.spawn();
  task = process.newThread(0);
});

const word = (nodes: readonly number[]): Uint32Array => Uint32Array.of(maskOf(nodes));
const setPolicy = (mode: number, nodes: readonly number[] = [], of = task): void =>
  expect(linux.syscalls(of).set_mempolicy(mode, word(nodes), 33)).toBe(0);

/** Nodes of pages that the task touches one after the other. */
const touch = (address: number, pages: number, by = task): number[] =>
  Array.from({ length: pages }, (_, i) => linux.access(by, address + i * FRAME));
const placed = (pages: number): number[] => touch(process.mmap(pages * FRAME), pages);

/** A mapping whose first page number is a multiple of `of`, so that interleavings begin at their first node. */
function alignedMmap(pages: number, of: number): number {
  const address = process.mmap((pages + of) * FRAME);
  const first = Math.ceil(pageOf(address) / of) * of;
  process.unmap(pageOf(address), first);
  process.unmap(first + pages, pageOf(address) + pages + of);
  return first * FRAME;
}

/** Takes free frames of a node away until there are `left`. */
function exhaust(node: number, left = 0): void {
  while (linux.lists.freeOn(node) > left) expect(linux.lists.alloc(0, [node], OWNER_KERNEL)).toBeGreaterThan(0);
}

describe("each policy", () => {
  test("default and local: where the task runs", () => {
    expect(placed(4)).toEqual([0, 0, 0, 0]);
    setPolicy(M.MPOL_LOCAL);
    task.vcpu = 3;
    expect(placed(2)).toEqual([3, 3]);
    exhaust(3);
    // Of nodes 0 and 2, both as near, its zonelist has 0 first.
    expect(linux.zonelist(3)).toEqual([3, 0, 2, 1]);
    expect(placed(2)).toEqual([0, 0]);
  });

  test("preferred: there, and then by distance from there", () => {
    setPolicy(M.MPOL_PREFERRED, [2]);
    exhaust(2, 2);
    expect(placed(4)).toEqual([2, 2, 3, 3]);
    exhaust(3);
    expect(placed(1)).toEqual([1]);
  });

  test("bind: the nearest of the nodes first, never another", () => {
    setPolicy(M.MPOL_BIND, [1, 2]);
    exhaust(1, 1);
    expect(placed(3)).toEqual([1, 2, 2]);
    exhaust(2);
    expect(() => placed(1)).toThrow("no frame is left");
    expect(linux.lists.freeOn(0)).toBe(250);
  });

  test("preferred-many: the nearest of the nodes, then any", () => {
    setPolicy(M.MPOL_PREFERRED_MANY, [2, 3]);
    exhaust(3, 1);
    exhaust(2, 1);
    expect(placed(4)).toEqual([3, 2, 0, 0]);
  });

  test("interleave: page by page, by the page's number", () => {
    setPolicy(M.MPOL_INTERLEAVE, [0, 1, 3]);
    const address = alignedMmap(7, 3);
    expect(touch(address, 7)).toEqual([0, 1, 3, 0, 1, 3, 0]);
    // The order of touching is all the same.
    const other = alignedMmap(3, 3);
    expect([2, 0, 1].map((i) => linux.access(task, other + i * FRAME))).toEqual([3, 0, 1]);
    exhaust(3);
    // The zonelist of node 3 serves for it.
    expect(touch(alignedMmap(3, 3), 3)).toEqual([0, 1, 0]);
  });

  test("weighted interleave: as many pages in turn as a node weighs", () => {
    const sysfs = new Sysfs(linux);
    for (const [node, weight] of [
      [0, 3],
      [1, 1],
      [2, 2],
    ] as const) {
      expect(sysfs.write(`/sys/kernel/mm/mempolicy/weighted_interleave/node${node}`, `${weight}\n`)).toBe(0);
    }
    setPolicy(M.MPOL_WEIGHTED_INTERLEAVE, [0, 1, 2]);
    expect(touch(alignedMmap(12, 6), 12)).toEqual([0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 2, 2]);
  });

  test("the kernel's pages for a task go on where its interleaving stands", () => {
    setPolicy(M.MPOL_INTERLEAVE, [1, 2]);
    const gfns = [0, 1, 2].map(() => linux.allocPage(task));
    expect(gfns.map((gfn) => linux.table.nodeOf(gfn))).toEqual([1, 2, 1]);
    const mode = new Int32Array(1);
    expect(linux.syscalls(task).get_mempolicy(mode, null, 0, 0, 1)).toBe(0);
    expect(mode[0]).toBe(2);
    expectSound(linux, platform);
    for (const gfn of gfns) linux.freeKernelPage(gfn);
    expect(() => linux.freeKernelPage(gfns[0]!)).toThrow("no page of the kernel's");
    expectSound(linux, platform);
    setPolicy(M.MPOL_BIND, [1]);
    exhaust(1);
    expect(linux.allocPage(task)).toBe(-1);
  });

  test("a task on a node without memory is on the nearest that has some", () => {
    platform.moveFrames(256, 256, 0);
    task.vcpu = 1;
    expect(placed(1)).toEqual([0]);
    expect(linux.syscalls(task).getcpu()).toEqual({ cpu: 1, node: 0 });
  });
});

describe("which policy holds", () => {
  const bind = (address: number, pages: number, mode: number, ...nodes: number[]): Promise<number> =>
    linux.syscalls(task).mbind(address, pages * FRAME, mode, word(nodes), 33, 0);

  test("the range's, else the task's, else the system's", async () => {
    const address = process.mmap(6 * FRAME);
    expect(await bind(address + 2 * FRAME, 2, M.MPOL_BIND, 3)).toBe(0);
    setPolicy(M.MPOL_BIND, [2]);
    expect(touch(address, 3)).toEqual([2, 2, 3]);
    setPolicy(M.MPOL_DEFAULT);
    expect(touch(address + 3 * FRAME, 2)).toEqual([3, 0]);
    expect(await bind(address, 6, M.MPOL_DEFAULT)).toBe(0);
    expect(linux.access(task, address + 5 * FRAME)).toBe(0);
    expect(process.mappings.every(({ policy }) => policy === undefined)).toBe(true);
  });

  test("a range's holds for all tasks, a task's for itself", async () => {
    const other = process.newThread(1);
    const address = process.mmap(4 * FRAME);
    setPolicy(M.MPOL_BIND, [3], other);
    expect(touch(address, 1)).toEqual([0]);
    expect(touch(address + FRAME, 1, other)).toEqual([3]);
    expect(await bind(address + 2 * FRAME, 2, M.MPOL_BIND, 2)).toBe(0);
    expect(touch(address + 2 * FRAME, 1)).toEqual([2]);
    expect(touch(address + 3 * FRAME, 1, other)).toEqual([2]);
  });

  test("a cpuset wins over all of them", () => {
    const cpuset = linux.newCpuset(maskOf([1, 2]));
    linux.attach(process, cpuset);
    expect(placed(1)).toEqual([1]);
    setPolicy(M.MPOL_LOCAL);
    task.vcpu = 3;
    expect(placed(1)).toEqual([2]);
    exhaust(1);
    exhaust(2);
    expect(() => placed(1)).toThrow("no frame is left");
  });

  test("policies follow their cpuset from 1-3 to 3-5", async () => {
    ({ guest: linux, platform } = await bootLinux({ distances: ring(6), vcpus: 6, frames: 1152 }));
    process = linux.spawn();
    task = process.newThread(1);
    const cpuset = linux.newCpuset(maskOf([1, 2, 3]));
    linux.attach(process, cpuset);
    setPolicy(M.MPOL_INTERLEAVE, [1, 2, 3]);
    const [plain, fixed] = [alignedMmap(3, 6), alignedMmap(6, 6)];
    expect(await bind(fixed, 6, M.MPOL_INTERLEAVE | M.MPOL_F_STATIC_NODES, 1, 2, 3)).toBe(0);
    linux.configureCpuset(cpuset, maskOf([3, 4, 5]));
    expect(touch(plain, 3)).toEqual([3, 4, 5]);
    expect(touch(fixed, 2)).toEqual([3, 3]);
    linux.attach(process, linux.rootCpuset);
    expect(touch(fixed + 2 * FRAME, 4)).toEqual([3, 1, 2, 3]);
    expectSound(linux, platform);
  });
});

test("4 nodes, then 2, then 4: policies are rebound, placement follows", async () => {
  const relative = process.newThread(1);
  setPolicy(M.MPOL_INTERLEAVE, [0, 1, 2, 3]);
  setPolicy(M.MPOL_INTERLEAVE | M.MPOL_F_RELATIVE_NODES, [0, 1, 2, 3], relative);
  const preferring = process.newThread(2);
  setPolicy(M.MPOL_PREFERRED, [3], preferring);
  expect(touch(alignedMmap(4, 4), 4)).toEqual([0, 1, 2, 3]);
  platform.happen(
    { kind: "frames", first: 512, count: 512, node: 1 },
    { kind: "vcpu", vcpu: 2, node: 0 },
    { kind: "vcpu", vcpu: 3, node: 1 },
    { kind: "nodes", distances: ring(2) },
  );
  expect(nodesOf(linux.memsOf(process))).toEqual([0, 1]);
  expect(touch(alignedMmap(4, 4), 4)).toEqual([0, 1, 0, 1]);
  expect(touch(alignedMmap(4, 4), 4, relative)).toEqual([0, 1, 0, 1]);
  // Its node is not there: where the task runs.
  expect(touch(process.mmap(FRAME), 1, preferring)).toEqual([0]);
  platform.happen(
    { kind: "nodes", distances: ring(4) },
    { kind: "frames", first: 512, count: 256, node: 2 },
    { kind: "frames", first: 768, count: 256, node: 3 },
  );
  expect(nodesOf(linux.memsOf(process))).toEqual([0, 1, 2, 3]);
  expect(touch(alignedMmap(4, 4), 4)).toEqual([0, 1, 0, 1]);
  expect(touch(alignedMmap(4, 4), 4, relative)).toEqual([0, 1, 2, 3]);
  expect(touch(process.mmap(FRAME), 1, preferring)).toEqual([3]);
  expectSound(linux, platform);
});

test("a node that loses its memory is none for policies, and is one again with it", () => {
  setPolicy(M.MPOL_BIND | M.MPOL_F_STATIC_NODES, [2]);
  platform.moveFrames(512, 256, 1);
  expect(nodesOf(linux.memsOf(process))).toEqual([0, 1, 3]);
  expect(placed(1)).toEqual([0]);
  platform.moveFrames(600, 1, 2);
  expect(placed(1)).toEqual([2]);
  expectSound(linux, platform);
});

describe("/sys/devices/system/node", () => {
  const NODES = "/sys/devices/system/node";
  const stat = (node: number): Record<string, number> => {
    const text = new Sysfs(linux).read(`${NODES}/node${node}/numastat`)!;
    return Object.fromEntries(
      text
        .trim()
        .split("\n")
        .map((line) => [line.split(" ")[0]!, Number(line.split(" ")[1])]),
    );
  };

  test("shows the flat machine, whatever happens below it", () => {
    const read = () => Object.fromEntries(new Sysfs(linux).list().map((path) => [path, new Sysfs(linux).read(path)]));
    const before = read();
    expect(before).toEqual({
      [`${NODES}/possible`]: "0\n",
      [`${NODES}/online`]: "0\n",
      [`${NODES}/has_cpu`]: "0\n",
      [`${NODES}/has_memory`]: "0\n",
      [`${NODES}/has_normal_memory`]: "0\n",
      [`${NODES}/node0/cpulist`]: "0-3\n",
      [`${NODES}/node0/distance`]: "10\n",
      [`${NODES}/node0/meminfo`]:
        "Node 0 MemTotal:           8192 kB\nNode 0 MemFree:            8144 kB\nNode 0 MemUsed:              48 kB\n",
      [`${NODES}/node0/numastat`]: "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n",
      ...Object.fromEntries([0, 1, 2, 3].map((node) => [`/sys/kernel/mm/mempolicy/weighted_interleave/node${node}`, "1\n"])),
    });
    platform.happen({ kind: "vcpu", vcpu: 0, node: 3 }, { kind: "frames", first: 0, count: 512, node: 2 });
    expect(read()).toEqual(before);
    expect(linux.actual.nodes[3]!.cpus).toEqual([0, 3]);
  });

  test("shows the nodes of a machine that was booted with them", async () => {
    ({ guest: linux } = await bootLinux({ mode: "static", nodeOf: (gfn) => (gfn < 512 ? 0 : 3) }));
    const read = (path: string) => new Sysfs(linux).read(`${NODES}/${path}`);
    expect(read("online")).toBe("0-3\n");
    expect(read("has_memory")).toBe("0,3\n");
    expect(read("node3/distance")).toBe("20 30 20 10\n");
    expect(read("node3/cpulist")).toBe("3\n");
    expect(read("node3/meminfo")).toContain("Node 3 MemTotal:           4096 kB\n");
    expect(read("node2/meminfo")).toContain("Node 2 MemTotal:              0 kB\n");
    expect(read("node4/cpulist")).toBeUndefined();
  });

  test("has no file by a name that objects have", () => {
    for (const name of ["__proto__", "constructor", "toString", "valueOf", "hasOwnProperty"])
      expect(new Sysfs(linux).read(name)).toBeUndefined();
  });

  test("frames of the balloon are not memory it has", async () => {
    platform.target(1000);
    await linux.balloon.idle();
    expect(new Sysfs(linux).read(`${NODES}/node0/meminfo`)).toContain(`MemTotal:           ${1000 * 8} kB`);
  });

  test("counts as the kernel does: by node within, and all of it as hits where there is one node to see", async () => {
    setPolicy(M.MPOL_PREFERRED, [2]);
    exhaust(2, 1);
    placed(3);
    setPolicy(M.MPOL_INTERLEAVE, [0, 1]);
    touch(alignedMmap(2, 2), 2);
    const zero = { numa_hit: 0, numa_miss: 0, numa_foreign: 0, interleave_hit: 0, local_node: 0, other_node: 0 };
    expect([0, 1, 2, 3].map((node) => linux.numastat.of(node))).toEqual([
      { ...zero, numa_hit: 1, interleave_hit: 1, local_node: 1 },
      { ...zero, numa_hit: 1, interleave_hit: 1, other_node: 1 },
      { ...zero, numa_hit: 1, numa_foreign: 2, other_node: 1 },
      { ...zero, numa_miss: 2, other_node: 2 },
    ]);
    expect(stat(0)).toEqual({ ...zero, numa_hit: 5, interleave_hit: 2, local_node: 5 });
    // A page that moves is one more that the node got.
    const page = process.populated(0, Infinity)[0]!;
    expect((await linux.movePages(process, [page], 1, 0)).full).toBe(0);
    expect(linux.numastat.of(1)).toEqual({ ...zero, numa_hit: 2, interleave_hit: 1, other_node: 2 });
  });

  test("counts by node in a machine that was booted with them", async () => {
    ({ guest: linux } = await bootLinux({ mode: "static" }));
    process = linux.spawn();
    task = process.newThread(1);
    setPolicy(M.MPOL_PREFERRED, [3]);
    exhaust(3, 1);
    placed(2);
    expect(stat(3)).toMatchObject({ numa_hit: 1, numa_foreign: 1, other_node: 1 });
    expect(stat(0)).toMatchObject({ numa_miss: 1, other_node: 1 });
    expect([0, 1, 2, 3].map((node) => linux.bootNumastat.of(node))).toEqual([0, 1, 2, 3].map((node) => linux.numastat.of(node)));
  });

  test("weights are of nodes there are, 1 to 255, 1 where nothing is said", () => {
    const sysfs = new Sysfs(linux);
    const WEIGHTS = "/sys/kernel/mm/mempolicy/weighted_interleave";
    expect(sysfs.write(`${WEIGHTS}/node2`, "255")).toBe(0);
    expect(sysfs.read(`${WEIGHTS}/node2`)).toBe("255\n");
    for (const text of ["256", "-1", "x", "1.5"]) expect(sysfs.write(`${WEIGHTS}/node2`, text)).toBe(-22);
    expect(linux.weights[2]).toBe(255);
    for (const text of ["", "0\n"]) {
      linux.weights[2] = 9;
      expect(sysfs.write(`${WEIGHTS}/node2`, text)).toBe(0);
      expect(linux.weights[2]).toBe(1);
    }
    for (const path of [`${WEIGHTS}/node4`, `${WEIGHTS}/auto`, `${NODES}/online`, "/node1", `${NODES}/node1`])
      expect(sysfs.write(path, "1")).toBe(-2);
  });
});
