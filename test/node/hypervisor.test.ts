// What every hypervisor does, whichever it is: each operation is tracked, told, and leaves the books in order.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Hypervisor } from "../../src/hypervisor/hypervisor.js";
import { migrateLive } from "../../src/hypervisor/live-migration.js";
import type { VmImage } from "../../src/hypervisor/vm.js";
import { audit, boot, type Booted, connect, hypervisorOf, KINDS, type Kind, ring, TestGuest } from "../support/hypervisor-rig.js";

const FRAMES = 512; // of the machine's nodes each; the guest has as many in all
const start = (kind: Kind, over?: "callback" | "port"): Promise<Booted> => boot(hypervisorOf(kind, ring(4, 2, FRAMES)), {}, over);

/** Every operation there is, as a random call of it. */
type Step = { readonly op: string; run(rig: Booted): unknown };
const vcpu = fc.nat(3);
const node = fc.nat(3);
const range = fc.record({ first: fc.integer({ min: 8, max: 500 }), length: fc.nat(40) }).map(({ first, length }) => ({
  first,
  count: 1 + (length % (FRAMES - first)),
}));
const step = <T>(op: string, args: fc.Arbitrary<T>, run: (rig: Booted, args: T) => unknown): fc.Arbitrary<Step> =>
  args.map((value) => ({ op, run: (rig) => run(rig, value), toString: () => `${op} ${JSON.stringify(value)}` }));
const among = (rig: Booted, first: number, count: number, ballooned: boolean): number[] =>
  [...Array(count).keys()].map((i) => first + i).filter((gfn) => rig.guest.ballooned.has(gfn) === ballooned);

const OPERATIONS: Readonly<Record<string, fc.Arbitrary<Step>>> = {
  migrateVcpuToNode: step("migrateVcpu", fc.record({ vcpu, toNode: node }), ({ hypervisor, vm }, { vcpu, toNode }) => {
    hypervisor.setAffinity(vm, vcpu, undefined);
    hypervisor.migrateVcpu(vm, vcpu, { toNode });
    expect(vm.cpus[vcpu]!.node).toBe(toNode);
  }),
  migrateVcpuToCpu: step("migrateVcpu", fc.record({ vcpu, toCpu: fc.nat(7) }), ({ hypervisor, vm }, { vcpu, toCpu }) => {
    hypervisor.setAffinity(vm, vcpu, undefined);
    hypervisor.migrateVcpu(vm, vcpu, { toCpu });
    expect(vm.cpus[vcpu]!.cpu).toBe(toCpu);
  }),
  setAffinity: step(
    "setAffinity",
    fc.record({ vcpu, cpus: fc.uniqueArray(fc.nat(7), { minLength: 1 }) }),
    ({ hypervisor, vm }, { vcpu, cpus }) => hypervisor.setAffinity(vm, vcpu, cpus),
  ),
  balance: step("balance", fc.array(fc.nat(200), { minLength: 4, maxLength: 4 }), ({ hypervisor, vm }, loads) => {
    loads.forEach((load, vcpu) => hypervisor.setLoad(vm, vcpu, load));
    hypervisor.balance();
  }),
  migratePages: step("migratePages", fc.record({ range, node }), ({ hypervisor, vm }, { range: { first, count }, node }) => {
    const { moved, spilled, refused } = hypervisor.migratePages(vm, first, count, node);
    expect(moved + spilled + refused).toBe(count);
  }),
  touch: step("populateTouched", fc.record({ range, vcpu }), ({ hypervisor, guest }, { range: { first, count }, vcpu }) => {
    for (const gfn of among({ guest } as Booted, first, count, false)) guest.touch(gfn, 1, vcpu);
    hypervisor.populateTouched();
  }),
  inflate: step("inflate", range, (rig, { first, count }) => rig.guest.inflate(among(rig, first, count, false))),
  deflate: step("deflate", fc.record({ range, more: fc.nat(30) }), async (rig, { range: { first, count }, more }) => {
    await rig.guest.inflate(among(rig, first, Math.min(more, count), false));
    const wanted = among(rig, first, count, true);
    expect(await rig.guest.deflate(wanted)).toBeLessThanOrEqual(wanted.length);
  }),
  advise: step("advise", fc.record({ range, node }), async ({ hypervisor, vm, guest }, { range: { first, count }, node }) => {
    const there = await guest.platform.advise(first, count, node);
    const { frames } = hypervisor.truth(vm);
    expect(there).toBe(frames.subarray(first, first + count).filter((at) => at === node).length);
  }),
  balloonTarget: step("setBalloonTarget", fc.integer({ min: 100, max: FRAMES }), async ({ hypervisor, vm, guest }, target) => {
    hypervisor.setBalloonTarget(vm, target);
    await guest.platform.settled();
    if (guest.targets.length > 0) expect(guest.targets.at(-1)).toBe(target);
  }),
  // Another machine takes frames, so that nodes fill up, and gives them back.
  createVm: step("createVm", fc.integer({ min: 1, max: 60 }), ({ hypervisor }, size) => {
    if (hypervisor.vms.length < 4 && size * 8 <= hypervisor.available) hypervisor.createVm({ vcpus: 2, memory: size * 65536 });
  }),
  destroyVm: step("destroyVm", fc.constant(0), ({ hypervisor, vm }) => {
    const other = hypervisor.vms.find((it) => it !== vm);
    if (other) hypervisor.destroyVm(other);
  }),
  // A machine from another host arrives.
  arrive: step("prepare", fc.array(fc.nat(2), { minLength: 16, maxLength: 16 }), ({ hypervisor, vm }, states) => {
    const image: VmImage = { ...vm.image, name: "arrival", vcpus: 3, frames: 16 };
    if (hypervisor.vms.length >= 4 || hypervisor.available < 16) return;
    const incoming = hypervisor.prepare(image, 16);
    audit(hypervisor, 16);
    const id = incoming.commit(image, Uint8Array.from(states)) as number;
    expect(hypervisor.vm(id).reserved).toBe(states.filter((state) => state > 0).length);
  }),
};

/** What changes no mapping. */
const OTHERS = ["constructor", "vm", "truth", "topology", "setLoad", "setPlacement", "nodes", "vms", "available", "back"];

test("every operation is in the table above, or known to change no mapping", () => {
  const covered = new Set(Object.values(OPERATIONS).flatMap((steps) => fc.sample(steps, { numRuns: 1, seed: 1 }).map(({ op }) => op)));
  const methods = Object.getOwnPropertyNames(Hypervisor.prototype).filter((name) => !OTHERS.includes(name));
  expect([...methods].sort()).toEqual([...covered].sort());
});

test("the platforms say in what they differ", () => {
  const [xen, kvm] = KINDS.map((kind) => hypervisorOf(kind, ring(1, 1, 64)).describe());
  expect(Object.keys(xen!)).toEqual(["name", "populated", "batched", "acknowledged", "seen"]);
  for (const [key, words] of Object.entries(xen!)) expect(words).not.toBe(kvm![key as keyof typeof kvm]);
});

describe.each(KINDS)("%s", (kind) => {
  test.each(Object.keys(OPERATIONS))("%s: is tracked, and the guest's map is the truth afterwards", async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.array(OPERATIONS[name]!, { minLength: 1, maxLength: 8 }), async (steps) => {
        const rig = await start(kind);
        for (const { run } of steps) {
          await run(rig);
          audit(rig.hypervisor);
          expect(await rig.guest.wrong(rig.hypervisor)).toEqual([]);
        }
      }),
      { numRuns: 15, seed: 1 },
    );
  });

  test.each(["callback", "port"] as const)(
    "random sequences, over a %s: the same, though the guest looks only now and then",
    async (over) => {
      const any = fc.oneof(...Object.values(OPERATIONS));
      await fc.assert(
        fc.asyncProperty(fc.array(fc.array(any, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 6 }), async (bursts) => {
          const rig = await start(kind, over);
          for (const burst of bursts) {
            const pending: unknown[] = [];
            for (const { op, run } of burst) {
              // What the guest asks for is waited for: its map is its own business.
              if (["inflate", "deflate", "advise", "setBalloonTarget"].includes(op)) await run(rig);
              else pending.push(run(rig));
              audit(rig.hypervisor);
            }
            await Promise.all(pending);
            expect(await rig.guest.wrong(rig.hypervisor)).toEqual([]);
          }
          rig.guest.platform.stop();
        }),
        { numRuns: over === "port" ? 25 : 60, seed: 2 },
      );
    },
  );

  test.each(["callback", "port"] as const)(
    "over a %s: a guest whose machine ends, or that is replaced, waits for nothing",
    async (over) => {
      const rig = await start(kind, over);
      const gone = { code: expect.stringMatching(/^NUMAHEAP_(DISCONNECTED|PLATFORM_REFUSED)$/) };
      const waiting = rig.guest.platform.advise(100, 1, 1);
      rig.hypervisor.destroyVm(rig.vm);
      // Within this thread Xen has answered already.
      if (kind === "xen" && over === "callback") await waiting;
      else await expect(waiting).rejects.toMatchObject(gone);
      await expect(rig.guest.platform.advise(100, 1, 1)).rejects.toMatchObject(gone);
      await rig.guest.platform.settled();
    },
  );

  test.each(["callback", "port"] as const)("over a %s: whoever reads the topology takes no change away from the handler", async (over) => {
    const { hypervisor, vm, guest } = await start(kind, over);
    for (let i = 0; i < 100; ++i) hypervisor.migratePages(vm, 100 + i * 3, 2, i % 4);
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    expect(await guest.platform.readTopology()).toEqual(hypervisor.topology(vm));
    expect(await guest.wrong(hypervisor)).toEqual([]);
    guest.platform.stop();
  });

  test("a machine that moves to another host takes the loads of its vCPUs along, and not their affinity", async () => {
    const { hypervisor, vm } = await start(kind);
    [100, 0, 0, 70].forEach((load, vcpu) => hypervisor.setLoad(vm, vcpu, load));
    hypervisor.setAffinity(vm, 0, [0]);
    const other = hypervisorOf(kind, ring(2, 1, FRAMES));
    const { vm: id } = await migrateLive(hypervisor, vm, other, { pause: () => Promise.resolve(() => {}) });
    expect(other.vm(id).cpus.map(({ load, affinity }) => [load, affinity])).toEqual([100, 0, 0, 70].map((load) => [load, undefined]));
    // Two idle vCPUs are no reason to move the busy ones, which have a pCPU each.
    expect(other.balance()).toEqual([]);
    audit(other);
  });

  test("changes between readTopology and start are handed over at the start", async () => {
    const hypervisor = hypervisorOf(kind, ring(4, 2, FRAMES));
    const vm = hypervisor.createVm({ vcpus: 4, memory: 4 * 2 ** 20 });
    const guest = new TestGuest(hypervisor.connect(vm), vm);
    const topology = await guest.platform.readTopology();
    expect(topology).toEqual(hypervisor.topology(vm));
    hypervisor.migrateVcpu(vm, 2, { toNode: 1 });
    hypervisor.migratePages(vm, 64, 64, 3);
    await guest.platform.start(guest);
    expect(guest.calls).toEqual([
      [
        { kind: "vcpu", vcpu: 2, node: 1 },
        { kind: "frames", first: 64, count: 64, node: 3 },
      ],
    ]);
  });

  test("a guest that never read the topology is told all of it at the start", async () => {
    const { hypervisor, vm } = await start(kind);
    const guest = new TestGuest(await connect(hypervisor, vm), vm);
    await guest.platform.start(guest);
    expect(await guest.wrong(hypervisor)).toEqual([]);
    expect(guest.distances).toEqual(hypervisor.machine.distances);
    expect(guest.deliveries.map(({ what }) => what)).toEqual(["start"]);
  });

  test("a driver that stops leaves the machine to the next one", async () => {
    const { hypervisor, vm, guest } = await start(kind);
    guest.platform.stop();
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    const second = await new TestGuest(await connect(hypervisor, vm), vm).boot();
    hypervisor.migrateVcpu(vm, 2, { toNode: 3 });
    hypervisor.setBalloonTarget(vm, 300);
    expect(await second.wrong(hypervisor)).toEqual([]);
    expect([guest.calls, guest.targets, second.targets]).toEqual([[], [], [300]]);
    // And one that is replaced without having been asked is not heard of again.
    const third = await new TestGuest(await connect(hypervisor, vm, "port"), vm).boot();
    hypervisor.migrateVcpu(vm, 2, { toNode: 0 });
    expect(await third.wrong(hypervisor)).toEqual([]);
    expect(second.vcpus[2]).toBe(3);
    third.platform.stop();
  });
});
