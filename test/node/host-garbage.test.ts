// Whatever is passed to a host, a machine or a kernel: a typed error, and nothing has changed.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Host, type Vm } from "../../dist/host/index.js";

const FOUR = { nodes: 4, cpusPerNode: 2, memoryPerNode: "32MiB", distances: "ring" } as const;
const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`garbage for hosts: SEED=${seed}`);

let host: Host;
let other: Host;
let vm: Vm;
let foreign: Vm;
beforeAll(async () => {
  host = await Host.create({ hypervisor: "xen", ...FOUR });
  other = await Host.create({ hypervisor: "xen", ...FOUR });
  vm = await host.boot({ vcpus: 4, memory: "32MiB" });
  foreign = await other.boot({ guest: "freebsd", vcpus: 1, memory: "16MiB" });
});
afterAll(() => Promise.all([host.dispose(), other.dispose()]));

/** Nothing that any of these calls would take: no whole number, size, name, list of numbers or object that is empty. */
const garbage = fc
  .oneof(
    fc.constantFrom<unknown>(
      null,
      NaN,
      -1,
      -0.5,
      2 ** 53,
      Infinity,
      2n,
      "",
      "xen ",
      "\u0000",
      "1e3",
      true,
      Symbol.iterator,
      () => 1,
      [[]],
      [-1],
    ),
    fc.constantFrom<unknown>(
      { toNode: 99 },
      { toCpu: -1 },
      { toNode: "1" },
      { vcpus: 1, memory: 1 },
      { start: -8192, bytes: 8192, toNode: 0 },
      // No text can be made of it.
      { toString: 0 },
    ),
    fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withSparseArray: true,
      maxDepth: 2,
    }),
  )
  .filter((value) => {
    if (value === undefined || (typeof value === "number" && Number.isInteger(value) && value >= 0)) return false;
    if (typeof value === "string") return !/^\s*\d/.test(value);
    if (Array.isArray(value)) return value.some((item) => !Number.isInteger(item));
    return typeof value !== "object" || value === null || Object.keys(value).length > 0;
  });

/** Each parameter of each call, the others being sound. */
const calls: Record<string, (it: never) => Promise<unknown>> = {
  "Host.create": (it) => Host.create(it),
  "Host.create hypervisor": (it) => Host.create({ ...FOUR, hypervisor: it }),
  "Host.create nodes": (it) => Host.create({ ...FOUR, hypervisor: "kvm", nodes: it }),
  "Host.create memoryPerNode": (it) => Host.create({ ...FOUR, hypervisor: "kvm", memoryPerNode: it }),
  "Host.create distances": (it) => Host.create({ ...FOUR, hypervisor: "kvm", distances: it }),
  "Host.create preset": (it) => Host.create({ hypervisor: "kvm", preset: it }),
  "Host.create topology": (it) => Host.create({ hypervisor: "kvm", topology: it }),
  boot: (it) => host.boot(it),
  "boot guest": (it) => host.boot({ vcpus: 1, memory: "16MiB", guest: it }),
  "boot vcpus": (it) => host.boot({ vcpus: it, memory: "16MiB" }),
  "boot memory": (it) => host.boot({ vcpus: 1, memory: it }),
  "boot mode": (it) => host.boot({ vcpus: 1, memory: "16MiB", mode: it }),
  "boot placement": (it) => host.boot({ vcpus: 1, memory: "16MiB", mode: "policy-hypercall", placement: it }),
  "migrateVcpu vm": (it) => host.migrateVcpu(it, 1, { toNode: 0 }),
  "migrateVcpu vcpu": (it) => host.migrateVcpu(vm, it, { toNode: 0 }),
  "migrateVcpu to": (it) => host.migrateVcpu(vm, 1, it),
  "migrateVcpu toNode": (it) => host.migrateVcpu(vm, 1, { toNode: it }),
  "setAffinity cpus": (it) => host.setAffinity(vm, 1, it),
  "setLoad load": (it) => host.setLoad(vm, 1, it),
  migratePages: (it) => host.migratePages(vm, it),
  "migratePages start": (it) => host.migratePages(vm, { start: it, bytes: 8192, toNode: 1 }),
  "migratePages bytes": (it) => host.migratePages(vm, { start: 8192, bytes: it, toNode: 1 }),
  "migratePages toNode": (it) => host.migratePages(vm, { start: 8192, bytes: 8192, toNode: it }),
  setBalloonTarget: (it) => host.setBalloonTarget(vm, it),
  "truth of another's": () => host.truth(foreign),
  truth: (it) => host.truth(it),
  "migrateLive vm": (it) => host.migrateLive(it, other),
  "migrateLive to": (it) => host.migrateLive(vm, it),
  "migrateLive options": (it) => host.migrateLive(vm, other, it),
  "migrateLive maxRounds": (it) => host.migrateLive(vm, other, { maxRounds: it }),
  createHeap: (it) => vm.createHeap(it),
  "createHeap initialBytes": (it) => vm.createHeap({ initialBytes: it }),
  "createHeap maximumBytes": (it) => vm.createHeap({ maximumBytes: it }),
  "createHeap vcpu": (it) => vm.createHeap({ vcpu: it }),
  endHeap: (it) => vm.endHeap(it),
  newTask: (it) => vm.guest.newTask(it),
  "newTask vcpu": (it) => vm.guest.newTask({ vcpu: it }),
  "newTask pid": (it) => vm.guest.newTask({ vcpu: 0, pid: it }),
  advise: (it) => vm.guest.advise(it),
  "advise toNode": (it) => vm.guest.advise({ start: 8192, bytes: 8192, toNode: it }),
  setPlacement: (it) => vm.guest.setPlacement(it),
  "writeFile path": (it) => vm.guest.writeFile(it, "3"),
  "sysctl of the other system": (it) => vm.guest.sysctl(it),
  "readFile of the other system": (it) => foreign.guest.readFile(it),
};

/** All that a caller can know of both hosts. */
async function everything(): Promise<unknown> {
  const view = await vm.guest.view();
  const nodes = await vm.guest.frameNodes();
  return {
    truth: await host.truth(vm),
    view,
    nodes,
    free: [await host.freeMemory(), await other.freeMemory()],
    vms: [host.vms.length, other.vms.length],
  };
}

test.each(Object.entries(calls))("%s", async (_, call) => {
  const before = await everything();
  const passed = fc.asyncProperty(garbage, async (it) => {
    const answer = await call(it as never).then(
      (value: unknown) => ({ value }),
      (error: { code?: unknown }) => ({ code: error.code }),
    );
    // A path may be any text: the kernel says by an errno what it makes of it.
    if ("value" in answer) expect(answer.value).toBeLessThan(0);
    else expect(answer.code).toMatch(/^NUMAHEAP_/);
  });
  await fc.assert(passed, { numRuns: 40, seed });
  expect(await everything()).toEqual(before);
  expect(await vm.guest.check()).toEqual([]);
});
