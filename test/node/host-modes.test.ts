// The modes a machine can be booted in, from the hypervisor to where a thread's blocks lie.
import { afterEach, describe, expect, test } from "vitest";
import { type BootMode, Host, type Vm, type VmBootOptions } from "../../dist/host/index.js";
import type { NumaHeap } from "../../dist/index.js";
import { AppWorker } from "../core/workers.js";

const FRAME = 8192;
const NODES = [0, 1, 2, 3];
const hosts: Host[] = [];
const workers: AppWorker[] = [];

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  await Promise.all(hosts.splice(0).map((host) => host.dispose()));
});

interface Booted {
  host: Host;
  vm: Vm;
  heap: NumaHeap;
  /** Node that the blocks of a thread on vCPU 2 really lie on, those of its last allocation. */
  allocate(count: number, bytes: number): Promise<number[]>;
}

async function boot(hypervisor: "xen" | "kvm", options: Partial<VmBootOptions>): Promise<Booted> {
  const host = await Host.create({ hypervisor, nodes: 4, cpusPerNode: 1, memoryPerNode: "32MiB" });
  hosts.push(host);
  const vm = await host.boot({ vcpus: 4, memory: "32MiB", ...options });
  const heap = await vm.createHeap();
  const worker = new AppWorker();
  workers.push(worker);
  await worker.order("attach", { handle: heap.handle(2) });
  let known = 0;
  return {
    host,
    vm,
    heap,
    allocate: async (count, bytes) => {
      await worker.order("allocate", { count, bytes });
      const blocks = (await worker.order("verify")) as number[];
      const { frames } = await host.truth(vm);
      return blocks.slice((known += count) - count).map((ptr) => frames[Math.floor(ptr / FRAME)]!);
    },
  };
}

/** What the kernel believes of where vCPUs are, and how many nodes heaps know. */
const believed = async ({ vm, heap }: Booted): Promise<{ flat: number; vcpuNode: readonly number[]; heap: number }> => {
  const { flat, vcpuNode } = await vm.guest.view();
  return { flat: flat.nodes.length, vcpuNode, heap: heap.stats().nodes.length };
};

describe.each(["xen", "kvm"] as const)("%s", (hypervisor) => {
  test("adaptive: a thread's memory is where it runs, also after it moved", async () => {
    const booted = await boot(hypervisor, { mode: "adaptive" });
    expect(await booted.allocate(5, 1000)).toEqual([2, 2, 2, 2, 2]);
    await booted.host.migrateVcpu(booted.vm, 2, { toNode: 0 });
    expect(await booted.allocate(5, 2000)).toEqual([0, 0, 0, 0, 0]);
    expect(await believed(booted)).toEqual({ flat: 1, vcpuNode: [0, 1, 0, 3], heap: 4 });
  });

  test("static: where it ran when the machine was booted, for good", async () => {
    const booted = await boot(hypervisor, { mode: "static" });
    expect(await booted.allocate(5, 1000)).toEqual([2, 2, 2, 2, 2]);
    await booted.host.migrateVcpu(booted.vm, 2, { toNode: 0 });
    expect(await booted.allocate(5, 2000)).toEqual([2, 2, 2, 2, 2]);
    expect(await believed(booted)).toEqual({ flat: 4, vcpuNode: NODES, heap: 4 });
    expect(await booted.vm.guest.deliveries()).toEqual([]);
  });

  test("flat: wherever the hypervisor happened to put it", async () => {
    const booted = await boot(hypervisor, { mode: "flat" });
    const lies = await booted.allocate(300, 30_000);
    const { frames } = await booted.host.truth(booted.vm);
    expect([0, 256, 512, 768, 1024].map((gfn) => frames[gfn])).toEqual([0, 1, 2, 3, 0]);
    expect(new Set(lies).size).toBeGreaterThan(3);
    await booted.host.migrateVcpu(booted.vm, 2, { toNode: 0 });
    expect(await believed(booted)).toEqual({ flat: 1, vcpuNode: [0, 0, 0, 0], heap: 1 });
  });

  test("first-touch: where its thread ran when it first had the frame, though heap and guest know one node", async () => {
    const booted = await boot(hypervisor, { mode: "first-touch" });
    // Beyond the frames the kernel touched when it made the heap.
    await booted.allocate(100, 4000);
    expect(new Set(await booted.allocate(100, 4000))).toEqual(new Set([2]));
    await booted.host.migrateVcpu(booted.vm, 2, { toNode: 1 });
    const after = await booted.allocate(200, 12_000);
    expect(new Set(after.slice(-50))).toEqual(new Set([1]));
    expect(await believed(booted)).toEqual({ flat: 1, vcpuNode: [0, 0, 0, 0], heap: 1 });
  });

  test("policy-hypercall: as the guest has chosen, at boot or later", async () => {
    const booted = await boot(hypervisor, { mode: "policy-hypercall", placement: "interleave" });
    const lies = await booted.allocate(300, 12_000);
    const { frames } = await booted.host.truth(booted.vm);
    const touched = [...frames.keys()].filter((gfn) => gfn >= 64 && frames[gfn]! >= 0);
    expect(touched.length).toBeGreaterThan(300);
    expect(touched.every((gfn) => frames[gfn] === gfn % 4)).toBe(true);
    expect(new Set(lies)).toEqual(new Set(NODES));
    await booted.vm.guest.setPlacement("first-touch");
    expect(new Set((await booted.allocate(300, 12_000)).slice(-50))).toEqual(new Set([2]));
    expect(await believed(booted)).toEqual({ flat: 1, vcpuNode: [0, 0, 0, 0], heap: 1 });
  });
});

test.each(["adaptive", "static", "flat", "first-touch"] as BootMode[])("mode %s leaves a guest nothing to choose", async (mode) => {
  const host = await Host.create({ hypervisor: "kvm", nodes: 2, memoryPerNode: "32MiB" });
  hosts.push(host);
  const free = await host.freeMemory();
  await expect(host.boot({ vcpus: 1, memory: "16MiB", mode, placement: "interleave" })).rejects.toMatchObject({
    name: "HypervisorError",
    code: "NUMAHEAP_PLATFORM_REFUSED",
  });
  // Nothing of it is left.
  expect(host.vms).toEqual([]);
  expect(await host.freeMemory()).toEqual(free);
});
