// The kernel of a guest, as it is called from other threads.

import type { Delivery } from "../guest/drivers/driver.js";
import type { CpusetCalls } from "../guest/freebsd/cpuset.js";
import type { Libnuma } from "../guest/linux/libnuma.js";
import type { Syscalls } from "../guest/linux/syscalls.js";
import type { PlacementPolicy } from "../guest/platform.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { fromWire } from "./error-transfer.js";
import type { GuestKind, GuestService, GuestView, TaskOptions } from "./guest-service.js";
import { type KernelCalls, remoteCalls } from "./kernel-calls.js";
import { AddressSchema, checked, PagesSchema, PlacementSchema, TaskSchema, TextSchema } from "./options.js";
import type { ServiceThread } from "./thread.js";

/** A thread of one of the guest's processes. Its calls answer as its system's do: 0 or a count, or an errno, which Linux negates. */
export interface Task<Calls> {
  readonly pid: number;
  readonly tid: number;
  /** Linux: set_mempolicy, mbind, move_pages, ...; FreeBSD: cpuset_setdomain, ... Arrays are written to as by pointers. */
  readonly calls: KernelCalls<Calls>;
  /** Linux only: libnuma's functions for this task. */
  readonly libnuma: KernelCalls<Libnuma>;
  /**
   * Accesses a byte, whose page is populated if it was not.
   * @returns node it lies on
   * @throws {GuestError} NUMAHEAP_SEGMENTATION_FAULT, NUMAHEAP_OUT_OF_MEMORY
   */
  access(address: number): Promise<number>;
  /** Its process exits, and all tasks of it. */
  exit(): Promise<void>;
}

export type LinuxTask = Task<Syscalls>;
export type FreeBsdTask = Task<CpusetCalls>;

export class Kernel {
  readonly os: GuestKind;
  readonly #thread: ServiceThread<GuestService>;

  constructor(os: GuestKind, thread: ServiceThread<GuestService>) {
    this.os = os;
    this.#thread = thread;
  }

  /**
   * A task on a vCPU, of a new process or a given one.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT
   */
  async newTask<Calls = Syscalls>(options: TaskOptions): Promise<Task<Calls>> {
    const wanted = checked(TaskSchema, options, "newTask") as TaskOptions;
    const { pid, tid, calls, libnuma } = await this.#thread.call((service) => service.newTask(wanted));
    const callsOf = <T>(library: "calls" | "libnuma", names: readonly string[]): KernelCalls<T> =>
      remoteCalls<T>(names, (name, args) => this.#thread.call((service) => service.callTask(tid, library, name, args)));
    return {
      pid,
      tid,
      calls: callsOf<Calls>("calls", calls),
      libnuma: callsOf<Libnuma>("libnuma", libnuma),
      access: async (address) => {
        const at = checked(AddressSchema, address, "address");
        return this.#thread.call((service) => service.access(tid, at));
      },
      exit: () => this.#thread.call((service) => service.exitTask(tid)),
    };
  }

  /** Both views of the topology, the flat one and the actual one. */
  view(): Promise<GuestView> {
    return this.#thread.call((service) => service.view());
  }

  /** Resolves when the kernel and its heaps know all that happened before the call. */
  settle(): Promise<void> {
    return this.#thread.call((service) => service.settle());
  }

  /**
   * Has the kernel stand still between two things it does, so that a heap can be walked while changes come in. Resolves when it does, with
   * what lets it go on: to be called at once, for whoever waits for the kernel waits for that.
   */
  async hold(): Promise<() => void> {
    const words = new Int32Array(new SharedArrayBuffer(8));
    const held = this.#thread.call((service) => service.hold(words));
    let ended = false;
    const failed = held.finally(() => (ended = true));
    const stands = async (): Promise<void> => {
      while (!ended && Atomics.load(words, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    await Promise.race([stands(), failed]);
    return () => {
      Atomics.store(words, 1, 1);
      Atomics.notify(words, 1);
    };
  }

  /** What is wrong in the kernel, in words; everything is to be at rest, but the balloon, which works by itself and is waited for. */
  check(): Promise<string[]> {
    return this.#thread.call((service) => service.check());
  }

  /** Node of each frame of 8 KiB as the kernel knows it. */
  frameNodes(): Promise<Uint8Array> {
    return this.#thread.call((service) => service.frameNodes());
  }

  /** What the hypervisor told the kernel since this was asked last, at most 1000. */
  deliveries(): Promise<readonly Delivery[]> {
    return this.#thread.call((service) => service.deliveries());
  }

  /** What the kernel got over since this was asked last: requests refused, listeners and heaps dropped. */
  async problems(): Promise<readonly Error[]> {
    return (await this.#thread.call((service) => service.problems())).map((error) => fromWire(error));
  }

  /** Linux: a file of /sys, undefined if there is none. It shows the flat machine. */
  async readFile(path: string): Promise<string | undefined> {
    const name = checked(TextSchema, path, "path");
    return this.#thread.call((service) => service.readFile(name));
  }

  /** Linux: writes a file of /sys. 0, or the negative errno. */
  async writeFile(path: string, content: string): Promise<number> {
    const [name, text] = [checked(TextSchema, path, "path"), checked(TextSchema, content, "content")];
    return this.#thread.call((service) => service.writeFile(name, text));
  }

  /** FreeBSD: a variable, undefined if there is none. It shows the flat machine. */
  async sysctl(name: string): Promise<number | string | undefined> {
    const variable = checked(TextSchema, name, "name");
    return this.#thread.call((service) => service.sysctl(variable) as Promise<number | string | undefined>);
  }

  /**
   * Mode policy-hypercall: the kernel chooses how the hypervisor places memory not yet touched.
   * @throws {HypervisorError} NUMAHEAP_PLATFORM_REFUSED in other modes
   */
  async setPlacement(policy: PlacementPolicy): Promise<void> {
    const wanted = checked(PlacementSchema, policy, "policy");
    return this.#thread.call((service) => service.setPlacement(wanted));
  }

  /**
   * The kernel advises its hypervisor that a range would best lie on a node, in frames of 8 KiB. A hint: it moves as far as that node has room.
   * @returns bytes of it that lie there now
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_PLATFORM_REFUSED
   */
  async advise(pages: { start: number | string; bytes: number | string; toNode: number }): Promise<number> {
    const { start, bytes, toNode } = checked(PagesSchema, pages, "pages");
    const frames = await this.#thread.call((service) => service.advise(start / FRAME_BYTES, bytes / FRAME_BYTES, toNode));
    await this.settle();
    return frames * FRAME_BYTES;
  }
}
