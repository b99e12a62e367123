// Processes of both guests: mappings, pages populated at first touch, pages that move, memory of heaps, and policies both systems have.
import { describe, expect, test } from "vitest";
import { OWNER_FREE, OWNER_KERNEL, OWNER_PROCESS } from "../../src/guest/frame-table.js";
import type { PortablePolicy } from "../../src/guest/guest.js";
import { ADDRESS_END, pageOf } from "../../src/guest/process.js";
import { FakeHeap, FRAME } from "../support/fake-platform.js";
import { bootGuest, expectSound, SYSTEMS } from "../support/guests.js";

const error = (code: string) => expect.objectContaining({ code });
const pattern = (seed: number, bytes: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, i) => (seed * 31 + i * 7) & 0xff);

describe.each(SYSTEMS)("%s", (system) => {
  test("a page is populated by the first who touches it, on the node that thread runs on", async () => {
    const { guest, platform } = await bootGuest(system);
    const process = guest.spawn();
    const [zero, two] = [process.newThread(0), process.newThread(2)];
    const address = process.mmap(3 * FRAME);
    expect(process.nodeOf(pageOf(address))).toBe(-1);
    expect(guest.access(two, address + 100)).toBe(2);
    expect(guest.access(zero, address)).toBe(2);
    expect(guest.access(zero, address + FRAME)).toBe(0);
    expect(process.populated(0, Infinity)).toEqual([pageOf(address), pageOf(address) + 1]);
    const gfn = process.frameOf(pageOf(address));
    expect(guest.table.ownerOf(gfn)).toBe(OWNER_PROCESS);
    expect(guest.table.toucherOf(gfn)).toBe(2);
    // The thread runs elsewhere now, and so does its vCPU after that.
    two.vcpu = 1;
    expect(guest.access(two, address + 2 * FRAME)).toBe(1);
    platform.moveVcpu(1, 3);
    const more = process.mmap(1);
    expect(guest.access(two, more)).toBe(3);
    expectSound(guest, platform);
  });

  test("the toucher is where the vCPU really runs, in a guest that does not know", async () => {
    const { guest } = await bootGuest(system, { mode: "flat", vcpuNode: [3, 2, 1, 0] });
    const process = guest.spawn();
    const address = process.mmap(2 * FRAME);
    const gfn = process.touch(process.newThread(1), address);
    expect(guest.table.nodeOf(gfn)).toBe(0);
    expect(guest.table.toucherOf(gfn)).toBe(2);
  });

  test("memory is zero at first, whoever had it before", async () => {
    const { guest, platform } = await bootGuest(system);
    const [one, two] = [guest.spawn(), guest.spawn()];
    const thread = one.newThread(0);
    const address = one.mmap(200 * FRAME);
    for (let i = 0; i < 200; ++i) one.write(thread, address + i * FRAME, pattern(i, FRAME));
    one.exit();
    expect(guest.processes.size).toBe(1);
    const other = two.newThread(0);
    const there = two.mmap(240 * FRAME);
    for (let i = 0; i < 240; ++i) expect(two.read(other, there + i * FRAME, FRAME).every((byte) => byte === 0)).toBe(true);
    expectSound(guest, platform);
  });

  test("reads and writes go across pages", async () => {
    const { guest } = await bootGuest(system);
    const process = guest.spawn();
    const thread = process.newThread(0);
    const address = process.mmap(3 * FRAME);
    const bytes = pattern(3, FRAME + 100);
    process.write(thread, address + FRAME - 50, bytes);
    expect(process.read(thread, address + FRAME - 50, FRAME + 100)).toEqual(bytes);
    expect([...process.read(thread, address + FRAME - 51, 2)]).toEqual([0, bytes[0]]);
  });

  test("what is not mapped cannot be touched", async () => {
    const { guest } = await bootGuest(system);
    const process = guest.spawn();
    const thread = process.newThread(0);
    const address = process.mmap(2 * FRAME);
    for (const at of [0, 4096, address - 1, address + 2 * FRAME, ADDRESS_END]) {
      expect(() => process.touch(thread, at)).toThrow(error("NUMAHEAP_SEGMENTATION_FAULT"));
    }
    expect(() => process.mmap(0)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
    expect(() => process.mmap(ADDRESS_END)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
    expect(() => process.newThread(4)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
  });

  test("unmapping in the middle leaves two mappings, and frees what was populated", async () => {
    const { guest, platform } = await bootGuest(system);
    const process = guest.spawn();
    const thread = process.newThread(1);
    const address = process.mmap(10 * FRAME);
    const first = pageOf(address);
    for (let i = 0; i < 10; ++i) process.touch(thread, address + i * FRAME);
    process.unmap(first + 3, first + 6);
    expect(process.mappings.map((mapping) => [mapping.first - first, mapping.end - first])).toEqual([
      [0, 3],
      [6, 10],
    ]);
    expect(process.populated(0, Infinity).map((page) => page - first)).toEqual([0, 1, 2, 6, 7, 8, 9]);
    expect(() => process.touch(thread, address + 4 * FRAME)).toThrow(error("NUMAHEAP_SEGMENTATION_FAULT"));
    expectSound(guest, platform);
    process.exit();
    expect(guest.lists.freeOn(1)).toBe(256);
    expectSound(guest, platform);
  });

  test("a mapping as large as half the address space costs what is populated of it", async () => {
    const { guest, platform } = await bootGuest(system);
    const process = guest.spawn();
    const thread = process.newThread(1);
    const address = process.mmap(2 ** 46);
    const first = pageOf(address);
    const far = 2 ** 46 / FRAME - 1;
    for (const page of [far, 0, 1]) process.touch(thread, address + page * FRAME);
    expect(process.populated(0, Infinity).map((page) => page - first)).toEqual([0, 1, far]);
    expect(process.populated(first + 1, first + far)).toEqual([first + 1]);
    process.unmap(first + 1, first + 2);
    expect(process.populated(first, first + 3)).toEqual([first]);
    process.exit();
    expect(guest.lists.freeOn(1)).toBe(256);
    expectSound(guest, platform);
  });

  test("heaps are asked for frames before a page cannot be had", async () => {
    const { guest, platform } = await bootGuest(system);
    const { owner } = guest.grantHeap(8, 0);
    for (let gfn = 0; gfn < 1024; ++gfn) guest.table.transfer(gfn, OWNER_FREE, owner);
    const process = guest.spawn();
    const thread = process.newThread(0);
    const address = process.mmap(2 * FRAME);
    expect(() => process.touch(thread, address)).toThrow(error("NUMAHEAP_OUT_OF_MEMORY"));
    const heap = new FakeHeap();
    heap.onTrim = () => guest.table.transfer(777, owner, OWNER_FREE, true);
    guest.registerHeap(heap);
    expect(process.touch(thread, address)).toBe(777);
    expect(() => process.touch(thread, address + FRAME)).toThrow(error("NUMAHEAP_OUT_OF_MEMORY"));
    expectSound(guest, platform);
  });

  describe("moving pages", () => {
    test("takes what is in them along, and needs a frame on the node", async () => {
      const { guest, platform } = await bootGuest(system);
      const process = guest.spawn();
      const thread = process.newThread(0);
      const address = process.mmap(4 * FRAME);
      const first = pageOf(address);
      for (let i = 0; i < 3; ++i) process.write(thread, address + i * FRAME, pattern(i, FRAME));
      const before = process.frameOf(first);
      expect(await guest.movePages(process, [first, first + 1, first + 2, first + 3], 3, 1)).toEqual({ full: 0, refused: 0 });
      expect([0, 1, 2, 3].map((i) => process.nodeOf(first + i))).toEqual([3, 3, 3, -1]);
      for (let i = 0; i < 3; ++i) expect(process.read(thread, address + i * FRAME, FRAME)).toEqual(pattern(i, FRAME));
      expect(guest.table.ownerOf(before)).toBe(OWNER_FREE);
      expect(guest.table.toucherOf(process.frameOf(first))).toBe(1);
      while (guest.lists.alloc(0, [2], OWNER_KERNEL) >= 0);
      expect(await guest.movePages(process, [first, first + 1], 2, 1)).toEqual({ full: 2, refused: 0 });
      expect(process.nodeOf(first)).toBe(3);
      expect(platform.requests).toEqual([]);
      expectSoundBut(guest, platform);
    });

    test("of a heap is up to the hypervisor, a request for each run", async () => {
      const { guest, platform } = await bootGuest(system);
      const { owner, first } = guest.grantHeap(16, 0);
      guest.table.transfer(100, OWNER_FREE, owner);
      const process = guest.spawn();
      process.mapHeap(owner, first * FRAME, 1024 * FRAME);
      const thread = process.newThread(0);
      expect(process.touch(thread, first * FRAME + 5)).toBe(first);
      expect(process.frameOf(100)).toBe(100);
      expect(() => process.touch(thread, 101 * FRAME)).toThrow(error("NUMAHEAP_SEGMENTATION_FAULT"));
      expect(process.populated(0, Infinity)).toEqual([...Array.from({ length: 16 }, (_, i) => first + i), 100]);
      platform.follows = (gfn) => gfn !== first + 2;
      expect(await guest.movePages(process, [100, 101, first + 2, first + 1, first], 3, 0)).toEqual({ full: 0, refused: 1 });
      expect(platform.requests).toEqual([`advise ${first}+3 3`, "advise 100+1 3"]);
      expect([first, first + 1, first + 2, 100].map((page) => process.nodeOf(page))).toEqual([3, 3, 0, 3]);
      expectSound(guest, platform);
    });
  });

  test("a heap is mapped once, at whole pages", async () => {
    const { guest } = await bootGuest(system);
    const process = guest.spawn();
    process.mapHeap(8, 8 * FRAME, 100 * FRAME);
    for (const [base, end] of [
      [99, 120],
      [0, 9],
      [200, 200],
      [200.5, 300],
    ] as const) {
      expect(() => process.mapHeap(9, base * FRAME, end * FRAME)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
    }
    expect(() => process.mapHeap(9, 200 * FRAME, 2 ** 33)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
    process.mapHeap(9, 100 * FRAME, 2 ** 32);
    expect(process.mappings).toHaveLength(2);
  });

  describe("policies of both systems", () => {
    /** Nodes of pages touched one after the other by a thread on vCPU 0. */
    async function placed(policy: PortablePolicy, pages: number): Promise<{ nodes: number[]; first: number }> {
      const { guest, platform } = await bootGuest(system, { frames: 4096 });
      const process = guest.spawn();
      const thread = process.newThread(0);
      guest.setPolicy(thread, policy);
      const address = process.mmap(pages * FRAME);
      const nodes = Array.from({ length: pages }, (_, i) => guest.access(thread, address + i * FRAME));
      expectSound(guest, platform);
      return { nodes, first: pageOf(address) };
    }

    test("local", async () => expect((await placed({ kind: "local" }, 20)).nodes).toEqual(Array(20).fill(0)));

    test("prefer: on the node, elsewhere when it is full", async () => {
      const { nodes } = await placed({ kind: "prefer", node: 3 }, 1100);
      expect(nodes.slice(0, 1024)).toEqual(Array(1024).fill(3));
      expect(nodes.slice(1024)).not.toContain(3);
    });

    test("bind: on the nodes and no others", async () => {
      await expect(placed({ kind: "bind", nodes: [1, 2] }, 2049)).rejects.toThrow(error("NUMAHEAP_OUT_OF_MEMORY"));
      const { nodes } = await placed({ kind: "bind", nodes: [1, 2] }, 2048);
      for (const node of [1, 2]) expect(nodes.filter((other) => other === node)).toHaveLength(1024);
    });

    test("interleave: as many on each", async () => {
      const { nodes } = await placed({ kind: "interleave", nodes: [0, 1, 3] }, 3 * 256);
      for (const node of [0, 1, 3]) expect(nodes.filter((other) => other === node)).toHaveLength(256);
    });

    test("one that names nothing there is is refused", async () => {
      const { guest } = await bootGuest(system);
      const thread = guest.spawn().newThread(0);
      for (const policy of [
        { kind: "bind", nodes: [] },
        { kind: "bind", nodes: [7] },
        { kind: "prefer", node: 9 },
      ] as const) {
        expect(() => guest.setPolicy(thread, policy)).toThrow(error("NUMAHEAP_INVALID_ARGUMENT"));
      }
    });
  });
});

/** As expectSound, where a test has taken frames for the kernel out of its lists. */
function expectSoundBut(...[guest, platform]: Parameters<typeof expectSound>): void {
  for (let gfn = guest.layout.kernelFrames; gfn < 1024; ++gfn) {
    if (guest.table.ownerOf(gfn) === OWNER_KERNEL) guest.lists.free(gfn, 1, OWNER_KERNEL);
  }
  expectSound(guest, platform);
}
