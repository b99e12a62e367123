// A host: a hypervisor in a thread of its own, and virtual machines on it, each with its kernel in another. Everything here is calls to those
// threads; nothing is kept that they know better. An operation resolves when the guests concerned, and their heaps, know what it changed; it is
// rejected with NUMAHEAP_HEAP_BUSY, though done, where a heap cannot be told, for a dead thread has its locks.

import * as Comlink from "comlink";
import type { PlacementPolicy } from "../guest/platform.js";
import { HypervisorError } from "../hypervisor/errors.js";
import type { PageMigration, PlatformDescription } from "../hypervisor/hypervisor.js";
import type { MigrationReport } from "../hypervisor/live-migration.js";
import type { BootMode } from "../hypervisor/modes.js";
import type { Destination, VcpuMove } from "../hypervisor/scheduler.js";
import type { Truth } from "../hypervisor/truth.js";
import { FRAME_BYTES, vmLayout } from "../hypervisor/vm-layout.js";
import { TopologyError } from "../topology/errors.js";
import { type PresetName, presets } from "../topology/presets.js";
import { parseTopology, type Topology } from "../topology/topology.js";
import { type UniformOptions, uniformTopology } from "../topology/uniform.js";
import type { GuestKind, GuestService } from "./guest-service.js";
import type { HypervisorKind, HypervisorService } from "./hypervisor-service.js";
import { type LiveMigrationOptions, migrateBetween } from "./migration.js";
import {
  BootSchema,
  checkBytes,
  checked,
  CpusSchema,
  DestinationSchema,
  FramesSchema,
  HostSchema,
  IndexSchema,
  LimitsSchema,
  PagesSchema,
} from "./options.js";
import { ServiceThread, startThread } from "./thread.js";
import { Gate } from "./gate.js";
import { hasEnded, type Running, runningOf, Vm } from "./vm.js";

/** The machine: nodes that are all alike, or any topology, or a preset's. */
export type HostOptions = { readonly hypervisor: HypervisorKind } & (
  UniformOptions | { readonly topology: Topology } | { readonly preset: PresetName }
);

export interface VmBootOptions {
  /** Default: "linux". */
  readonly guest?: GuestKind;
  /** 1 to 256; vCPU v begins on node v mod nodes. */
  readonly vcpus: number;
  /** Bytes, or a size such as "512MiB"; a multiple of 64 KiB. */
  readonly memory: number | string;
  /** Default: "adaptive". */
  readonly mode?: BootMode;
  /** Mode policy-hypercall: what the guest chooses. */
  readonly placement?: PlacementPolicy;
  /** Linux: AutoNUMA moves pages to the tasks that access them. Default: off. */
  readonly autonuma?: boolean;
  readonly name?: string;
}

function topologyOf(options: object): Topology {
  const { topology, preset, nodes } = options as { topology?: unknown; preset?: unknown; nodes?: unknown };
  if (topology !== undefined) return parseTopology(topology);
  if (preset === undefined && nodes === undefined) {
    const message = "is missing, and must be a whole number from 1 to 1024; or name a topology, or a preset";
    throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "nodes", message);
  }
  if (preset === undefined) return uniformTopology(options as UniformOptions);
  if (typeof preset === "string" && Object.hasOwn(presets, preset)) return presets[preset as PresetName].topology;
  throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "preset", `must be one of ${Object.keys(presets).join(", ")}`);
}

const startHypervisor = (): ServiceThread<HypervisorService> =>
  new ServiceThread(
    "the hypervisor",
    startThread(
      new URL("./hypervisor-worker.js", import.meta.url),
      () => new Worker(new URL("./hypervisor-worker.js", import.meta.url), { type: "module" }),
    ),
  );

const startKernel = (): ServiceThread<GuestService> =>
  new ServiceThread(
    "the guest's kernel",
    startThread(
      new URL("./guest-worker.js", import.meta.url),
      () => new Worker(new URL("./guest-worker.js", import.meta.url), { type: "module" }),
    ),
  );

export class Host {
  readonly hypervisor: HypervisorKind;
  readonly topology: Topology;
  /** How this hypervisor populates memory and tells its guests, in words. */
  readonly description: PlatformDescription;
  readonly #thread: ServiceThread<HypervisorService>;
  readonly #vms = new Set<Vm>();
  #ending: Promise<void> | undefined;

  private constructor(
    thread: ServiceThread<HypervisorService>,
    hypervisor: HypervisorKind,
    topology: Topology,
    description: PlatformDescription,
  ) {
    this.#thread = thread;
    this.hypervisor = hypervisor;
    this.topology = topology;
    this.description = description;
  }

  /**
   * Starts a hypervisor on a machine.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   * @throws {TopologyError} which names the field
   */
  static async create(options: HostOptions): Promise<Host> {
    const { hypervisor } = checked(HostSchema, options, "Host.create");
    const topology = topologyOf(options);
    const thread = startHypervisor();
    try {
      const description = await thread.call((service) => service.start(hypervisor, topology));
      return new Host(thread, hypervisor, topology, description);
    } catch (error) {
      await thread.end();
      throw error;
    }
  }

  get vms(): readonly Vm[] {
    return [...this.#vms];
  }

  /**
   * Makes a virtual machine and boots its guest.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_OVERCOMMIT, NUMAHEAP_PLATFORM_REFUSED
   */
  async boot(options: VmBootOptions): Promise<Vm> {
    const { guest, placement, autonuma, vcpus, memory: bytes, mode, name: wanted } = checked(BootSchema, options, "boot");
    const create = { vcpus, memory: bytes, mode, ...(wanted !== undefined && { name: wanted }) };
    const { id, name, memory } = await this.#thread.call((service) => service.createVm(create));
    const thread = startKernel();
    try {
      const port = await this.#connect(id);
      await thread.call((service) => service.boot(guest, Comlink.transfer(port, [port]), { placement, autonuma }));
      if (this.#ending) throw new HypervisorError("NUMAHEAP_DISCONNECTED", "the host was disposed of meanwhile");
    } catch (error) {
      await thread.end();
      if (!this.#ending) await this.#thread.call((service) => service.destroyVm(id));
      throw error;
    }
    const [heaps, gate] = [new Map<string, number>(), new Gate()];
    const vm: Vm = new Vm(name, vcpus, mode, guest, {
      ...{ id, memory, hypervisor: this.#thread, thread, heaps, gate, ended: false },
      leave: () => void this.#vms.delete(vm),
    });
    this.#vms.add(vm);
    return vm;
  }

  /** The guest's end of a connection to the hypervisor. */
  async #connect(id: number): Promise<MessagePort> {
    const { port1, port2 } = new MessageChannel();
    await this.#thread.call((service) => service.serve(id, Comlink.transfer(port1, [port1])));
    return port2;
  }

  // ---- operations

  /**
   * A vCPU runs on another pCPU, of a node or a certain one.
   * @returns the move, undefined if it runs there already
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_AFFINITY
   */
  async migrateVcpu(vm: Vm, vcpu: number, to: Destination): Promise<VcpuMove | undefined> {
    const [index, destination] = [checked(IndexSchema, vcpu, "vcpu"), checked(DestinationSchema, to, "to")];
    return this.#operate(vm, (service, id) => service.migrateVcpu(id, index, destination));
  }

  /** A vCPU runs on these pCPUs only, undefined = all; it is moved if it has to be. */
  async setAffinity(vm: Vm, vcpu: number, cpus: readonly number[] | undefined): Promise<VcpuMove | undefined> {
    const [index, mask] = [checked(IndexSchema, vcpu, "vcpu"), checked(CpusSchema, cpus, "cpus")];
    return this.#operate(vm, (service, id) => service.setAffinity(id, index, mask));
  }

  /** How busy a vCPU is, in per cent of a pCPU; for the balancer. */
  async setLoad(vm: Vm, vcpu: number, load: number): Promise<void> {
    const [index, percent] = [checked(IndexSchema, vcpu, "vcpu"), checked(IndexSchema, load, "load")];
    await this.#operate(vm, (service, id) => service.setLoad(id, index, percent));
  }

  /** The load balancer runs once; the moves it made. */
  async balance(): Promise<VcpuMove[]> {
    const moves = await this.#thread.call((service) => service.balance());
    await Promise.all(this.vms.map((vm) => settled(vm)));
    return moves;
  }

  /**
   * Bytes [start, start + bytes) of the guest's memory go to a node, in frames of 8 KiB.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  async migratePages(vm: Vm, pages: { start: number; bytes: number | string; toNode: number }): Promise<PageMigration> {
    const { start, bytes, toNode } = checked(PagesSchema, pages, "pages");
    const { byteLength: all } = this.#own(vm).memory.buffer;
    checkBytes(start, 0, all - FRAME_BYTES, "pages.start");
    checkBytes(bytes, FRAME_BYTES, all - start, "pages.bytes");
    return this.#operate(vm, (service, id) => service.migratePages(id, start / FRAME_BYTES, bytes / FRAME_BYTES, toNode));
  }

  /**
   * The guest is to do with so much memory: it inflates or deflates its balloon as far as it can.
   * @param memory bytes, or a size such as "256MiB"
   * @returns bytes the guest has now
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  async setBalloonTarget(vm: Vm, memory: number | string): Promise<number> {
    const bytes = checked(FramesSchema, memory, "memory");
    const { byteLength: all } = this.#own(vm).memory.buffer;
    checkBytes(bytes, vmLayout(all / FRAME_BYTES).kernelFrames * FRAME_BYTES, all, "memory");
    await this.#operate(vm, (service, id) => service.setBalloonTarget(id, bytes / FRAME_BYTES));
    const { balloon } = await vm.guest.view();
    return vm.memory.buffer.byteLength - balloon.size * FRAME_BYTES;
  }

  /** What really lies where, for comparing with what a guest or a heap believes. */
  async truth(vm: Vm): Promise<Truth> {
    return this.#operate(vm, (service, id) => service.truth(id));
  }

  /** Bytes of machine memory of each node that no machine has, and how many are not promised to any. */
  async freeMemory(): Promise<{ nodes: readonly number[]; available: number }> {
    const { nodes, available } = await this.#thread.call((service) => service.freeFrames());
    return { nodes: nodes.map((frames) => frames * FRAME_BYTES), available: available * FRAME_BYTES };
  }

  /** The guest has heard, too, of frames that were placed because they had been touched. */
  async #operate<T>(vm: Vm, call: (service: Comlink.Remote<HypervisorService>, id: number) => PromiseLike<T>): Promise<T> {
    const made = this.#own(vm);
    return made.gate.pass(async () => {
      // It may have been on its way to another host, or to its end.
      const { hypervisor, id, thread } = runningOf(vm);
      const answer = await hypervisor.call((service) => call(service, id));
      await thread.call((service) => service.settle());
      return answer;
    });
  }

  #own(vm: Vm): Running {
    const made = runningOf(vm);
    if (made.hypervisor === this.#thread) return made;
    throw new HypervisorError("NUMAHEAP_NO_SUCH_VM", `${vm.name} is a virtual machine of another host`);
  }

  // ---- live migration

  /**
   * Moves a machine to another host of the same hypervisor while it runs. Threads that hold its heaps stand still for the last round;
   * all then go on over another memory: `heap.view` again, and `vm.memory`. What is called on the machine meanwhile is done where it is then;
   * its vCPUs keep their loads, and no affinity.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_OVERCOMMIT, NUMAHEAP_MIGRATION_ABORTED: it then runs where it was
   */
  async migrateLive(vm: Vm, to: Host, options: LiveMigrationOptions = {}): Promise<MigrationReport> {
    const made = this.#own(vm);
    checked(LimitsSchema, options, "options");
    if (!(to instanceof Host) || to === this || to.hypervisor !== this.hypervisor) {
      throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `to: must be another host of ${this.hypervisor}`);
    }
    const source = { thread: this.#thread, connect: (id: number) => this.#connect(id) };
    const arrived = (): void => {
      made.leave();
      to.#vms.add(vm);
      made.leave = () => void to.#vms.delete(vm);
    };
    const report = await migrateBetween(made, source, { thread: to.#thread, connect: (id) => to.#connect(id) }, options, arrived);
    await vm.guest.settle();
    return report;
  }

  // ---- the end

  /** Ends all machines and the hypervisor. Twice is once. */
  dispose(): Promise<void> {
    return (this.#ending ??= this.#end());
  }

  async #end(): Promise<void> {
    await Promise.all(this.vms.map((vm) => vm.destroy()));
    await this.#thread.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Resolves, too, when the machine ends meanwhile. */
async function settled(vm: Vm): Promise<void> {
  try {
    await vm.guest.settle();
  } catch (error) {
    if (!hasEnded(vm)) throw error;
  }
}
