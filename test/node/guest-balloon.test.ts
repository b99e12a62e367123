// The balloon of both guests: where its frames come from and go to, and what is left undone is done later.
import { afterEach, describe, expect, test, vi } from "vitest";
import { BALLOON_CHUNK } from "../../src/guest/balloon.js";
import { OWNER_BALLOON, OWNER_FREE, OWNER_HEAP, OWNER_PROCESS } from "../../src/guest/frame-table.js";
import type { Guest } from "../../src/guest/guest.js";
import { FakeHeap } from "../support/fake-platform.js";
import { bootGuest, expectSound, type Rig, SYSTEMS } from "../support/guests.js";

const filedOn = (guest: Guest): number[] => [0, 1, 2, 3].map((node) => guest.lists.freeOn(node));

async function to({ platform, guest }: Rig<Guest>, frames: number): Promise<void> {
  platform.target(frames);
  await guest.balloon.idle();
}

afterEach(() => vi.useRealTimers());

describe.each(SYSTEMS)("%s", (system) => {
  test("inflates from the nodes with most free frames, so that they become even", async () => {
    const rig = await bootGuest(system, { nodeOf: (gfn) => (gfn < 100 ? 0 : gfn < 300 ? 1 : gfn < 500 ? 2 : 3) });
    const { guest, platform } = rig;
    expect(filedOn(guest)).toEqual([94, 200, 200, 524]);
    await to(rig, 1024 - 324);
    expect(filedOn(guest)).toEqual([94, 200, 200, 200]);
    await to(rig, 1024 - 384);
    expect(filedOn(guest)).toEqual([94, 180, 180, 180]);
    expect(guest.balloon.size).toBe(384);
    expect(platform.ballooned.size).toBe(384);
    expect(platform.requests).toEqual(["inflate 128", "inflate 128", "inflate 68", "inflate 60"]);
    expect(BALLOON_CHUNK).toBe(128);
    expectSound(guest, platform);
  });

  test("what goes in last comes out first, zero, on whichever node it lies now", async () => {
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    await to(rig, 1000);
    const [gfn] = [...platform.ballooned].slice(-1) as [number];
    platform.comesBackOn = (frame) => (frame === gfn ? 0 : platform.nodeOf[frame]!);
    await to(rig, 1001);
    expect(guest.table.ownerOf(gfn)).toBe(OWNER_FREE);
    expect(guest.table.isDirty(gfn)).toBe(false);
    expect(guest.table.nodeOf(gfn)).toBe(0);
    expect(platform.requests.at(-1)).toBe("deflate 1");
    await to(rig, 1024);
    expect(guest.balloon.size).toBe(0);
    expectSound(guest, platform);
  });

  test.each([true, false])(
    "it does not matter whether frames come back before the guest is told where (told first: %s)",
    async (tellsFirst) => {
      const rig = await bootGuest(system);
      const { guest, platform } = rig;
      await to(rig, 800);
      platform.tellsFirst = tellsFirst;
      platform.comesBackOn = () => 2;
      await to(rig, 1024);
      await new Promise((resolve) => setTimeout(resolve));
      expect(filedOn(guest).reduce((sum, count) => sum + count)).toBe(1018);
      expect(platform.nodeOf.filter((node) => node === 2).length).toBeGreaterThan(256);
      expectSound(guest, platform);
    },
  );

  test("heaps are asked for frames when the kernel has none", async () => {
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    const { owner } = guest.grantHeap(8, 0);
    for (let gfn = 0; gfn < 1024; ++gfn) guest.table.transfer(gfn, OWNER_FREE, owner);
    const heap = new FakeHeap();
    heap.onTrim = () => {
      for (let gfn = 600; gfn < 700; ++gfn) guest.table.transfer(gfn, owner, OWNER_FREE, true);
      return true;
    };
    guest.registerHeap(heap);
    await to(rig, 1024 - 70);
    expect(heap.calls.filter((call) => call === "trim")).toHaveLength(1);
    expect(guest.balloon.size).toBe(70);
    expect([...platform.ballooned].every((gfn) => gfn >= 600 && gfn < 700)).toBe(true);
    expectSound(guest, platform);
  });

  test("is short of frames and goes on when there are some", async () => {
    vi.useFakeTimers();
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    const { owner } = guest.grantHeap(8, 0);
    for (let gfn = 40; gfn < 1024; ++gfn) guest.table.transfer(gfn, OWNER_FREE, owner);
    await to(rig, 100);
    expect(guest.balloon.size).toBe(26);
    for (let gfn = 40; gfn < 940; ++gfn) guest.table.transfer(gfn, owner, OWNER_FREE, true);
    await vi.advanceTimersByTimeAsync(100);
    expect(guest.balloon.size).toBe(924);
    expect(vi.getTimerCount()).toBe(0);
    expectSound(guest, platform);
  });

  test("is short of what the hypervisor has, and goes on when it has some, or sooner if asked to", async () => {
    vi.useFakeTimers();
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    await to(rig, 800);
    platform.room = 30;
    await to(rig, 1024);
    expect(guest.balloon.size).toBe(194);
    platform.room = 10;
    guest.balloon.kick();
    await guest.balloon.idle();
    expect(guest.balloon.size).toBe(184);
    platform.room = Infinity;
    await vi.advanceTimersByTimeAsync(100);
    expect(guest.balloon.size).toBe(0);
    expectSound(guest, platform);
  });

  test("rests between two requests while the machine is moved, and goes on afterwards", async () => {
    vi.useFakeTimers();
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    const heap = new FakeHeap();
    guest.registerHeap(heap);
    platform.target(1024 - 500);
    await guest.suspend();
    const { size } = guest.balloon;
    expect([size, platform.ballooned.size]).toEqual([BALLOON_CHUNK, BALLOON_CHUNK]);
    // What the driver still hands over is known to the kernel; heaps hear of it later.
    heap.calls.length = 0;
    platform.moveVcpu(0, 3);
    platform.target(1024 - 400);
    guest.poll();
    await vi.advanceTimersByTimeAsync(100_000);
    expect([guest.nodeOfVcpu(0), heap.calls, guest.balloon.size, vi.getTimerCount()]).toEqual([3, [], size, 0]);
    guest.resume();
    await guest.balloon.idle();
    expect([heap.vcpuNode.get(0), guest.balloon.size]).toEqual([3, 400]);
    expectSound(guest, platform);
  });

  test("a request that is refused changes nothing, and is made again", async () => {
    vi.useFakeTimers();
    const rig = await bootGuest(system);
    const { guest, platform, problems } = rig;
    const before = filedOn(guest);
    platform.refusal = new Error("no inflating");
    await to(rig, 1000);
    expect(filedOn(guest)).toEqual(before);
    expect(guest.balloon.size).toBe(0);
    expectSound(guest, platform);
    await vi.advanceTimersByTimeAsync(100);
    expect(guest.balloon.size).toBe(24);
    platform.refusal = new Error("no deflating");
    await to(rig, 1024);
    expect(guest.balloon.size).toBe(24);
    expectSound(guest, platform);
    await vi.advanceTimersByTimeAsync(100);
    expect(guest.balloon.size).toBe(0);
    expect(problems).toEqual([new Error("no inflating"), new Error("no deflating")]);
    expectSound(guest, platform);
  });

  test("waits longer each time, and not at all once it is stopped", async () => {
    vi.useFakeTimers();
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    await to(rig, 800);
    platform.room = 0;
    await to(rig, 1024);
    const made = (): number => platform.requests.filter((request) => request.startsWith("deflate")).length;
    expect(made()).toBe(1);
    for (const [ms, requests] of [
      [99, 1],
      [1, 2],
      [199, 2],
      [1, 3],
      [399, 3],
      [1, 4],
    ] as const) {
      await vi.advanceTimersByTimeAsync(ms);
      expect(made()).toBe(requests);
    }
    guest.stop();
    await vi.advanceTimersByTimeAsync(100_000);
    expect(made()).toBe(4);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("the target may change while a request is under way", async () => {
    const rig = await bootGuest(system);
    const { guest, platform } = rig;
    platform.target(500);
    platform.target(990);
    await guest.balloon.idle();
    expect(guest.balloon.size).toBe(34);
    platform.target(300);
    await Promise.resolve();
    platform.target(1024);
    await guest.balloon.idle();
    expect(guest.balloon.size).toBe(0);
    expectSound(guest, platform);
  });

  test("targets beyond what there is are the nearest there is", async () => {
    const rig = await bootGuest(system);
    await to(rig, 5000);
    expect(rig.guest.balloon.target).toBe(1024);
    await to(rig, -3);
    expect(rig.guest.balloon.target).toBe(0);
    expect(rig.guest.balloon.size).toBe(1018);
    rig.guest.stop();
  });

  test("the last frame of a node goes: vCPUs look elsewhere, and heaps hear of it", async () => {
    const rig = await bootGuest(system, { nodeOf: (gfn) => (gfn < 1020 ? 0 : 1), vcpuNode: [0, 1, 1, 0] });
    const { guest, platform } = rig;
    const heap = new FakeHeap();
    guest.registerHeap(heap);
    heap.news();
    const kept = guest.lists.alloc(8, [0], OWNER_PROCESS);
    await to(rig, 262);
    expect(guest.table.ownerOf(1023)).toBe(OWNER_BALLOON);
    expect(guest.nodeOfVcpu(1)).toBe(0);
    expect(heap.news()).toEqual(["vcpu 1 0", "vcpu 2 0"]);
    expect(guest.handlerInvocations).toBe(0);
    guest.lists.free(kept, 256, OWNER_PROCESS);
    await to(rig, 1024);
    expect(guest.nodeOfVcpu(1)).toBe(1);
    expectSound(guest, platform);
  });

  test("check finds a frame that only its owner byte has in the balloon", async () => {
    const { guest } = await bootGuest(system);
    guest.table.transfer(1000, OWNER_FREE, OWNER_BALLOON);
    guest.table.transfer(1001, OWNER_FREE, OWNER_HEAP);
    guest.lists.sync();
    expect(guest.check().sort()).toEqual([
      "frame 1000 is owner 3's and not in the balloon",
      "frame 1001 is owner 8's, who is nobody",
      "node 3 has 255 frames, not 256",
    ]);
  });
});
