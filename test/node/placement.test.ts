// Where memory is put: by mode, when nodes are full, and after it went through a balloon.
import { describe, expect, test } from "vitest";
import { HypervisorError } from "../../src/hypervisor/errors.js";
import type { Hypervisor, VmOptions } from "../../src/hypervisor/hypervisor.js";
import { BOOT_MODES, type BootMode } from "../../src/hypervisor/modes.js";
import { FRAME_BYTES } from "../../src/hypervisor/vm-layout.js";
import { Kvm } from "../../src/hypervisor/kvm/kvm.js";
import { Xen } from "../../src/hypervisor/xen/xen.js";
import { topologyFromAcpi } from "../../src/topology/acpi/tables.js";
import { presets } from "../../src/topology/presets.js";
import { parseTopology } from "../../src/topology/topology.js";
import type { VirtualMachine } from "../../src/hypervisor/vm.js";
import { audit, boot, hypervisorOf, KINDS, machineWith, MIB, NOWHERE, ring } from "../support/hypervisor-rig.js";

const refusal = (run: () => unknown): HypervisorError => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(HypervisorError);
    return error as HypervisorError;
  }
  return expect.fail("it was to be refused");
};
const codeOf = (run: () => unknown): string => refusal(run).code;

/** All a hypervisor keeps, for telling whether anything changed. */
const books = (hypervisor: Hypervisor): unknown =>
  hypervisor.vms.map((vm) => [
    [...Array(vm.frames).keys()].map((gfn) => vm.p2m.get(gfn)),
    vm.cpus.map(({ cpu }) => cpu),
    vm.reserved,
    vm.policy,
    vm.balloonTarget,
    vm.tracker.count,
  ]);

/** A node with 1 MiB. */
const node = (id: number, cpus: readonly number[]): object => ({ id, cpus, memory: [{ start: id * MIB, end: (id + 1) * MIB }] });

const nodesOf = (vm: VirtualMachine, ...gfns: number[]): number[] => gfns.map((gfn) => vm.nodeOf(gfn));

describe.each(KINDS)("%s", (kind) => {
  const machine = ring(4, 2, 1024);
  const created = (mode: BootMode, options: Partial<VmOptions> = {}): { hypervisor: Hypervisor; vm: VirtualMachine } => {
    const hypervisor = hypervisorOf(kind, machine);
    return { hypervisor, vm: hypervisor.createVm({ vcpus: 6, memory: 8 * MIB, mode, ...options }) };
  };

  test.each(["adaptive", "static"] as const)("mode %s: a contiguous share a node", (mode) => {
    const { vm } = created(mode);
    expect(nodesOf(vm, 0, 255, 256, 511, 512, 767, 768, 1023)).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(vm.cpus.map(({ node }) => node)).toEqual([0, 1, 2, 3, 0, 1]);
  });

  test("nodes without memory get no share, nodes without pCPUs no vCPU", () => {
    const hypervisor = hypervisorOf(kind, machineWith([1, 0, 1, 0], [0, 1024, 0, 1024]));
    const vm = hypervisor.createVm({ vcpus: 3, memory: 4 * MIB });
    // The kernel's frames too: the one there is is the nearest.
    expect(nodesOf(vm, 0, 255, 256, 511)).toEqual([1, 1, 3, 3]);
    expect(vm.cpus.map(({ node }) => node)).toEqual([0, 2, 0]);
  });

  test("mode flat: stripes of 256 frames, whoever touches them", () => {
    const { hypervisor, vm } = created("flat", { memory: 16 * MIB });
    const toucher = new Uint8Array(vm.memory.buffer, vm.layout.frameToucher, vm.frames);
    toucher[300] = 1 + 3;
    hypervisor.populateTouched();
    expect(nodesOf(vm, 0, 255, 256, 300, 512, 768, 1024, 1280)).toEqual([0, 0, 1, 1, 2, 3, 0, 1]);
  });

  test("mode first-touch: a frame lies nowhere until it is touched, then where its toucher ran", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, machine), { mode: "first-touch" });
    expect(nodesOf(vm, 100, 101)).toEqual([NOWHERE, NOWHERE]);
    expect(vm.truth().backed[100]).toBe(0);
    guest.touch(100, 2, 3);
    hypervisor.migrateVcpu(vm, 3, { toNode: 1 }); // after the touch: it counts where the vCPU was
    guest.touch(102, 1, 3);
    hypervisor.populateTouched();
    expect(nodesOf(vm, 100, 101, 102, 103)).toEqual([3, 3, 1, NOWHERE]);
    audit(hypervisor);
  });

  test("mode first-touch: what stands in the toucher's byte may be anything", () => {
    const { hypervisor, vm } = created("first-touch");
    const toucher = new Uint8Array(vm.memory.buffer, vm.layout.frameToucher, vm.frames);
    toucher.fill(255);
    hypervisor.populateTouched();
    expect(vm.p2m.backed).toBe(vm.frames);
    audit(hypervisor);
  });

  test("mode policy-hypercall: as the guest chose, when a frame is touched", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, machine), { mode: "policy-hypercall" });
    const touchedOn = (first: number): number[] => {
      guest.touch(first, 4, 2);
      hypervisor.populateTouched();
      return nodesOf(vm, first, first + 1, first + 2, first + 3);
    };
    // Four frames in turn, whichever node is next.
    expect(touchedOn(100).sort()).toEqual([0, 1, 2, 3]);
    await guest.platform.setPlacement("interleave");
    expect(touchedOn(201)).toEqual([1, 2, 3, 0]);
    expect(touchedOn(401)).toEqual([1, 2, 3, 0]);
    await guest.platform.setPlacement("first-touch");
    expect(touchedOn(301)).toEqual([2, 2, 2, 2]);
    expect(nodesOf(vm, 201)).toEqual([1]);
  });

  test.each(BOOT_MODES.filter((mode) => mode !== "policy-hypercall"))("mode %s: a guest has no placement to choose", async (mode) => {
    const { vm, guest } = await boot(hypervisorOf(kind, machine), { mode });
    await expect(guest.platform.setPlacement("interleave")).rejects.toMatchObject({ code: "NUMAHEAP_PLATFORM_REFUSED", errno: 95 });
    expect(vm.policy).toBe("round-robin");
  });

  test.each(BOOT_MODES.filter((mode) => mode !== "adaptive"))("mode %s: nothing is told, whatever happens", async (mode) => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, machine), { mode });
    expect(await guest.platform.readTopology()).toBeUndefined();
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    hypervisor.migratePages(vm, 20, 100, 2);
    await guest.inflate([50]);
    await guest.deflate([50]);
    await guest.platform.settled();
    expect(guest.calls).toEqual([]);
    expect(guest.deliveries).toEqual([]);
    hypervisor.setBalloonTarget(vm, 300);
    await guest.platform.settled();
    expect(guest.targets).toEqual([300]);
    audit(hypervisor);
  });

  test("overcommit is refused, with numbers, before anything is taken", () => {
    const hypervisor = hypervisorOf(kind, ring(2, 1, 1024));
    hypervisor.createVm({ vcpus: 1, memory: 8 * MIB });
    const before = books(hypervisor);
    const error = refusal(() => hypervisor.createVm({ vcpus: 1, memory: 16 * MIB, name: "large" }));
    expect(error.code).toBe("NUMAHEAP_OVERCOMMIT");
    expect(error.message).toMatch(/^large needs 2048 frames \(16 MiB\) and 1024 can be had: .*ask for at most 8 MiB/);
    expect(books(hypervisor)).toEqual(before);
    hypervisor.createVm({ vcpus: 1, memory: 8 * MIB });
    expect(hypervisor.available).toBe(0);
    audit(hypervisor);
  });

  test("what a machine was promised is there when it touches it, though other nodes must give it", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(2, 1, 512)), { memory: 4 * MIB });
    hypervisor.createVm({ vcpus: 1, memory: 4 * MIB });
    hypervisor.migratePages(vm, 0, 512, 1);
    guest.touch(8, 500, 0);
    hypervisor.populateTouched();
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
  });

  test("pages move to a node until it is full, then as near to it as there is room, then not at all", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(4, 1, 200)), { memory: 4 * MIB });
    guest.touch(0, 512, 0);
    expect([0, 1, 2, 3].map((node) => hypervisor.frames.freeOn(node))).toEqual(kind === "xen" ? [72, 72, 72, 72] : [194, 200, 200, 200]);
    hypervisor.populateTouched();
    // Node 3 has room for 72 of node 1's 128; nodes 0 and 2 are one hop from it, as node 1 is not: they take the others.
    expect(hypervisor.migratePages(vm, 128, 128, 3)).toEqual({ moved: 72, spilled: 56, refused: 0 });
    expect(nodesOf(vm, 128, 199, 200, 255)).toEqual([3, 3, 0, 0]);
    // Back again: node 1 has room for all 200, 128 + 16 of which go to frames that others hold.
    expect(hypervisor.migratePages(vm, 0, 200, 1)).toEqual({ moved: 200, spilled: 0, refused: 0 });
    // Full, and what is nearest to it is where these are.
    expect(hypervisor.migratePages(vm, 256, 20, 1)).toEqual({ moved: 0, spilled: 0, refused: 20 });
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
  });

  test("a node has room for all that waits for it: frames nobody has touched spill and are refused as those that are backed", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, machineWith([1, 1, 1, 1], [600, 100, 100, 0])), { memory: 4 * MIB });
    const on = (node: number): number => hypervisor.truth(vm).frames.filter((at) => at === node).length;
    // A third each is more than nodes 1 and 2 have.
    expect([0, 1, 2, 3].map(on)).toEqual([312, 100, 100, 0]);
    expect(hypervisor.migratePages(vm, 0, 512, 1)).toEqual({ moved: 100, spilled: 0, refused: 412 });
    // Nodes 0 and 2 are as near to node 3, and only node 0 has room.
    expect(hypervisor.migratePages(vm, 0, 512, 3)).toEqual({ moved: 0, spilled: 100, refused: 412 });
    expect(hypervisor.migratePages(vm, 0, 150, 1)).toEqual({ moved: 100, spilled: 0, refused: 50 });
    expect(await guest.platform.advise(0, 512, 2)).toBe(100);
    const other = hypervisor.createVm({ vcpus: 1, memory: MIB, mode: "first-touch" });
    new Uint8Array(other.memory.buffer, other.layout.frameToucher, other.frames).fill(1 + 1);
    hypervisor.populateTouched();
    // Node 1 is full, though nothing of it may be backed.
    expect([...new Set(other.truth().frames)]).toEqual([0]);
    audit(hypervisor);
    const before = [...hypervisor.truth(vm).frames];
    guest.touch(0, 512, 3);
    hypervisor.populateTouched();
    expect([...hypervisor.truth(vm).frames]).toEqual(before);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
    for (const each of hypervisor.vms) hypervisor.destroyVm(each);
    expect([0, 1, 2, 3].map((node) => hypervisor.frames.roomOn(node))).toEqual([600, 100, 100, 0]);
  });

  test("frames that wait for their toucher find a home near a node that is full", () => {
    const hypervisor = hypervisorOf(kind, machineWith([1, 1, 1], [600, 100, 100]));
    const vm = hypervisor.createVm({ vcpus: 1, memory: 4 * MIB, mode: "first-touch" });
    const { kernelFrames } = vm.layout;
    expect(hypervisor.migratePages(vm, kernelFrames, 150, 1)).toEqual({ moved: 100, spilled: 50, refused: 0 });
    expect(nodesOf(vm, kernelFrames + 99, kernelFrames + 100, kernelFrames + 149)).toEqual([1, 0, 0]);
    audit(hypervisor);
  });

  test("advice moves what there is room for, and spills nothing", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(4, 1, 200)), { memory: 4 * MIB });
    guest.touch(0, 512, 0);
    hypervisor.populateTouched();
    expect(await guest.platform.advise(128, 128, 3)).toBe(72);
    expect(nodesOf(vm, 128, 199, 200, 255)).toEqual([3, 3, 1, 1]);
    expect(await guest.platform.advise(128, 72, 3)).toBe(72);
  });

  test("frames come out of the balloon zeroed, and from another node if theirs has none left", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(4, 1, 128)), { memory: 4 * MIB });
    guest.touch(0, 512, 0);
    hypervisor.populateTouched();
    const bytes = new Uint8Array(vm.memory.buffer);
    bytes.fill(7, 400 * FRAME_BYTES, 408 * FRAME_BYTES);
    const given = Array.from({ length: 8 }, (_, i) => 400 + i); // of node 3
    const other = Array.from({ length: 8 }, (_, i) => 20 + i); // of node 0
    await guest.inflate([...given, ...other]);
    expect(vm.toucherOf(400)).toBe(-1);
    expect(hypervisor.available).toBe(16);
    // Another machine takes what node 3 had.
    const neighbour = hypervisor.createVm({ vcpus: 1, memory: MIB / 8, mode: "flat" });
    hypervisor.migratePages(neighbour, 0, 16, 3);
    expect(hypervisor.available).toBe(0);
    expect(await guest.deflate(given)).toBe(0);
    hypervisor.destroyVm(neighbour);
    await guest.inflate([300]);
    hypervisor.migratePages(vm, 20 - 8, 8, 3); // node 3 is full now
    expect(await guest.deflate([...given, 300])).toBe(9);
    guest.touch(400, 8, 3);
    hypervisor.populateTouched();
    expect(hypervisor.frames.freeOn(3)).toBe(0);
    expect(nodesOf(vm, ...given)).not.toContain(3);
    expect(bytes.subarray(400 * FRAME_BYTES, 408 * FRAME_BYTES).every((byte) => byte === 0)).toBe(true);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
  });

  test("a deflation gets as many frames as the machine has, the first ones", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(2, 1, 260)), { memory: 4 * MIB });
    const gfns = Array.from({ length: 20 }, (_, i) => 499 - i);
    await guest.inflate(gfns);
    hypervisor.createVm({ vcpus: 1, memory: MIB / 8 });
    expect(await guest.deflate(gfns)).toBe(12);
    expect(gfns.map((gfn) => vm.isBallooned(gfn))).toEqual(gfns.map((_, i) => i >= 12));
    expect(await guest.wrong(hypervisor)).toEqual([]);
    audit(hypervisor);
  });

  test.each([
    ["migrateVcpu", (h, vm) => h.migrateVcpu(vm, 0, { toNode: 1 })],
    ["setAffinity", (h, vm) => h.setAffinity(vm, 0, [3])],
    ["setLoad", (h, vm) => h.setLoad(vm, 0, 50)],
    ["balance", (h) => h.balance()],
    ["migratePages", (h, vm) => h.migratePages(vm, 300, 1, 1)],
    ["setBalloonTarget", (h, vm) => h.setBalloonTarget(vm, 400)],
    ["inflate", (h, vm) => h.inflate(vm, [300])],
    ["deflate", (h, vm) => h.deflate(vm, [])],
    ["advise", (h, vm) => h.advise(vm, 300, 1, 1)],
    ["truth", (h, vm) => h.truth(vm)],
    ["createVm", (h) => h.createVm({ vcpus: 1, memory: MIB })],
    ["prepare", (h, vm) => h.prepare(vm.image, 8).cancel()],
  ] satisfies [string, (hypervisor: Hypervisor, vm: VirtualMachine) => unknown][])("%s first backs what was touched", async (_, run) => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, machine), { mode: "first-touch" });
    guest.touch(100, 3, 2);
    run(hypervisor, vm);
    expect([...vm.truth().backed.subarray(99, 104)]).toEqual([0, 1, 1, 1, 0]);
    audit(hypervisor);
  });

  test("the operations refuse what is out of range, and nothing changes", async () => {
    const { hypervisor, vm, guest } = await boot(hypervisorOf(kind, ring(4, 2, 512)));
    await guest.inflate([100]);
    const other = hypervisorOf(kind, ring(4, 2, 512)).createVm({ vcpus: 1, memory: MIB });
    const gone = hypervisor.createVm({ vcpus: 1, memory: MIB });
    hypervisor.destroyVm(gone);
    const arrival = hypervisor.prepare(vm.image, 16);
    const before = books(hypervisor);
    const { kernelFrames } = vm.layout;
    const invalid: (() => unknown)[] = [
      () => hypervisor.createVm({ vcpus: 0, memory: MIB }),
      () => hypervisor.createVm({ vcpus: 257, memory: MIB }),
      () => hypervisor.createVm({ vcpus: 1, memory: MIB + 1 }),
      () => hypervisor.createVm({ vcpus: 1, memory: 0 }),
      () => hypervisor.createVm({ vcpus: 1, memory: 2 ** 32 + 65536 }),
      () => hypervisor.createVm({ vcpus: 1, memory: MIB, mode: "numa" as BootMode }),
      () => hypervisor.migrateVcpu(vm, 4, { toNode: 1 }),
      () => hypervisor.migrateVcpu(vm, 0, { toNode: 4 }),
      () => hypervisor.migrateVcpu(vm, 0, {} as { toNode: number }),
      () => hypervisor.setAffinity(vm, 0, "0" as unknown as number[]),
      () => hypervisor.prepare({ ...vm.image, vcpus: 0 }, 8),
      () => hypervisor.prepare({ ...vm.image, frames: 4 }, 4),
      () => hypervisor.prepare(vm.image, vm.frames + 1),
      () => hypervisor.prepare(vm.image, -1),
      () => void arrival.commit({ ...vm.image, frames: 256 }, new Uint8Array(256)),
      () => void arrival.commit(vm.image, new Uint8Array(511)),
      () => hypervisor.migratePages(vm, 512, 1, 0),
      () => hypervisor.migratePages(vm, 0, 513, 0),
      () => hypervisor.migratePages(vm, 0, 0, 0),
      () => hypervisor.migratePages(vm, 0, 1, -1),
      () => hypervisor.setBalloonTarget(vm, 513),
      () => hypervisor.setBalloonTarget(vm, kernelFrames - 1),
      () => hypervisor.inflate(vm, [200, 100]),
      () => hypervisor.inflate(vm, [200, 200]),
      () => hypervisor.inflate(vm, [200, kernelFrames - 1]),
      () => hypervisor.inflate(vm, [200, 512]),
      () => hypervisor.inflate(vm, [200, 1.5]),
      () => hypervisor.deflate(vm, [100, 200]),
      () => hypervisor.deflate(vm, [100, 100]),
    ];
    for (const run of invalid) expect(codeOf(run), run.toString()).toBe("NUMAHEAP_INVALID_ARGUMENT");
    for (const vmOfNobody of [gone, other]) expect(codeOf(() => hypervisor.migratePages(vmOfNobody, 0, 1, 0))).toBe("NUMAHEAP_NO_SUCH_VM");
    expect(books(hypervisor)).toEqual(before);
    audit(hypervisor, 16);
    void arrival.cancel();
    expect(codeOf(() => arrival.cancel())).toBe("NUMAHEAP_NO_SUCH_VM");
    audit(hypervisor);
  });
});

test.each([
  [
    "a gap in its nodes",
    {
      nodes: [node(0, [0]), node(2, [1])],
      distances: [
        [10, 20],
        [20, 10],
      ],
    },
  ],
  ["a gap in its CPUs", { nodes: [node(0, [0, 2])], distances: [[10]] }],
  ["no CPU", { nodes: [node(0, [])], distances: [[10]] }],
  ["no memory", { nodes: [{ id: 0, cpus: [0], memory: [] }], distances: [[10]] }],
  [
    "more nodes than a heap has",
    {
      nodes: Array.from({ length: 33 }, (_, id) => node(id, [id])),
      distances: Array.from({ length: 33 }, (_, a) => Array.from({ length: 33 }, (__, b) => (a === b ? 10 : 20))),
    },
  ],
])("a machine with %s is refused", (_, topology) => {
  expect(codeOf(() => new Xen(parseTopology(topology)))).toBe("NUMAHEAP_INVALID_ARGUMENT");
});

test("a machine with more memory than can be kept books of is refused, in words", () => {
  const nodes = Array.from({ length: 32 }, (_, id) => ({ id, cpus: [id], memory: [{ start: id * 2 ** 42, end: (id + 1) * 2 ** 42 }] }));
  const distances = nodes.map((_, a) => nodes.map((__, b) => (a === b ? 10 : 20)));
  const error = refusal(() => new Xen(parseTopology({ nodes, distances })));
  expect(error.code).toBe("NUMAHEAP_INVALID_ARGUMENT");
  expect(error.message).toMatch(/^memory: .* at most 8192\.0 GiB together, and of this one 131072\.0 GiB: .*memoryPerNode/);
});

describe("firmware", () => {
  const shown = (mode: BootMode): ReturnType<typeof topologyFromAcpi>["topology"] => {
    const { firmware } = new Kvm(ring(4, 2, 512)).createVm({ vcpus: 6, memory: 4 * MIB, mode });
    return topologyFromAcpi(firmware).topology;
  };

  test.each(BOOT_MODES.filter((mode) => mode !== "static"))("mode %s: one node, with everything", (mode) => {
    expect(shown(mode)).toEqual({ nodes: [{ id: 0, cpus: [0, 1, 2, 3, 4, 5], memory: [{ start: 0, end: 4 * MIB }] }], distances: [[10]] });
  });

  test("mode static: the nodes as of boot, and their distances", () => {
    const { nodes, distances } = shown("static");
    expect(distances).toEqual(ring(4, 2, 512).distances);
    expect(nodes).toEqual([[0, 4], [1, 5], [2], [3]].map((cpus, id) => ({ id, cpus, memory: [{ start: id * MIB, end: (id + 1) * MIB }] })));
  });

  test("every preset can be run", () => {
    for (const [name, { topology }] of Object.entries(presets)) {
      for (const kind of KINDS) {
        const hypervisor = hypervisorOf(kind, topology);
        for (const mode of BOOT_MODES) hypervisor.createVm({ vcpus: 3, memory: 2 * MIB, mode });
        expect(hypervisor.vms.length, name).toBe(BOOT_MODES.length);
        audit(hypervisor);
      }
    }
  });
});
