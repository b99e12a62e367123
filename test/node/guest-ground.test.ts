// A replay within a virtual machine: where its parts lie, and how everybody is stopped.
import { expect, test } from "vitest";
import { PAIRINGS, Rig } from "../../dist/rig/rig.js";
import { encodeTrace } from "../../dist/trace/encode.js";
import { decodeTrace, MALLOC } from "../../dist/trace/format.js";
import { GuestGround } from "../../dist/trace/guest-ground.js";

const trace = decodeTrace(
  encodeTrace(
    Array.from({ length: 40 }, (_, object) => ({ op: MALLOC, thread: object % 4, object, size: 1000, alignment: 0 })),
    "test",
  ),
);
const boot = (): Promise<Rig> => Rig.boot({ ...PAIRINGS[0]!, memory: 2 ** 24 });
const freeFrames = ({ guest }: Rig): number =>
  Array.from({ length: guest.layout.frames }, (_, gfn) => guest.table.isFree(gfn)).filter(Boolean).length;

test("heap and events are frames of the guest's, the heap's below; in the end all are the guest's again", async () => {
  const rig = await boot();
  const free = freeFrames(rig);
  const ground = await GuestGround.create(rig.guest, 100_000, { mode: "first-touch" });
  expect(ground.plan % 65536).toBe(0);
  expect(ground.plan).toBeGreaterThan(ground.heapBase);
  expect(rig.guest.nodeOfVcpu(ground.hostVcpu)).toBe(0);
  expect(ground.truth.touchers).toBe(rig.guest.layout.frameToucher);
  expect(ground.nextKey()).not.toBe(ground.nextKey());
  ground.end();
  expect(freeFrames(rig)).toBe(free);
  await rig.end();
});

test("events that do not fit are refused, and no heap is left behind", async () => {
  const rig = await boot();
  const free = freeFrames(rig);
  await expect(GuestGround.create(rig.guest, 2 ** 24)).rejects.toMatchObject({ code: "NUMAHEAP_OUT_OF_MEMORY" });
  expect(freeFrames(rig)).toBe(free);
  await rig.end();
});

test("a rebind that met a lock in other hands is done before anybody looks", async () => {
  const rig = await boot();
  const ground = await GuestGround.create(rig.guest, 100_000);
  const lock = new Int32Array(ground.memory.buffer, ground.heapBase + 64, 1);
  const elsewhere = (99 << 1) | 1;
  Atomics.store(lock, 0, elsewhere);
  rig.hypervisor.migratePages(rig.vm, 0, rig.vm.frames, 1);
  await rig.driver.settled();
  Atomics.store(lock, 0, 0);
  expect(ground.heap.heap.walk().problems.join()).toMatch(/a rebind is under way/);
  (await ground.quiet())();
  expect(ground.heap.heap.walk().problems).toEqual([]);
  ground.end();
  await rig.end();
});

test("a stop between two rounds holds the next one up, and there is none once the last is over", async () => {
  const rig = await boot();
  const order: string[] = [];
  const stops: Promise<void>[] = [];
  const again = (): boolean => {
    order.push("round");
    if (stops.length === 2) return false;
    stops.push(
      replay.stopFor(async () => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        order.push("stopped");
        return undefined;
      }),
    );
    return true;
  };
  const replay = await rig.prepare(trace, { again });
  await replay.play();
  await Promise.all(stops);
  expect(order).toEqual(["round", "stopped", "round", "stopped", "round"]);
  expect(replay.outcome().result).toMatchObject({ failures: [], walk: "ok", rounds: 3 });
  await expect(replay.stopFor(() => Promise.resolve(undefined))).rejects.toMatchObject({ code: "NUMAHEAP_REPLAY_HUNG" });
  await rig.end();
});
