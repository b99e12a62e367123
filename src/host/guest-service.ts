// What the kernel's thread of a virtual machine serves: boot, heaps, the calls of its tasks, and standing still for a live migration.

import type { HeapHandle } from "../heap/handle.js";
import { MIXED, type TopologyChange } from "../heap/topology-event.js";
import { connectPort, openPlatform } from "../guest/drivers/connect.js";
import type { Delivery, Driver } from "../guest/drivers/driver.js";
import { GuestError } from "../guest/errors.js";
import { FreeBsd, type FreeBsdThread } from "../guest/freebsd/freebsd.js";
import { Sysctl } from "../guest/freebsd/sysctl.js";
import type { Guest } from "../guest/guest.js";
import { GuestHeap, type GuestHeapOptions } from "../guest/guest-heap.js";
import { Libnuma } from "../guest/linux/libnuma.js";
import { Linux, type LinuxProcess, type Task } from "../guest/linux/linux.js";
import { Sysfs } from "../guest/linux/sysfs.js";
import type { TopologyEvent } from "../guest/listeners.js";
import type { PlacementPolicy } from "../guest/platform.js";
import { type Credentials, type GuestThread, PAGE_BYTES, type Process } from "../guest/process.js";
import { Retry } from "../guest/retry.js";
import { join } from "../notify/join.js";
import { tellVerdict } from "../notify/channel.js";
import { standStill, Switchboard } from "../notify/switchboard.js";
import type { Topology } from "../topology/topology.js";
import { type CallAnswer, answerCall, callsOf } from "./kernel-calls.js";
import { toWire, type WireError } from "./error-transfer.js";

export type GuestKind = "linux" | "freebsd";

export interface BootChoices {
  readonly placement: PlacementPolicy | undefined;
  readonly autonuma: boolean;
}

/** Both views of the topology, and how the guest came to the second one. */
export interface GuestView {
  /** What the firmware showed: the unmodified part of the kernel sees nothing else. */
  readonly flat: Topology;
  readonly actual: Topology;
  readonly epoch: number;
  /** Times the handler of topology changes was invoked. */
  readonly handlerInvocations: number;
  /** Frames in the balloon, and those the guest is to do with. */
  readonly balloon: { readonly size: number; readonly target: number };
  /** Node of each vCPU as programs and heaps see it. */
  readonly vcpuNode: readonly number[];
}

/** A task of the guest, and what it can call. */
export interface TaskInfo {
  readonly pid: number;
  readonly tid: number;
  readonly calls: readonly string[];
  readonly libnuma: readonly string[];
}

export interface TaskOptions extends Partial<Credentials> {
  readonly vcpu: number;
  /** Process it becomes a thread of. Default: a new one. */
  readonly pid?: number;
}

/** A thread of a heap. */
export interface HeapThread {
  readonly owner: number;
  readonly key: number;
}

interface TaskEntry {
  readonly thread: GuestThread;
  readonly process: Process;
  readonly calls: object;
  readonly libnuma: Libnuma | undefined;
}

interface HeapEntry {
  readonly heap: GuestHeap;
  readonly handle: HeapHandle;
  readonly switchboard: Switchboard;
  /** What its threads are to be told once the heap itself knows. */
  pending: TopologyChange | undefined;
}

/** Problems and deliveries that are kept for whoever asks. */
const MOST_KEPT = 1000;
/** Locks of a heap are held for a moment, unless their holder is dead. */
const MOST_BUSY_MS = 10_000;
/** Whoever held the kernel for so many milliseconds has died. */
const LONGEST_HOLD_MS = 60_000;
/** Milliseconds between two looks at what heaps did, and between two scans of AutoNUMA. */
const POLL_MS = 20;

export class GuestService {
  #system: Linux | FreeBsd | undefined;
  #driver: Driver | undefined;
  readonly #heaps = new Map<number, HeapEntry>();
  /** Owners of what was reserved. */
  readonly #rooms = new Set<number>();
  readonly #tasks = new Map<number, TaskEntry>();
  readonly #deliveries: Delivery[] = [];
  readonly #problems: WireError[] = [];
  readonly #retry = new Retry(() => this.#flush(), 1, 64);
  #goOn: ((moved: boolean) => void) | undefined;

  get #kernel(): Guest {
    if (!this.#system) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", "the guest has not been booted");
    return this.#system as unknown as Guest;
  }

  /** @throws {GuestError} NUMAHEAP_TOPOLOGY_CHANGE; a HypervisorError of the platform's */
  async boot(kind: GuestKind, port: MessagePort, { placement, autonuma }: BootChoices): Promise<void> {
    const connection = await connectPort(port);
    const platform = openPlatform(connection, { onEvent: (delivery) => keep(this.#deliveries, delivery) });
    const options = { platform, memory: connection.memory, onProblem: (error: unknown) => keep(this.#problems, toWire(error)) };
    this.#driver = platform;
    this.#system = kind === "linux" ? await Linux.boot(options) : await FreeBsd.boot(options);
    if (placement) await platform.setPlacement(placement);
    if (autonuma && this.#system instanceof Linux) this.#system.enableAutoNuma();
    this.#kernel.onTopologyChange((event) => this.#changed(event));
    setInterval(() => this.#poll(), POLL_MS);
  }

  /** What the kernel does now and then. */
  #poll(): void {
    if (this.#goOn) return; // it stands still
    this.#kernel.poll();
    if (!(this.#system instanceof Linux)) return;
    for (const process of this.#system.processes.values()) this.#system.autonuma?.scan(process as LinuxProcess);
  }

  // ---- what it knows

  view(): GuestView {
    const { flat, actual, epoch, handlerInvocations, balloon, vcpus } = this.#kernel;
    return {
      flat,
      actual,
      epoch,
      handlerInvocations,
      balloon: { size: balloon.size, target: balloon.target },
      vcpuNode: Array.from({ length: vcpus }, (_, vcpu) => this.#kernel.nodeOfVcpu(vcpu)),
    };
  }

  /**
   * Resolves when all that happened before is known to the kernel and its heaps, and the balloon can do no more for now.
   * @throws {GuestError} NUMAHEAP_HEAP_BUSY
   */
  async settle(): Promise<void> {
    const kernel = this.#kernel;
    await this.#driver!.settled();
    await kernel.balloon.idle();
    // Where frames lie that the balloon got back is told after it got them.
    await this.#driver!.settled();
    const start = performance.now();
    while (!kernel.settle()) {
      if (performance.now() - start > MOST_BUSY_MS) {
        const message = `a heap has been out of reach for ${MOST_BUSY_MS} ms: has a thread died in it that nobody has registered or reaped?`;
        throw new GuestError("NUMAHEAP_HEAP_BUSY", message);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    this.#flush();
  }

  /**
   * The kernel does nothing until `words` say so: the first word is 1 while it stands still, the second one ends that. What it could not tell heaps
   * while a thread had a lock, it tells them first.
   */
  hold(words: Int32Array): void {
    this.#kernel.heaps.catchUp();
    Atomics.store(words, 0, 1);
    while (Atomics.load(words, 1) === 0 && Atomics.wait(words, 1, 0, LONGEST_HOLD_MS) !== "timed-out");
    Atomics.store(words, 0, 0);
  }

  /** What is wrong in the kernel, in words; everything is to be at rest, but the balloon, which works by itself and is waited for. */
  async check(): Promise<string[]> {
    await this.#kernel.balloon.idle();
    return this.#kernel.check();
  }

  /** Node of a frame as the guest knows it, of all frames. */
  frameNodes(): Uint8Array {
    const { table, layout } = this.#kernel;
    return Uint8Array.from({ length: layout.frames }, (_, gfn) => table.nodeOf(gfn));
  }

  deliveries(): readonly Delivery[] {
    return this.#deliveries.splice(0);
  }

  problems(): readonly WireError[] {
    return this.#problems.splice(0);
  }

  readFile(path: string): string | undefined {
    return this.#linux("files of /sys").read(path);
  }

  writeFile(path: string, text: string): number {
    return this.#linux("files of /sys").write(path, String(text));
  }

  sysctl(name: string): number | string | undefined {
    if (this.#system instanceof FreeBsd) return new Sysctl(this.#system).read(name);
    throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", "a guest of Linux has no sysctls: read files of /sys");
  }

  #linux(what: string): Sysfs {
    if (this.#system instanceof Linux) return new Sysfs(this.#system);
    throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `a guest of FreeBSD has no ${what}: ask for sysctls`);
  }

  setPlacement(policy: PlacementPolicy): Promise<void> {
    return this.#driver!.setPlacement(policy);
  }

  /** Advises the hypervisor to have frames on a node; how many lie there now. */
  advise(first: number, count: number, node: number): Promise<number> {
    return this.#driver!.advise(first, count, node);
  }

  // ---- tasks

  /** @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT */
  newTask({ vcpu, pid, uid = 0, sysNice = false }: TaskOptions): TaskInfo {
    const process = pid === undefined ? this.#kernel.spawn({ uid, sysNice }) : this.#kernel.processes.get(pid);
    if (!process) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `there is no process ${pid}`);
    const system = this.#system!;
    const thread = this.#newThread(process, vcpu, pid === undefined);
    const task: TaskEntry =
      system instanceof FreeBsd
        ? { thread, process, calls: system.syscalls(thread as FreeBsdThread), libnuma: undefined }
        : { thread, process, calls: system.syscalls(thread as Task), libnuma: new Libnuma(system, thread as Task) };
    this.#tasks.set(thread.tid, task);
    return { pid: process.pid, tid: thread.tid, calls: callsOf(task.calls), libnuma: task.libnuma ? callsOf(task.libnuma) : [] };
  }

  /** Where it cannot be, a new process is gone again. */
  #newThread(process: Process, vcpu: number, isNew: boolean): GuestThread {
    try {
      return process.newThread(vcpu);
    } catch (error) {
      if (isNew) process.exit();
      throw error;
    }
  }

  #task(tid: number): TaskEntry {
    const task = this.#tasks.get(tid);
    if (!task) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `there is no task ${tid}`);
    return task;
  }

  /** The task accesses a byte: node it lies on. */
  access(tid: number, address: number): number {
    const { thread } = this.#task(tid);
    return this.#kernel.access(thread, address);
  }

  /** Maps a heap's memory where it lies, so that calls can name it. */
  mapHeap(tid: number, owner: number): void {
    const entry = this.#heaps.get(owner);
    if (!entry) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `there is no heap ${owner}`);
    this.#task(tid).process.mapHeap(owner, entry.handle.base, this.#kernel.layout.frames * PAGE_BYTES);
  }

  callTask(tid: number, library: "calls" | "libnuma", name: string, args: unknown[]): Promise<CallAnswer> {
    return answerCall(this.#task(tid)[library] ?? {}, name, args);
  }

  /** The process of a task exits. */
  exitTask(tid: number): void {
    const task = this.#tasks.get(tid);
    if (!task) return;
    for (const [other, { process, libnuma }] of this.#tasks) {
      if (process !== task.process) continue;
      libnuma?.close();
      this.#tasks.delete(other);
    }
    task.process.exit();
  }

  // ---- heaps

  /** @throws {GuestError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_INVALID_ARGUMENT */
  async createHeap(options: GuestHeapOptions, patience: number): Promise<{ owner: number; handle: HeapHandle }> {
    const heap = await GuestHeap.create(this.#kernel, options);
    const handle = heap.handle(options.vcpu ?? 0);
    const switchboard = new Switchboard(handle, {
      patience,
      since: (epoch) => (epoch === heap.heap.epoch ? undefined : this.#everything(heap)),
      onDrop: (key, why) => keep(this.#problems, toWire(new Error(`thread ${key} of heap ${heap.owner} hears no more of changes: ${why}`))),
    });
    this.#heaps.set(heap.owner, { heap, handle, switchboard, pending: undefined });
    return { owner: heap.owner, handle };
  }

  /** A thread of the heap is at the other end of a port. */
  connectThread({ owner, key }: HeapThread, port: MessagePort): void {
    this.#heaps.get(owner)?.switchboard.connect(key, port);
  }

  /** @throws {GuestError} NUMAHEAP_HEAP_IN_USE */
  endHeap(owner: number): number {
    const entry = this.#heaps.get(owner);
    if (!entry) return 0;
    const frames = entry.heap.end();
    entry.switchboard.stop();
    this.#heaps.delete(owner);
    return frames;
  }

  /** Adjacent frames for something that lies beside heaps. */
  reserve(bytes: number): { owner: number; address: number } {
    const { owner, first } = this.#kernel.grantHeap(bytes / PAGE_BYTES, 0);
    this.#rooms.add(owner);
    return { owner, address: first * PAGE_BYTES };
  }

  release(owner: number): void {
    if (this.#rooms.delete(owner)) this.#kernel.endHeap(owner);
  }

  #everything({ heap }: GuestHeap): TopologyChange {
    const { topology, layout } = this.#kernel;
    return {
      epoch: heap.epoch,
      nodeCount: topology.nodes,
      nodes: true,
      vcpus: Array.from({ length: topology.vcpus }, (_, vcpu) => ({ vcpu, node: topology.homeOf(vcpu) })),
      ranges: [{ start: 0, end: layout.frames * PAGE_BYTES, node: MIXED }],
    };
  }

  #changed({ vcpus, ranges, nodes, nodeCount }: TopologyEvent): void {
    const moved = ranges.map(({ first, count, node }) => ({ start: first * PAGE_BYTES, end: (first + count) * PAGE_BYTES, node }));
    for (const entry of this.#heaps.values()) {
      entry.pending = join(entry.pending, { epoch: entry.heap.heap.epoch, nodeCount, nodes, vcpus, ranges: moved });
    }
    this.#flush();
  }

  /** Threads are told once their heap knows: whoever hears of a change finds it in shared memory. */
  #flush(): void {
    if (![...this.#heaps.values()].some(({ pending }) => pending)) return;
    if (!this.#kernel.heaps.catchUp()) {
      this.#retry.later();
      return;
    }
    this.#retry.done();
    for (const entry of this.#heaps.values()) {
      const { pending, heap } = entry;
      entry.pending = undefined;
      if (pending) entry.switchboard.notify({ ...pending, epoch: heap.heap.epoch });
    }
  }

  // ---- live migration

  /**
   * Threads of heaps stand still, but for those of `asleep`, which do already; then the driver hears no more.
   * @param othersStand threads that cannot be asked to stand still do that, too
   * @throws {GuestError} NUMAHEAP_CANNOT_STOP if a thread cannot be stopped: then all go on
   */
  async suspend(memory: WebAssembly.Memory, asleep: readonly HeapThread[], othersStand: boolean): Promise<void> {
    const words = new Int32Array(new SharedArrayBuffer(8));
    this.#goOn = (moved) => {
      this.#goOn = undefined;
      tellVerdict(words, moved);
    };
    try {
      const asked = [...this.#heaps.values()].map(({ heap, switchboard }) => {
        const mine = asleep.filter(({ owner }) => owner === heap.owner).map(({ key }) => key);
        return { switchboard, keys: this.#toAsk(heap, switchboard.keys, mine, othersStand) };
      });
      await standStill(asked, { memory, words }).catch((cause: unknown) => cannotStop(String(cause), cause));
      await this.#kernel.suspend();
      await this.#driver!.suspend();
    } catch (error) {
      this.#kernel.resume();
      this.#goOn?.(false);
      throw error;
    }
  }

  #toAsk({ heap, key: own, owner }: GuestHeap, subscribed: readonly number[], mine: readonly number[], othersStand: boolean): number[] {
    const known = new Set([own, ...mine, ...subscribed]);
    const deaf = heap.stats().threads.filter(({ key }) => !known.has(key));
    if (deaf.length > 0 && !othersStand) {
      const keys = deaf.map(({ key }) => key).join(", ");
      cannotStop(`${keys} of heap ${owner} cannot be asked to stand still; attach them by attachHeap, or stop them by \`pause\``);
    }
    // Those that are about to attach, too.
    return subscribed.filter((key) => !mine.includes(key));
  }

  /** The guest goes on over another memory, or, without one, where it was. */
  async resume(port: MessagePort, memory: WebAssembly.Memory | undefined): Promise<void> {
    try {
      if (memory) {
        this.#kernel.moveOver(memory);
        for (const { heap } of this.#heaps.values()) await heap.moveOver(memory);
      }
      await this.#driver!.resume(await connectPort(port));
    } finally {
      this.#kernel.resume();
      this.#goOn?.(memory !== undefined);
    }
  }

  /** The kernel stops: nobody may be asleep because of it. */
  stop(): void {
    this.#goOn?.(false);
    for (const { switchboard } of this.#heaps.values()) switchboard.stop();
    this.#system?.stop();
  }
}

function cannotStop(why: string, cause?: unknown): never {
  throw new GuestError("NUMAHEAP_CANNOT_STOP", `threads ${why}`, { cause });
}

function keep<T>(list: T[], item: T): void {
  list.push(item);
  if (list.length > MOST_KEPT) list.shift();
}
