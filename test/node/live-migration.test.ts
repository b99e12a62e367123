// Machines that move to another host and back while somebody writes to their memory.
import { describe, expect, test } from "vitest";
import { HypervisorError } from "../../src/hypervisor/errors.js";
import {
  type MigrationOptions,
  type MigrationReport,
  migrateLive,
  type Resumption,
  SCRIBBLE,
} from "../../src/hypervisor/live-migration.js";
import { FRAME_BYTES } from "../../src/hypervisor/vm-layout.js";
import type { VirtualMachine } from "../../src/hypervisor/vm.js";
import { differences } from "../../src/hypervisor/truth.js";
import { audit, boot, type Booted, hypervisorOf, KINDS, type Kind, MIB, NOWHERE, ring } from "../support/hypervisor-rig.js";
import { randomFrom } from "../support/rig.js";

const random = randomFrom(7);
const shape = { 4: ring(4, 2, 512), 2: ring(2, 1, 512) };
const bytesOf = (vm: VirtualMachine): Uint8Array => new Uint8Array(vm.memory.buffer);

const touched = (vm: VirtualMachine): number[] => [...Array(vm.frames).keys()].filter((gfn) => vm.toucherOf(gfn) >= 0);

/** The guest's bytes, without what the platform keeps there and frames of the balloon. */
function content(vm: VirtualMachine, ballooned: ReadonlySet<number>): Uint8Array {
  const bytes = bytesOf(vm).slice();
  bytes.fill(0, 0, vm.layout.frameOwner);
  for (const gfn of ballooned) bytes.fill(0, gfn * FRAME_BYTES, (gfn + 1) * FRAME_BYTES);
  return bytes;
}

/** Some frames are written to, by the vCPUs that claim them. */
function write({ guest, vm }: Booted, frames: number): void {
  for (let i = 0; i < frames; ++i) {
    const gfn = vm.layout.kernelFrames + random(vm.frames - vm.layout.kernelFrames);
    if (guest.ballooned.has(gfn)) continue;
    guest.touch(gfn, 1, random(vm.vcpus));
    bytesOf(vm).fill(random(255), gfn * FRAME_BYTES + random(8000), (gfn + 1) * FRAME_BYTES);
  }
}

/** Moves the machine and its guest; what the source had when it stopped is compared with what arrived, before the guest goes on. */
async function move(
  rig: Booted,
  kind: Kind,
  nodes: 2 | 4,
  options: Partial<MigrationOptions> = {},
): Promise<{ report: MigrationReport; there: Booted }> {
  const { hypervisor, vm, guest } = rig;
  const destination = hypervisorOf(kind, shape[nodes]);
  let stopped: Uint8Array;
  let there: Booted;
  const pause = async (): Promise<(where: Resumption) => Promise<void>> => {
    await guest.platform.suspend();
    write(rig, 20);
    stopped = content(vm, guest.ballooned);
    return async (where) => {
      if (where.at !== "destination") throw new Error("it was to arrive");
      const arrived = destination.vm(where.vm);
      expect(arrived.memory).toBe(where.memory);
      expect(Buffer.compare(content(arrived, guest.ballooned), stopped)).toBe(0);
      expect(bytesOf(vm).every((byte) => byte === SCRIBBLE)).toBe(true);
      audit(destination);
      guest.moveTo(arrived);
      await guest.platform.resume(destination.connect(arrived));
      there = { hypervisor: destination, vm: arrived, guest };
    };
  };
  const report = await migrateLive(hypervisor, vm, destination, { pause, ...options });
  return { report, there: there! };
}

describe.each(KINDS)("%s", (kind) => {
  test("from four nodes to two and back, while frames are written", async () => {
    let rig = await boot(hypervisorOf(kind, shape[4]));
    await rig.guest.inflate([100, 101, 102, 300]);
    rig.hypervisor.migratePages(rig.vm, 10, 50, 3);
    write(rig, 200);
    // Whether a frame is backed is the hypervisor's knowledge, not what the guest makes of its tables.
    rig.hypervisor.populateTouched();
    const [lied] = touched(rig.vm);
    bytesOf(rig.vm)[rig.vm.layout.frameToucher + lied!] = 0;
    for (const nodes of [2, 4] as const) {
      const before = rig;
      const { report, there } = await move(rig, kind, nodes, {
        stopBelow: 5,
        maxRounds: 4,
        onRound: ({ round }) => write(rig, 100 >> round),
      });
      expect(report.rounds.length).toBe(5);
      expect(report.rounds[0]!.frames).toBeGreaterThan(report.rounds[1]!.frames);
      expect(report.rounds.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(report.bytes);
      expect([report.fromNodes, report.toNodes]).toEqual([6 - nodes, nodes]);
      expect(report.pauseMs).toBeGreaterThan(0);
      // The guest knows the other host by what its driver told it, and nothing is left behind.
      expect(there.guest.distances).toEqual(shape[nodes].distances);
      expect(await there.guest.wrong(there.hypervisor)).toEqual([]);
      expect([...there.guest.frames.subarray(100, 103)]).toEqual([NOWHERE, NOWHERE, NOWHERE]);
      expect(before.hypervisor.vms).toEqual([]);
      expect(before.hypervisor.frames.free).toBe(before.hypervisor.frames.total);
      expect(touched(there.vm).filter((gfn) => there.vm.truth().backed[gfn] === 0)).toEqual([]);
      expect(there.vm.truth().backed[lied!]).toBe(1);
      rig = there;
      // And it is a machine like any other.
      rig.hypervisor.migrateVcpu(rig.vm, 2, { toNode: 1 });
      rig.hypervisor.migratePages(rig.vm, 200, 20, 0);
      expect(await rig.guest.deflate([300])).toBe(1);
      await rig.guest.inflate([300]);
      rig.hypervisor.setBalloonTarget(rig.vm, 400 + nodes);
      expect(await rig.guest.wrong(rig.hypervisor)).toEqual([]);
      expect(rig.guest.targets.at(-1)).toBe(400 + nodes);
      audit(rig.hypervisor);
    }
  });

  test("nodes are told before what lies on them, and after what no longer does", async () => {
    let { there } = await move(await boot(hypervisorOf(kind, shape[4])), kind, 2);
    expect(there.guest.calls.at(-1)!.at(-1)!.kind).toBe("nodes");
    ({ there } = await move(there, kind, 4));
    expect(there.guest.calls.at(-1)![0]!.kind).toBe("nodes");
  });

  test("no room at the destination: refused before anything is copied, the source goes on", async () => {
    const rig = await boot(hypervisorOf(kind, shape[4]));
    const small = hypervisorOf(kind, ring(2, 1, 200));
    const error = await migrateLive(rig.hypervisor, rig.vm, small, { pause: () => Promise.reject(new Error("never")) }).catch(
      (e: unknown) => e,
    );
    expect((error as HypervisorError).code).toBe("NUMAHEAP_OVERCOMMIT");
    expect((error as HypervisorError).message).toContain("512 frames (4 MiB) and 400 can be had");
    expect(small.frames.free).toBe(400);
    rig.hypervisor.migrateVcpu(rig.vm, 0, { toNode: 2 });
    expect(await rig.guest.wrong(rig.hypervisor)).toEqual([]);
  });

  test.each(["before the pause", "by the pause", "after it"])("given up %s: the source is intact and goes on", async (when) => {
    const rig = await boot(hypervisorOf(kind, shape[4]));
    write(rig, 100);
    await rig.guest.inflate([200, 201]);
    const destination = hypervisorOf(kind, ring(2, 1, 255));
    const stop = new AbortController();
    const resumed: Resumption[] = [];
    const before = content(rig.vm, rig.guest.ballooned);
    const error = await migrateLive(rig.hypervisor, rig.vm, destination, {
      signal: stop.signal,
      onRound: () => {
        if (when === "before the pause") stop.abort();
      },
      pause: async () => {
        if (when === "by the pause") throw new Error("a worker does not stop");
        // What comes out of the balloon now has no room at the destination.
        await rig.guest.deflate([200, 201]);
        await rig.guest.platform.suspend();
        return async (where) => {
          resumed.push(where);
          await rig.guest.platform.resume(rig.hypervisor.connect(rig.vm));
        };
      },
    }).catch((e: unknown) => e);
    expect((error as HypervisorError).code).toBe("NUMAHEAP_MIGRATION_ABORTED");
    expect(resumed).toEqual(when === "after it" ? [{ at: "source" }] : []);
    expect(Buffer.compare(content(rig.vm, new Set([200, 201])), before)).toBe(0);
    expect([destination.vms.length, destination.available]).toEqual([0, 510]);
    rig.hypervisor.migratePages(rig.vm, 10, 10, 3);
    expect(await rig.guest.wrong(rig.hypervisor)).toEqual([]);
    audit(rig.hypervisor);
    audit(destination);
    // It can be tried again.
    const { there } = await move(rig, kind, 2);
    expect(there.vm.frames).toBe(rig.vm.frames);
  });

  test("a machine destroyed on the way is not resurrected", async () => {
    const rig = await boot(hypervisorOf(kind, shape[4]));
    const destination = hypervisorOf(kind, shape[2]);
    const error = await migrateLive(rig.hypervisor, rig.vm, destination, {
      maxRounds: 3,
      stopBelow: 0,
      onRound: () => (rig.hypervisor.vms.length ? rig.hypervisor.destroyVm(rig.vm) : undefined),
      pause: () => Promise.resolve(() => {}),
    }).catch((e: unknown) => e);
    expect((error as HypervisorError).code).toBe("NUMAHEAP_MIGRATION_ABORTED");
    expect([destination.vms.length, destination.available]).toEqual([0, 1024]);
  });
});

test("a guest of Xen does not go on under KVM", async () => {
  const { guest } = await boot(hypervisorOf("xen", shape[4]));
  const other = await boot(hypervisorOf("kvm", shape[4]));
  await guest.platform.suspend();
  await expect(guest.platform.resume(other.hypervisor.connect(other.vm))).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
});

test("a guest that is not told of nodes still finds its firmware as of boot", async () => {
  const rig = await boot(hypervisorOf("xen", shape[4]), { mode: "static", memory: 2 * MIB });
  const { srat } = rig.vm.firmware;
  const { there } = await move(rig, "xen", 2);
  expect(there.vm.firmware.srat).toEqual(srat);
  expect(there.guest.calls).toEqual([]);
  expect(
    differences(
      there.vm.truth(),
      (vcpu) => vcpu % 2,
      (gfn) => (gfn < 128 ? 0 : 1),
    ),
  ).toEqual([]);
});
