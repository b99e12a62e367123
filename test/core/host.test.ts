// A host as its user has it: the hypervisor, each kernel and each application in a thread of its own.
import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "./eventually.js";
import { attachHeap, type CpusetCalls, freebsd, Host, type HostOptions, HypervisorError, linux, type Vm } from "../../dist/host/index.js";
import type { NumaHeap } from "../../dist/index.js";
import { falseBeliefs } from "../support/host-truth.js";
import { AppWorker, inNode } from "./workers.js";

const FRAME = 8192;
const MIB = 2 ** 20;
const CLEAN = { ok: true, problems: [], unaccounted: [] };
const PAIRINGS = (["xen", "kvm"] as const).flatMap((hypervisor) => (["linux", "freebsd"] as const).map((guest) => ({ hypervisor, guest })));
const FOUR = { nodes: 4, cpusPerNode: 2, memoryPerNode: "64MiB", distances: "ring" } as const;

const hosts: Host[] = [];
const workers: AppWorker[] = [];

async function create(options: HostOptions): Promise<Host> {
  const host = await Host.create(options);
  hosts.push(host);
  return host;
}

/** A thread on a vCPU, attached to the heap. */
async function attached(heap: NumaHeap, vcpu: number, options: { plain?: boolean; carried?: Vm } = {}): Promise<AppWorker> {
  const worker = new AppWorker();
  workers.push(worker);
  const { plain, carried } = options;
  const handle = heap.handle(vcpu);
  await worker.order("attach", { handle, plain, ...(carried && { port: await carried.port(handle) }) });
  return worker;
}

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  await Promise.all(hosts.splice(0).map((host) => host.dispose()));
});

/** Where the kernel, the flat view or the heap differ from what they should know. */
async function wrong(host: Host, vm: Vm, heap: NumaHeap): Promise<string[]> {
  expect((await vm.guest.view()).flat.nodes.length).toBe(1);
  return falseBeliefs(host, vm, heap);
}

describe.each(PAIRINGS)("$hypervisor, $guest", ({ hypervisor, guest }) => {
  test("a vCPU moves, and the allocator of its worker with it", async () => {
    const host = await create({ hypervisor, ...FOUR });
    const vm = await host.boot({ guest, vcpus: 4, memory: "32MiB" });
    const heap = await vm.createHeap();
    const worker = await attached(heap, 2);
    expect(await worker.order("allocate", { count: 3, bytes: 400 })).toEqual([2, 2, 2]);
    expect(await host.migrateVcpu(vm, 2, { toNode: 3 })).toMatchObject({ vcpu: 2, fromNode: 2, toNode: 3 });
    // Of classes that no block has been cached of.
    expect(await worker.order("allocate", { count: 3, bytes: 1000 })).toEqual([3, 3, 3]);
    expect(await host.migrateVcpu(vm, 2, { toNode: 3 })).toBeUndefined();
    expect(await wrong(host, vm, heap)).toEqual([]);
    expect(heap.walk({ live: (await worker.order("verify")) as number[] })).toEqual(CLEAN);
  });

  test("after every operation the guest and its heap know what is so", async () => {
    const host = await create({ hypervisor, ...FOUR });
    const vm = await host.boot({ guest, vcpus: 4, memory: "32MiB" });
    const heap = await vm.createHeap({ initialBytes: "1MiB" });
    const workers = await Promise.all([0, 1, 2, 3].map((vcpu) => attached(heap, vcpu)));
    for (const worker of workers) await worker.order("allocate", { count: 200, bytes: 4000 });
    const operations: [string, () => Promise<unknown>][] = [
      ["migratePages", () => host.migratePages(vm, { start: 4 * MIB, bytes: "8MiB", toNode: 2 })],
      ["setBalloonTarget", () => host.setBalloonTarget(vm, "24MiB")],
      ["setAffinity", () => host.setAffinity(vm, 1, [6, 7])],
      ["setLoad", () => host.setLoad(vm, 0, 50)],
      ["balance", () => host.balance()],
      ["setBalloonTarget up", () => host.setBalloonTarget(vm, "30MiB")],
      ["migrateVcpu", () => host.migrateVcpu(vm, 3, { toCpu: 0 })],
    ];
    for (const [name, operate] of operations) {
      await operate();
      expect(await wrong(host, vm, heap), name).toEqual([]);
    }
    expect((await vm.guest.view()).balloon).toEqual({ size: (2 * MIB) / FRAME, target: (30 * MIB) / FRAME });
    const live = await Promise.all(workers.map((worker) => worker.order("verify") as Promise<number[]>));
    expect(heap.walk({ live: live.flat() })).toEqual(CLEAN);
    expect((await vm.guest.deliveries()).length).toBeGreaterThan(3);
  });

  test("a machine moves to a host of another shape and back while its threads have blocks", async () => {
    const host = await create({ hypervisor, ...FOUR });
    const other = await create({ hypervisor, nodes: 2, cpusPerNode: 2, memoryPerNode: "128MiB" });
    const vm = await host.boot({ guest, vcpus: 4, memory: "32MiB" });
    const heap = await vm.createHeap();
    // Browsers hand no memory over but by a port.
    const workers = await Promise.all([1, 2].map((vcpu) => attached(heap, vcpu, inNode && vcpu === 1 ? {} : { carried: vm })));
    const own = heap.alloc(Float64Array, 5000);
    own.view.fill(Math.PI);
    const before = vm.memory;
    for (const [from, to, nodes] of [
      [host, other, 2],
      [other, host, 4],
    ] as const) {
      for (const worker of workers) await worker.order("allocate", { count: 50, bytes: 4000 });
      const rounds: number[] = [];
      const report = await from.migrateLive(vm, to, { onRound: ({ round }) => void rounds.push(round) });
      expect(report.rounds.map(({ round }) => round).slice(0, -1)).toEqual(rounds);
      expect(report).toMatchObject({ toNodes: nodes, fromNodes: 6 - nodes });
      expect(from.vms).toEqual([]);
      expect(to.vms).toEqual([vm]);
      for (const worker of workers) await worker.order("allocate", { count: 50, bytes: 1000 });
      expect(own.view.every((value) => value === Math.PI)).toBe(true);
      expect(await wrong(to, vm, heap)).toEqual([]);
      expect((await vm.guest.view()).actual.nodes.length).toBe(nodes);
      const live = await Promise.all(workers.map((worker) => worker.order("verify") as Promise<number[]>));
      expect(heap.walk({ live: [own.ptr, ...live.flat()] })).toEqual(CLEAN);
      await to.migrateVcpu(vm, 0, { toNode: 1 });
      heap.settle();
      expect(heap.node).toBe(1);
      await expect(from.truth(vm)).rejects.toMatchObject({ code: "NUMAHEAP_NO_SUCH_VM" });
    }
    expect(vm.memory).not.toBe(before);
    expect(new Uint8Array(before.buffer).every((byte) => byte === 0xdb)).toBe(true);
    expect((await host.freeMemory()).available).toBe(224 * MIB);
    expect((await other.freeMemory()).available).toBe(256 * MIB);
  });
});

test("a kernel that is asked whether all is well does not take a balloon on its way for a fault", async () => {
  const host = await create({ hypervisor: "xen", ...FOUR });
  const vm = await host.boot({ vcpus: 1, memory: "64MiB" });
  for (const target of ["8MiB", "64MiB"]) {
    let over = false;
    const resized = host.setBalloonTarget(vm, target).finally(() => (over = true));
    while (!over) expect(await vm.guest.check()).toEqual([]);
    await resized;
  }
});

test("all heaps of the thread that conducts go along, and answer busy on the way", async () => {
  const host = await create({ hypervisor: "xen", ...FOUR });
  const other = await create({ hypervisor: "xen", ...FOUR });
  const vm = await host.boot({ vcpus: 4, memory: "32MiB" });
  const [one, two] = [await vm.createHeap(), await vm.createHeap({ initialBytes: "1MiB", vcpu: 1 })];
  const again = await attachHeap(one.handle(2), { mayBlock: false });
  const heaps = [one, two, again];
  const blocks = heaps.map((heap) => heap.alloc(Uint32Array, 3000));
  blocks.forEach((block, i) => block.view.fill(i));
  const answers: unknown[] = [];
  const pause = (): Promise<() => void> => {
    for (const heap of heaps) {
      try {
        answers.push(heap.malloc(10));
      } catch (error) {
        answers.push((error as { code: string }).code);
      }
    }
    return Promise.resolve(() => {});
  };
  await host.migrateLive(vm, other, { pause });
  expect(answers).toEqual(["NUMAHEAP_BUSY", "NUMAHEAP_BUSY", "NUMAHEAP_BUSY"]);
  expect(heaps.every((heap) => heap.memory === vm.memory)).toBe(true);
  expect(blocks.every((block, i) => block.view.every((word) => word === i))).toBe(true);
  expect(heaps.every((heap) => heap.malloc(100) > 0)).toBe(true);
  expect(await wrong(other, vm, two)).toEqual([]);
  expect(await wrong(other, vm, one)).toEqual([]);
});

test("a thread that cannot be asked to stand still keeps its machine where it is, unless its owner stops it", async () => {
  const host = await create({ hypervisor: "kvm", ...FOUR });
  const other = await create({ hypervisor: "kvm", ...FOUR });
  const vm = await host.boot({ vcpus: 4, memory: "32MiB" });
  const heap = await vm.createHeap();
  const deaf = await attached(heap, 1, { plain: true });
  const hearing = await attached(heap, 2, { carried: vm });
  await deaf.order("allocate", { count: 10, bytes: 4000 });
  await expect(host.migrateLive(vm, other)).rejects.toMatchObject({
    name: "HypervisorError",
    code: "NUMAHEAP_MIGRATION_ABORTED",
    cause: { name: "GuestError", code: "NUMAHEAP_CANNOT_STOP" },
  });
  expect(host.vms).toEqual([vm]);
  expect((await other.freeMemory()).available).toBe(256 * MIB);
  expect(await wrong(host, vm, heap)).toEqual([]);
  await hearing.order("allocate", { count: 10, bytes: 4000 });
  expect(heap.malloc(100)).toBeGreaterThan(0);
  await deaf.order("freeAll");
  await deaf.order("detach");
  await hearing.order("verify");
  let moved: boolean | undefined;
  await host.migrateLive(vm, other, { pause: () => Promise.resolve((to) => void (moved = to)) });
  expect(moved).toBe(true);
  expect(await wrong(other, vm, heap)).toEqual([]);
});

describe("calls of the kernel", () => {
  test("Linux: policies by system call and by libnuma, /sys as the flat machine", async () => {
    const host = await create({ hypervisor: "xen", ...FOUR });
    const vm = await host.boot({ vcpus: 4, memory: "32MiB" });
    const task = await vm.guest.newTask({ vcpu: 1, uid: 1000 });
    expect(await task.calls.set_mempolicy(linux.MPOL_BIND, new Uint32Array([0b1000]), 33)).toBe(0);
    const [mode, mask] = [new Int32Array(1), new Uint32Array(1)];
    expect(await task.calls.get_mempolicy(mode, mask, 33, 0, 0)).toBe(0);
    expect([mode[0], mask[0]]).toEqual([linux.MPOL_BIND, 0b1000]);
    expect(await task.calls.set_mempolicy(99, null, 0)).toBe(-linux.EINVAL);
    expect(await task.calls.migrate_pages(1, 33, new Uint32Array(0), new Uint32Array([1]))).toBe(-linux.EFAULT);
    expect(await task.libnuma.numa_max_node()).toBe(3);
    expect(await task.libnuma.numa_node_of_cpu(1)).toBe(1);
    await host.migrateVcpu(vm, 1, { toNode: 2 });
    expect(await task.libnuma.numa_node_of_cpu(1)).toBe(2);
    const thread = await vm.guest.newTask({ vcpu: 2, pid: task.pid });
    expect(thread.pid).toBe(task.pid);
    expect(await thread.calls.getcpu()).toEqual({ cpu: 2, node: 2 });
    expect(await vm.guest.readFile("/sys/devices/system/node/online")).toBe("0\n");
    expect(await vm.guest.readFile("/sys/nothing")).toBeUndefined();
    expect(await vm.guest.writeFile("/sys/kernel/mm/mempolicy/weighted_interleave/node1", "3")).toBe(0);
    await task.exit();
    await expect(task.calls.getcpu()).rejects.toMatchObject({ name: "GuestError", code: "NUMAHEAP_INVALID_ARGUMENT" });
    await expect(vm.guest.sysctl("vm.ndomains")).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  });

  test("Linux: a heap's pages move by mbind and move_pages, and the heap knows", async () => {
    const host = await create({ hypervisor: "xen", ...FOUR });
    const vm = await host.boot({ vcpus: 4, memory: "32MiB" });
    const heap = await vm.createHeap();
    const task = await vm.guest.newTask({ vcpu: 0 });
    await expect(task.access(heap.handle(0).base)).rejects.toMatchObject({ code: "NUMAHEAP_SEGMENTATION_FAULT" });
    await vm.mapHeap(heap, task);
    const block = heap.malloc(100_000);
    const page = Math.ceil(block / FRAME) * FRAME;
    expect(await task.access(page)).toBe(heap.nodeOf(page));
    const flags = linux.MPOL_MF_MOVE | linux.MPOL_MF_STRICT;
    expect(await task.calls.mbind(page, 4 * FRAME, linux.MPOL_BIND, new Uint32Array([0b0100]), 33, flags)).toBe(0);
    await vm.guest.settle();
    expect([0, 1, 2, 3].map((i) => heap.nodeOf(page + i * FRAME))).toEqual([2, 2, 2, 2]);
    const status = new Int32Array(2);
    expect(await task.calls.move_pages(0, 2, [page, page + FRAME], [3, 1], status, linux.MPOL_MF_MOVE)).toBe(0);
    expect([...status]).toEqual([3, 1]);
    await vm.guest.settle();
    expect([heap.nodeOf(page), heap.nodeOf(page + FRAME)]).toEqual([3, 1]);
    expect(await wrong(host, vm, heap)).toEqual([]);
    await expect(vm.mapHeap(heap, task)).rejects.toMatchObject({ name: "GuestError", code: "NUMAHEAP_INVALID_ARGUMENT" });
  });

  test("Linux: AutoNUMA brings pages to the task that accesses them", async () => {
    const host = await create({ hypervisor: "kvm", ...FOUR });
    const nodes: Record<string, number[]> = {};
    for (const autonuma of [false, true]) {
      const vm = await host.boot({ vcpus: 4, memory: "32MiB", autonuma });
      const [here, there] = [await vm.guest.newTask({ vcpu: 0 }), await vm.guest.newTask({ vcpu: 1 })];
      expect(there.pid).not.toBe(here.pid);
      const sibling = await vm.guest.newTask({ vcpu: 3, pid: here.pid });
      const address = await here.calls.mmap(4 * FRAME);
      for (let i = 0; i < 4; ++i) expect(await here.access(address + i * FRAME)).toBe(0);
      const before = await sibling.access(address);
      if (autonuma) await eventually(async () => expect(await sibling.access(address)).toBe(3));
      nodes[String(autonuma)] = [before, await sibling.access(address)];
      await vm.destroy();
    }
    expect(nodes).toEqual({ false: [0, 0], true: [0, 3] });
  });

  test("FreeBSD: domainsets by system call, sysctls as the flat machine", async () => {
    const host = await create({ hypervisor: "kvm", ...FOUR });
    const vm = await host.boot({ guest: "freebsd", vcpus: 4, memory: "32MiB" });
    const task = await vm.guest.newTask<CpusetCalls>({ vcpu: 1 });
    const set = new Uint32Array([0b0110]);
    const { CPU_LEVEL_WHICH, CPU_WHICH_TID, DOMAINSET_POLICY_INTERLEAVE } = freebsd;
    expect(await task.calls.cpuset_setdomain(CPU_LEVEL_WHICH, CPU_WHICH_TID, -1, 4, set, DOMAINSET_POLICY_INTERLEAVE)).toBe(0);
    expect(await vm.guest.sysctl("vm.ndomains")).toBe(1);
    await expect(vm.guest.readFile("/sys")).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
    expect((await vm.guest.view()).actual.nodes.length).toBe(4);
  });
});

describe("errors arrive as what they are", () => {
  const rejected = async (call: Promise<unknown>): Promise<Error & { code: string }> => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(Error);
    return error as Error & { code: string };
  };

  test("of the hypervisor, the guest and the topology", async () => {
    const host = await create({ hypervisor: "xen", ...FOUR });
    const vm = await host.boot({ vcpus: 2, memory: "32MiB" });
    const overcommit = await rejected(host.boot({ vcpus: 1, memory: "1GiB" }));
    expect(overcommit).toBeInstanceOf(HypervisorError);
    expect(overcommit.code).toBe("NUMAHEAP_OVERCOMMIT");
    expect(overcommit.message).toMatch(/ask for at most 224 MiB/);
    expect(overcommit.stack).toMatch(/hypervisor/);
    await host.setAffinity(vm, 0, [0]);
    expect((await rejected(host.migrateVcpu(vm, 0, { toNode: 1 }))).code).toBe("NUMAHEAP_AFFINITY");
    expect(await rejected(vm.guest.setPlacement("interleave"))).toMatchObject({ code: "NUMAHEAP_PLATFORM_REFUSED", errno: 95 });
    expect(await rejected(vm.createHeap({ initialBytes: "30MiB", vcpu: 1, maximumBytes: "20MiB" }))).toMatchObject({
      name: "GuestError",
      code: "NUMAHEAP_INVALID_ARGUMENT",
    });
    expect(await rejected(vm.guest.newTask({ vcpu: 5 }))).toMatchObject({ name: "GuestError", code: "NUMAHEAP_INVALID_ARGUMENT" });
    expect(await rejected(Host.create({ hypervisor: "kvm", nodes: 4, distances: [[10]] }))).toMatchObject({
      name: "TopologyError",
      code: "NUMAHEAP_TOPOLOGY_DISTANCE",
    });
    expect(host.vms).toEqual([vm]);
  });

  test("what makes no sense is refused with the name of the field, and changes nothing", async () => {
    const host = await create({ hypervisor: "kvm", ...FOUR });
    const other = await create({ hypervisor: "xen", ...FOUR });
    const vm = await host.boot({ vcpus: 4, memory: "32MiB" });
    const before = await host.truth(vm);
    const bad = (value: unknown): never => value as never;
    const calls: [() => Promise<unknown>, RegExp][] = [
      [() => Host.create(bad(undefined)), /^Host.create: must be/],
      [() => Host.create(bad({ nodes: 2 })), /^Host.create.hypervisor: is missing, and must be one of xen, kvm$/],
      [
        () => Host.create(bad({ hypervisor: "xen" })),
        /^nodes: is missing, and must be a whole number from 1 to 1024; or name a topology, or/,
      ],
      [() => Host.create(bad({ hypervisor: "vmware", nodes: 1 })), /^Host.create.hypervisor: must be one of xen, kvm/],
      [() => Host.create(bad({ hypervisor: "xen", nodes: 0 })), /^nodes: must be a whole number/],
      [() => Host.create(bad({ hypervisor: "xen", nodes: 2, memoryPerNode: "lots" })), /^memoryPerNode: "lots" is no size/],
      [() => Host.create(bad({ hypervisor: "xen", preset: "toString" })), /^preset: must be one of/],
      [() => host.boot(bad(null)), /^boot: must be/],
      [() => host.boot(bad({ vcpus: 1 })), /^boot.memory: is missing, and must be bytes, or a size such as 256MiB$/],
      [() => host.boot(bad({ memory: "32MiB" })), /^boot.vcpus: is missing, and must be a whole number from 1 to 256$/],
      [() => host.boot(bad({ vcpus: 1, memory: "32MiB", cpus: 3 })), /^boot.cpus: is not known/],
      [() => host.boot({ vcpus: 1.5, memory: "32MiB" }), /^boot.vcpus: must be a whole number from 1 to 256/],
      [() => host.boot({ vcpus: 1, memory: 100_000 }), /multiple of 65536/],
      [() => host.boot(bad({ vcpus: 1, memory: "32MiB", mode: "magic" })), /^boot.mode: must be one of adaptive/],
      [() => host.migrateVcpu(bad({}), 1, { toNode: 1 }), /^vm: must be what host.boot/],
      [() => other.migrateVcpu(vm, 1, { toNode: 1 }), /virtual machine of another host/],
      [() => host.migrateVcpu(vm, bad("1"), { toNode: 1 }), /^vcpu: must be a whole number/],
      [() => host.migrateVcpu(vm, 1, bad({ toNode: 1, toCpu: 2 })), /^to: must be/],
      [() => host.migrateVcpu(vm, 1, bad(isNaN)), /^to: must be/],
      [() => host.migrateVcpu(vm, 1, { toNode: 77 }), /toNode must be a whole number from 0 to 3/],
      [() => host.migratePages(vm, { start: 1, bytes: FRAME, toNode: 1 }), /^pages.start: must be a multiple of 8192/],
      [() => host.migratePages(vm, bad({ start: 0, toNode: 1 })), /^pages.bytes: is missing, and must be bytes/],
      [() => host.migratePages(vm, { start: 0, bytes: "1GiB", toNode: 1 }), /^pages.bytes: must be from 8KiB to 32MiB, not 1GiB$/],
      [() => host.migratePages(vm, { start: 2 * MIB, bytes: "31MiB", toNode: 1 }), /^pages.bytes: must be from 8KiB to 30MiB, not 31MiB$/],
      [() => host.migratePages(vm, { start: 0, bytes: 0, toNode: 1 }), /^pages.bytes: must be from 8KiB to 32MiB, not 0$/],
      [() => host.migratePages(vm, { start: 32 * MIB, bytes: FRAME, toNode: 1 }), /^pages.start: must be from 0 to 32760KiB, not 32MiB$/],
      [() => host.migratePages(vm, { start: 0, bytes: FRAME, toNode: 4 }), /^toNode must be a whole number from 0 to 3, not 4$/],
      [() => host.setBalloonTarget(vm, NaN), /^memory: must be bytes/],
      [() => host.setBalloonTarget(vm, "1GiB"), /^memory: must be from 64KiB to 32MiB, not 1GiB$/],
      [() => host.setBalloonTarget(vm, FRAME), /^memory: must be from 64KiB to 32MiB, not 8KiB$/],
      [() => other.setBalloonTarget(vm, "16MiB"), /virtual machine of another host/],
      [() => host.setAffinity(vm, 0, bad("all")), /^cpus: must be a list/],
      [() => host.setLoad(vm, 0, -1), /^load: must be/],
      [() => host.migrateLive(vm, host), /^to: must be another host of kvm/],
      [() => host.migrateLive(vm, other), /^to: must be another host of kvm/],
      [() => host.migrateLive(vm, bad(null)), /^to: must be another host/],
      [() => vm.createHeap(bad({ vcpu: -1 })), /^createHeap.vcpu: must be/],
      [() => vm.createHeap({ vcpu: 4 }), /vcpu must be a whole number from 0 to 3/],
      [() => vm.port(bad({})), /^handle: must be one of a heap of this machine/],
      [() => vm.endHeap(bad({})), /^heap: must be one of this machine/],
      [() => vm.guest.newTask(bad({})), /^newTask.vcpu: is missing, and must be a whole number/],
      [() => vm.guest.newTask({ vcpu: 0, pid: 77 }), /no process 77/],
      [() => vm.guest.readFile(bad(7)), /^path: must be text/],
    ];
    for (const [call, message] of calls) {
      const error = await rejected(call());
      expect(error.message).toMatch(message);
      expect(error.code).toMatch(/^NUMAHEAP_/);
    }
    const task = await vm.guest.newTask({ vcpu: 0 });
    const garbage: unknown[][] = [[], ["x"], [{}, {}, {}], [2, "mask", 33], [2, new Uint32Array(1), -1], [1n, null, 1], [null, [1], 33]];
    for (const args of garbage) {
      for (const name of ["set_mempolicy", "get_mempolicy", "mbind", "move_pages", "migrate_pages", "munmap", "mmap"] as const) {
        const call = task.calls[name] as (...all: unknown[]) => Promise<number>;
        const answer = await call(...args).catch((error: { code?: string }) => error.code);
        expect(typeof answer === "number" ? answer <= 0 || name === "mmap" : answer, `${name} ${String(args)}`).toBeTruthy();
      }
    }
    expect(await rejected(task.calls.set_mempolicy(bad(isNaN), null, 0))).toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
    expect(await host.truth(vm)).toEqual(before);
    expect(await vm.guest.check()).toEqual([]);
  });
});

test("what is over is over: machines, heaps, hosts", async () => {
  const host = await create({ hypervisor: "xen", ...FOUR });
  const free = await host.freeMemory();
  const vm = await host.boot({ vcpus: 1, memory: "32MiB", name: "one" });
  expect(vm.name).toBe("one");
  const heap = await vm.createHeap();
  const second = await vm.createHeap({ initialBytes: "1MiB" });
  const worker = await attached(second, 0);
  expect(heap.malloc(10)).toBeGreaterThan(0);
  await expect(vm.endHeap(second)).rejects.toMatchObject({ code: "NUMAHEAP_HEAP_IN_USE" });
  await worker.order("detach");
  await vm.endHeap(heap);
  expect(() => heap.malloc(10)).toThrow(expect.objectContaining({ code: "NUMAHEAP_DETACHED" }));
  const call = vm.guest.settle().catch((error: { code: string }) => error.code);
  await vm.destroy();
  await vm.destroy();
  expect([undefined, "NUMAHEAP_DISCONNECTED"]).toContain(await call);
  await expect(host.truth(vm)).rejects.toMatchObject({ code: "NUMAHEAP_NO_SUCH_VM" });
  await expect(vm.guest.view()).rejects.toMatchObject({ name: "HypervisorError", code: "NUMAHEAP_DISCONNECTED" });
  expect(await host.freeMemory()).toEqual(free);
  await host.dispose();
  await host.dispose();
  await expect(host.boot({ vcpus: 1, memory: "32MiB" })).rejects.toMatchObject({ code: "NUMAHEAP_DISCONNECTED" });
});
