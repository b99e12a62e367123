// NumaHeap: one thread's hold on a heap shared by many.

import { Allocation, type ViewConstructor } from "./allocation.js";
import { address, index, integer, nodeMask, oneOf, size as bytesOf } from "./arguments.js";
import { badCall, ENOMEM, errorOf, HeapError } from "./errors.js";
import {
  type CreateExports,
  HEAP_GROWS_ALONE,
  HEAP_PAGE,
  type HeapExports,
  MAX_THREADS,
  MAX_VCPUS,
  MAY_BLOCK,
  WASM_PAGE,
  WASM_PAGES,
} from "./exports.js";
import { checkHandle, firstHandle, type HeapHandle } from "./handle.js";
import { type HeapStats, type HeapWalk, inspect, type Inspector, type WalkOptions } from "./inspect.js";
import { loadModule } from "./modules.js";
import { type AttachOptions, checkMayBlock, checkOptions, type CreateOptions } from "./options.js";
import { HeapEventTarget } from "./topology-event.js";
import type { WasmMemory } from "./wasm.js";

/** A heap within a virtual machine: its pages are frames of that machine's memory, which its guest's kernel shares out. */
export interface FramesOptions extends AttachOptions {
  readonly memory: WasmMemory;
  /** [base, end): frames that are the heap's already, on node 0 as far as it knows. Multiples of 64 KiB. */
  readonly base: number;
  readonly end: number;
  /** Most bytes the heap may claim, its own structs included. */
  readonly maximumBytes: number;
  readonly nodes: number;
  /** Frames of 8 KiB of the machine. */
  readonly frames: number;
  /** What the heap is in the owner bytes, and the addresses of the kernel's tables (guest/frame-table.ts). */
  readonly owner: number;
  readonly tables: { readonly owners: number; readonly nodes: number; readonly touchers: number; readonly vcpuTruth: number };
  readonly vcpu?: number;
}

/** Memory policies, by Linux's names. */
export type Policy = "default" | "preferred" | "bind" | "interleave" | "local" | "preferred-many" | "weighted-interleave";
const POLICIES: readonly Policy[] = ["default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave"];

/** A worker thread of Node, as far as its end is concerned. */
export interface EndingWorker {
  once(event: "exit", listener: () => void): unknown;
  /** -1 once it has ended, as Node has it. */
  readonly threadId?: number;
}

/** Whether this platform can run a heap; if not, why. */
export function isSupported(): { supported: true } | { supported: false; reason: string } {
  if (typeof SharedArrayBuffer !== "undefined") return { supported: true };
  return {
    supported: false,
    reason:
      "SharedArrayBuffer is missing: serve the page with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
  };
}

/** 32 random bits. An AudioWorklet has no crypto. */
function randomWord(): number {
  const { crypto } = globalThis as { crypto?: Crypto };
  return crypto?.getRandomValues(new Uint32Array(1))[0] ?? Math.floor(Math.random() * 2 ** 32);
}

/** Of a heap within a virtual machine it is the target of `topologychange`; of any, of `detach`. */
export class NumaHeap extends HeapEventTarget implements Disposable {
  #exports: HeapExports;
  #inspector: Inspector;
  #handle: HeapHandle;
  readonly #mayBlock: boolean;
  #attached = true;
  #paused = false;
  #release: () => void = () => {};

  private constructor(handle: HeapHandle, exports: HeapExports, mayBlock: boolean) {
    super();
    this.#mayBlock = mayBlock;
    this.#handle = handle;
    this.#exports = exports;
    this.#inspector = inspect(handle.memory, handle.base, handle.modules.inspect);
  }

  /**
   * Makes a heap and attaches this thread to it.
   * @throws {HeapError} NUMAHEAP_NOT_ISOLATED, NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_OUT_OF_MEMORY
   */
  static async create(options: CreateOptions = {}): Promise<NumaHeap> {
    const support = isSupported();
    if (!support.supported) throw new HeapError("NUMAHEAP_NOT_ISOLATED", support.reason);
    const { nodes, initialPages, maximumPages, build, vcpu, memory: given } = checkOptions(options);
    const [heap, inspectModule, create] = await Promise.all([loadModule(build), loadModule("inspect"), loadModule("create")]);
    let first = 1;
    let memory: WasmMemory;
    if (given) {
      try {
        first = given.grow(initialPages);
      } catch (cause) {
        const message = `the memory cannot grow by ${initialPages * WASM_PAGE} bytes: make it with a larger maximum, or ask for a smaller initialBytes`;
        throw new HeapError("NUMAHEAP_OUT_OF_MEMORY", message, { cause });
      }
      memory = given;
    } else {
      // Page 0 stays unused, so that no address of the heap is near 0.
      const maximum = Math.min(WASM_PAGES, first + maximumPages);
      try {
        memory = new WebAssembly.Memory({ initial: first + initialPages, maximum, shared: true });
      } catch (cause) {
        throw new HeapError("NUMAHEAP_OUT_OF_MEMORY", "the memory cannot be had; ask for a smaller maximumBytes", { cause });
      }
    }
    const base = first * WASM_PAGE;
    const end = base + initialPages * WASM_PAGE;
    const creator = (await WebAssembly.instantiate(create, { env: { memory } })).exports as unknown as CreateExports;
    const error = creator.create(base, end, maximumPages * (WASM_PAGE / HEAP_PAGE), nodes, given ? 0 : HEAP_GROWS_ALONE);
    if (error !== 0) throw errorOf(error, "create");
    return NumaHeap.attach(firstHandle(memory, { heap, inspect: inspectModule }, base, vcpu), options);
  }

  /**
   * Makes a heap out of frames of a virtual machine and attaches this thread to it.
   * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_OUT_OF_MEMORY
   */
  static async createInFrames(options: FramesOptions): Promise<NumaHeap> {
    const { memory, base, end, maximumBytes, nodes, frames, owner, tables, vcpu = 0 } = options;
    const [heap, inspectModule, create] = await Promise.all([loadModule("guest"), loadModule("inspect"), loadModule("create")]);
    const creator = (await WebAssembly.instantiate(create, { env: { memory } })).exports as unknown as CreateExports;
    const limit = Math.floor(maximumBytes / HEAP_PAGE);
    const { owners, nodes: nodeTable, touchers, vcpuTruth } = tables;
    const error = creator.createInFrames(base, end, limit, nodes, frames, owner, owners, nodeTable, touchers, vcpuTruth);
    if (error !== 0) throw errorOf(error, "createInFrames");
    return NumaHeap.attach(firstHandle(memory, { heap, inspect: inspectModule }, base, vcpu), options);
  }

  /**
   * Attaches this thread to the heap of a handle, which serves for one thread.
   * @throws {HeapError} NUMAHEAP_ABI_MISMATCH, NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_BUSY, NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_TOO_MANY_THREADS
   */
  static async attach(handle: HeapHandle, options: AttachOptions = {}): Promise<NumaHeap> {
    checkHandle(handle);
    const mayBlock = checkMayBlock(options);
    const instance = await WebAssembly.instantiate(handle.modules.heap, { env: { memory: handle.memory } });
    const exports = instance.exports as unknown as HeapExports;
    exports.seed?.(randomWord(), randomWord());
    // Two threads of one key could not be told apart when one of them dies.
    const claimed = new Int32Array(handle.claimed);
    if (Atomics.exchange(claimed, 0, 1) !== 0) {
      throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "a thread has attached with this handle before: make one for each thread");
    }
    const release = await holdLock(lockName(handle));
    if (exports.attach(handle.base, handle.key, handle.vcpu, mayBlock ? MAY_BLOCK : 0) === 0) {
      release();
      Atomics.store(claimed, 0, 0);
      const errno = exports.errno();
      if (errno !== ENOMEM || inspect(handle.memory, handle.base, handle.modules.inspect).stats().threads.length < MAX_THREADS)
        throw errorOf(errno, "attach");
      throw new HeapError(
        "NUMAHEAP_TOO_MANY_THREADS",
        `${MAX_THREADS} threads are attached, which is the most: let one detach, or register workers so that those that end are reaped`,
      );
    }
    const heap = new NumaHeap(handle, exports, mayBlock);
    heap.#release = release;
    return heap;
  }

  /**
   * The memory the heap lives in. If it was not given to `create` it is the heap's own, which only the heap may grow: code that grows it all
   * the same is not found out, and pages may be lost or doubly used once a thread dies that was growing it.
   */
  get memory(): WasmMemory {
    return this.#handle.memory;
  }

  /**
   * Goes on over `memory`, which holds the bytes of this heap's: that of the machine's new host, after a live migration. Views of before
   * show the old memory. Only for heaps within a virtual machine, while this thread is in no call.
   * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT
   */
  async moveOver(memory: WasmMemory): Promise<void> {
    this.#paused = false;
    this.#use();
    const handle = { ...this.#handle, memory };
    // At once: whatever else this thread runs must not find the old memory.
    const exports = new WebAssembly.Instance(handle.modules.heap, { env: { memory } }).exports as unknown as HeapExports;
    if (!exports.resume) throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "moveOver: only a heap within a virtual machine can move");
    if (exports.resume(handle.base, handle.key, this.#mayBlock ? MAY_BLOCK : 0) === 0) throw errorOf(exports.errno(), "moveOver");
    this.#handle = handle;
    this.#exports = exports;
    this.#inspector = inspect(memory, handle.base, handle.modules.inspect);
  }

  /** From now on this thread's calls throw NUMAHEAP_BUSY, until moveOver or resume: its machine is between two hosts. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  /** A handle for one more thread, which runs on `vcpu` (default: its key). Post it, and let the thread attach. */
  handle(vcpu?: number): HeapHandle {
    const key = Atomics.add(new Int32Array(this.#handle.keys), 0, 1) + 1;
    const on = integer(vcpu ?? key % MAX_VCPUS, 0, MAX_VCPUS - 1, "vcpu");
    return { ...this.#handle, key, vcpu: on, claimed: new SharedArrayBuffer(4) };
  }

  /** Reaps the thread of `handle` when its Node worker has ended, however it ended. See AttachOptions.mayBlock about this thread. */
  register(worker: EndingWorker, handle: HeapHandle): void {
    if (typeof worker?.once !== "function") {
      throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "register: this is no worker of node:worker_threads; in browsers, use reapOnDeath");
    }
    const reap = (): void => void this.#reapSoon(handle.key);
    if (worker.threadId === -1) reap();
    else worker.once("exit", reap);
  }

  /**
   * In browsers: reaps the thread of `handle`, which must have attached, when its worker has ended. Web Locks tell.
   * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT where threads hold none, as in Node
   */
  async reapOnDeath(handle: HeapHandle): Promise<void> {
    const locks = webLocks();
    if (!locks) throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "reapOnDeath: there are no Web Locks here; register the worker instead");
    await locks.request(lockName(handle), () => this.#reapSoon(handle.key));
  }

  async #reapSoon(key: number): Promise<void> {
    while (this.#attached && this.reap(key) === "busy") await new Promise((resolve) => setTimeout(resolve, 1));
  }

  /** Does away with a thread whose death is certain; see register. */
  reap(key: number): "reaped" | "none" | "busy" {
    if (this.#paused) return "busy";
    const done = this.#use().reap(key);
    return done === 1 ? "reaped" : done === 0 ? "none" : "busy";
  }

  // ---- memory, as C has it: 0 on failure, errno says why

  malloc(size: number): number {
    return this.#use().malloc(bytesOf(size)) >>> 0;
  }

  calloc(count: number, size: number): number {
    return this.#use().calloc(bytesOf(count), bytesOf(size)) >>> 0;
  }

  realloc(ptr: number, size: number): number {
    const exports = this.#use();
    const moved = exports.realloc(address(ptr), bytesOf(size)) >>> 0;
    this.#checkPointer(exports, ptr);
    return moved;
  }

  alignedAlloc(alignment: number, size: number): number {
    return this.#use().aligned_alloc(index(alignment), bytesOf(size)) >>> 0;
  }

  /** A block on `node` and no other. */
  mallocOnNode(size: number, node: number): number {
    return this.#use().mallocOnNode(bytesOf(size), index(node)) >>> 0;
  }

  /** @throws {HeapError} NUMAHEAP_INVALID_FREE if the heap can tell that the pointer is no live block */
  free(ptr: number): void {
    const exports = this.#use();
    exports.free(address(ptr));
    this.#checkPointer(exports, ptr);
  }

  /** Bytes that may be used of a block. */
  usableSize(ptr: number): number {
    const exports = this.#use();
    const size = exports.malloc_usable_size(address(ptr)) >>> 0;
    this.#checkPointer(exports, ptr);
    return size;
  }

  /** Gives what is cached within reach back; true if that freed pages. */
  trim(): boolean {
    return this.#use().malloc_trim(0) === 1;
  }

  /** errno of the last failed call, 0 = none: 48 ENOMEM, 28 EINVAL, 10 EBUSY. */
  errno(): number {
    return this.#use().errno();
  }

  /**
   * A typed block, zeroed.
   * @throws {HeapError} NUMAHEAP_OUT_OF_MEMORY, NUMAHEAP_BUSY
   */
  alloc<View>(type: ViewConstructor<View>, length: number): Allocation<View> {
    const exports = this.#use();
    if (!(Number.isInteger(length) && length >= 0 && length <= 0xffff_ffff)) throw errorOf(28, "alloc");
    const ptr = exports.calloc(length, type.BYTES_PER_ELEMENT) >>> 0;
    if (ptr === 0) throw errorOf(exports.errno(), `alloc of ${length} x ${type.BYTES_PER_ELEMENT} bytes`);
    return new Allocation(this, type, ptr, length);
  }

  /** `length` elements at `ptr`, over the memory as it is now. */
  view<View>(type: ViewConstructor<View>, ptr: number, length: number): View {
    // A buffer's length may lag behind a growth by another thread; growing by nothing brings it up to date.
    if (ptr + length * type.BYTES_PER_ELEMENT > this.memory.buffer.byteLength) this.memory.grow(0);
    return new type(this.memory.buffer as unknown as SharedArrayBuffer, ptr, length);
  }

  // ---- nodes

  /** Node of the vCPU this thread runs on, as it last saw it. */
  get node(): number {
    return this.#use().threadNode();
  }

  /** Changes with every change of the topology. */
  get epoch(): number {
    return this.#use().epoch() >>> 0;
  }

  /** True node of the page a byte lies in, -1 if that is not the heap's. */
  nodeOf(ptr: number): number {
    return this.#use().nodeOf(address(ptr));
  }

  /**
   * Sets this thread's memory policy.
   * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT; NUMAHEAP_BUSY on a thread that may not block: the policy holds, but blocks cached before
   *   may still be handed out until it is set again
   */
  setPolicy(policy: Policy, nodes: readonly number[] = []): void {
    const mode = POLICIES.indexOf(oneOf(policy, POLICIES, "policy"));
    const takes = policy === "default" || policy === "local" ? "takes no nodes" : "takes nodes, at least one of them existing";
    this.#check(this.#use().setPolicy(mode, nodeMask(nodes)), `setPolicy: ${policy} ${takes}`);
  }

  /** Weight of a node in this thread's weighted interleave, 1 to 255. */
  setWeight(node: number, weight: number): void {
    this.#check(this.#use().setWeight(index(node), index(weight)), `setWeight(${node}, ${weight})`);
  }

  /** This thread runs on another vCPU from now on. */
  moveTo(vcpu: number): void {
    this.#check(this.#use().moveThread(index(vcpu)), `moveTo(${vcpu})`);
  }

  /** This thread acts upon topology changes now instead of at its next allocation. */
  settle(): void {
    this.#use().settle();
  }

  /**
   * Nodes 0 to count - 1 exist from now on. Of nodes that vanish, pages stay where they are until they are rebound, and policies and
   * distances wait for their return; but a vCPU must be somewhere: it goes to node vcpu mod count and stays there, also when its old node
   * comes back, until setVcpuNode tells where it is.
   */
  setNodes(count: number): void {
    this.#check(this.#use().setNodes(index(count)), `setNodes(${count})`);
  }

  /** As in a SLIT: 10 to itself, 11 to 255 to others. */
  setDistance(from: number, to: number, distance: number): void {
    this.#check(this.#use().setDistance(index(from), index(to), index(distance)), `setDistance(${from}, ${to}, ${distance})`);
  }

  setVcpuNode(vcpu: number, node: number): void {
    this.#check(this.#use().setVcpuNode(index(vcpu), index(node)), `setVcpuNode(${vcpu}, ${node})`);
  }

  /** Most bytes a node may own by growth, in whole pages of 8 KiB, at least one; 0 = as many as there are. */
  setNodeLimit(node: number, bytes: number): void {
    const pages = Math.ceil(integer(bytes, 0, 2 ** 32, "bytes") / HEAP_PAGE);
    this.#check(this.#use().setNodeLimit(index(node), pages), `setNodeLimit(${node}, ${bytes})`);
  }

  /** The heap's pages in [ptr, ptr + bytes) lie on `node` from now on. Nothing moves: spans change their node. */
  rebind(ptr: number, bytes: number, node: number): void {
    const first = Math.floor(integer(ptr, 0, 2 ** 32, "ptr") / HEAP_PAGE);
    const end = Math.ceil((ptr + integer(bytes, 0, 2 ** 32 - ptr, "bytes")) / HEAP_PAGE);
    this.#check(this.#use().rebind(first, end - first, index(node)), `rebind(${ptr}, ${bytes}, ${node})`);
  }

  // ---- figures

  stats(): HeapStats {
    this.#standing();
    return this.#inspector.stats();
  }

  /** Checks every invariant of the heap, which must be quiescent. */
  walk(options?: WalkOptions): HeapWalk {
    this.#standing();
    return this.#inspector.walk(options);
  }

  /**
   * The raw functions, for modules that import malloc and free over the same memory. This thread's only. Ask `badCall()` after a free
   * that may be wrong: it answers, once, the kind of the last bad call, which this object's next call would take for its own.
   */
  get imports(): Readonly<HeapExports> {
    return this.#use();
  }

  // ---- the end

  /**
   * Gives what this thread cached back and ends its membership. Twice is once.
   * @throws {HeapError} NUMAHEAP_BUSY
   */
  detach(): void {
    if (!this.#attached) return;
    this.#check(this.#use().detach(), "detach");
    this.#attached = false;
    this.#release();
    this.dispatchEvent(new Event("detach"));
  }

  [Symbol.dispose](): void {
    this.detach();
  }

  #use(): HeapExports {
    if (!this.#attached) throw new HeapError("NUMAHEAP_DETACHED", "this heap was detached; attach again with a new handle");
    this.#standing();
    return this.#exports;
  }

  /** Between two hosts its memory is nobody's. */
  #standing(): void {
    if (this.#paused) throw new HeapError("NUMAHEAP_BUSY", "the heap's machine is on its way to another host; try again");
  }

  #check(error: number, what: string): void {
    if (error !== 0) throw errorOf(error, what);
  }

  #checkPointer(exports: HeapExports, ptr: number): void {
    const kind = exports.badCall();
    if (kind !== 0) throw badCall(kind, ptr >>> 0);
  }
}

const lockName = (handle: HeapHandle): string => `${handle.name}-${handle.key}`;

/** Web Locks, in a browser's page or worker. Node has the exit event instead; a `process` alone is no Node: bundlers put one into pages. */
function webLocks(): LockManager | undefined {
  return "window" in globalThis || "WorkerGlobalScope" in globalThis ? navigator.locks : undefined;
}

/** Takes a Web Lock for as long as this thread lives, or until it is released. */
function holdLock(name: string): Promise<() => void> {
  const locks = webLocks();
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    locks.request(name, () => new Promise<void>((release) => resolve(() => release()))).catch(reject);
  });
}
