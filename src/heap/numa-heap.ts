// NumaHeap: one thread's hold on a heap shared by many.

import { Allocation, type ViewConstructor } from "./allocation.js";
import { address, index, integer, nodeMask, size as bytesOf } from "./arguments.js";
import { badCall, errorOf, HeapError } from "./errors.js";
import {
  ABI_VERSION,
  ABI_VERSION_OFFSET,
  type CreateExports,
  HEAP_GROWS_ALONE,
  HEAP_PAGE,
  type HeapExports,
  MAX_NODES,
  MAX_VCPUS,
  MAY_BLOCK,
  WASM_PAGE,
} from "./exports.js";
import { type HeapStats, type HeapWalk, inspect, type Inspector, type WalkOptions } from "./inspect.js";
import { type HeapBuild, type HeapModules, loadModule } from "./modules.js";
import type { TopologyChangeEvent } from "./topology-event.js";

export interface CreateOptions {
  /** Nodes, 1 to 32. vCPU v begins on node v mod nodes; distances begin as 10 and 20. Default 1. */
  nodes?: number;
  /** Bytes claimed at once, rounded up to 64 KiB. Default 64 KiB. */
  initialBytes?: number;
  /** Most bytes the heap may claim, its own structs included. Default: 1 GiB. */
  maximumBytes?: number;
  /** Shared memory to live in; the heap claims its end and grows it. Default: a memory of its own. */
  memory?: WebAssembly.Memory;
  build?: HeapBuild;
  /** vCPU the creating thread runs on, 0 to 255. Default 0. */
  vcpu?: number;
  /** As in AttachOptions. */
  mayBlock?: boolean;
}

/** A heap within a virtual machine: its pages are frames of that machine's memory, which its guest's kernel shares out. */
export interface FramesOptions extends AttachOptions {
  readonly memory: WebAssembly.Memory;
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

export interface AttachOptions {
  /**
   * This thread may sleep while another holds a lock. Default: it may, unless it is a browser's page. A thread that may not is told
   * NUMAHEAP_BUSY (errno 10) instead. A thread that sleeps hears of no worker's death, so one that is to
   * free, allocate or change the topology while workers it registered may be terminated must not: the lock may be the dead worker's.
   */
  mayBlock?: boolean;
}

/** All that another thread needs to attach; can be posted to it. For one thread only. */
export interface HeapHandle {
  readonly memory: WebAssembly.Memory;
  readonly modules: HeapModules;
  readonly base: number;
  readonly abiVersion: number;
  /** What the heap will know the thread by: whoever made the handle can reap it by this. */
  readonly key: number;
  /** vCPU the thread runs on. */
  readonly vcpu: number;
  readonly keys: SharedArrayBuffer;
  /** One word: 1 once a thread has attached with this handle. */
  readonly claimed: SharedArrayBuffer;
  readonly name: string;
}

/** Memory policies, by Linux's names. */
export type Policy = "default" | "preferred" | "bind" | "interleave" | "local" | "preferred-many" | "weighted-interleave";
const POLICIES: readonly Policy[] = ["default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave"];

/** A worker thread of Node, as far as its end is concerned. */
export interface EndingWorker {
  once(event: "exit", listener: () => void): unknown;
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

/** The handle of the thread that has made the heap. */
function firstHandle(memory: WebAssembly.Memory, modules: HeapModules, base: number, vcpu: number): HeapHandle {
  const keys = new SharedArrayBuffer(4);
  new Int32Array(keys)[0] = 1;
  const name = `numaheap-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  return { memory, modules, base, abiVersion: ABI_VERSION, key: 1, vcpu, keys, claimed: new SharedArrayBuffer(4), name };
}

/** A browser's page may not sleep on a lock; workers and Node's threads may. */
const mayBlockHere = (): boolean => typeof document === "undefined";

/** Of a heap within a virtual machine it is the target of `topologychange`; of any, of `detach`. */
export class NumaHeap extends EventTarget implements Disposable {
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
    const { initialBytes = WASM_PAGE, maximumBytes = 2 ** 30, build = "release" } = options;
    const nodes = integer(options.nodes ?? 1, 1, MAX_NODES, "nodes");
    const vcpu = integer(options.vcpu ?? 0, 0, MAX_VCPUS - 1, "vcpu");
    const pagesOf = (bytes: number): number => Math.ceil(bytes / WASM_PAGE);
    if (!(initialBytes > 0 && maximumBytes >= initialBytes && maximumBytes <= 2 ** 32)) {
      throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "bytes must satisfy 0 < initialBytes <= maximumBytes <= 4 GiB");
    }
    let { memory } = options;
    if (memory && (memory.buffer as ArrayBufferLike)[Symbol.toStringTag] !== "SharedArrayBuffer") {
      throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "the memory is not shared: make it with { shared: true }");
    }
    let first = 1;
    try {
      if (memory) first = memory.grow(pagesOf(initialBytes));
      // Page 0 stays unused, so that no address of the heap is near 0.
      else
        memory = new WebAssembly.Memory({
          initial: first + pagesOf(initialBytes),
          maximum: Math.min(65536, first + pagesOf(maximumBytes)),
          shared: true,
        });
    } catch (cause) {
      throw new HeapError("NUMAHEAP_OUT_OF_MEMORY", "the memory cannot be had; ask for a smaller maximumBytes", { cause });
    }
    const [heap, inspectModule, create] = await Promise.all([loadModule(build), loadModule("inspect"), loadModule("create")]);
    const base = first * WASM_PAGE;
    const end = base + pagesOf(initialBytes) * WASM_PAGE;
    const creator = (await WebAssembly.instantiate(create, { env: { memory } })).exports as unknown as CreateExports;
    const limit = Math.floor(maximumBytes / HEAP_PAGE);
    const error = creator.create(base, end, limit, nodes, options.memory ? 0 : HEAP_GROWS_ALONE);
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
   * @throws {HeapError} NUMAHEAP_ABI_MISMATCH, NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_BUSY, NUMAHEAP_OUT_OF_MEMORY
   */
  static async attach(handle: HeapHandle, options: AttachOptions = {}): Promise<NumaHeap> {
    const version = new Uint32Array(handle.memory.buffer)[(handle.base + ABI_VERSION_OFFSET) >>> 2];
    if (version !== ABI_VERSION || handle.abiVersion !== ABI_VERSION) {
      throw new HeapError(
        "NUMAHEAP_ABI_MISMATCH",
        `the heap has format ${version}, this package speaks ${ABI_VERSION}: use one version everywhere`,
      );
    }
    const instance = await WebAssembly.instantiate(handle.modules.heap, { env: { memory: handle.memory } });
    const exports = instance.exports as unknown as HeapExports;
    const [low = 0, high = 0] = crypto.getRandomValues(new Uint32Array(2));
    exports.seed?.(low, high);
    // Two threads of one key could not be told apart when one of them dies.
    const claimed = new Int32Array(handle.claimed);
    if (Atomics.exchange(claimed, 0, 1) !== 0) {
      throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", "a thread has attached with this handle before: make one for each thread");
    }
    const release = await holdLock(lockName(handle));
    const mayBlock = options.mayBlock ?? mayBlockHere();
    if (exports.attach(handle.base, handle.key, handle.vcpu, mayBlock ? MAY_BLOCK : 0) === 0) {
      release();
      Atomics.store(claimed, 0, 0);
      throw errorOf(exports.errno(), "attach");
    }
    const heap = new NumaHeap(handle, exports, mayBlock);
    heap.#release = release;
    return heap;
  }

  /** The memory the heap lives in. */
  get memory(): WebAssembly.Memory {
    return this.#handle.memory;
  }

  /**
   * Goes on over `memory`, which holds the bytes of this heap's: that of the machine's new host, after a live migration. Views of before
   * show the old memory. Only for heaps within a virtual machine, while this thread is in no call.
   * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT
   */
  async moveOver(memory: WebAssembly.Memory): Promise<void> {
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

  override addEventListener(
    type: "topologychange",
    listener: ((event: TopologyChangeEvent) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(type: string, listener: unknown, options?: boolean | AddEventListenerOptions): void {
    super.addEventListener(type, listener as EventListener, options);
  }

  /** A handle for one more thread, which runs on `vcpu` (default: its key). Post it, and let the thread attach. */
  handle(vcpu?: number): HeapHandle {
    const key = Atomics.add(new Int32Array(this.#handle.keys), 0, 1) + 1;
    const on = integer(vcpu ?? key % MAX_VCPUS, 0, MAX_VCPUS - 1, "vcpu");
    return { ...this.#handle, key, vcpu: on, claimed: new SharedArrayBuffer(4) };
  }

  /** Reaps the thread of `handle` when its Node worker has ended, however it ended. See AttachOptions.mayBlock about this thread. */
  register(worker: EndingWorker, handle: HeapHandle): void {
    worker.once("exit", () => void this.#reapSoon(handle.key));
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

  /** Sets this thread's memory policy. */
  setPolicy(policy: Policy, nodes: readonly number[] = []): void {
    this.#check(this.#use().setPolicy(POLICIES.indexOf(policy), nodeMask(nodes)), "setPolicy");
  }

  /** Weight of a node in this thread's weighted interleave, 1 to 255. */
  setWeight(node: number, weight: number): void {
    this.#check(this.#use().setWeight(index(node), index(weight)), "setWeight");
  }

  /** This thread runs on another vCPU from now on. */
  moveTo(vcpu: number): void {
    this.#check(this.#use().moveThread(index(vcpu)), "moveTo");
  }

  /** This thread acts upon topology changes now instead of at its next allocation. */
  settle(): void {
    this.#use().settle();
  }

  setNodes(count: number): void {
    this.#check(this.#use().setNodes(index(count)), "setNodes");
  }

  /** As in a SLIT: 10 to itself, 11 to 255 to others. */
  setDistance(from: number, to: number, distance: number): void {
    this.#check(this.#use().setDistance(index(from), index(to), index(distance)), "setDistance");
  }

  setVcpuNode(vcpu: number, node: number): void {
    this.#check(this.#use().setVcpuNode(index(vcpu), index(node)), "setVcpuNode");
  }

  /** Most bytes a node may own by growth, in whole pages of 8 KiB, at least one; 0 = as many as there are. */
  setNodeLimit(node: number, bytes: number): void {
    const pages = Math.ceil(integer(bytes, 0, 2 ** 32, "bytes") / HEAP_PAGE);
    this.#check(this.#use().setNodeLimit(index(node), pages), "setNodeLimit");
  }

  /** The heap's pages in [ptr, ptr + bytes) lie on `node` from now on. Nothing moves: spans change their node. */
  rebind(ptr: number, bytes: number, node: number): void {
    const first = Math.floor(integer(ptr, 0, 2 ** 32, "ptr") / HEAP_PAGE);
    const end = Math.ceil((ptr + integer(bytes, 0, 2 ** 32 - ptr, "bytes")) / HEAP_PAGE);
    this.#check(this.#use().rebind(first, end - first, index(node)), "rebind");
  }

  // ---- figures

  stats(): HeapStats {
    return this.#inspector.stats();
  }

  /** Checks every invariant of the heap, which must be quiescent. */
  walk(options?: WalkOptions): HeapWalk {
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
    if (this.#paused) throw new HeapError("NUMAHEAP_BUSY", "the heap's machine is on its way to another host; try again");
    return this.#exports;
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
