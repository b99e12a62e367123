// Machines, a small guest that believes what it is told, and an audit of what a hypervisor keeps.

import { expect } from "vitest";
import { connectPort, openPlatform } from "../../src/guest/drivers/connect.js";
import type { Connection, Delivery, Driver } from "../../src/guest/drivers/driver.js";
import type { PlatformChange, PlatformHandler, VirtualTopology } from "../../src/guest/platform.js";
import type { Hypervisor, VmOptions } from "../../src/hypervisor/hypervisor.js";
import { Kvm } from "../../src/hypervisor/kvm/kvm.js";
import { homeOf, isBacked } from "../../src/hypervisor/p2m.js";
import { differences } from "../../src/hypervisor/truth.js";
import type { VirtualMachine } from "../../src/hypervisor/vm.js";
import { FRAME_BYTES } from "../../src/hypervisor/vm-layout.js";
import { Xen } from "../../src/hypervisor/xen/xen.js";
import { parseTopology, type Topology } from "../../src/topology/topology.js";

export const MIB = 2 ** 20;
export const NOWHERE = -1;

/** A machine of nodes with so many CPUs and frames each; distances of a ring: 10, 20 to neighbours, 10 more a hop. */
export function machineWith(cpus: readonly number[], frames: readonly number[]): Topology {
  const count = cpus.length;
  const hops = (a: number, b: number): number => Math.min((a - b + count) % count, (b - a + count) % count);
  let cpu = 0;
  let start = 0;
  return parseTopology({
    nodes: cpus.map((cpusHere, id) => {
      const end = start + frames[id]! * FRAME_BYTES;
      const memory = end > start ? [{ start, end }] : [];
      start = end;
      return { id, cpus: Array.from({ length: cpusHere }, () => cpu++), memory };
    }),
    distances: cpus.map((_, a) => cpus.map((__, b) => 10 + 10 * hops(a, b))),
  });
}

export const ring = (nodes: number, cpusPerNode: number, framesPerNode: number): Topology =>
  machineWith(Array<number>(nodes).fill(cpusPerNode), Array<number>(nodes).fill(framesPerNode));

export const KINDS = ["xen", "kvm"] as const;
export type Kind = (typeof KINDS)[number];
export const hypervisorOf = (kind: Kind, machine: Topology): Xen | Kvm => (kind === "xen" ? new Xen(machine) : new Kvm(machine));

/** A guest without memory management: it keeps a map, and gives and takes what it is told to. */
export class TestGuest implements PlatformHandler {
  readonly platform: Driver;
  readonly vcpus: Int8Array;
  readonly frames: Int8Array;
  readonly ballooned = new Set<number>();
  readonly deliveries: Delivery[] = [];
  readonly calls: PlatformChange[][] = [];
  distances: VirtualTopology["distances"] = [];
  targets: number[] = [];
  #toucher!: Uint8Array;
  #truth!: Uint8Array;

  constructor(
    connection: Connection,
    public vm: VirtualMachine,
  ) {
    this.platform = openPlatform(connection, { onEvent: (event) => this.deliveries.push(event) });
    this.vcpus = new Int8Array(connection.vcpus).fill(NOWHERE);
    this.frames = new Int8Array(connection.frames).fill(NOWHERE);
    this.moveTo(vm);
  }

  /** It runs in this machine's memory from now on. */
  moveTo(vm: VirtualMachine): void {
    this.vm = vm;
    this.#toucher = new Uint8Array(vm.memory.buffer, vm.layout.frameToucher, vm.frames);
    this.#truth = new Uint8Array(vm.memory.buffer, vm.layout.vcpuTruth, vm.vcpus);
  }

  async boot(): Promise<this> {
    const topology = await this.platform.readTopology();
    if (topology) {
      this.distances = topology.distances;
      this.vcpus.set(topology.vcpuNode);
      for (const { first, count, node } of topology.ranges) this.frames.fill(node, first, first + count);
    }
    await this.platform.start(this);
    return this;
  }

  topologyChanged(changes: readonly PlatformChange[]): void {
    this.calls.push([...changes]);
    for (const change of changes) {
      if (change.kind === "nodes") this.distances = change.distances;
      else if (change.kind === "vcpu") this.vcpus[change.vcpu] = change.node;
      else this.frames.fill(change.node, change.first, change.first + change.count);
    }
  }

  balloonTargetChanged(frames: number): void {
    this.targets.push(frames);
  }

  async inflate(gfns: readonly number[]): Promise<void> {
    await this.platform.inflate(gfns);
    for (const gfn of gfns) {
      this.frames[gfn] = NOWHERE;
      this.ballooned.add(gfn);
    }
  }

  async deflate(gfns: readonly number[]): Promise<number> {
    const given = await this.platform.deflate(gfns);
    for (const gfn of gfns.slice(0, given)) this.ballooned.delete(gfn);
    return given;
  }

  /** vCPU `vcpu` claims frames. */
  touch(first: number, count: number, vcpu: number): void {
    for (let gfn = first; gfn < first + count; ++gfn) Atomics.store(this.#toucher, gfn, 1 + this.#truth[vcpu]!);
  }

  /** Where the guest's map differs from the truth, once it has heard everything. */
  async wrong(hypervisor: Hypervisor): Promise<string[]> {
    const truth = hypervisor.truth(this.vm);
    await this.platform.settled();
    return differences(
      truth,
      (vcpu) => this.vcpus[vcpu]!,
      (gfn) => this.frames[gfn]!,
    );
  }
}

export interface Booted<H extends Xen | Kvm = Xen | Kvm> {
  hypervisor: H;
  vm: VirtualMachine;
  guest: TestGuest;
}

/** A connection within this thread, or over a port whose ends are both here. */
export function connect(hypervisor: Xen | Kvm, vm: VirtualMachine, over: "callback" | "port" = "callback"): Promise<Connection> {
  if (over === "callback") return Promise.resolve(hypervisor.connect(vm));
  const { port1, port2 } = new MessageChannel();
  const connection = connectPort(port2);
  hypervisor.serve(vm, port1);
  return connection;
}

export async function boot<H extends Xen | Kvm>(
  hypervisor: H,
  options: Partial<VmOptions> = {},
  over: "callback" | "port" = "callback",
): Promise<Booted<H>> {
  const vm = hypervisor.createVm({ vcpus: 4, memory: 4 * MIB, ...options });
  const guest = await new TestGuest(await connect(hypervisor, vm, over), vm).boot();
  return { hypervisor, vm, guest };
}

/**
 * What must hold of a hypervisor between any two operations; what its trackers announced is computed anew.
 * @param promised frames of machines on their way here
 */
export function audit(hypervisor: Hypervisor, promised = 0): void {
  const owned = new Set<number>();
  const homes = hypervisor.machine.nodeFrames.map(() => 0);
  for (const vm of hypervisor.vms) {
    const truth = vm.truth();
    const buffer = vm.memory.buffer;
    const inMemory = new Uint8Array(buffer, vm.layout.frameTruth, vm.frames);
    for (let gfn = 0; gfn < vm.frames; ++gfn) {
      const entry = vm.p2m.get(gfn);
      if (vm.tracker.frames[gfn] !== truth.frames[gfn])
        expect.fail(`frame ${gfn}: tracked on ${vm.tracker.frames[gfn]}, lies on ${truth.frames[gfn]}`);
      if (inMemory[gfn] !== 1 + (isBacked(entry) ? hypervisor.frames.nodeOf(entry) : homeOf(entry)))
        expect.fail(`frame ${gfn}: the truth in the memory is wrong`);
      if (homeOf(entry) >= 0) ++homes[homeOf(entry)]!;
      if (!isBacked(entry)) continue;
      if (owned.has(entry) || !hypervisor.frames.isTaken(entry))
        expect.fail(`machine frame ${entry} behind frame ${gfn} is somebody else's`);
      owned.add(entry);
    }
    expect(vm.tracker.vcpus).toEqual(truth.vcpus);
    expect([...new Uint8Array(buffer, vm.layout.vcpuTruth, vm.vcpus)]).toEqual(truth.vcpus);
    expect(truth.vcpus).toEqual(vm.cpus.map(({ cpu }) => hypervisor.machine.cpuNode[cpu]));
    expect(vm.cpus.every(({ cpu, affinity }) => affinity?.includes(cpu) ?? true)).toBe(true);
    expect(vm.reserved).toBe(vm.frames - vm.p2m.ballooned);
    promised += vm.reserved - vm.p2m.backed;
  }
  expect(hypervisor.frames.total - hypervisor.frames.free).toBe(owned.size);
  homes.forEach((count, node) => {
    const { frames } = hypervisor;
    expect(frames.roomOn(node)).toBe(frames.freeOn(node) - count);
    if (frames.roomOn(node) < 0) expect.fail(`node ${node} has ${frames.freeOn(node)} frames free, and ${count} wait for it`);
  });
  expect(hypervisor.available).toBe(hypervisor.frames.free - promised);
  const loads = hypervisor.machine.cpuNode.map((_, cpu) =>
    hypervisor.vms.reduce((sum, vm) => sum + vm.cpus.reduce((part, vcpu) => part + (vcpu.cpu === cpu ? vcpu.load : 0), 0), 0),
  );
  expect(loads.map((_, cpu) => hypervisor.scheduler.loadOf(cpu))).toEqual(loads);
}
