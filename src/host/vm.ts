// A virtual machine of a host, with its guest booted.

import * as Comlink from "comlink";
import type { HeapHandle } from "../heap/handle.js";
import type { NumaHeap } from "../heap/numa-heap.js";
import { HypervisorError } from "../hypervisor/errors.js";
import type { BootMode } from "../hypervisor/modes.js";
import { GuestError } from "../guest/errors.js";
import { attachNow, heapsHere, machines } from "./attach.js";
import type { Gate } from "./gate.js";
import type { GuestKind, GuestService } from "./guest-service.js";
import type { HypervisorService } from "./hypervisor-service.js";
import { Kernel } from "./kernel.js";
import { checked, FramesSchema, HeapSchema, IndexSchema } from "./options.js";
import type { ServiceThread } from "./thread.js";

export interface HeapOptions {
  /** Bytes it begins with, or a size such as "1MiB". Default: 64 KiB. */
  readonly initialBytes?: number | string;
  /** Most bytes it may claim. Default: as many as the guest has. */
  readonly maximumBytes?: number | string;
  /** vCPU this thread runs on. Default 0. */
  readonly vcpu?: number;
  /** As in AttachOptions, though by default it may not: this thread hears of the deaths of others. */
  readonly mayBlock?: boolean;
  /** Milliseconds a thread has to answer a notification; one that does not is let go, until it can be reached again. Default: 10,000. */
  readonly patience?: number;
}

export interface Room {
  /** A multiple of 64 KiB. */
  readonly address: number;
  readonly bytes: number;
  /** The frames are free again. */
  release(): Promise<void>;
}

const WASM_PAGE = 65536;

/** What a virtual machine is made of, where it runs now. */
export interface Running {
  id: number;
  memory: WebAssembly.Memory;
  hypervisor: ServiceThread<HypervisorService>;
  readonly thread: ServiceThread<GuestService>;
  /** Owners of its heaps in the guest, by the names of their handles. */
  readonly heaps: Map<string, number>;
  /** Closed while it stands still between two hosts. */
  readonly gate: Gate;
  /** The host it is on forgets it. */
  leave: () => void;
  ended: boolean;
  ending?: Promise<void>;
}

/** Milliseconds a kernel has to stop; one that does not answer is ended all the same. */
const STOP_MS = 1000;

const running = new WeakMap<object, Running>();

/**
 * What a virtual machine is made of.
 * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT for anything else, NUMAHEAP_NO_SUCH_VM for one that was destroyed
 */
export function runningOf(vm: unknown): Running {
  const made = typeof vm === "object" && vm !== null ? running.get(vm) : undefined;
  if (!made) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", "vm: must be what host.boot has resolved with");
  if (made.ended) throw new HypervisorError("NUMAHEAP_NO_SUCH_VM", "the virtual machine has been destroyed");
  return made;
}

/** Whether it has been destroyed, or is about to be. */
export const hasEnded = (vm: Vm): boolean => running.get(vm)?.ending !== undefined;

export class Vm {
  readonly name: string;
  readonly vcpus: number;
  readonly mode: BootMode;
  /** The kernel, for calls. */
  readonly guest: Kernel;

  constructor(name: string, vcpus: number, mode: BootMode, os: GuestKind, made: Running) {
    this.name = name;
    this.vcpus = vcpus;
    this.mode = mode;
    this.guest = new Kernel(os, made.thread);
    running.set(this, made);
  }

  /** Its memory, on the host it is on now. */
  get memory(): WebAssembly.Memory {
    return runningOf(this).memory;
  }

  /**
   * Makes a heap over the guest's memory and attaches this thread to it, which is told of topology changes by `topologychange` events. Other
   * threads get handles, and attach by attachHeap.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_INVALID_ARGUMENT
   */
  async createHeap(options: HeapOptions = {}): Promise<NumaHeap> {
    const made = runningOf(this);
    const { initialBytes, maximumBytes, vcpu, mayBlock, patience } = checked(HeapSchema, options, "createHeap");
    const wanted = { vcpu, ...(initialBytes !== undefined && { initialBytes }), ...(maximumBytes !== undefined && { maximumBytes }) };
    return made.gate.pass(async () => {
      const { owner, handle } = await made.thread.call((service) => service.createHeap(wanted, patience));
      made.heaps.set(handle.name, owner);
      machines.set(handle.name, made);
      try {
        return await attachNow(handle, { mayBlock, patience });
      } catch (error) {
        await this.#forget(made, handle.name, owner);
        throw error;
      }
    });
  }

  async #forget(made: Running, name: string, owner: number): Promise<void> {
    await made.thread.call((service) => service.endHeap(owner));
    made.heaps.delete(name);
    machines.delete(name);
  }

  /**
   * A port for the thread of a handle, to be transferred to it and passed to attachHeap: in browsers no thread but this one can follow its
   * machine to another host without.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT for a handle of no heap of this machine
   */
  async port(handle: HeapHandle): Promise<MessagePort> {
    const made = runningOf(this);
    const { name, key } = Object(handle) as Partial<HeapHandle>;
    const owner = made.heaps.get(name!);
    if (owner === undefined || key === undefined)
      throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", "handle: must be one of a heap of this machine");
    const { port1, port2 } = new MessageChannel();
    await made.thread.call((service) => service.connectThread({ owner, key }, Comlink.transfer(port1, [port1])));
    return port2;
  }

  /**
   * Detaches this thread from a heap that it has made, and ends the heap: its memory is the guest's again.
   * @throws {GuestError} NUMAHEAP_HEAP_IN_USE while other threads are attached to it
   */
  async endHeap(heap: NumaHeap): Promise<void> {
    const made = runningOf(this);
    const [name, owner] = nameOf(made, heap);
    // The kernel is a thread of its heaps, too.
    const others = heap.stats().threads.length - 2;
    if (others > 0)
      throw new GuestError("NUMAHEAP_HEAP_IN_USE", `${others} other threads are attached to the heap: have them detach first`);
    heap.detach();
    await this.#forget(made, name, owner);
  }

  /**
   * Maps a heap's memory into the process of a task, at the addresses it has: so calls such as mbind and move_pages can name it.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT where another heap is mapped
   */
  async mapHeap(heap: NumaHeap, task: { readonly tid: number }): Promise<void> {
    const made = runningOf(this);
    const [[, owner], tid] = [nameOf(made, heap), checked(IndexSchema, task?.tid, "task.tid")];
    await made.thread.call((service) => service.mapHeap(tid, owner));
  }

  /**
   * Room in the guest's memory beside its heaps, in adjacent frames, zero: for whoever runs threads of its own there.
   * @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY
   */
  async reserve(bytes: number): Promise<Room> {
    const { thread } = runningOf(this);
    const size = checked(FramesSchema, Math.ceil(bytes / WASM_PAGE) * WASM_PAGE, "bytes");
    const { owner, address } = await thread.call((service) => service.reserve(size));
    return { address, bytes: size, release: () => thread.call((service) => service.release(owner)) };
  }

  /** Ends the machine. Heaps of this thread are detached; what other threads do with theirs is of no consequence any more. Twice is once. */
  destroy(): Promise<void> {
    const made = running.get(this)!;
    // On its way to another host it is ended where it arrives.
    return (made.ending ??= made.gate.pass(() => this.#end(made)));
  }

  async #end(made: Running): Promise<void> {
    for (const [heap] of heapsHere(made.heaps)) detachAnyway(heap);
    made.ended = true;
    await Promise.race([made.thread.call((service) => service.stop()).catch(() => {}), patience(STOP_MS)]);
    await made.thread.end();
    for (const name of made.heaps.keys()) machines.delete(name);
    made.leave();
    await made.hypervisor.call((service) => service.destroyVm(made.id)).catch(ignoreEnded);
  }
}

const patience = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A hypervisor that has ended has no machine any more. */
function ignoreEnded(error: unknown): void {
  if ((error as { code?: string }).code !== "NUMAHEAP_DISCONNECTED") throw error;
}

/** Name and owner of a heap of the machine, to which this thread is attached. */
function nameOf({ heaps }: Running, heap: NumaHeap): [string, number] {
  const name = heapsHere(heaps).find(([mine]) => mine === heap)?.[1].name;
  if (name !== undefined) return [name, heaps.get(name)!];
  throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", "heap: must be one of this machine's, attached here");
}

/** Also where another thread holds a lock: that is over with the machine. */
function detachAnyway(heap: NumaHeap): void {
  try {
    heap.detach();
  } catch (error) {
    if ((error as { code?: string }).code !== "NUMAHEAP_BUSY") throw error;
  }
}
