// An allocator in one thread, ready to be measured: its instance, and the driver's, merged with it or importing from it. Runs in any engine.
import { endThread, heapOf, importsOf, startThread } from "../rivals/start.mjs";
import { placesOf, REGION_BYTES } from "./cells.mjs";

const WASM_PAGE = 65536;
/** Pages of 8 KiB in one of WebAssembly. */
const HEAP_PAGES = 8;
/** Where a heap begins, and bytes it begins with, as NumaHeap.create makes it. */
const HEAP_BASE = REGION_BYTES;
const HEAP_FIRST_BYTES = 65536;
const HEAP_GROWS_ALONE = 1;
const MAY_BLOCK = 1;
/** Bytes of the floor's lists and of what the bump pointer runs through, a thread. */
const FLOOR_BYTES = 32 * 2 ** 20;
const FLOOR_CLASSES = 66;

/** Threads that may end before their time is over: some allocators have room for so many only. */
const GENERATIONS = 15;

/** How each kind of subject is started: what it imports, how a thread begins, how one ends. */
const KINDS = {
  numaheap: {
    imports: () => ({}),
    start(exports, { subject, modules, memory, first, vcpu, nodes }) {
      if (first) {
        const { create } = new WebAssembly.Instance(modules.create, { env: { memory } }).exports;
        const limit = (subject.maximumPages - HEAP_BASE / WASM_PAGE) * HEAP_PAGES;
        const error = create(HEAP_BASE, HEAP_BASE + HEAP_FIRST_BYTES, limit, nodes, HEAP_GROWS_ALONE);
        if (error) throw new Error(`create: ${error}`);
      }
      if (!exports.attach(HEAP_BASE, nextKey(memory), vcpu, MAY_BLOCK)) throw new Error("attach failed");
      if (nodes > 1) exports.setVcpuNode(vcpu, vcpu % nodes);
    },
    end: (exports) => void exports.detach(),
  },
  floor: {
    imports: () => ({}),
    start(exports, { subject, memory, thread }) {
      const base = REGION_BYTES + thread * FLOOR_BYTES;
      while (memory.buffer.byteLength < base + FLOOR_BYTES) memory.grow(1024);
      if (subject.lists) exports.initLists(base, FLOOR_BYTES, FLOOR_CLASSES);
      else exports.initBump(base, FLOOR_BYTES);
    },
    end: () => {},
  },
  rival: {
    imports: (subject, memory, own) => importsOf(subject.id, memory, own),
    start: (exports, { subject, memory, thread, threads }) =>
      startThread(subject.id, exports, { memory, thread, threads: threads * GENERATIONS }),
    end: (exports, { subject }) => endThread(subject.id, exports),
  },
};

/** Keys tell a heap's threads apart: counted in a word of the driver's region. */
function nextKey(memory) {
  return Atomics.add(new Int32Array(memory.buffer, 64, 1), 0, 1) + 1;
}

export function memoryOf({ initialPages, maximumPages, shared }) {
  return new WebAssembly.Memory({ initial: initialPages, maximum: maximumPages, shared });
}

export class Stage {
  #generation = 0;

  /**
   * @param subject what bench/suite/subjects.mjs says of it
   * @param modules its compiled modules: `merged`, or `heap` and `driver`; `create` for numaheap
   * @param first this is the first thread of the memory
   * @param nodes of numaheap, with the threads' vCPUs on them by turns; one, if it is to be blind for them
   */
  constructor(subject, modules, { memory, thread, threads, first, base, nodes = 1 }) {
    this.subject = subject;
    this.modules = modules;
    this.memory = memory;
    this.thread = thread;
    this.threads = threads;
    this.nodes = subject.nodeBlind ? 1 : nodes;
    this.#open(first);
    this.base = base ?? (subject.region === "malloc" ? this.heap.malloc(REGION_BYTES) : 0);
    this.at = placesOf(this.base, thread);
  }

  /** The heap's first page of 8 KiB, and how many there are. */
  get firstPage() {
    return (HEAP_BASE / WASM_PAGE) * HEAP_PAGES;
  }
  get heapPages() {
    return (this.memory.buffer.byteLength / WASM_PAGE) * HEAP_PAGES - this.firstPage;
  }

  /** Bytes of the memory beyond the driver's region. */
  get committed() {
    return this.memory.buffer.byteLength - REGION_BYTES;
  }

  #open(first) {
    const { subject, modules, memory, thread, threads, nodes } = this;
    const kind = KINDS[subject.kind];
    const clock = { now: () => performance.now() * 1e6 };
    const imports = { env: { memory }, ...kind.imports(subject, memory, () => this.heap), clock };
    const begin = performance.now();
    this.heap = new WebAssembly.Instance(modules.merged ?? modules.heap, imports).exports;
    this.driver = this.heap;
    if (modules.driver) {
      const heap = { ...heapOf(this.heap), ...this.heap };
      this.driver = new WebAssembly.Instance(modules.driver, { env: { memory }, heap, clock }).exports;
    }
    const made = performance.now() - begin;
    const generation = thread + threads * this.#generation;
    kind.start(this.heap, { subject, modules, memory, thread: generation, threads, first, vcpu: thread, nodes });
    return made;
  }

  /** This thread ends, and another goes on in its place. Answers how many milliseconds making its instance took. */
  renew() {
    if (++this.#generation >= GENERATIONS) return 0;
    this.end();
    return this.#open(false);
  }

  end() {
    KINDS[this.subject.kind].end(this.heap, this);
  }
}
