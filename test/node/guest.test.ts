// What both guests do of themselves: boot, the two views, the handler of topology changes, heaps and listeners.
import { describe, expect, test } from "vitest";
import { MAX_ORDER } from "../../src/guest/free-lists.js";
import { MAX_HEAPS, OWNER_FREE, OWNER_HEAP } from "../../src/guest/frame-table.js";
import type { Guest } from "../../src/guest/guest.js";
import { FreeBsd } from "../../src/guest/freebsd/freebsd.js";
import type { TopologyEvent } from "../../src/guest/listeners.js";
import { Linux } from "../../src/guest/linux/linux.js";
import type { PlatformChange } from "../../src/guest/platform.js";
import { topologyFromAcpi } from "../../src/topology/acpi/tables.js";
import { busy, FakeHeap, FakePlatform, FRAME, ring } from "../support/fake-platform.js";
import { bootGuest, expectSound, SYSTEMS } from "../support/guests.js";

/** Frames filed on each node. */
const filedOn = (guest: Guest): number[] => [0, 1, 2, 3].map((node) => guest.lists.freeOn(node));

describe.each(SYSTEMS)("%s", (system) => {
  const boot = (options = {}) => bootGuest(system, options);

  describe("boot", () => {
    test("marks the kernel's frames and files all others on their nodes", async () => {
      const { guest, platform } = await boot();
      expect(guest.os).toBe(system);
      expect(guest.layout.kernelFrames).toBe(6);
      expect(filedOn(guest)).toEqual([250, 256, 256, 256]);
      expect(guest.handlerInvocations).toBe(0);
      expectSound(guest, platform);
    });

    test("frames that lie nowhere are in the balloon", async () => {
      const { guest, platform } = await boot({ ballooned: [500, 501, 900] });
      expect(guest.balloon.size).toBe(3);
      expect(guest.balloon.target).toBe(1021);
      expect(filedOn(guest)).toEqual([250, 254, 256, 255]);
      expectSound(guest, platform);
    });

    test("the flat view and the actual one stand side by side, and only one of them moves", async () => {
      const { guest, platform } = await boot();
      const { flat } = guest;
      expect(flat.nodes).toEqual([{ id: 0, cpus: [0, 1, 2, 3], memory: [{ start: 0, end: 1024 * FRAME }] }]);
      expect(flat.distances).toEqual([[10]]);
      expect(guest.actual.nodes.map(({ cpus }) => cpus)).toEqual([[0], [1], [2], [3]]);
      expect(guest.actual.distances).toEqual(ring(4));
      platform.happen({ kind: "vcpu", vcpu: 0, node: 2 }, { kind: "frames", first: 100, count: 50, node: 3 });
      expect(guest.flat).toEqual(flat);
      expect(guest.boot.nodeOfFrame(100)).toBe(0);
      expect(guest.actual.nodes.map(({ cpus }) => cpus)).toEqual([[], [1], [0, 2], [3]]);
      expect(guest.actual.nodes[3]!.memory).toEqual([
        { start: 100 * FRAME, end: 150 * FRAME },
        { start: 768 * FRAME, end: 1024 * FRAME },
      ]);
    });

    test("the fake tables say the actual topology, byte for byte what a firmware would", async () => {
      const { guest, platform } = await boot({ ballooned: [1023], vcpus: 8 });
      const { topology: shown } = topologyFromAcpi({ srat: platform.srat, slit: platform.slit });
      expect(shown).toEqual(guest.flat);
      expect(topologyFromAcpi(guest.topology.tables()).topology).toEqual(guest.actual);
      platform.happen({ kind: "vcpu", vcpu: 1, node: 0 }, { kind: "frames", first: 0, count: 1, node: 1 });
      expect(topologyFromAcpi(guest.topology.tables()).topology).toEqual(guest.actual);
      expect(guest.actual.nodes[1]!.memory[0]).toEqual({ start: 0, end: FRAME });
      expect(guest.actual.nodes[3]!.memory[0]!.end).toBe(1023 * FRAME);
    });

    test("a guest that is told nothing believes its tables, for good", async () => {
      const fixed = await boot({ mode: "static" });
      expect(fixed.guest.flat.nodes).toHaveLength(4);
      expect(fixed.guest.actual).toEqual(fixed.guest.flat);
      expect(filedOn(fixed.guest)).toEqual([250, 256, 256, 256]);
      const before = fixed.guest.actual;
      fixed.platform.moveVcpu(0, 3);
      expect(fixed.guest.actual).toEqual(before);
      expect(fixed.guest.handlerInvocations).toBe(0);
      const flat = await boot({ mode: "flat" });
      expect(flat.guest.actual).toEqual(flat.guest.flat);
      expect(filedOn(flat.guest)).toEqual([1018, 0, 0, 0]);
      expect([0, 1, 2, 3].map((vcpu) => flat.guest.nodeOfVcpu(vcpu))).toEqual([0, 0, 0, 0]);
    });

    test.each<[string, (platform: FakePlatform) => { srat?: Uint8Array; slit?: Uint8Array }, RegExp | undefined]>([
      ["absent", () => ({ srat: new Uint8Array(), slit: new Uint8Array() }), undefined],
      ["damaged", ({ srat }) => ({ srat: srat.map((byte, i) => (i === 60 ? byte ^ 1 : byte)) }), /checksum/],
      ["of less memory than there is", () => new FakePlatform({ frames: 512, mode: "static" }), /cover 4194304 bytes .* of 8388608/],
    ])("tables that are %s make one node", async (_, tables, problem) => {
      const platform = new FakePlatform({ mode: "static" });
      const { srat = platform.srat, slit = platform.slit } = tables(platform);
      const shown = { frames: 1024, vcpus: 4, memory: platform.memory, srat, slit };
      const odd = Object.assign(Object.create(platform) as FakePlatform, { srat: shown.srat, slit: shown.slit });
      const options = { platform: odd, memory: platform.memory };
      const guest: Guest = system === "linux" ? await Linux.boot(options) : await FreeBsd.boot(options);
      expect(guest.flat.nodes).toHaveLength(1);
      if (problem) expect(guest.boot.problem?.message).toMatch(problem);
      else expect(guest.boot.problem).toBeUndefined();
      expect(filedOn(guest)).toEqual([1018, 0, 0, 0]);
    });

    test("a memory that is too small, or a topology that cannot be, is refused", async () => {
      const platform = new FakePlatform();
      const small = new FakePlatform({ frames: 512 });
      await expect(Linux.boot({ platform, memory: small.memory })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
      platform.vcpuNode[2] = 9;
      await expect(Linux.boot({ platform, memory: platform.memory })).rejects.toMatchObject({ code: "NUMAHEAP_TOPOLOGY_CHANGE" });
      platform.vcpuNode.length = 2;
      await expect(Linux.boot({ platform, memory: platform.memory })).rejects.toThrow("2 vCPUs, of 4");
    });
  });

  describe("the handler of topology changes", () => {
    test("is invoked once for each batch, and what changes in it moves the epoch", async () => {
      const { guest, platform } = await boot();
      platform.moveVcpu(0, 1);
      platform.happen(
        { kind: "vcpu", vcpu: 1, node: 2 },
        { kind: "frames", first: 8, count: 8, node: 1 },
        { kind: "vcpu", vcpu: 1, node: 3 },
      );
      expect(guest.handlerInvocations).toBe(2);
      expect(guest.epoch).toBe(2);
      platform.moveVcpu(0, 1);
      expect(guest.handlerInvocations).toBe(3);
      expect(guest.epoch).toBe(2);
      expectSound(guest, platform);
    });

    test("re-files exactly the free frames of a range, cut where it ends", async () => {
      const { guest, platform } = await boot();
      const taken = guest.lists.alloc(3, [1], OWNER_HEAP);
      expect(taken).toBe(504);
      platform.moveFrames(502, 4, 3);
      expect(filedOn(guest)).toEqual([250, 246, 256, 258]);
      expect(guest.lists.blocks(3, 1)).toEqual([502]);
      expect(guest.lists.blocks(1, 1)).toEqual([500]);
      expect(guest.table.nodeOf(504)).toBe(3);
      guest.lists.free(504, 8, OWNER_HEAP);
      expect(guest.lists.blocks(3, 2)).toEqual([]);
      expect(guest.lists.blocks(3, 1).sort()).toEqual([502, 504]);
      expectSound(guest, platform);
    });

    test("nodes of frames are written before lists and heaps are told", async () => {
      const { guest, platform } = await boot();
      const heap = new FakeHeap();
      const seen: number[] = [];
      heap.rebind = (first, count, node) =>
        void seen.push(guest.table.nodeOf(first), guest.table.nodeOf(first + count - 1), guest.lists.freeOn(node));
      guest.registerHeap(heap);
      seen.length = 0;
      platform.moveFrames(256, 256, 2);
      expect(seen).toEqual([2, 2, 512]);
    });

    test.each<[string, PlatformChange]>([
      ["a node that is not there", { kind: "vcpu", vcpu: 0, node: 4 }],
      ["a vCPU that is not there", { kind: "vcpu", vcpu: 4, node: 0 }],
      ["frames beyond the end", { kind: "frames", first: 1020, count: 5, node: 0 }],
      ["no frames", { kind: "frames", first: 1020, count: 0, node: 0 }],
      ["half a frame", { kind: "frames", first: 0.5, count: 1, node: 0 }],
      ["frames on a node that is not there", { kind: "frames", first: 0, count: 1, node: -1 }],
      ["no nodes", { kind: "nodes", distances: [] }],
      ["too many nodes", { kind: "nodes", distances: ring(33) }],
      ["distances that are no square", { kind: "nodes", distances: [[10, 20], [20]] }],
      [
        "a distance that is none",
        {
          kind: "nodes",
          distances: [
            [10, 300],
            [20, 10],
          ],
        },
      ],
      [
        "a node nearer than itself",
        {
          kind: "nodes",
          distances: [
            [10, 10],
            [20, 10],
          ],
        },
      ],
      [
        "a node at a distance to itself",
        {
          kind: "nodes",
          distances: [
            [11, 20],
            [20, 10],
          ],
        },
      ],
    ])("refuses a batch with %s, all of it", async (_, change) => {
      const { guest, platform } = await boot();
      const before = guest.actual;
      const batch: PlatformChange[] = [{ kind: "vcpu", vcpu: 0, node: 1 }, change];
      expect(() => guest.topologyChangeHdlr(batch)).toThrow(
        expect.objectContaining({ code: "NUMAHEAP_TOPOLOGY_CHANGE", message: expect.stringContaining("change 1 of 2") }),
      );
      expect(guest.actual).toEqual(before);
      expect(guest.epoch).toBe(0);
      expectSound(guest, platform);
    });

    test("a batch may use nodes that it brings", async () => {
      const { guest, platform } = await boot({ distances: ring(2) });
      platform.happen(
        { kind: "nodes", distances: ring(3) },
        { kind: "vcpu", vcpu: 0, node: 2 },
        { kind: "frames", first: 1000, count: 24, node: 2 },
      );
      expect(guest.nodeOfVcpu(0)).toBe(2);
      expectSound(guest, platform);
    });
  });

  describe("a vCPU on a node without memory", () => {
    test("finds it on the nearest node that has some, the lower of two as near, and is mapped anew when that changes", async () => {
      const distances = [
        [10, 30, 20, 20],
        [30, 10, 20, 20],
        [20, 20, 10, 20],
        [20, 20, 20, 10],
      ];
      const { guest, platform } = await boot({ distances, nodeOf: (gfn: number) => (gfn < 512 ? 1 : 3) });
      const heap = new FakeHeap();
      guest.registerHeap(heap);
      expect([0, 1, 2, 3].map((vcpu) => guest.nodeOfVcpu(vcpu))).toEqual([3, 1, 1, 3]);
      expect(heap.vcpuNode).toEqual(
        new Map([
          [0, 3],
          [1, 1],
          [2, 1],
          [3, 3],
        ]),
      );
      heap.news();
      platform.moveFrames(100, 1, 2);
      expect(guest.nodeOfVcpu(2)).toBe(2);
      expect(guest.nodeOfVcpu(0)).toBe(2);
      expect(heap.news()).toEqual(["rebind 100+1 2", "vcpu 0 2", "vcpu 2 2"]);
      platform.moveFrames(512, 512, 1);
      expect(guest.nodeOfVcpu(3)).toBe(1);
      expect(heap.news()).toEqual(["rebind 512+512 1", "vcpu 3 1"]);
      platform.moveFrames(100, 1, 1);
      expect([0, 1, 2, 3].map((vcpu) => guest.nodeOfVcpu(vcpu))).toEqual([1, 1, 1, 1]);
      // Where it really runs is not forgotten.
      expect(guest.actual.nodes.map(({ cpus }) => cpus)).toEqual([[0], [1], [2], [3]]);
      expectSound(guest, platform);
    });

    test("frames in the balloon are no memory", async () => {
      const { guest, platform } = await boot({ nodeOf: (gfn: number) => (gfn < 1020 ? 0 : 1), ballooned: [1020, 1021, 1022, 1023] });
      expect(guest.nodeOfVcpu(1)).toBe(0);
      platform.target(1021);
      await guest.balloon.idle();
      expect(guest.nodeOfVcpu(1)).toBe(1);
      expectSound(guest, platform);
    });
  });

  test("the machine has 4 nodes, then 2, then 4", async () => {
    const { guest, platform } = await boot({ ballooned: [1000] });
    const heap = new FakeHeap();
    guest.registerHeap(heap);
    expect(heap.nodes).toBe(4);
    heap.news();
    const fewer: PlatformChange[] = [
      { kind: "vcpu", vcpu: 2, node: 0 },
      { kind: "vcpu", vcpu: 3, node: 1 },
      { kind: "frames", first: 512, count: 488, node: 0 },
      { kind: "frames", first: 1001, count: 23, node: 1 },
      {
        kind: "nodes",
        distances: [
          [10, 21],
          [21, 10],
        ],
      },
    ];
    platform.happen(...fewer);
    platform.nodeOf[1000] = 0;
    expect(guest.topology.nodes).toBe(2);
    // What leaves a node is told before the node goes.
    expect(heap.news()).toEqual([
      "rebind 512+488 0",
      "rebind 1001+23 1",
      "vcpu 2 0",
      "vcpu 3 1",
      "nodes 2",
      "distance 0 1 21",
      "distance 1 0 21",
    ]);
    expect(filedOn(guest)).toEqual([738, 279, 0, 0]);
    expect(guest.actual.nodes).toHaveLength(2);
    expectSound(guest, platform);
    const more: PlatformChange[] = [
      { kind: "nodes", distances: ring(4) },
      { kind: "frames", first: 512, count: 256, node: 2 },
      { kind: "vcpu", vcpu: 2, node: 2 },
    ];
    platform.happen(...more);
    const news = heap.news();
    expect(news[0]).toBe("nodes 4");
    expect(news.slice(-2)).toEqual(["rebind 512+256 2", "vcpu 2 2"]);
    expect(heap.distances).toEqual(ring(4));
    // Node 3 has nothing yet.
    expect(filedOn(guest)).toEqual([482, 279, 256, 0]);
    platform.target(1024);
    await guest.balloon.idle();
    expectSound(guest, platform);
  });

  test("what is left behind on a node that goes is on node 0 until told otherwise", async () => {
    const { guest } = await boot({ vcpuNode: [0, 1, 2, 3] });
    guest.topologyChangeHdlr([{ kind: "nodes", distances: ring(2) }]);
    expect(filedOn(guest)).toEqual([762, 256, 0, 0]);
    expect(guest.topology.runsOn(3)).toBe(0);
    expect(guest.settle()).toBe(true);
    expect(guest.check()).toEqual([]);
  });

  describe("heaps", () => {
    test("are told everything when they come, and of changes then", async () => {
      const { guest, platform } = await boot();
      platform.moveFrames(300, 10, 2);
      const heap = new FakeHeap();
      const end = guest.registerHeap(heap);
      expect(heap.nodes).toBe(4);
      expect(heap.distances).toEqual(ring(4));
      expect([...heap.nodeOf.values()]).toEqual(Array.from({ length: 1024 }, (_, gfn) => guest.table.nodeOf(gfn)));
      expect([...heap.vcpuNode.values()]).toEqual([0, 1, 2, 3]);
      heap.news();
      platform.happen(
        { kind: "frames", first: 0, count: 10, node: 1 },
        { kind: "frames", first: 20, count: 10, node: 1 },
        { kind: "frames", first: 5, count: 20, node: 1 },
        { kind: "frames", first: 25, count: 5, node: 2 },
        { kind: "frames", first: 500, count: 5, node: 3 },
        { kind: "frames", first: 500, count: 5, node: 1 },
      );
      // Ranges are maximal; what is back where it was is not told.
      expect(heap.news()).toEqual(["rebind 0+25 1", "rebind 25+5 2"]);
      end();
      platform.moveVcpu(0, 3);
      expect(heap.news()).toEqual([]);
    });

    test("one that is busy learns everything later, the others now", async () => {
      const { guest, platform, problems } = await boot();
      const [slow, quick] = [new FakeHeap(), new FakeHeap()];
      guest.registerHeap(slow);
      guest.registerHeap(quick);
      slow.failure = busy();
      platform.moveVcpu(0, 3);
      platform.moveFrames(0, 256, 1);
      platform.happen(
        { kind: "nodes", distances: [...ring(4).map((row) => [...row, 40]), [40, 40, 40, 40, 10]] },
        { kind: "vcpu", vcpu: 1, node: 4 },
      );
      expect(quick.vcpuNode.get(0)).toBe(3);
      expect(slow.vcpuNode.get(0)).toBe(0);
      expect(guest.settle()).toBe(false);
      slow.failure = undefined;
      expect(guest.settle()).toBe(true);
      for (const map of ["nodeOf", "vcpuNode", "distances", "nodes"] as const) expect(slow[map]).toEqual(quick[map]);
      expect(problems).toEqual([]);
    });

    test("one that is busy is told again without anybody asking", async () => {
      const { guest, platform } = await boot();
      const heap = new FakeHeap();
      guest.registerHeap(heap);
      heap.failure = busy();
      platform.moveVcpu(0, 3);
      const told = new Promise((resolve) => (heap.setVcpuNode = (vcpu, node) => void (vcpu === 0 && resolve(node))));
      heap.failure = undefined;
      expect(await told).toBe(3);
      guest.stop();
    });

    test("one that breaks is dropped, and somebody hears why", async () => {
      const { guest, platform, problems } = await boot();
      const [broken, sound] = [new FakeHeap(), new FakeHeap()];
      guest.registerHeap(broken);
      guest.registerHeap(sound);
      broken.failure = new Error("broken");
      platform.moveVcpu(0, 3);
      expect(problems).toEqual([broken.failure]);
      expect(guest.heaps.size).toBe(1);
      expect(sound.vcpuNode.get(0)).toBe(3);
      broken.news();
      platform.moveVcpu(0, 2);
      expect(broken.news()).toEqual([]);
    });

    test("begin with the lowest adjacent frames, zero, and leave all their frames behind", async () => {
      const { guest, platform } = await boot();
      new Uint8Array(platform.memory.buffer).fill(7, 8 * FRAME, 16 * FRAME);
      guest.table.transfer(9, OWNER_FREE, OWNER_HEAP, true);
      guest.table.transfer(9, OWNER_HEAP, OWNER_FREE);
      const one = guest.grantHeap(8, 2);
      const two = guest.grantHeap(20, 1);
      expect(one).toEqual({ owner: OWNER_HEAP, first: 8, count: 8 });
      expect(two).toEqual({ owner: OWNER_HEAP + 1, first: 16, count: 20 });
      const bytes = new Uint8Array(platform.memory.buffer);
      expect(bytes[9 * FRAME]).toBe(0);
      expect(guest.table.toucherOf(8)).toBe(2);
      expect(guest.table.toucherOf(16)).toBe(1);
      expect(guest.table.transfer(900, OWNER_FREE, OWNER_HEAP)).toBe(true);
      expectSound(guest, platform);
      expect(guest.endHeap(one.owner)).toBe(9);
      expect(guest.endHeap(one.owner)).toBe(0);
      expect(guest.grantHeap(16, 0)).toEqual({ owner: OWNER_HEAP, first: 40, count: 16 });
      expect(() => guest.grantHeap(2000, 0)).toThrow(expect.objectContaining({ code: "NUMAHEAP_INVALID_ARGUMENT" }));
      expect(() => guest.grantHeap(1000, 0)).toThrow(expect.objectContaining({ code: "NUMAHEAP_OUT_OF_MEMORY" }));
      expect(() => guest.grantHeap(8, 4)).toThrow(expect.objectContaining({ code: "NUMAHEAP_INVALID_ARGUMENT" }));
      expectSound(guest, platform);
    });

    test("there are as many as there are owners", async () => {
      const { guest, platform } = await boot({ frames: 2048 });
      for (let i = 0; i < MAX_HEAPS; ++i) guest.grantHeap(8, 0);
      expect(() => guest.grantHeap(8, 0)).toThrow(expect.objectContaining({ code: "NUMAHEAP_OUT_OF_MEMORY" }));
      expectSound(guest, platform);
    });
  });

  describe("listeners", () => {
    test("hear what has changed, after the heaps", async () => {
      const { guest, platform } = await boot();
      const heap = new FakeHeap();
      guest.registerHeap(heap);
      const events: TopologyEvent[] = [];
      const end = guest.onTopologyChange((event) => {
        expect(heap.vcpuNode.get(0)).toBe(3);
        events.push(event);
      });
      platform.happen({ kind: "vcpu", vcpu: 0, node: 3 }, { kind: "frames", first: 8, count: 2, node: 1 });
      platform.happen({ kind: "nodes", distances: ring(5) });
      expect(events).toEqual([
        { epoch: 1, vcpus: [{ vcpu: 0, node: 3 }], ranges: [{ first: 8, count: 2, node: 1 }], nodes: false, nodeCount: 4 },
        { epoch: 2, vcpus: [], ranges: [], nodes: true, nodeCount: 5 },
      ]);
      end();
      platform.moveVcpu(1, 0);
      expect(events).toHaveLength(2);
    });

    test("one that throws, now or later, is dropped; the others hear on", async () => {
      const { guest, platform, problems } = await boot();
      const heard: string[] = [];
      const failures = [new Error("now"), new Error("later")];
      guest.onTopologyChange(() => {
        heard.push("throws");
        throw failures[0]!;
      });
      guest.onTopologyChange(async () => {
        heard.push("rejects");
        await Promise.resolve();
        throw failures[1]!;
      });
      guest.onTopologyChange(() => heard.push("sound"));
      platform.moveVcpu(0, 1);
      await new Promise((resolve) => setTimeout(resolve));
      platform.moveVcpu(0, 2);
      expect(heard).toEqual(["throws", "rejects", "sound", "sound"]);
      expect(problems).toEqual(failures);
    });
  });

  test("goes on over another memory with the same bytes", async () => {
    const { guest, platform } = await boot();
    const process = guest.spawn();
    const thread = process.newThread(1);
    const address = process.mmap(FRAME);
    process.write(thread, address, Uint8Array.of(1, 2, 3));
    const there = new FakePlatform().memory;
    new Uint8Array(there.buffer).set(new Uint8Array(platform.memory.buffer));
    new Uint8Array(platform.memory.buffer).fill(0xaa);
    guest.moveOver(there);
    expect(guest.memory).toBe(there);
    expect([...process.read(thread, address, 3)]).toEqual([1, 2, 3]);
    platform.moveFrames(0, 256, 2);
    expect(guest.table.nodeOf(0)).toBe(2);
    expectSound(guest, platform);
  });

  test("polls a bounded piece of the table at a time, and stops its platform", async () => {
    const { guest, platform } = await boot({ frames: 8192 });
    guest.table.transfer(8000, OWNER_FREE, OWNER_HEAP);
    guest.poll();
    guest.poll();
    expect(guest.lists.check()).toEqual([]);
    expect(guest.check()).toEqual(["frame 8000 is owner 8's, who is nobody"]);
    expect(guest.lists.blocks(3, MAX_ORDER)).toHaveLength(1);
    guest.stop();
    expect(platform.stopped).toBe(true);
  });
});
