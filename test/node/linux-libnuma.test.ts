// libnuma by its names, over the actual topology; and AutoNUMA, on and off.
import { beforeEach, describe, expect, test } from "vitest";
import { OWNER_KERNEL } from "../../src/guest/frame-table.js";
import { Libnuma } from "../../src/guest/linux/libnuma.js";
import type { Linux, LinuxProcess, Task } from "../../src/guest/linux/linux.js";
import * as M from "../../src/guest/linux/mempolicy.js";
import { maskOf } from "../../src/guest/linux/nodemask.js";
import { MPOL_MF_MOVE } from "../../src/guest/linux/syscalls.js";
import { pageOf } from "../../src/guest/process.js";
import { type FakePlatform, FRAME, ring } from "../support/fake-platform.js";
import { bootLinux, expectSound } from "../support/guests.js";

let linux: Linux;
let platform: FakePlatform;
let process: LinuxProcess;
let task: Task;
let numa: Libnuma;

async function start(options = {}): Promise<void> {
  ({ guest: linux, platform } = await bootLinux(options));
  process = linux.spawn({ uid: 1000 });
  task = process.newThread(0);
  numa = new Libnuma(linux, task);
}
beforeEach(() => start());

const touch = (address: number, pages: number): number[] =>
  Array.from({ length: pages }, (_, i) => linux.access(task, address + i * FRAME));

describe("what there is", () => {
  test("is the actual topology, not the flat one", () => {
    expect(numa.numa_available()).toBe(0);
    expect([numa.numa_max_node(), numa.numa_num_configured_nodes(), numa.numa_num_configured_cpus()]).toEqual([3, 4, 4]);
    expect([numa.numa_max_possible_node(), numa.numa_num_possible_nodes(), numa.numa_num_possible_cpus()]).toEqual([31, 32, 256]);
    expect([0, 1, 2, 3].map((node) => numa.numa_distance(0, node))).toEqual([10, 20, 30, 20]);
    expect(numa.numa_distance(0, 4)).toBe(0);
    expect(numa.numa_distance(9, 0)).toBe(0);
    expect([0, 1, 2, 3].map((cpu) => numa.numa_node_of_cpu(cpu))).toEqual([0, 1, 2, 3]);
    expect(numa.numa_node_to_cpus(2)).toEqual([2]);
    expect(numa.numa_get_mems_allowed()).toEqual([0, 1, 2, 3]);
    expect(numa.numa_num_task_nodes()).toBe(4);
    expect(numa.numa_pagesize()).toBe(8192);
  });

  test("nodes and CPUs that are not there", () => {
    expect([numa.numa_node_of_cpu(4), numa.errno]).toEqual([-1, 22]);
    for (const node of [4, -1, 0.5]) expect([numa.numa_node_to_cpus(node), numa.errno]).toEqual([-1, 34]);
    const free = { bytes: 0 };
    expect([numa.numa_node_size64(4, free), free.bytes]).toEqual([-1, -1]);
  });

  test("bytes of a node, and how many of them are free", () => {
    const free = { bytes: 0 };
    expect(numa.numa_node_size64(0, free)).toBe(256 * FRAME);
    expect(free.bytes).toBe(250 * FRAME);
    linux.table.transfer(900, 1, 8);
    expect(numa.numa_node_size64(3, free)).toBe(256 * FRAME);
    expect(free.bytes).toBe(255 * FRAME);
    expect(numa.numa_node_size64(3)).toBe(256 * FRAME);
  });

  test("follows changes; without following, which CPUs a node has is kept until it is told to look again", () => {
    const old = new Libnuma(linux, task, { follow: false });
    expect(old.numa_node_to_cpus(3)).toEqual([3]);
    expect(numa.numa_node_to_cpus(3)).toEqual([3]);
    platform.moveVcpu(0, 3);
    expect(numa.numa_node_to_cpus(3)).toEqual([0, 3]);
    expect(numa.numa_node_of_cpu(0)).toBe(3);
    expect(old.numa_node_to_cpus(3)).toEqual([3]);
    old.numa_node_to_cpu_update();
    expect(old.numa_node_to_cpus(3)).toEqual([0, 3]);
    numa.close();
    platform.moveVcpu(0, 1);
    expect(numa.numa_node_of_cpu(0)).toBe(3);
    platform.happen({ kind: "nodes", distances: ring(5) });
    expect(old.numa_max_node()).toBe(4);
    expect(old.numa_distance(0, 4)).toBe(20);
  });
});

describe("policies", () => {
  test("preferred", () => {
    expect(numa.numa_preferred()).toBe(0);
    numa.numa_set_preferred(2);
    expect(numa.numa_preferred()).toBe(2);
    expect(touch(numa.numa_alloc_local(FRAME), 1)).toEqual([0]);
    expect(touch(process.mmap(FRAME), 1)).toEqual([2]);
    numa.numa_set_preferred(-1);
    expect(task.policy).toBeUndefined();
  });

  test("membind, interleave and local", () => {
    expect(numa.numa_get_membind()).toEqual([0, 1, 2, 3]);
    numa.numa_set_membind([1, 3]);
    expect(numa.numa_get_membind()).toEqual([1, 3]);
    expect(numa.numa_get_interleave_mask()).toEqual([]);
    expect(numa.numa_preferred()).toBe(1);
    numa.numa_set_interleave_mask([0, 2]);
    expect(numa.numa_get_interleave_mask()).toEqual([0, 2]);
    expect(numa.numa_get_interleave_node()).toBe(0);
    linux.allocPage(task);
    expect(numa.numa_get_interleave_node()).toBe(2);
    expect(numa.numa_get_membind()).toEqual([0, 1, 2, 3]);
    expect(numa.numa_preferred()).toBe(0);
    numa.numa_set_weighted_interleave_mask([1, 2]);
    expect(numa.numa_get_weighted_interleave_mask()).toEqual([1, 2]);
    expect(numa.numa_get_interleave_mask()).toEqual([]);
    numa.numa_set_localalloc();
    expect(task.policy!.mode).toBe(M.MPOL_LOCAL);
    expect(numa.numa_get_interleave_node()).toBe(0);
    numa.numa_set_interleave_mask([]);
    expect(task.policy).toBeUndefined();
    numa.numa_set_interleave_mask([1]);
    numa.numa_set_weighted_interleave_mask([]);
    expect(task.policy).toBeUndefined();
  });

  test("what the kernel refuses goes to numa_error", () => {
    const failed: string[] = [];
    numa.numa_error = (where) => failed.push(where);
    numa.numa_set_membind([9]);
    numa.numa_tonode_memory(FRAME, FRAME, 1);
    expect(failed).toEqual(["set_mempolicy", "mbind"]);
    expect(numa.errno).toBe(14);
    numa.numa_set_membind([77, -1]);
    expect(numa.errno).toBe(22);
    expect(failed).toHaveLength(3);
  });
});

describe("memory", () => {
  test("on a node, and nowhere else unless that is preferred only", () => {
    const address = numa.numa_alloc_onnode(3 * FRAME, 2);
    expect(touch(address, 3)).toEqual([2, 2, 2]);
    while (linux.lists.freeOn(2) > 0) linux.lists.alloc(0, [2], OWNER_KERNEL);
    expect(() => touch(numa.numa_alloc_onnode(FRAME, 2), 1)).toThrow("no frame is left");
    numa.numa_set_bind_policy(0);
    expect(touch(numa.numa_alloc_onnode(FRAME, 2), 1)).toEqual([3]);
    numa.numa_set_bind_policy(1);
    numa.numa_free(address, 3 * FRAME);
    expect(process.populated(pageOf(address), pageOf(address) + 3)).toEqual([]);
    expect(linux.lists.freeOn(2)).toBe(3);
  });

  test("interleaved", () => {
    const at = (address: number, pages: number): number[] => touch(address, pages).sort();
    expect(at(numa.numa_alloc_interleaved(8 * FRAME), 8)).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(at(numa.numa_alloc_interleaved_subset(4 * FRAME, [1, 3]), 4)).toEqual([1, 1, 3, 3]);
    linux.weights[0] = 3;
    expect(at(numa.numa_alloc_weighted_interleaved(6 * FRAME), 6)).toEqual([0, 0, 0, 1, 2, 3]);
    expect(at(numa.numa_alloc_weighted_interleaved_subset(4 * FRAME, [0, 2]), 4)).toEqual([0, 0, 0, 2]);
  });

  test("as the task's policy has it, touched at once", () => {
    numa.numa_set_membind([3]);
    const address = numa.numa_alloc(2 * FRAME);
    expect(process.nodeOf(pageOf(address) + 1)).toBe(3);
    numa.numa_set_membind([1]);
    expect(touch(address, 2)).toEqual([3, 3]);
    expect(numa.numa_alloc(0)).toBe(0);
    expect(numa.numa_alloc_onnode(-5, 1)).toBe(0);
    expect(numa.errno).toBe(22);
  });

  test("ranges get policies of their own", () => {
    const address = process.mmap(12 * FRAME);
    numa.numa_set_membind([2]);
    numa.numa_tonode_memory(address, 2 * FRAME, 3);
    numa.numa_tonodemask_memory(address + 2 * FRAME, 2 * FRAME, [1, 2]);
    numa.numa_setlocal_memory(address + 4 * FRAME, 2 * FRAME);
    numa.numa_interleave_memory(address + 6 * FRAME, 2 * FRAME, [0, 1]);
    numa.numa_weighted_interleave_memory(address + 8 * FRAME, 2 * FRAME, [2, 3]);
    numa.numa_police_memory(address, 12 * FRAME);
    const nodes = Array.from({ length: 12 }, (_, i) => process.nodeOf(pageOf(address) + i));
    expect([nodes.slice(0, 6), nodes.slice(6, 8).sort(), nodes.slice(8, 10).sort(), nodes.slice(10)]).toEqual([
      [3, 3, 1, 1, 0, 0],
      [0, 1],
      [2, 3],
      [2, 2],
    ]);
    numa.numa_set_strict(1);
    numa.numa_tonode_memory(address, FRAME, 0);
    expect(numa.errno).toBe(5);
    numa.numa_set_strict(0);
    numa.errno = 0;
    numa.numa_tonode_memory(address, FRAME, 0);
    expect(numa.errno).toBe(0);
  });

  test("pages that are there move", async () => {
    const address = numa.numa_alloc(2 * FRAME);
    const status = new Int32Array(2);
    expect(await numa.numa_move_pages(0, [address, address + FRAME], [1, 2], status, MPOL_MF_MOVE)).toBe(0);
    expect([...status]).toEqual([1, 2]);
    expect(await numa.numa_migrate_pages(0, [1, 2], [2, 3])).toBe(0);
    expect(touch(address, 2)).toEqual([2, 3]);
    expect(await numa.numa_move_pages(0, [address], [9], status, MPOL_MF_MOVE)).toBe(-1);
    expect(numa.errno).toBe(19);
    expect(await numa.numa_migrate_pages(77, [1], [2])).toBe(-1);
    expect(numa.errno).toBe(3);
    expectSound(linux, platform);
  });
});

test("an address space that is full is errno, and no address", () => {
  expect(numa.numa_alloc_local(2 ** 46)).toBeGreaterThan(0);
  expect([numa.numa_alloc_local(2 ** 46), numa.errno]).toEqual([0, 12]);
});

describe("AutoNUMA", () => {
  /** Pages that vCPU 0 has touched and vCPU `by` uses from now on, scan after scan. */
  function use(address: number, pages: number, by: Task, scans: number): number[] {
    for (let i = 0; i < scans; ++i) {
      linux.autonuma?.scan(process);
      for (let page = 0; page < pages; ++page) linux.access(by, address + page * FRAME);
    }
    return Array.from({ length: pages }, (_, page) => process.nodeOf(pageOf(address) + page));
  }

  test("is off unless it is asked for", () => {
    const address = numa.numa_alloc(4 * FRAME);
    expect(linux.autonuma).toBeUndefined();
    expect(use(address, 4, process.newThread(2), 10)).toEqual([0, 0, 0, 0]);
  });

  test("moves pages after two faults in a row from the same other node, and no sooner", () => {
    const { stat } = linux.enableAutoNuma();
    const address = numa.numa_alloc(4 * FRAME);
    const remote = process.newThread(2);
    expect(use(address, 4, remote, 1)).toEqual([0, 0, 0, 0]);
    // Without a scan between, an access is no fault.
    for (let page = 0; page < 4; ++page) linux.access(remote, address + page * FRAME);
    expect(use(address, 4, remote, 0)).toEqual([0, 0, 0, 0]);
    expect(use(address, 4, remote, 1)).toEqual([2, 2, 2, 2]);
    expect(stat).toEqual({ numa_pte_updates: 8, numa_hint_faults: 8, numa_hint_faults_local: 0, numa_pages_migrated: 4 });
    expect(use(address, 4, remote, 3)).toEqual([2, 2, 2, 2]);
    expect(stat).toEqual({ numa_pte_updates: 20, numa_hint_faults: 20, numa_hint_faults_local: 12, numa_pages_migrated: 4 });
    expectSound(linux, platform);
  });

  test("leaves pages where they are that two nodes use in turn", () => {
    const { stat } = linux.enableAutoNuma();
    const address = numa.numa_alloc(FRAME);
    const [two, three] = [process.newThread(2), process.newThread(3)];
    for (let i = 0; i < 6; ++i) use(address, 1, i % 2 === 0 ? two : three, 1);
    expect(process.nodeOf(pageOf(address))).toBe(0);
    expect(stat.numa_pages_migrated).toBe(0);
    use(address, 1, three, 1);
    expect(process.nodeOf(pageOf(address))).toBe(3);
  });

  test("follows a vCPU that moves, and converges", () => {
    const { stat } = linux.enableAutoNuma();
    const address = numa.numa_alloc(20 * FRAME);
    platform.moveVcpu(0, 3);
    expect(use(address, 20, task, 2)).toEqual(Array(20).fill(3));
    platform.moveVcpu(0, 1);
    expect(use(address, 20, task, 2)).toEqual(Array(20).fill(1));
    use(address, 20, task, 3);
    expect(stat.numa_pages_migrated).toBe(40);
    expectSound(linux, platform);
  });

  test("a scan takes so many pages at a time, and begins anew at the end", () => {
    const autonuma = linux.enableAutoNuma({ scanBytes: 3 * FRAME });
    numa.numa_alloc(7 * FRAME);
    expect(Array.from({ length: 5 }, () => autonuma.scan(process))).toEqual([3, 3, 1, 3, 3]);
  });

  test("keeps to policies: only where none is set, or with MPOL_F_NUMA_BALANCING among its nodes", () => {
    linux.enableAutoNuma();
    const calls = linux.syscalls(task);
    const remote = process.newThread(2);
    const where = (mode: number | undefined, nodes: number[]): number[] => {
      const address = process.mmap(FRAME);
      linux.access(task, address);
      if (mode !== undefined) expect(calls.mbindOnly(address, FRAME, mode, Uint32Array.of(maskOf(nodes)), 33, 0)).toBe(0);
      return use(address, 1, remote, 3);
    };
    expect(where(undefined, [])).toEqual([2]);
    expect(where(M.MPOL_LOCAL, [])).toEqual([0]);
    expect(where(M.MPOL_BIND, [0, 2])).toEqual([0]);
    expect(where(M.MPOL_BIND | M.MPOL_F_NUMA_BALANCING, [0, 2])).toEqual([2]);
    expect(where(M.MPOL_PREFERRED_MANY | M.MPOL_F_NUMA_BALANCING, [0, 2])).toEqual([2]);
    expect(where(M.MPOL_BIND | M.MPOL_F_NUMA_BALANCING, [0, 1])).toEqual([0]);
    expect(where(M.MPOL_PREFERRED, [0])).toEqual([0]);
    numa.numa_set_localalloc();
    remote.policy = task.policy;
    expect(where(undefined, [])).toEqual([0]);
    remote.policy = undefined;
    linux.attach(process, linux.newCpuset(maskOf([0, 1])));
    expect(where(undefined, [])).toEqual([0]);
  });

  test("an advice that the hypervisor refuses is the kernel's problem, and ends nothing", async () => {
    const { guest, platform: machine, problems } = await bootLinux();
    const heap = guest.spawn();
    const { owner, first } = guest.grantHeap(1, 0);
    heap.mapHeap(owner, first * FRAME, 1024 * FRAME);
    const remote = heap.newThread(2);
    const autonuma = guest.enableAutoNuma();
    const scans = (): void => {
      for (let i = 0; i < 2; ++i) {
        autonuma.scan(heap);
        guest.access(remote, first * FRAME);
      }
    };
    const refusal = new Error("gone");
    machine.refusal = refusal;
    scans();
    await autonuma.settled();
    expect(problems).toEqual([refusal]);
    machine.refusal = undefined;
    scans();
    await autonuma.settled();
    expect(guest.table.nodeOf(first)).toBe(2);
    expect(problems).toHaveLength(1);
  });

  test("a full node gets no more", () => {
    const { stat } = linux.enableAutoNuma();
    const address = numa.numa_alloc(2 * FRAME);
    while (linux.lists.freeOn(2) > 1) linux.lists.alloc(0, [2], OWNER_KERNEL);
    expect(use(address, 2, process.newThread(2), 4)).toEqual([2, 0]);
    expect(stat.numa_pages_migrated).toBe(1);
  });

  test("pages of a heap are the hypervisor's to move", async () => {
    const autonuma = linux.enableAutoNuma();
    const { owner, first } = linux.grantHeap(8, 0);
    process.mapHeap(owner, first * FRAME, 1024 * FRAME);
    platform.follows = (gfn) => gfn !== first;
    use(first * FRAME, 2, process.newThread(2), 2);
    await autonuma.settled();
    expect(platform.requests).toEqual([`advise ${first}+1 2`, `advise ${first + 1}+1 2`]);
    expect([first, first + 1].map((page) => process.nodeOf(page))).toEqual([0, 2]);
    expect(autonuma.stat.numa_pages_migrated).toBe(1);
    expectSound(linux, platform);
  });
});
