// pCPUs, affinity and the balancer; machine frames, their spill order and their end.
import fc from "fast-check";
import { expect, test } from "vitest";
import { HypervisorError } from "../../src/hypervisor/errors.js";
import { MachineFrames } from "../../src/hypervisor/frames.js";
import { Scheduler } from "../../src/hypervisor/scheduler.js";
import { machineOf } from "../../src/hypervisor/machine.js";
import { ring } from "../support/hypervisor-rig.js";

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(HypervisorError);
    return (error as HypervisorError).code;
  }
  return "none";
};

const { cpuNode, distances } = machineOf(ring(4, 2, 1));
const scheduler = (): Scheduler => new Scheduler(cpuNode, distances);

test("a vCPU starts on the node of its number, on the pCPU with the least to do; nodes without pCPUs are passed over", () => {
  const full = scheduler();
  expect([0, 1, 2, 3, 4, 5].map((index) => full.add(1, index).cpu)).toEqual([0, 2, 4, 6, 1, 3]);
  const bare = new Scheduler([1, 1, 3], distances);
  expect([0, 1, 2].map((index) => bare.add(1, index).node)).toEqual([1, 3, 1]);
  expect(codeOf(() => bare.migrate(bare.add(2, 0), { toNode: 0 }))).toBe("NUMAHEAP_INVALID_ARGUMENT");
});

test("affinity: the vCPU goes to the nearest it allows, and nowhere else", () => {
  const it = scheduler();
  const vcpu = it.add(1, 0);
  it.add(1, 1); // on pCPU 2 of node 1
  expect(it.setAffinity(vcpu, [2, 3, 4])).toMatchObject({ fromCpu: 0, toCpu: 3, fromNode: 0, toNode: 1 });
  expect(codeOf(() => it.migrate(vcpu, { toNode: 0 }))).toBe("NUMAHEAP_AFFINITY");
  expect(codeOf(() => it.migrate(vcpu, { toCpu: 5 }))).toBe("NUMAHEAP_AFFINITY");
  expect(it.migrate(vcpu, { toNode: 2 })).toMatchObject({ toCpu: 4 });
  expect(it.migrate(vcpu, { toNode: 2 })).toBeUndefined();
  expect(it.setAffinity(vcpu, undefined)).toBeUndefined();
  expect(it.migrate(vcpu, { toCpu: 5 })).toMatchObject({ toCpu: 5 });
  for (const cpus of [[], [8], [-1], [0.5]]) expect(codeOf(() => it.setAffinity(vcpu, cpus))).toBe("NUMAHEAP_INVALID_ARGUMENT");
  for (const to of [{ toNode: 4 }, { toCpu: 8 }, { toCpu: NaN }])
    expect(codeOf(() => it.migrate(vcpu, to))).toBe("NUMAHEAP_INVALID_ARGUMENT");
});

test("the balancer levels loads, stays near, and respects affinity", () => {
  const it = scheduler();
  const vcpus = [0, 1, 2, 3].map((index) => it.add(1, index));
  for (const vcpu of vcpus) it.migrate(vcpu, { toCpu: 0 });
  it.setAffinity(vcpus[3]!, [0, 7]);
  const moves = it.balance();
  // The sibling first, then the nearest nodes; the last may go to pCPU 7 only, and has pCPU 0 for itself.
  expect(moves.map(({ vcpu, toCpu }) => [vcpu, toCpu])).toEqual([
    [0, 1],
    [1, 2],
    [2, 3],
  ]);
  expect(it.balance()).toEqual([]);
});

test("the balancer: the same loads give the same moves, none makes anything worse, and it ends", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ cpu: fc.nat(7), load: fc.nat(100), mask: fc.option(fc.uniqueArray(fc.nat(7), { minLength: 1 })) }), {
        maxLength: 24,
      }),
      (setup) => {
        const run = (): { loads: number[]; moves: unknown[]; before: number } => {
          const it = scheduler();
          const vcpus = setup.map(({ cpu, load }, index) => {
            const vcpu = it.add(1, index);
            it.setLoad(vcpu, load);
            it.migrate(vcpu, { toCpu: cpu });
            return vcpu;
          });
          setup.forEach(({ mask }, i) => void (mask && it.setAffinity(vcpus[i]!, mask)));
          const loads = (): number[] => cpuNode.map((_, cpu) => it.loadOf(cpu));
          const before = Math.max(...loads());
          const moves = it.balance();
          expect(vcpus.every(({ cpu, affinity }) => affinity?.includes(cpu) ?? true)).toBe(true);
          // Nothing is left that would level: no vCPU whose load is less than the gap to a pCPU it may use.
          for (const { cpu, load, affinity } of vcpus) {
            for (const to of affinity ?? cpuNode.keys()) if (load > 0) expect(it.loadOf(cpu) - it.loadOf(to)).toBeLessThanOrEqual(load);
          }
          return { loads: loads(), moves, before };
        };
        const first = run();
        expect(Math.max(...first.loads)).toBeLessThanOrEqual(first.before);
        expect(run()).toEqual(first);
      },
    ),
    { numRuns: 200, seed: 3 },
  );
});

test("loads are whole numbers", () => {
  const it = scheduler();
  const vcpu = it.add(1, 0);
  for (const load of [-1, 0.5, NaN, Infinity, 2e6]) expect(codeOf(() => it.setLoad(vcpu, load))).toBe("NUMAHEAP_INVALID_ARGUMENT");
});

test("machine frames: a full node spills to the nearest, the lower number first; then there is a refusal with numbers", () => {
  const frames = new MachineFrames([2, 1, 0, 3], distances);
  expect(frames.spillOrder(0)).toEqual([1, 3, 2]);
  const order = Array.from({ length: 6 }, () => frames.alloc(0));
  expect(order.map((mfn) => frames.nodeOf(mfn))).toEqual([0, 0, 1, 3, 3, 3]);
  expect(new Set(order).size).toBe(6);
  expect(frames.take(2)).toBe(-1);
  expect(codeOf(() => frames.alloc(2))).toBe("NUMAHEAP_NO_MACHINE_FRAME");
  expect(() => frames.alloc(2)).toThrow(/asked was one of node 2; all 6/);
  frames.release(order[2]!);
  expect([0, 1, 2, 3].map((node) => frames.freeOn(node))).toEqual([0, 1, 0, 0]);
  expect(() => frames.release(order[2]!)).toThrow("nobody has it");
  expect(frames.nodeOf(frames.alloc(3))).toBe(1);
});

test("machine frames: what is kept goes to nobody else", () => {
  const frames = new MachineFrames([2, 1, 0, 3], distances);
  for (let i = 0; i < 2; ++i) frames.keep(0);
  expect([frames.freeOn(0), frames.roomOn(0), frames.nearestRoom(0), frames.nearestRoom(2)]).toEqual([2, 0, 1, 1]);
  expect(frames.nodeOf(frames.alloc(0))).toBe(1);
  expect(frames.nodeOf(frames.take(0))).toBe(0);
  frames.unkeep(0);
  expect([frames.freeOn(0), frames.roomOn(0)]).toEqual([1, 0]);
  frames.unkeep(0);
  expect(frames.nodeOf(frames.alloc(0))).toBe(0);
  expect(Array.from({ length: 3 }, () => frames.nodeOf(frames.alloc(0)))).toEqual([3, 3, 3]);
  expect(frames.nearestRoom(0)).toBe(-1);
});
