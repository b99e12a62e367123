// What the hypervisor's thread serves: the operations of a hypervisor by the numbers of its virtual machines, and both ends of a live
// migration to or from a hypervisor in another thread.

import * as Comlink from "comlink";
import type { Incoming, MigrationTarget } from "../hypervisor/arrival.js";
import { HypervisorError } from "../hypervisor/errors.js";
import type { PageMigration, PlatformDescription, VmOptions } from "../hypervisor/hypervisor.js";
import { Kvm } from "../hypervisor/kvm/kvm.js";
import { migrateLive, type MigrationReport, type MigrationRound } from "../hypervisor/live-migration.js";
import type { Destination, VcpuMove } from "../hypervisor/scheduler.js";
import type { Truth } from "../hypervisor/truth.js";
import type { VmImage } from "../hypervisor/vm.js";
import { Xen } from "../hypervisor/xen/xen.js";
import type { Topology } from "../topology/topology.js";
import { carryErrors } from "./error-transfer.js";

export type HypervisorKind = "xen" | "kvm";

/** A virtual machine as its maker sees it. */
export interface CreatedVm {
  readonly id: number;
  readonly name: string;
  readonly memory: WebAssembly.Memory;
}

/** What a live migration calls in the thread that conducts it. */
export interface MigrationHooks {
  /** Everybody is to stand still; `memory` is the one they will go on over. */
  pause(memory: WebAssembly.Memory): Promise<void>;
  /** They are to go on: at the destination under the number `vm`, or, if that is undefined, where they were. */
  goOn(vm: number | undefined): Promise<void>;
  onRound(round: MigrationRound): Promise<void>;
}

export interface MigrationLimits {
  readonly maxRounds?: number;
  readonly stopBelow?: number;
}

/** The destination's end of a migration, served on a port. */
class Arrivals {
  readonly #incoming = new Map<number, Incoming>();
  #next = 1;

  constructor(private readonly target: MigrationTarget) {}

  get nodes(): number | Promise<number> {
    return this.target.nodes;
  }

  async prepare(image: VmImage, reserved: number): Promise<{ ticket: number; memory: WebAssembly.Memory }> {
    const incoming = await this.target.prepare(image, reserved);
    const ticket = this.#next++;
    this.#incoming.set(ticket, incoming);
    return { ticket, memory: incoming.memory };
  }

  async commit(ticket: number, image: VmImage, states: Uint8Array): Promise<number> {
    const incoming = this.#take(ticket);
    try {
      return await incoming.commit(image, states);
    } catch (error) {
      this.#incoming.set(ticket, incoming); // to be cancelled
      throw error;
    }
  }

  async cancel(ticket: number): Promise<void> {
    await this.#take(ticket).cancel();
  }

  /** Nobody comes any more: what was promised is free again. */
  async end(): Promise<void> {
    for (const ticket of [...this.#incoming.keys()]) await this.cancel(ticket);
  }

  #take(ticket: number): Incoming {
    const incoming = this.#incoming.get(ticket);
    this.#incoming.delete(ticket);
    if (!incoming) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `nobody is on the way here under the number ${ticket}`);
    return incoming;
  }
}

/** Nobody waits for a fault to be served, so a look now and then stands for them. Milliseconds. */
const FAULT_MS = 10;

export class HypervisorService {
  #made: Xen | Kvm | undefined;

  /** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT */
  start(kind: HypervisorKind, topology: Topology): PlatformDescription {
    const hypervisor = kind === "xen" ? new Xen(topology) : new Kvm(topology);
    this.#made = hypervisor;
    setInterval(() => hypervisor.populateTouched(), FAULT_MS);
    return hypervisor.describe();
  }

  get #hypervisor(): Xen | Kvm {
    if (!this.#made) throw new HypervisorError("NUMAHEAP_DISCONNECTED", "the hypervisor has not been started");
    return this.#made;
  }

  // ---- virtual machines

  createVm(options: VmOptions): CreatedVm {
    const { id, name, memory } = this.#hypervisor.createVm(options);
    return { id, name, memory };
  }

  /** Connects a guest at the other end of a port. */
  serve(id: number, port: MessagePort): void {
    this.#hypervisor.serve(this.#hypervisor.vm(id), port);
  }

  destroyVm(id: number): void {
    this.#hypervisor.destroyVm(this.#hypervisor.vm(id));
  }

  // ---- operations

  migrateVcpu(id: number, vcpu: number, to: Destination): VcpuMove | undefined {
    return this.#hypervisor.migrateVcpu(this.#hypervisor.vm(id), vcpu, to);
  }

  setAffinity(id: number, vcpu: number, cpus: readonly number[] | undefined): VcpuMove | undefined {
    return this.#hypervisor.setAffinity(this.#hypervisor.vm(id), vcpu, cpus);
  }

  setLoad(id: number, vcpu: number, load: number): void {
    this.#hypervisor.setLoad(this.#hypervisor.vm(id), vcpu, load);
  }

  balance(): VcpuMove[] {
    return this.#hypervisor.balance();
  }

  migratePages(id: number, first: number, count: number, toNode: number): PageMigration {
    return this.#hypervisor.migratePages(this.#hypervisor.vm(id), first, count, toNode);
  }

  setBalloonTarget(id: number, frames: number): void {
    this.#hypervisor.setBalloonTarget(this.#hypervisor.vm(id), frames);
  }

  truth(id: number): Truth {
    return this.#hypervisor.truth(this.#hypervisor.vm(id));
  }

  /** Machine frames of each node that nobody has. */
  freeFrames(): { nodes: readonly number[]; available: number } {
    const { machine, frames, available } = this.#hypervisor;
    return { nodes: machine.distances.map((_, node) => frames.freeOn(node)), available };
  }

  // ---- live migration

  /** Serves the arrival of one machine on a port. */
  receive(port: MessagePort): void {
    const arrivals = new Arrivals(this.#hypervisor);
    Comlink.expose(arrivals, port);
    port.addEventListener("close", () => void arrivals.end());
  }

  /** @throws {HypervisorError} as migrateLive does */
  async migrateLive(
    id: number,
    port: MessagePort,
    hooks: Comlink.Remote<MigrationHooks>,
    limits: MigrationLimits,
  ): Promise<MigrationReport> {
    carryErrors();
    const arrivals = Comlink.wrap<Arrivals>(port);
    const gone = new Promise<never>((_, reject) => {
      port.addEventListener("close", () => reject(new HypervisorError("NUMAHEAP_DISCONNECTED", "the destination has ended")));
    });
    gone.catch(() => {});
    const answered = <T>(answer: PromiseLike<T>): Promise<T> => Promise.race([answer, gone]);
    let memory: WebAssembly.Memory | undefined;
    const target: MigrationTarget = {
      // Asked when it is wanted: a refused migration has nobody to hear that there is no answer.
      get nodes() {
        return answered(arrivals.nodes);
      },
      prepare: async (image, reserved) => {
        const { ticket, memory: there } = await answered(arrivals.prepare(image, reserved));
        memory = there;
        return {
          memory: there,
          commit: (last, states) => answered(arrivals.commit(ticket, last, states)),
          cancel: () => answered(arrivals.cancel(ticket)),
        };
      },
    };
    try {
      return await migrateLive(this.#hypervisor, this.#hypervisor.vm(id), target, {
        ...limits,
        onRound: (round) => hooks.onRound(round),
        pause: async () => {
          await hooks.pause(memory!);
          return (where) => hooks.goOn(where.at === "destination" ? where.vm : undefined);
        },
      });
    } finally {
      port.close();
    }
  }
}
