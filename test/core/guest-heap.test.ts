// A heap in the memory of a virtual machine, all in one thread: hypervisor, kernel and heap, over every pairing of them.
import { describe, expect, test } from "vitest";
import { openPlatform } from "../../dist/guest/drivers/connect.js";
import type { Driver } from "../../dist/guest/drivers/driver.js";
import { FreeBsd } from "../../dist/guest/freebsd/freebsd.js";
import type { Guest } from "../../dist/guest/guest.js";
import { GuestHeap } from "../../dist/guest/guest-heap.js";
import { Linux } from "../../dist/guest/linux/linux.js";
import { Kvm } from "../../dist/hypervisor/kvm/kvm.js";
import { migrateLive } from "../../dist/hypervisor/live-migration.js";
import { differences } from "../../dist/hypervisor/truth.js";
import type { VirtualMachine } from "../../dist/hypervisor/vm.js";
import { Xen } from "../../dist/hypervisor/xen/xen.js";
import { NumaHeap } from "../../dist/index.js";
import { defaultDistances, parseTopology, type Topology } from "../../dist/topology/topology.js";

const MIB = 2 ** 20;
const FRAME = 8192;
const CLEAN = { ok: true, problems: [], unaccounted: [] };
const PAIRINGS = (["xen", "kvm"] as const).flatMap((platform) => (["linux", "freebsd"] as const).map((os) => ({ platform, os })));
type Pairing = (typeof PAIRINGS)[number];

const machine = (nodes: number, mib = 64): Topology =>
  parseTopology({
    nodes: Array.from({ length: nodes }, (_, id) => ({
      id,
      cpus: [id * 2, id * 2 + 1],
      memory: [{ start: id * mib * MIB, end: (id + 1) * mib * MIB }],
    })),
    distances: defaultDistances(nodes),
  });

interface Booted {
  hypervisor: Xen | Kvm;
  vm: VirtualMachine;
  driver: Driver;
  guest: Guest;
}

const hypervisorOf = (platform: Pairing["platform"], nodes: number): Xen | Kvm =>
  platform === "xen" ? new Xen(machine(nodes)) : new Kvm(machine(nodes));

async function boot({ platform, os }: Pairing, memory = 32 * MIB): Promise<Booted> {
  const hypervisor = hypervisorOf(platform, 4);
  const vm = hypervisor.createVm({ vcpus: 4, memory });
  const driver = openPlatform(hypervisor.connect(vm));
  const options = { platform: driver, memory: vm.memory };
  const guest: Guest = os === "linux" ? await Linux.boot(options) : await FreeBsd.boot(options);
  return { hypervisor, vm, driver, guest };
}

/** Everybody knows what happened. */
async function settle({ hypervisor, driver, guest }: Booted): Promise<void> {
  hypervisor.populateTouched();
  await driver.settled();
  expect(guest.settle()).toBe(true);
}

/** Where the heap's maps differ from the truth. */
async function wrong(booted: Booted, heap: NumaHeap): Promise<string[]> {
  await settle(booted);
  const truth = booted.hypervisor.truth(booted.vm);
  const found = differences(
    truth,
    (vcpu) => booted.guest.nodeOfVcpu(vcpu),
    (gfn) => heap.nodeOf(gfn * FRAME),
    (gfn) => heap.nodeOf(gfn * FRAME) < 0,
  );
  return [...found, ...booted.guest.check()];
}

const framesOf = ({ guest }: Booted, owner: number): number =>
  Array.from({ length: guest.layout.frames }, (_, gfn) => gfn).filter((gfn) => guest.table.ownerOf(gfn) === owner).length;

describe.each(PAIRINGS)("$platform, $os", (pairing) => {
  test("a heap knows where everything lies, and follows", async () => {
    const booted = await boot(pairing);
    const { hypervisor, vm, guest } = booted;
    const kernel = await GuestHeap.create(guest);
    const heap = await NumaHeap.attach(kernel.handle(2), { mayBlock: false });
    expect(heap.node).toBe(2);
    const blocks = Array.from({ length: 200 }, (_, i) => heap.malloc(100 + i * 300));
    expect(blocks.every((ptr) => ptr > 0)).toBe(true);
    expect(await wrong(booted, heap)).toEqual([]);
    expect(heap.nodeOf(blocks[150]!)).toBe(2);

    hypervisor.migrateVcpu(vm, 2, { toNode: 3 });
    await settle(booted);
    const large = heap.malloc(80_000);
    expect(heap.node).toBe(3);
    expect(heap.nodeOf(large)).toBe(3);

    hypervisor.migratePages(vm, Math.floor(blocks[150]! / FRAME), 40, 0);
    expect(await wrong(booted, heap)).toEqual([]);
    expect(heap.nodeOf(blocks[150]!)).toBe(0);
    const epoch = heap.epoch;
    await settle(booted);
    expect(heap.epoch).toBe(epoch);
    expect(heap.walk({ live: [...blocks, large] })).toEqual(CLEAN);
  });

  test("what is trimmed is the guest's again: a balloon can have it", async () => {
    const booted = await boot(pairing);
    const { guest, hypervisor, vm } = booted;
    const kernel = await GuestHeap.create(guest, { vcpu: 1 });
    const heap = await NumaHeap.attach(kernel.handle(1), { mayBlock: false });
    const blocks: number[] = [];
    for (let ptr = heap.malloc(60_000); ptr !== 0; ptr = heap.malloc(60_000)) blocks.push(ptr);
    const taken = framesOf(booted, kernel.owner);
    expect(taken).toBeGreaterThan(guest.layout.frames * 0.9);
    for (const ptr of blocks) heap.free(ptr);
    heap.settle();
    hypervisor.setBalloonTarget(vm, vm.frames / 2);
    await settle(booted);
    await guest.balloon.idle();
    expect(guest.balloon.size).toBe(vm.frames / 2);
    expect(framesOf(booted, kernel.owner)).toBeLessThan(taken / 2);
    expect(await wrong(booted, heap)).toEqual([]);
    expect(heap.walk({ live: [] })).toEqual(CLEAN);
    expect(heap.malloc(60_000)).toBeGreaterThan(0);
  });

  test("a large block lies on several nodes where none has as many frames together, unless it is bound", async () => {
    const booted = await boot(pairing, 8 * MIB);
    const { hypervisor, vm, guest } = booted;
    const kernel = await GuestHeap.create(guest, { initialBytes: 65536 });
    const heap = await NumaHeap.attach(kernel.handle(1), { mayBlock: false });
    for (let gfn = 0; gfn < vm.frames; ++gfn) hypervisor.migratePages(vm, gfn, 1, gfn % 4);
    await settle(booted);
    heap.setPolicy("bind", [1]);
    expect(heap.malloc(200_000)).toBe(0);
    heap.setPolicy("local");
    const block = heap.malloc(200_000);
    expect(block).toBeGreaterThan(0);
    const nodes = Array.from({ length: 25 }, (_, i) => heap.nodeOf(block + i * FRAME));
    expect(nodes).toEqual(nodes.map((_, i) => (nodes[0]! + i) % 4));
    expect(await wrong(booted, heap)).toEqual([]);
    expect(heap.walk({ live: [block] })).toEqual(CLEAN);
    heap.free(block);
    expect(await wrong(booted, heap)).toEqual([]);
  });

  test("an end gives all frames back, not before the last thread has left", async () => {
    const booted = await boot(pairing);
    const { guest } = booted;
    guest.lists.sync();
    const free = framesOf(booted, 1);
    const kernel = await GuestHeap.create(guest);
    const heap = await NumaHeap.attach(kernel.handle(0), { mayBlock: false });
    expect(heap.malloc(100_000)).toBeGreaterThan(0);
    expect(() => kernel.end()).toThrow(expect.objectContaining({ name: "GuestError", code: "NUMAHEAP_HEAP_IN_USE" }));
    heap.detach();
    expect(kernel.end()).toBeGreaterThan(0);
    expect(kernel.end()).toBe(0);
    expect(framesOf(booted, 1)).toBe(free);
    expect(guest.heaps.size).toBe(0);
    booted.hypervisor.migrateVcpu(booted.vm, 0, { toNode: 1 });
    await settle(booted);
    expect(guest.check()).toEqual([]);
    // Dirty frames are zero again for who comes next.
    const next = await GuestHeap.create(guest);
    expect(next.heap.walk({ live: [] })).toEqual(CLEAN);
  });

  test("a heap goes on, on another host of fewer nodes", async () => {
    const booted = await boot(pairing);
    const { guest, driver } = booted;
    const kernel = await GuestHeap.create(guest);
    const heap = await NumaHeap.attach(kernel.handle(3), { mayBlock: false });
    const blocks = Array.from({ length: 100 }, (_, i) => heap.alloc(Uint32Array, 10 + i * 50));
    blocks.forEach((block, i) => block.view.fill(i));
    const destination = hypervisorOf(pairing.platform, 2);
    let vm: VirtualMachine | undefined;
    await migrateLive(booted.hypervisor, booted.vm, destination, {
      pause: async () => {
        await guest.suspend();
        await driver.suspend();
        return async (where) => {
          if (where.at === "source") throw new Error("it was to arrive");
          vm = destination.vm(where.vm);
          guest.moveOver(where.memory);
          await kernel.moveOver(where.memory);
          await heap.moveOver(where.memory);
          await driver.resume(destination.connect(vm));
          guest.resume();
        };
      },
    });
    const there = { hypervisor: destination, vm: vm!, driver, guest };
    expect(await wrong(there, heap)).toEqual([]);
    expect(blocks.every((block, i) => block.view.every((word) => word === i))).toBe(true);
    expect(heap.walk({ live: blocks.map(({ ptr }) => ptr) })).toEqual(CLEAN);
    expect(heap.nodeOf(heap.malloc(90_000))).toBeLessThan(2);
    destination.migrateVcpu(vm!, 3, { toNode: 0 });
    await settle(there);
    heap.settle();
    expect(heap.node).toBe(0);
  });
});

test.each([1, 512, 3000])("machines of %i MiB have room for a heap's own structs", async (mib) => {
  const hypervisor = new Kvm(machine(1, 4096));
  const vm = hypervisor.createVm({ vcpus: 1, memory: mib * MIB });
  const guest = await Linux.boot({ platform: openPlatform(hypervisor.connect(vm)), memory: vm.memory });
  const kernel = await GuestHeap.create(guest);
  expect(kernel.heap.malloc(80_000)).toBeGreaterThan(0);
});

test("what cannot be is refused, and nothing is kept", async () => {
  const { guest } = await boot(PAIRINGS[0]!);
  const free = framesOf({ guest } as Booted, 1);
  const refused = expect.objectContaining({ name: "GuestError", code: "NUMAHEAP_INVALID_ARGUMENT" });
  for (const options of [{ vcpu: 4 }, { vcpu: 0.5 }, { initialBytes: -1 }, { maximumBytes: 1000 }, { initialBytes: 33 * MIB }]) {
    await expect(GuestHeap.create(guest, options)).rejects.toEqual(refused);
  }
  await expect(GuestHeap.create(guest, { initialBytes: 31.9 * MIB })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  expect(framesOf({ guest } as Booted, 1)).toBe(free);
  const kernel = await GuestHeap.create(guest);
  await GuestHeap.create(guest, { initialBytes: 16 * MIB });
  await expect(GuestHeap.create(guest, { initialBytes: 16 * MIB })).rejects.toMatchObject({ code: "NUMAHEAP_OUT_OF_MEMORY" });
  expect(() => kernel.handle(7)).toThrow(refused);
});
