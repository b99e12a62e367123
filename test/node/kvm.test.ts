// What is KVM's own: events and their overflow, faults that the host overtakes.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as L from "../../src/guest/drivers/kvm-layout.js";
import { Kvm } from "../../src/hypervisor/kvm/kvm.js";
import { MmuNotifier } from "../../src/hypervisor/kvm/mmu-notifier.js";
import * as T from "../../src/hypervisor/kvm/topology-device.js";
import * as B from "../../src/hypervisor/kvm/virtio-balloon.js";
import * as V from "../../src/hypervisor/kvm/virtio-device.js";
import { DriverQueue } from "../../src/hypervisor/kvm/virtqueue.js";
import type { VirtualMachine } from "../../src/hypervisor/vm.js";
import { audit, boot, type Booted, MIB, ring, TestGuest } from "../support/hypervisor-rig.js";

const machine = ring(4, 2, 512);
const start = (): Promise<Booted<Kvm>> => boot(new Kvm(machine));

describe("events", () => {
  test("each change is one, in order, and handed over by itself", async () => {
    const { hypervisor, vm, guest } = await start();
    hypervisor.migrateVcpu(vm, 0, { toNode: 2 });
    hypervisor.migrateVcpu(vm, 0, { toNode: 0 });
    hypervisor.migratePages(vm, 100, 20, 3);
    await guest.platform.settled();
    expect(guest.calls).toEqual([
      [{ kind: "vcpu", vcpu: 0, node: 2 }],
      [{ kind: "vcpu", vcpu: 0, node: 0 }],
      [{ kind: "frames", first: 100, count: 20, node: 3 }],
    ]);
    expect(guest.deliveries.map(({ what, changes }) => [what, changes])).toEqual(Array(3).fill(["event", 1]));
  });

  test("more than there are buffers for: one overflow, upon which everything is read, and none is lost", async () => {
    const { hypervisor, vm, guest } = await start();
    for (let i = 0; i < L.EVENTS + 30; ++i) hypervisor.migratePages(vm, 10 + i * 5, 3, 1 + (i % 3));
    hypervisor.migrateVcpu(vm, 3, { toNode: 1 });
    // Nobody asks: the returned buffers alone bring the overflow.
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(guest.deliveries.map(({ what }) => what)).toEqual([...Array<string>(L.EVENTS).fill("event"), "overflow"]);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(guest.deliveries.at(-1)!.changes).toBeGreaterThan(5);
    // And afterwards one by one again.
    hypervisor.migrateVcpu(vm, 3, { toNode: 2 });
    await guest.platform.settled();
    expect(guest.calls.at(-1)).toEqual([{ kind: "vcpu", vcpu: 3, node: 2 }]);
  });

  test("a storm larger than the ring, again and again, with a guest that is always late", async () => {
    const { hypervisor, vm, guest } = await start();
    for (let round = 0; round < 12; ++round) {
      for (let i = 0; i < 40 + 17 * round; ++i) {
        if (i % 3 === 0) hypervisor.migrateVcpu(vm, i % 4, { toNode: (i + round) % 4 });
        else hypervisor.migratePages(vm, (i * 37) % 450, 1 + (i % 60), (i * 7 + round) % 4);
        if (i % 50 === 49) await Promise.resolve();
      }
      if (round % 3 === 2) expect(await guest.wrong(hypervisor)).toEqual([]);
    }
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(new Set(guest.deliveries.map(({ what }) => what))).toEqual(new Set(["event", "overflow"]));
  });

  test("what was told while everything was being read is not told again", async () => {
    const { hypervisor, vm, guest } = await start();
    for (let i = 0; i < L.EVENTS + 1; ++i) hypervisor.migrateVcpu(vm, 0, { toNode: (i + 1) % 4 });
    const seen: number[] = [];
    const handle = guest.topologyChanged.bind(guest);
    guest.topologyChanged = (changes) => {
      handle(changes);
      for (const change of changes) if (change.kind === "vcpu") seen.push(change.node);
      // The buffers are there again: these are events behind the overflow, and older than the reading.
      if (guest.deliveries.length === L.EVENTS - 1) {
        const change = (): void => {
          hypervisor.migrateVcpu(vm, 0, { toNode: 2 });
          hypervisor.migrateVcpu(vm, 0, { toNode: 3 });
        };
        queueMicrotask(() => queueMicrotask(change)); // behind the doorbell, before the interrupt
      }
    };
    await guest.platform.settled();
    expect(await guest.wrong(hypervisor)).toEqual([]);
    // Up to the last event, then what was read: never a node it had left before.
    expect(seen.slice(L.EVENTS)).toEqual([3]);
  });

  test("ranges that do not fit into one answer are those of one time", async () => {
    const hypervisor = new Kvm(ring(4, 2, 4096));
    const vm = hypervisor.createVm({ vcpus: 2, memory: 32 * MIB });
    for (let gfn = 0; gfn < vm.frames; gfn += 2) hypervisor.migratePages(vm, gfn, 1, (gfn >> 1) % 4);
    expect(hypervisor.topology(vm).ranges.length).toBeGreaterThan(2000);
    // With every step of the guest some ranges become one, so that those behind them move up.
    let steps = 0;
    const connection = hypervisor.connect(vm, (run) =>
      queueMicrotask(() => {
        if (++steps < 60) hypervisor.migratePages(vm, steps * 8, 6, steps % 4);
        run();
      }),
    );
    const guest = await new TestGuest(connection, vm).boot();
    await guest.platform.settled();
    expect(steps).toBeGreaterThan(20);
    steps = 100;
    expect(await guest.wrong(hypervisor)).toEqual([]);
  });

  test("a home is kept, whoever comes meanwhile: a frame that is backed there is no change", async () => {
    const { hypervisor, guest } = await boot(new Kvm(ring(2, 1, 300)));
    const neighbour = hypervisor.createVm({ vcpus: 1, memory: MIB / 2 });
    // Node 0 has 300 frames, 256 of which wait for this guest's: 44 are the neighbour's, 12 more than before.
    expect(hypervisor.migratePages(neighbour, 0, 64, 0)).toEqual({ moved: 44, spilled: 0, refused: 20 });
    new Uint8Array(neighbour.memory.buffer, neighbour.layout.frameToucher, 64).fill(1);
    hypervisor.populateTouched();
    guest.touch(8, 248, 0);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect([guest.frames[255], guest.calls]).toEqual([0, []]);
    expect(hypervisor.frames.roomOn(0)).toBe(0);
  });

  test("a frame backed elsewhere than at home is a change", async () => {
    const { hypervisor, vm, guest } = await start();
    expect(vm.nodeOf(100)).toBe(0);
    hypervisor.fault(vm, 100, 1).install();
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(guest.calls).toEqual([[{ kind: "frames", first: 100, count: 1, node: 1 }]]);
    audit(hypervisor);
  });
});

describe("MMU notifier", () => {
  test("a fault that began before an invalidation of any frame, or within one of its own, is stale", () => {
    const ended: number[][] = [];
    const notifier = new MmuNotifier((first, count) => void ended.push([first, count]));
    const before = notifier.sequence;
    expect(notifier.mustRetry(before, 7)).toBe(false);
    notifier.rangeStart(5, 5);
    expect([notifier.mustRetry(notifier.sequence, 7), notifier.mustRetry(notifier.sequence, 10), notifier.covers(9)]).toEqual([
      true,
      false,
      true,
    ]);
    notifier.rangeStart(8, 5);
    notifier.rangeEnd(5, 5);
    expect([notifier.covers(7), notifier.covers(8), ended]).toEqual([false, true, [[5, 5]]]);
    notifier.rangeEnd(8, 5);
    expect(notifier.mustRetry(before, 100)).toBe(true);
    expect(notifier.mustRetry(notifier.sequence, 7)).toBe(false);
  });

  test("a fault that the host overtakes installs nothing, and is taken again", async () => {
    const { hypervisor, vm, guest } = await start();
    const free = hypervisor.frames.free;
    const fault = hypervisor.fault(vm, 100, 0);
    hypervisor.migratePages(vm, 90, 20, 3); // its home is another now
    expect(fault.install()).toBe(false);
    expect([vm.truth().backed[100], hypervisor.frames.free]).toEqual([0, free]);
    guest.touch(100, 1, 0);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(hypervisor.truth(vm).frames[100]).toBe(3);
    audit(hypervisor);
  });

  test("of two faults on one frame the second installs nothing", async () => {
    const { hypervisor, vm } = await start();
    const [first, second] = [hypervisor.fault(vm, 100, 0), hypervisor.fault(vm, 100, 1)];
    expect([first.install(), second.install()]).toEqual([true, true]);
    expect(vm.nodeOf(100)).toBe(0);
    audit(hypervisor);
  });

  test("an entry that is taken away outside an invalidation is found out", async () => {
    const { hypervisor, vm, guest } = await start();
    guest.touch(100, 1, 0);
    hypervisor.populateTouched();
    expect(() => vm.p2m.set(100, -1)).toThrow("without an invalidation");
  });
});

describe("balloon", () => {
  test("more frames than fit into a chain go in all or none", async () => {
    const hypervisor = new Kvm(ring(4, 2, 4096));
    const vm = hypervisor.createVm({ vcpus: 2, memory: 32 * MIB });
    const guest = await new TestGuest(hypervisor.connect(vm), vm).boot();
    const gfns = Array.from({ length: 3000 }, (_, i) => 4000 - i);
    const { available } = hypervisor;
    // The first is named again at the end of the last portion.
    await expect(guest.inflate([...gfns, 4000])).rejects.toMatchObject({ code: "NUMAHEAP_PLATFORM_REFUSED", errno: 22 });
    expect([vm.p2m.ballooned, hypervisor.available]).toEqual([0, available]);
    await guest.inflate(gfns);
    expect([vm.p2m.ballooned, hypervisor.available]).toEqual([3000, available + 3000]);
    expect(await guest.deflate(gfns)).toBe(3000);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
  });

  test("whatever a list says: all its frames go in, or none and an errno", () => {
    const lists = fc.array(fc.oneof(fc.nat(1100), fc.nat(1100), fc.integer({ min: 0, max: 0xffff_ffff })), { maxLength: 6 });
    const pairs = fc.array(fc.nat(520), { maxLength: 5 }).map((gfns) => gfns.flatMap((gfn) => [gfn * 2, gfn * 2 + 1]));
    const hypervisor = new Kvm(machine);
    const vm = hypervisor.createVm({ vcpus: 1, memory: 4 * MIB });
    const view = new DataView(vm.memory.buffer);
    const device = hypervisor.guest(vm);
    [L.INFLATE_QUEUE, L.DEFLATE_QUEUE].forEach(({ size, desc, avail, used }, i) =>
      [size, desc, avail, used].forEach((value, j) => view.setUint32(B.BALLOON_REGISTERS + V.AT_QUEUES + i * 16 + j * 4, value, true)),
    );
    view.setUint32(B.BALLOON_REGISTERS + V.AT_DRIVER_STATUS, V.STATUS_RESET + V.STATUS_READY, true);
    device.notified();
    const queues = [L.INFLATE_QUEUE, L.DEFLATE_QUEUE].map((address) => new DriverQueue(vm.memory.buffer, address));
    const ballooned = (): number[] => [...Array(vm.frames).keys()].filter((gfn) => vm.isBallooned(gfn));
    fc.assert(
      fc.property(fc.oneof(lists, pairs, pairs), fc.nat(1), (pfns, out) => {
        const before = ballooned();
        [0, 0, ...pfns].forEach((value, i) => view.setUint32(L.LIST.at + i * 4, value, true));
        queues[out]!.offer([{ at: L.LIST.at, bytes: 8 + pfns.length * 4 }], [L.LIST_ANSWER]);
        device.notified();
        expect(queues[out]!.take()).toBe(0);
        const gfns = pfns.filter((_, i) => i % 2 === 0).map((pfn) => pfn / 2);
        const good =
          pfns.length % 2 === 0 &&
          pfns.every((pfn, i) => (i % 2 === 0 ? pfn % 2 === 0 : pfn === pfns[i - 1]! + 1)) &&
          new Set(gfns).size === gfns.length &&
          gfns.every((gfn) => gfn >= vm.layout.kernelFrames && gfn < vm.frames && before.includes(gfn) === (out === 1));
        expect(view.getUint32(L.LIST_ANSWER.at, true)).toBe(good ? 0 : 22);
        const after = new Set(before);
        if (good) for (const gfn of gfns) void (out === 1 ? after.delete(gfn) : after.add(gfn));
        expect(ballooned()).toEqual([...after].sort((x, y) => x - y));
      }),
      { numRuns: 600, seed: 9 },
    );
    audit(hypervisor);
  });

  test("its size in pages stands in its configuration", async () => {
    const { hypervisor, vm } = await start();
    hypervisor.setBalloonTarget(vm, 400);
    expect(new DataView(vm.memory.buffer).getUint32(B.BALLOON_REGISTERS + V.AT_CONFIG + B.CONFIG_NUM_PAGES, true)).toBe((512 - 400) * 2);
  });
});

describe("a guest that means no good", () => {
  /** A driver of its own, that brings the devices up and then does as it likes. */
  const hostile = (): {
    hypervisor: Kvm;
    vm: VirtualMachine;
    view: DataView;
    ring(): void;
    up(base: number, reset?: number): void;
    status(base: number): number;
  } => {
    const hypervisor = new Kvm(machine);
    const vm = hypervisor.createVm({ vcpus: 4, memory: 4 * MIB });
    const view = new DataView(vm.memory.buffer);
    const guest = hypervisor.guest(vm);
    return {
      hypervisor,
      vm,
      view,
      ring: () => guest.notified(),
      up(base, reset = 1) {
        const queues = base === T.TOPOLOGY_REGISTERS ? [L.EVENT_QUEUE, L.CONTROL_QUEUE] : [L.INFLATE_QUEUE, L.DEFLATE_QUEUE];
        queues.forEach(({ size, desc, avail, used }, i) => {
          [size, desc, avail, used].forEach((value, j) => view.setUint32(base + V.AT_QUEUES + i * 16 + j * 4, value, true));
        });
        view.setUint32(base + V.AT_DRIVER_STATUS, reset * V.STATUS_RESET + V.STATUS_READY, true);
        guest.notified();
      },
      status: (base) => view.getUint32(base + V.AT_DEVICE_STATUS, true),
    };
  };
  const books = (vm: VirtualMachine): unknown => [
    [...Array(vm.frames).keys()].map((gfn) => vm.p2m.get(gfn)),
    vm.cpus.map(({ cpu }) => cpu),
    vm.reserved,
    vm.policy,
    vm.tracker.count,
  ];

  test.each([
    ["a request of the wrong size", [12, 64]],
    ["no room for the answer", [16, 15]],
    ["nothing at all", [0, 0]],
  ])("%s: the device wants to be reset, says why, and works again afterwards", (_, [out, room]) => {
    const { hypervisor, vm, view, ring: bell, up, status } = hostile();
    up(T.TOPOLOGY_REGISTERS);
    const before = books(vm);
    const queue = new DriverQueue(vm.memory.buffer, L.CONTROL_QUEUE);
    queue.offer([{ at: 30_000, bytes: out! }], [{ at: 31_000, bytes: room! }]);
    bell();
    const device = hypervisor.guest(vm).topology;
    expect(status(T.TOPOLOGY_REGISTERS) & V.STATUS_NEEDS_RESET).toBe(V.STATUS_NEEDS_RESET);
    expect(device.error).toMatchObject({ code: "NUMAHEAP_DEVICE_NEEDS_RESET" });
    expect(view.getUint32(T.TOPOLOGY_REGISTERS + V.AT_ISR, true) & V.ISR_CONFIG).toBe(V.ISR_CONFIG);
    // Dead until it is reset: neither a request that is good now nor an event gets through.
    hypervisor.migrateVcpu(vm, 0, { toNode: 1 });
    hypervisor.migrateVcpu(vm, 0, { toNode: 0 });
    for (const head of [0, 1]) view.setUint32(L.CONTROL_QUEUE.desc + head * 16 + 8, 16, true);
    bell();
    expect(queue.take()).toBeUndefined();
    expect((books(vm) as unknown[]).slice(0, 4)).toEqual((before as unknown[]).slice(0, 4));
    up(T.TOPOLOGY_REGISTERS, 2);
    const again = new DriverQueue(vm.memory.buffer, L.CONTROL_QUEUE);
    up(T.TOPOLOGY_REGISTERS, 3);
    again.offer([{ at: 30_000, bytes: 16 }], [{ at: 31_000, bytes: 16 }]);
    bell();
    expect([again.take(), device.error]).toEqual([0, undefined]);
    audit(hypervisor);
  });

  test("buffers that are there before the bell rings do not let events overtake an overflow", () => {
    const { hypervisor, vm, view, ring: bell, up } = hostile();
    up(T.TOPOLOGY_REGISTERS);
    const queue = new DriverQueue(vm.memory.buffer, L.EVENT_QUEUE);
    hypervisor.migrateVcpu(vm, 0, { toNode: 1 });
    for (let i = 0; i < 2; ++i) queue.offer([], [{ at: 30_000 + i * 64, bytes: T.EVENT_BYTES }]);
    hypervisor.migrateVcpu(vm, 1, { toNode: 2 });
    expect(queue.take()).toBeUndefined();
    bell();
    hypervisor.migrateVcpu(vm, 2, { toNode: 3 });
    expect([view.getUint32(30_000, true), view.getUint32(30_064, true)]).toEqual([T.EVENT_OVERFLOW, T.EVENT_VCPU]);
  });

  test("queues that lie nowhere", () => {
    const { hypervisor, vm, view, up, status } = hostile();
    view.setUint32(T.TOPOLOGY_REGISTERS + V.AT_QUEUES, 64, true);
    const desc = T.TOPOLOGY_REGISTERS + V.AT_QUEUES + 4;
    up(T.TOPOLOGY_REGISTERS);
    view.setUint32(desc, 0xffff_fff0, true);
    view.setUint32(T.TOPOLOGY_REGISTERS + V.AT_DRIVER_STATUS, 2 * V.STATUS_RESET + V.STATUS_READY, true);
    hypervisor.guest(vm).notified();
    expect(status(T.TOPOLOGY_REGISTERS) & V.STATUS_NEEDS_RESET).toBe(V.STATUS_NEEDS_RESET);
    hypervisor.migrateVcpu(vm, 0, { toNode: 1 });
    audit(hypervisor);
  });

  test("an event buffer that is too small, or not to be written", () => {
    for (const [readable, writable] of [
      [[], [{ at: 30_000, bytes: T.EVENT_BYTES - 1 }]],
      [[{ at: 30_000, bytes: 8 }], [{ at: 31_000, bytes: 64 }]],
    ]) {
      const { hypervisor, vm, up, status } = hostile();
      up(T.TOPOLOGY_REGISTERS);
      new DriverQueue(vm.memory.buffer, L.EVENT_QUEUE).offer(readable!, writable!);
      hypervisor.migrateVcpu(vm, 0, { toNode: 1 });
      expect(status(T.TOPOLOGY_REGISTERS) & V.STATUS_NEEDS_RESET).toBe(V.STATUS_NEEDS_RESET);
      expect(vm.cpus[0]!.node).toBe(1);
      audit(hypervisor);
    }
  });

  const list = (vm: VirtualMachine, flags: number, pfns: readonly number[], queueAddress = L.INFLATE_QUEUE): DriverQueue => {
    const view = new DataView(vm.memory.buffer);
    [flags, 0, ...pfns].forEach((value, i) => view.setUint32(L.LIST.at + i * 4, value, true));
    const queue = new DriverQueue(vm.memory.buffer, queueAddress);
    queue.offer([{ at: L.LIST.at, bytes: 8 + pfns.length * 4 }], [L.LIST_ANSWER]);
    return queue;
  };

  test.each([
    ["half a frame", [200]],
    ["halves of two frames", [201, 202]],
    ["the halves in the wrong order", [201, 200]],
    ["a good frame and half of one", [200, 201, 202]],
    ["a frame twice", [200, 201, 200, 201]],
    ["the kernel's own frame", [2, 3]],
    ["a frame beyond the memory", [1024, 1025]],
    ["page 2^32 - 1", [0xffff_fffe, 0xffff_ffff]],
  ])("a list of pages that is %s: refused, and none is taken", (_, pfns) => {
    const { hypervisor, vm, view, ring: bell, up } = hostile();
    up(B.BALLOON_REGISTERS);
    const before = books(vm);
    const queue = list(vm, 0, pfns);
    bell();
    expect(queue.take()).toBe(0);
    expect([view.getUint32(L.LIST_ANSWER.at, true), view.getUint32(L.LIST_ANSWER.at + 4, true)]).toEqual([22, 0]);
    expect(books(vm)).toEqual(before);
    audit(hypervisor);
  });

  test("lists of ever more to come are refused before they cost anything", () => {
    const { hypervisor, vm, view, ring: bell, up } = hostile();
    up(B.BALLOON_REGISTERS);
    const pfns = Array.from({ length: 1000 }, (_, i) => 20 + i);
    const before = books(vm);
    const queue = list(vm, B.LIST_MORE, pfns);
    bell();
    expect([queue.take(), view.getUint32(L.LIST_ANSWER.at, true)]).toEqual([0, 0]);
    // Twice 500 are more frames than there are; what had gathered is dropped.
    for (const errno of [22, 0, 22]) {
      queue.offer([{ at: L.LIST.at, bytes: 8 + 4000 }], [L.LIST_ANSWER]);
      bell();
      queue.take();
      expect(view.getUint32(L.LIST_ANSWER.at, true)).toBe(errno);
    }
    expect(books(vm)).toEqual(before);
    audit(hypervisor);
  });

  test("a list longer than all pages, or without a head, or without room for an answer", () => {
    for (const [readable, writable] of [
      [8 + 512 * 8 + 4, 8],
      [4, 8],
      [10, 8],
      [16, 4],
    ] as const) {
      const { hypervisor, vm, ring: bell, up, status } = hostile();
      up(B.BALLOON_REGISTERS);
      const before = books(vm);
      new DriverQueue(vm.memory.buffer, L.INFLATE_QUEUE).offer([{ at: 100_000, bytes: readable }], [{ at: 30_000, bytes: writable }]);
      bell();
      expect(status(B.BALLOON_REGISTERS) & V.STATUS_NEEDS_RESET).toBe(V.STATUS_NEEDS_RESET);
      expect(books(vm)).toEqual(before);
      audit(hypervisor);
    }
  });

  test("random bytes in registers, rings and buffers, and a bell: no hang, no crash, the neighbour hears its own changes", async () => {
    const hypervisor = new Kvm(ring(4, 2, 1024));
    const { vm, guest } = await boot(hypervisor);
    const neighbour = await boot(hypervisor);
    guest.platform.stop();
    const bytes = new Uint8Array(vm.memory.buffer, T.TOPOLOGY_REGISTERS, 4 * 8192);
    const poke = fc.tuple(
      fc.oneof(fc.nat(127), fc.integer({ min: 4096, max: 4223 }), fc.nat(bytes.length - 8)),
      fc.uint8Array({ maxLength: 8 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(poke, { maxLength: 20 }), fc.nat(3), fc.boolean(), async (pokes, node, restart) => {
        if (restart) {
          for (const base of [T.TOPOLOGY_REGISTERS, B.BALLOON_REGISTERS]) {
            const view = new DataView(vm.memory.buffer);
            const queues = base === T.TOPOLOGY_REGISTERS ? [L.EVENT_QUEUE, L.CONTROL_QUEUE] : [L.INFLATE_QUEUE, L.DEFLATE_QUEUE];
            queues.forEach((address, i) =>
              [address.size, address.desc, address.avail, address.used].forEach((value, j) =>
                view.setUint32(base + V.AT_QUEUES + i * 16 + j * 4, value, true),
              ),
            );
            view.setUint32(
              base + V.AT_DRIVER_STATUS,
              (view.getUint32(base + V.AT_DRIVER_STATUS, true) & ~255) + 256 + V.STATUS_READY,
              true,
            );
          }
        }
        for (const [at, values] of pokes) bytes.set(values, at);
        hypervisor.guest(vm).notified();
        hypervisor.migrateVcpu(vm, 0, { toNode: node });
        hypervisor.migratePages(vm, 100, 5, node);
        hypervisor.migrateVcpu(neighbour.vm, 1, { toNode: node });
        audit(hypervisor);
        expect(await neighbour.guest.wrong(hypervisor)).toEqual([]);
      }),
      { numRuns: 400, seed: 8 },
    );
  });

  test("a driver whose device fell over resets it, and catches up", async () => {
    const { hypervisor, vm, guest } = await start();
    new DataView(vm.memory.buffer).setUint16(L.EVENT_QUEUE.avail + 2, 40_000, true);
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    hypervisor.migratePages(vm, 100, 50, 3);
    expect(hypervisor.guest(vm).topology.error?.message).toContain("chains are offered on a queue of 64");
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(hypervisor.guest(vm).topology.error).toBeUndefined();
    expect(guest.deliveries.at(-1)).toMatchObject({ what: "reset", changes: 2 });
    await guest.inflate([200]);
    expect(await guest.wrong(hypervisor)).toEqual([]);
  });
});
