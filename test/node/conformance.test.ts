// Every pairing of hypervisor and guest through every operation, while a trace is replayed on 4 workers in the machine and verified. Afterwards
// the heap walks, nothing is lost, and the maps of guest and heap are the hypervisor's truth, frame by frame.
import { describe, expect, test } from "vitest";
import { CHANGE_KINDS, type ChangeKind, Changes } from "../../dist/rig/changes.js";
import { disagreements } from "../../dist/rig/disagreements.js";
import { PAIRINGS, Rig } from "../../dist/rig/rig.js";
import { type Load, type LoadResult, underLoad } from "../../dist/rig/under-load.js";
import { readTrace } from "../../dist/trace/file.js";

const trace = await readTrace(new URL("../../bench/traces/lua-mix.trace.gz", import.meta.url).pathname);
const MIB = 2 ** 20;
const SEED = 5;
const SOUND = {
  disagreements: [],
  problems: [],
  replay: { failures: [], walk: "ok", leakedBytes: 0, unaccountedBlocks: 0, skippedEvents: 0 },
  sound: true,
};

/** Rounds of each kind of change, and what is done before the first. */
const OPERATIONS: Readonly<Record<ChangeKind, { rounds: number; before?: (rig: Rig) => void }>> = {
  vcpu: { rounds: 40 },
  balance: { rounds: 20 },
  affinity: { rounds: 20 },
  pages: { rounds: 40 },
  advice: { rounds: 40 },
  // Node 1 is full, so that what was there comes back elsewhere.
  balloon: { rounds: 10, before: ({ hypervisor, vm }) => void hypervisor.migratePages(vm, 0, vm.frames, 1) },
  live: { rounds: 2 },
};

test("every kind of change is here", () => expect(Object.keys(OPERATIONS).sort()).toEqual([...CHANGE_KINDS].sort()));

describe.each(PAIRINGS)("$platform, $os", (pairing) => {
  test.each(CHANGE_KINDS)("%s", async (kind) => {
    const rig = await Rig.boot({ ...pairing, memory: 32 * MIB });
    const changes = new Changes(rig, SEED);
    const { rounds, before } = OPERATIONS[kind];
    let told = 0;
    const result = await underLoad(rig, trace, async (load) => {
      before?.(rig);
      await rig.driver.settled();
      for (let round = 0; round < rounds; ++round) {
        // Whoever shares a pCPU is what a balancer moves.
        if (kind === "balance") rig.hypervisor.migrateVcpu(rig.vm, 0, { toCpu: rig.vm.cpus[1]!.cpu });
        await rig.driver.settled();
        const invocations = rig.guest.handlerInvocations;
        await changes.make(kind);
        await rig.driver.settled();
        told += rig.guest.handlerInvocations - invocations;
        await load.goOn(200);
      }
    });
    expect(result).toMatchObject(SOUND);
    expect(changes.count[kind]).toBeGreaterThanOrEqual(rounds / 4);
    if (kind === "balloon") {
      expect(changes.framesBackElsewhere).toBeGreaterThan(0);
      expect(told).toBeGreaterThan(0);
    } else if (kind === "vcpu" || (kind !== "live" && pairing.platform === "xen")) {
      // One event for each change of a vCPU, and on Xen for whatever has changed since the guest last looked.
      expect(told).toBe(changes.count[kind]);
    } else {
      expect(told).toBeGreaterThanOrEqual(changes.count[kind]);
    }
    if (kind === "pages") expect(result.replay.pagesMovedInUse).toBeGreaterThan(0);
    if (kind === "live") {
      expect(changes.migrations.map(({ fromNodes, toNodes }) => [fromNodes, toNodes])).toEqual([
        [4, 2],
        [2, 4],
      ]);
      for (const { rounds: copied, bytes, pauseMs } of changes.migrations) {
        expect(copied.length).toBeGreaterThan(1);
        expect(bytes).toBeGreaterThan(MIB);
        expect(pauseMs).toBeGreaterThan(0);
      }
    }
    await rig.end();
  });

  test("a balloon at work when the machine stands still goes on where it arrives", async () => {
    const rig = await Rig.boot({ ...pairing, memory: 32 * MIB });
    const target = rig.vm.frames * 0.75;
    const suspend = rig.guest.suspend.bind(rig.guest);
    let early = -1;
    rig.guest.suspend = async () => {
      rig.hypervisor.setBalloonTarget(rig.vm, target);
      while (rig.guest.balloon.size === 0) await undefined;
      await suspend();
      early = rig.guest.balloon.size;
    };
    const result = await underLoad(rig, trace, async (load) => {
      await rig.migrateLive(2);
      await rig.guest.balloon.idle();
      await load.goOn(1000);
    });
    expect(result).toMatchObject(SOUND);
    expect(early).toBeGreaterThan(0);
    expect(early).toBeLessThan(rig.vm.frames - target);
    expect(rig.guest.balloon.size).toBe(rig.vm.frames - target);
    await rig.end();
  });

  /** Allocations on the true node, in per cent, once every vCPU has moved to the next node. */
  const localAfterMoves = async (mode: "adaptive" | "static"): Promise<{ share: number; result: LoadResult; rig: Rig }> => {
    // Of this size, the trace and the heap's own leave room on every node.
    const rig = await Rig.boot({ ...pairing, memory: 64 * MIB, mode });
    let share = -1;
    const result = await underLoad(rig, trace, async (load: Load) => {
      await load.goOn(2000);
      for (let vcpu = 0; vcpu < 4; ++vcpu) rig.hypervisor.migrateVcpu(rig.vm, vcpu, { toNode: (vcpu + 1) % 4 });
      await rig.driver.settled();
      const before = load.locality();
      await load.goOn(100_000);
      const { local, remote } = load.locality();
      share = (100 * (local - before.local)) / (local + remote - before.local - before.remote);
    });
    await rig.end();
    return { share, result, rig };
  };

  test("an adaptive heap follows, and one with the topology of boot is left behind", async () => {
    const adaptive = await localAfterMoves("adaptive");
    expect(adaptive.result).toMatchObject(SOUND);
    expect(adaptive.share).toBeGreaterThan(90);
    const fixed = await localAfterMoves("static");
    expect(fixed.result).toMatchObject(SOUND);
    expect(fixed.share).toBeLessThan(10);
    expect(fixed.rig.guest.handlerInvocations).toBe(0);
    expect(fixed.rig.guest.topology.nodes).toBe(4);
  });

  test.each(["flat", "first-touch", "policy-hypercall"] as const)("mode %s: the heap is sound, and knows of one node", async (mode) => {
    const rig = await Rig.boot({ ...pairing, memory: 32 * MIB, mode });
    if (mode === "policy-hypercall") await rig.driver.setPlacement("interleave");
    const changes = new Changes(rig, SEED);
    const result = await underLoad(rig, trace, async (load) => {
      if (mode === "policy-hypercall") {
        const { frames } = rig.hypervisor.truth(rig.vm);
        expect([...frames.keys()].filter((gfn) => gfn >= rig.vm.layout.kernelFrames && frames[gfn] !== gfn % 4)).toEqual([]);
      }
      for (const kind of ["vcpu", "pages", "balloon", "live", "vcpu", "pages"] as const) {
        await changes.make(kind);
        await load.goOn(500);
      }
    });
    expect(result).toMatchObject(SOUND);
    expect(result.replay.localAllocations + result.replay.remoteAllocations).toBe(trace.objects * result.replay.rounds);
    expect([rig.guest.handlerInvocations, rig.guest.topology.nodes, rig.ground!.heap.heap.stats().nodes.length]).toEqual([0, 1, 1]);
    await rig.end();
  });
});

test("a comparison finds each kind of lie", async () => {
  const rig = await Rig.boot({ ...PAIRINGS[0]!, memory: 16 * MIB });
  const result = await underLoad(rig, trace, async (load) => {
    await load.goOn(1000);
  });
  expect(result).toMatchObject(SOUND);
  expect(await disagreements(rig)).toEqual([]);
  const { hypervisor, vm, guest, ground } = rig;
  const { heap, owner } = ground!.heap;
  const mine = guest.table.nodeOf(heap.handle().base / 8192);
  heap.rebind(heap.handle().base, 8192, (mine + 1) % 4);
  expect((await disagreements(rig)).join()).toMatch(/^heap: frame \d+ is on node \d, not \d$/);
  heap.rebind(heap.handle().base, 8192, mine);
  heap.setVcpuNode(2, 0);
  expect(await disagreements(rig)).toEqual(["heap: vCPU 2 is on node 2, not 0"]);
  heap.setVcpuNode(2, 2);
  const free = Array.from({ length: vm.frames }, (_, gfn) => gfn).findLast(
    (gfn) => guest.table.isFree(gfn) && guest.table.ownerOf(gfn) !== owner,
  )!;
  guest.table.setNode(free, 0);
  const found = (await disagreements(rig)).join("; ");
  expect(found).toContain(`guest: frame ${free} is on node 3, not 0`);
  expect(found).toMatch(/kernel: block \d+ of order \d+ on node 3 has frame \d+ of node 0/);
  guest.table.setNode(free, 3);
  rig.driver.stop();
  hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
  expect(await disagreements(rig)).toEqual(["heap: vCPU 1 is on node 3, not 1", "guest: vCPU 1 is on node 3, not 1"]);
});
