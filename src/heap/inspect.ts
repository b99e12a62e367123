// Statistics and the heap walk: what inspect.wasm reads out of a heap's memory, as values.

import { MAX_NODES, MAX_THREADS } from "./exports.js";
import { Problem } from "./problem-codes.js";
import { sayProblem } from "./problems.js";
import type { WasmMemory, WasmModule } from "./wasm.js";

/** Version of the shape of HeapStats: it changes when a field changes its meaning or goes. */
export const STATS_VERSION = 1;

/** Problems a walk puts into words; a heap that is badly broken would have one for every block. */
const MOST_PROBLEMS = 200;

/** Figures of a heap. Exact when no thread is inside the heap; near while some are. */
export interface HeapStats {
  readonly version: typeof STATS_VERSION;
  /** Bytes claimed from the memory: exactly the sum of the eight parts below. */
  readonly committedBytes: number;
  /** Usable bytes of the blocks the program holds. */
  readonly inUseBytes: number;
  /** Bytes of free blocks in the caches of threads. */
  readonly threadCacheBytes: number;
  /** Bytes of free blocks in batches between threads. */
  readonly transferCacheBytes: number;
  /** Bytes of free blocks inside spans. */
  readonly centralFreeBytes: number;
  /** Bytes of freed blocks on their way to the node they came from, or whose free was put off. */
  readonly remoteBytes: number;
  /** Bytes of free pages. */
  readonly pageHeapFreeBytes: number;
  /** Bytes of pages the heap keeps its own structs in. */
  readonly metadataBytes: number;
  /** Bytes at the ends of spans that are too short for a block. */
  readonly spanTailBytes: number;
  /** Blocks the program holds. */
  readonly inUseBlocks: number;
  /** Most bytes ever claimed. Pages are not given back to the memory, so this is committedBytes. */
  readonly peakCommittedBytes: number;
  /** Most bytes the heap may claim. */
  readonly reservedBytes: number;
  /** Bytes that a growth cut off by its thread's death took from the memory, and that are nobody's. */
  readonly lostBytes: number;
  /** Spans in use. */
  readonly spans: number;
  /** Spans in use that changed node; pages that did; and those of them that were in spans in use. */
  readonly spansRebound: number;
  readonly pagesMoved: number;
  readonly pagesMovedInUse: number;
  /** Threads done away with after their death. */
  readonly reapedThreads: number;
  /** Changes with every change of the topology. */
  readonly epoch: number;
  readonly badCalls: BadCalls;
  /** Nodes that own or have owned memory. */
  readonly nodes: readonly NodeStats[];
  /** Attached threads. */
  readonly threads: readonly ThreadStats[];
}

/** Bad calls since the heap was made. The last three are found by the hardened build only. */
export interface BadCalls {
  readonly outsideHeap: number;
  readonly pageNotInUse: number;
  readonly interiorOfLarge: number;
  readonly misaligned: number;
  readonly interiorOfSmall: number;
  readonly notLive: number;
  readonly overflown: number;
}

/** One node. Pages are of 8 KiB and counted by where they lie; numastat counts blocks as threads fetch them. */
export interface NodeStats {
  readonly node: number;
  /** ownedPages = freePages + metadataPages + usedPages (in spans). */
  readonly ownedPages: number;
  readonly freePages: number;
  readonly metadataPages: number;
  readonly usedPages: number;
  /** Most pages the node may own by growth, 0 = no limit. */
  readonly limitPages: number;
  /** Spans whose blocks this node's lists hand out. */
  readonly spans: number;
  /** Bytes freed on other nodes that wait here. */
  readonly queuedBytes: number;
  /** Names and meanings as in Linux's numastat. */
  readonly numastat: {
    readonly numa_hit: number;
    readonly numa_miss: number;
    readonly numa_foreign: number;
    readonly interleave_hit: number;
    readonly local_node: number;
    readonly other_node: number;
  };
}

/** One attached thread. Counters advance on slow paths. */
export interface ThreadStats {
  /** Slot + 1. */
  readonly id: number;
  /** What the host calls it. */
  readonly key: number;
  /** How often its slot has been used. */
  readonly generation: number;
  /** Node of its vCPU, and node it allocates on first. */
  readonly node: number;
  readonly home: number;
  readonly vcpu: number;
  /** Memory policy: mode and nodes, as Linux numbers them. */
  readonly policy: number;
  readonly mask: number;
  /** Bytes cached, and most bytes that may be. */
  readonly cachedBytes: number;
  readonly capacityBytes: number;
  /** Bytes freed here that belong to other nodes, and frees put off. */
  readonly outgoingBytes: number;
  readonly refills: number;
  readonly refilledBlocks: number;
  readonly returnedBlocks: number;
  readonly remoteFrees: number;
  readonly largeAllocations: number;
  readonly largeFrees: number;
  /** Blocks fetched from the thread's own node, and from others. */
  readonly localBlocks: number;
  readonly remoteBlocks: number;
}

/** A block outside its span that neither the heap nor the program has. Bytes. */
export interface UnaccountedBlock {
  readonly ptr: number;
  readonly size: number;
}

/** What a walk of the heap found. */
export interface HeapWalk {
  /** Nothing violated and nothing unaccounted for. */
  readonly ok: boolean;
  /** Violated invariants, in words. */
  readonly problems: readonly string[];
  /** Blocks that nobody has; empty unless the walk was given what is live. */
  readonly unaccounted: readonly UnaccountedBlock[];
}

export interface WalkOptions {
  /** Addresses of all blocks the program holds. Without it, whatever the heap does not have is taken to be the program's. */
  readonly live?: Iterable<number> | Uint32Array;
}

/** Looks into a heap. It reads shared memory only: no thread needs to be attached, and no lock is taken. */
export interface Inspector {
  stats(): HeapStats;
  /**
   * Checks every invariant of the heap, which must be quiescent: no thread inside it, and all dead ones reaped. Of a heap in
   * use it finds problems that are none. It never traps, however corrupt the heap is.
   */
  walk(options?: WalkOptions): HeapWalk;
}

const HEAP_FIELDS = [
  "committedBytes",
  "inUseBytes",
  "threadCacheBytes",
  "transferCacheBytes",
  "centralFreeBytes",
  "remoteBytes",
  "pageHeapFreeBytes",
  "metadataBytes",
  "spanTailBytes",
  "inUseBlocks",
  "reservedBytes",
  "lostBytes",
  "spans",
  "spansRebound",
  "pagesMoved",
  "pagesMovedInUse",
  "reapedThreads",
  "epoch",
] as const;
const NODE_FIELDS = ["ownedPages", "freePages", "metadataPages", "usedPages", "limitPages", "spans", "queuedBytes"] as const;
const THREAD_FIELDS = [
  "key",
  "generation",
  "node",
  "home",
  "vcpu",
  "policy",
  "mask",
  "cachedBytes",
  "capacityBytes",
  "outgoingBytes",
  "refills",
  "refilledBlocks",
  "returnedBlocks",
  "remoteFrees",
  "largeAllocations",
  "largeFrees",
  "localBlocks",
  "remoteBlocks",
] as const;
const NUMASTAT = {
  numa_hit: "numaHit",
  numa_miss: "numaMiss",
  numa_foreign: "numaForeign",
  interleave_hit: "interleaveHit",
  local_node: "localNode",
  other_node: "otherNode",
} as const;
/** In the order of their kinds, from 1 on. */
const BAD_CALLS = ["outsideHeap", "pageNotInUse", "interiorOfLarge", "misaligned", "interiorOfSmall", "notLive", "overflown"] as const;

interface InspectExports {
  bind(base: number): number;
  walk(): number;
  hold(at: number): number;
  unaccounted(): void;
  heapStats(): void;
  nodeStats(node: number): number;
  threadStats(slot: number): number;
  badCalls(kind: number): number;
}

/**
 * Binds an inspector to the heap at `base` of `memory`. `module` is the compiled inspect.wasm. A RangeError if no heap of
 * this version stands there.
 */
export function inspect(memory: WasmMemory, base: number, module: WasmModule): Inspector {
  const walker = new Walker(memory);
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory },
    inspect: { mark: walker.mark, problem: walker.problem },
  });
  const wasm = exports as unknown as InspectExports;
  const read = <Name extends string>(names: readonly Name[]) =>
    Object.fromEntries(names.map((name) => [name, (exports[name] as WebAssembly.Global).value as number])) as Record<Name, number>;
  if (wasm.bind(base) === 0) throw new RangeError(`no heap of this version stands at ${base}`);

  return {
    stats() {
      wasm.heapStats();
      const heap = read(HEAP_FIELDS);
      const nodes: NodeStats[] = [];
      for (let node = 0; node < MAX_NODES; ++node) {
        if (wasm.nodeStats(node) === 0) continue;
        const counters = read(Object.values(NUMASTAT));
        const numastat = Object.fromEntries(Object.entries(NUMASTAT).map(([name, field]) => [name, counters[field]]));
        nodes.push({ node, ...read(NODE_FIELDS), numastat: numastat as unknown as NodeStats["numastat"] });
      }
      const threads: ThreadStats[] = [];
      for (let slot = 0; slot < MAX_THREADS; ++slot) {
        if (wasm.threadStats(slot) !== 0) threads.push({ id: slot + 1, ...read(THREAD_FIELDS) });
      }
      const badCalls = Object.fromEntries(BAD_CALLS.map((name, i) => [name, wasm.badCalls(i + 1) >>> 0]));
      const peakCommittedBytes = heap.committedBytes;
      return { version: STATS_VERSION, ...heap, peakCommittedBytes, badCalls: badCalls as unknown as BadCalls, nodes, threads };
    },

    walk({ live } = {}) {
      walker.reset();
      wasm.walk();
      // A heap whose very tables are wrong has no blocks to speak of.
      if (live !== undefined && !walker.hopeless) {
        for (const at of live) wasm.hold(at);
        wasm.unaccounted();
      }
      return walker.result();
    },
  };
}

/** What the walk imports: marks by address, and the problems it reports. */
class Walker {
  /** A bit for every 8 bytes of the memory. */
  private marks = new Uint32Array(0);
  private problems: string[] = [];
  private more = 0;
  private unaccounted: UnaccountedBlock[] = [];
  hopeless = false;

  constructor(private readonly memory: WasmMemory) {}

  reset(): void {
    // The length of a buffer may lag behind a growth by another thread; growing by nothing brings it up to date.
    this.memory.grow(0);
    this.marks = new Uint32Array(this.memory.buffer.byteLength / 256);
    this.problems = [];
    this.unaccounted = [];
    this.more = 0;
    this.hopeless = false;
  }

  readonly mark = (at: number): number => {
    const word = at >>> 8;
    const bit = 1 << ((at >>> 3) & 31);
    const marks = this.marks;
    const seen = marks[word] ?? 0;
    if ((seen & bit) !== 0) return 0;
    marks[word] = seen | bit;
    return 1;
  };

  readonly problem = (code: number, a: number, b: number, c: number): void => {
    if (code === Problem.UNACCOUNTED) {
      this.unaccounted.push({ ptr: a >>> 0, size: b >>> 0 });
      return;
    }
    if (FATAL.has(code)) this.hopeless = true;
    if (this.problems.length < MOST_PROBLEMS) this.problems.push(sayProblem(code, a >>> 0, b >>> 0, c >>> 0));
    else this.more += 1;
  };

  result(): HeapWalk {
    const problems = this.more ? [...this.problems, `and ${this.more} more`] : this.problems;
    return { ok: problems.length === 0 && this.unaccounted.length === 0, problems, unaccounted: this.unaccounted };
  }
}

/** Problems after which the walk does not go on. */
const FATAL: ReadonlySet<number> = new Set([Problem.NOT_A_HEAP, Problem.TABLE, Problem.SENTINEL, Problem.LEAF]);
