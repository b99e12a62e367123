// Traces of real programs over the heap of a virtual machine, four workers on four vCPUs, while everything below them changes.
import { afterEach, describe, expect, test } from "vitest";
import { Host, type Vm, type VmBootOptions } from "../../dist/host/index.js";
import type { NumaHeap } from "../../dist/index.js";
import { readTrace } from "../../dist/trace/file.js";
import type { Trace } from "../../dist/trace/format.js";
import { Replay, type ReplayOutcome } from "../../dist/trace/replay.js";
import { pauseReplay, vmGround } from "../../dist/trace/vm-ground.js";
import { falseBeliefs } from "../support/host-truth.js";
import { randomFrom } from "../support/rig.js";

const FRAME = 8192;
const MIB = 2 ** 20;
const THREADS = 4;
const PAIRINGS = (["xen", "kvm"] as const).flatMap((hypervisor) => (["linux", "freebsd"] as const).map((guest) => ({ hypervisor, guest })));
const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const soakChanges = Number(process.env["SOAK_CHANGES"] ?? 400);
console.log(`replay on virtual machines: SEED=${seed}`);

const traces = new Map<string, Promise<Trace>>();
function traceOf(name: string): Promise<Trace> {
  let trace = traces.get(name);
  if (!trace) traces.set(name, (trace = readTrace(new URL(`../../bench/traces/${name}.trace.gz`, import.meta.url).pathname)));
  return trace;
}

const hosts: Host[] = [];
const replays: Replay[] = [];
afterEach(async () => {
  await Promise.all(replays.splice(0).map((replay) => replay.dismiss()));
  await Promise.all(hosts.splice(0).map((host) => host.dispose()));
});

async function create(hypervisor: "xen" | "kvm", nodes: number): Promise<Host> {
  const host = await Host.create({ hypervisor, nodes, cpusPerNode: 2, memoryPerNode: `${256 / nodes}MiB`, distances: "ring" });
  hosts.push(host);
  return host;
}

interface Rig {
  readonly vm: Vm;
  readonly heap: NumaHeap;
  readonly replay: Replay;
  /** Lets the round under way be the last. */
  finish(): Promise<ReplayOutcome["result"]>;
}

/** A machine of 96 MiB whose workers replay the trace over and over. */
async function start(host: Host, options: Partial<VmBootOptions>, trace = "jq-filter"): Promise<Rig> {
  const vm = await host.boot({ vcpus: THREADS, memory: "96MiB", ...options });
  const heap = await vm.createHeap();
  let over = false;
  const replay = await Replay.prepare(
    await traceOf(trace),
    { threads: THREADS, nodes: 4, again: () => !over },
    vmGround(vm, heap, THREADS),
  );
  replays.push(replay);
  const played = replay.play().catch((error: Error) => void replay.failures.push(error.message));
  return {
    vm,
    heap,
    replay,
    finish: async () => {
      over = true;
      await played;
      return replay.outcome().result;
    },
  };
}

/** Where anybody believes what is not so. Nobody allocates any more. */
async function wrong(host: Host, { vm, heap }: Pick<Rig, "vm" | "heap">): Promise<string[]> {
  return [...(await falseBeliefs(host, vm, heap)), ...heap.walk({ live: [] }).problems];
}

const CLEAN = { walk: "ok", failures: [], leakedBytes: 0, unaccountedBlocks: 0, skippedEvents: 0 };

describe.each(PAIRINGS)("$hypervisor, $guest", ({ hypervisor, guest }) => {
  test("every operation, under load: all blocks verified, nothing lost, and everybody knows the truth", async () => {
    let host = await create(hypervisor, 4);
    const other = await create(hypervisor, 2);
    const rig = await start(host, { guest });
    const { vm, heap, replay } = rig;
    for (let round = 0; round < 3; ++round) {
      for (let vcpu = 0; vcpu < THREADS; ++vcpu) await host.migrateVcpu(vm, vcpu, { toNode: (vcpu + round + 1) % 4 });
      for (let i = 0; i < 24; ++i) await host.migratePages(vm, { start: i * 4 * MIB, bytes: 2 * MIB, toNode: (i + round) % 4 });
      await host.setBalloonTarget(vm, "80MiB");
      await host.setAffinity(vm, 0, [2, 3]);
      await host.setLoad(vm, 1, 10);
      await host.balance();
      await host.setBalloonTarget(vm, "96MiB");
      await host.setAffinity(vm, 0, undefined);
    }
    for (const to of [other, host]) {
      const from = host;
      const report = await from.migrateLive(vm, to, { maxRounds: 3, pause: pauseReplay(replay) });
      expect(report.bytes).toBeGreaterThan(0);
      host = to;
      for (let i = 0; i < 8; ++i) await host.migratePages(vm, { start: i * 8 * MIB, bytes: 4 * MIB, toNode: i % 2 });
    }
    expect(await rig.finish()).toMatchObject(CLEAN);
    expect(await wrong(host, { vm, heap })).toEqual([]);
  });

  const drawn = `${soakChanges} changes of all kinds drawn at random, under load`;
  test(drawn, { timeout: 60_000 + soakChanges * 20 }, async () => {
    const random = randomFrom(seed);
    let [host, other] = [await create(hypervisor, 4), await create(hypervisor, 2)];
    const rig = await start(host, { guest });
    const { vm } = rig;
    const draw = (): Promise<unknown> => {
      const kind = random(20);
      const toNode = random(host.topology.nodes.length);
      if (kind < 9) return host.migrateVcpu(vm, random(THREADS), { toNode });
      if (kind < 10) return host.setBalloonTarget(vm, (80 + random(17)) * MIB);
      if (kind < 11) return host.balance();
      const frames = (96 * MIB) / FRAME;
      const first = random(frames - 1);
      const count = 1 + random(Math.min(random(20) === 0 ? 2000 : 64, frames - first));
      return host.migratePages(vm, { start: first * FRAME, bytes: count * FRAME, toNode });
    };
    for (let done = 0; done < soakChanges; done += 8) {
      await Promise.all(Array.from({ length: 8 }, draw));
      if (done % 1000 !== 200) continue;
      await host.migrateLive(vm, other, { maxRounds: 2, pause: pauseReplay(rig.replay) });
      [host, other] = [other, host];
    }
    expect(await rig.finish()).toMatchObject(CLEAN);
    expect(await wrong(host, rig)).toEqual([]);
  });

  test("after all vCPUs moved, threads of an adaptive machine allocate where they are, those of a static one where they were", async () => {
    const share: Record<string, number> = {};
    for (const mode of ["adaptive", "static"] as const) {
      const host = await create(hypervisor, 4);
      const vm = await host.boot({ vcpus: THREADS, memory: "96MiB", guest, mode });
      const heap = await vm.createHeap();
      for (let vcpu = 0; vcpu < THREADS; ++vcpu) await host.migrateVcpu(vm, vcpu, { toNode: (vcpu + 1) % 4 });
      const replay = await Replay.prepare(await traceOf("jq-filter"), { threads: THREADS, nodes: 4 }, vmGround(vm, heap, THREADS));
      replays.push(replay);
      await replay.play();
      const { result } = replay.outcome();
      expect(result).toMatchObject(CLEAN);
      share[mode] = result.localAllocations / (result.localAllocations + result.remoteAllocations);
    }
    expect(share["adaptive"]).toBeGreaterThan(0.8);
    expect(share["static"]).toBeLessThan(0.2);
  });
});

test("a machine with fewer vCPUs than workers is no ground", async () => {
  const host = await create("kvm", 2);
  const vm = await host.boot({ vcpus: 2, memory: "64MiB" });
  const heap = await vm.createHeap();
  const trace = await traceOf("jq-filter");
  await expect(Replay.prepare(trace, { threads: 4 }, vmGround(vm, heap, 4))).rejects.toMatchObject({ code: "NUMAHEAP_REPLAY_PLAN" });
});

test("room in a guest's memory is kept until it is released", async () => {
  const host = await create("xen", 2);
  const vm = await host.boot({ vcpus: 1, memory: "64MiB" });
  const room = await vm.reserve(5 * MIB + 1);
  expect(room).toMatchObject({ bytes: 5 * MIB + 65536 });
  expect(room.address % 65536).toBe(0);
  expect(new Uint8Array(vm.memory.buffer, room.address, room.bytes).every((byte) => byte === 0)).toBe(true);
  await expect(vm.reserve(60 * MIB)).rejects.toMatchObject({ name: "GuestError", code: "NUMAHEAP_OUT_OF_MEMORY" });
  await room.release();
  await room.release();
  await (await vm.reserve(60 * MIB)).release();
  await expect(vm.reserve(NaN)).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  await vm.guest.settle();
  expect(await vm.guest.check()).toEqual([]);
});
