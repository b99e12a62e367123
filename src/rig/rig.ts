// A whole machine in one thread: hypervisor, guest kernel, and a heap in its memory, on which a trace is replayed by workers while
// whoever holds this changes the machine. For tests and measurements.

import { openPlatform } from "../guest/drivers/connect.js";
import type { Delivery, Driver } from "../guest/drivers/driver.js";
import { FreeBsd } from "../guest/freebsd/freebsd.js";
import type { Guest } from "../guest/guest.js";
import { GuestHeap } from "../guest/guest-heap.js";
import { Linux } from "../guest/linux/linux.js";
import { Kvm } from "../hypervisor/kvm/kvm.js";
import { migrateLive, type MigrationReport, type Resume, type Resumption } from "../hypervisor/live-migration.js";
import type { BootMode } from "../hypervisor/modes.js";
import type { VirtualMachine } from "../hypervisor/vm.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { Xen } from "../hypervisor/xen/xen.js";
import { type UniformOptions, uniformTopology } from "../topology/uniform.js";
import type { Trace } from "../trace/format.js";
import { GuestGround } from "../trace/guest-ground.js";
import { Replay, type ReplayOptions } from "../trace/replay.js";

export const PLATFORMS = ["xen", "kvm"] as const;
export const SYSTEMS = ["linux", "freebsd"] as const;

export interface Pairing {
  readonly platform: (typeof PLATFORMS)[number];
  readonly os: (typeof SYSTEMS)[number];
}

export const PAIRINGS: readonly Pairing[] = PLATFORMS.flatMap((platform) => SYSTEMS.map((os) => ({ platform, os })));

export interface RigOptions extends Pairing {
  /** Bytes, a multiple of 64 KiB. Default: 64 MiB. */
  readonly memory?: number;
  /** Nodes of the host. Default 4. */
  readonly nodes?: number;
  /** Default 4. */
  readonly vcpus?: number;
  /** Default: adaptive. */
  readonly mode?: BootMode;
  /** Told of each delivery of changes to the guest. */
  readonly onDelivery?: (delivery: Delivery) => void;
}

/** As many as keep the balancer busy: vCPUs that moved share one until it looks. */
const CPUS_PER_NODE = 1;

/** What a machine has that nothing else is said of. */
export const MACHINE_BYTES = 2 ** 26;
export const MACHINE_VCPUS = 4;

/** A host that has twice the memory a machine of `memory` bytes needs, so that its nodes can fill up and the host cannot. */
export function hostShape(memory: number, nodes: number): UniformOptions {
  return { nodes, cpusPerNode: CPUS_PER_NODE, memoryPerNode: (memory * 2) / nodes, distances: "ring" };
}

function hostOf({ platform, memory }: { platform: Pairing["platform"]; memory: number }, nodes: number): Xen | Kvm {
  const topology = uniformTopology(hostShape(memory, nodes));
  return platform === "xen" ? new Xen(topology) : new Kvm(topology);
}

/** Rounds of a live migration before the machine is stopped. */
const MAX_ROUNDS = 4;

export type StopFor = (during: () => Promise<WebAssembly.Memory | undefined>) => Promise<void>;

export class Rig {
  hypervisor: Xen | Kvm;
  vm: VirtualMachine;
  /** Made by `makeHeap` or by `prepare`. */
  heap: GuestHeap | undefined;
  replay: Replay | undefined;
  /** Times that changes were handed to the guest. */
  deliveries = 0;
  /** What the guest got over: nothing, if all is well. */
  readonly problems: unknown[];

  static async boot(options: RigOptions): Promise<Rig> {
    const { memory = MACHINE_BYTES, nodes = 4, vcpus = MACHINE_VCPUS, mode = "adaptive", os, platform, onDelivery } = options;
    const hypervisor = hostOf({ platform, memory }, nodes);
    const vm = hypervisor.createVm({ vcpus, memory, mode });
    const told = { onEvent: (_: Delivery): void => {} };
    const driver = openPlatform(hypervisor.connect(vm), { onEvent: (delivery) => told.onEvent(delivery) });
    const problems: unknown[] = [];
    const boot = { platform: driver, memory: vm.memory, onProblem: (error: unknown) => void problems.push(error) };
    const guest: Guest = os === "linux" ? await Linux.boot(boot) : await FreeBsd.boot(boot);
    const rig = new Rig(hypervisor, vm, driver, guest, problems);
    rig.deliveries = guest.handlerInvocations;
    told.onEvent = (delivery) => {
      ++rig.deliveries;
      onDelivery?.(delivery);
    };
    return rig;
  }

  private constructor(
    hypervisor: Xen | Kvm,
    vm: VirtualMachine,
    readonly driver: Driver,
    readonly guest: Guest,
    problems: unknown[],
  ) {
    this.hypervisor = hypervisor;
    this.vm = vm;
    this.problems = problems;
  }

  /** Makes a heap in the machine, which begins with so many bytes, in its lowest frames. Default: 64 KiB. */
  async makeHeap(initialBytes?: number): Promise<GuestHeap> {
    return (this.heap = await GuestHeap.create(this.guest, { ...(initialBytes !== undefined && { initialBytes }) }));
  }

  /** Makes the heap and lays the trace beside it: worker i runs on vCPU i. */
  async prepare(trace: Trace, options: ReplayOptions = {}): Promise<Replay> {
    const { guest, vm } = this;
    this.replay = await Replay.prepare(trace, { threads: vm.vcpus, nodes: this.hypervisor.nodes, ...options }, async (planBytes) => {
      const ground = await GuestGround.create(guest, planBytes, { mode: vm.mode });
      this.heap = ground.heap;
      if (vm.mode === "policy-hypercall" && vm.policy !== "first-touch") this.#touchAll();
      return ground;
    });
    return this.replay;
  }

  /** Places what its toucher has no say in, so that what is local can be told as soon as it is touched by the heap. */
  #touchAll(): void {
    const { table } = this.guest;
    for (let gfn = 0; gfn < table.frames; ++gfn) if (table.toucherOf(gfn) < 0) table.touch(gfn, 0);
    this.hypervisor.populateTouched();
  }

  /** Everything that has happened so far is known everywhere. False: a lock of the heap is out of reach. */
  async settle(): Promise<boolean> {
    this.hypervisor.populateTouched();
    await this.driver.settled();
    return this.guest.settle();
  }

  /**
   * Moves the machine to a new host of so many nodes. `stopFor` stops the threads of its heap, calls what it is given, and lets them go on over
   * the memory that is answered; by default those are the replay's workers.
   */
  async migrateLive(nodes: number, stopFor: StopFor = (during) => this.replay!.stopFor(during)): Promise<MigrationReport> {
    const { hypervisor, vm } = this;
    const destination = hostOf({ platform: hypervisor.name, memory: vm.frames * FRAME_BYTES }, nodes);
    const pause = (): Promise<Resume> => new Promise((paused, failed) => this.#stand(destination, stopFor, paused).catch(failed));
    return migrateLive(hypervisor, vm, destination, { pause, maxRounds: MAX_ROUNDS });
  }

  /** Everybody stands still from when `paused` is called until what it is called with has ended. */
  #stand(destination: Xen | Kvm, stopFor: StopFor, paused: (resume: Resume) => void): Promise<void> {
    const standing = stopFor(async () => {
      await this.guest.suspend();
      await this.driver.suspend();
      return new Promise((goOn, failed) => {
        paused(async (where) => {
          this.#walk(destination, where).then(goOn, failed);
          await standing;
        });
      });
    });
    return standing;
  }

  /** The guest runs where it is to. The memory, if that is another. */
  async #walk(destination: Xen | Kvm, where: Resumption): Promise<WebAssembly.Memory | undefined> {
    if (where.at === "destination") {
      this.hypervisor = destination;
      this.vm = destination.vm(where.vm);
      this.guest.moveOver(where.memory);
      await this.heap?.moveOver(where.memory);
    }
    await this.driver.resume(this.hypervisor.connect(this.vm));
    this.guest.resume();
    return where.at === "destination" ? where.memory : undefined;
  }

  /** Ends the machine. */
  async end(): Promise<void> {
    await this.replay?.dismiss();
    this.guest.stop();
    this.hypervisor.destroyVm(this.vm);
  }
}
