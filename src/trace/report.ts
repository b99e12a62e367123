// What a replay found: the result that is printed as JSON, and the words for what went wrong.

import { HEAP_PAGE } from "../heap/exports.js";
import type { UnaccountedBlock } from "../heap/inspect.js";
import { FREE, REALLOC, type Trace } from "./format.js";
import { type Area, workerRecord } from "./plan.js";
import * as L from "./replay-layout.js";

/** Durations of a malloc in nanoseconds, beside those of a call that does nothing, measured in turns in the same way. */
export interface Latency {
  readonly samples: number;
  readonly malloc: Quantiles;
  readonly control: Quantiles;
  /** malloc less control. */
  readonly excess: Quantiles;
}

export interface Quantiles {
  readonly p50: number;
  readonly p999: number;
  readonly max: number;
}

/** Result of one replay; `numaheap replay --json` prints exactly this. */
export interface ReplayResult {
  trace: string;
  /** Events gone through, all rounds together. */
  events: number;
  eventsPerWorker: number[];
  threads: number;
  nodes: number;
  /** From the first worker's start to the last one's end, all rounds together; loading and checking not included. */
  seconds: number;
  opsPerSecond: number;
  /** Most bytes requested and not yet freed. */
  peakLiveBytes: number;
  /** Every page the heap claimed, its metadata included. */
  peakCommittedBytes: number;
  /** Blocks freed by a worker of another node than the block's. */
  remoteFrees: number;
  /** Allocations that returned a block of the node the worker was truly on, and others. */
  localAllocations: number;
  remoteAllocations: number;
  spansRebound: number;
  pagesMoved: number;
  pagesMovedInUse: number;
  topologyChanges: number;
  killed: number;
  /** Events not carried out because a kill or a failure took their object. */
  skippedEvents: number;
  /** Blocks that are neither in the heap's lists nor any object's. */
  unaccountedBlocks: number;
  /** Bytes of those that no kill explains. */
  leakedBytes: number;
  failures: string[];
  /** Empty if the replay did not come to its end, so that there was nothing at rest to walk. */
  walk: "ok" | string[];
  /** Times the trace was run. */
  rounds: number;
  latency?: Latency;
}

/** What worker `part`, whose record lies at `record`, wrote down that went wrong, in words. */
export function failuresOf(view: DataView, record: number, trace: Trace, part: number): string[] {
  const count = view.getUint32(record + L.WORKER_FAILURES, true);
  const told = Math.min(count, L.FAILURE_SLOTS);
  const failures = Array.from({ length: told }, (_, i) => {
    const at = record + L.WORKER_FAILURE_SLOTS + i * L.FAILURE_BYTES;
    const word = (offset: number): number => view.getUint32(at + offset, true);
    return describeFailure(trace, part, word(0), word(4), word(8), word(12));
  });
  if (count > told) failures.push(`worker ${part}: ${count - told} more failures`);
  return failures;
}

/** The two histograms at each of `addresses` as latencies. */
export function latencyOf(buffer: ArrayBufferLike, addresses: readonly number[]): Latency {
  const views = (which: number): DataView[] =>
    addresses.map((address) => new DataView(buffer, address + which * L.HISTOGRAM_BYTES, L.HISTOGRAM_BYTES));
  const { samples, ...malloc } = quantiles(views(0));
  const { p50, p999, max } = quantiles(views(1));
  const control = { p50, p999, max };
  const excess = { p50: malloc.p50 - control.p50, p999: malloc.p999 - control.p999, max: malloc.max - control.max };
  return { samples, malloc, control, excess };
}

/** A call that was under way when its worker was terminated. */
export interface CutOffCall {
  readonly op: number;
  readonly event: number;
  /** Block that was being freed or moved, 0 = none. */
  readonly block: number;
  /** Bytes that were being asked for, 0 = none. */
  readonly size: number;
}

/** The call worker `part` was in when it died, if it was in one. */
export function cutOffCallOf(words: Uint32Array, area: Area, part: number): CutOffCall | undefined {
  const field = (offset: number): number => Atomics.load(words, (workerRecord(area, part) + offset) >> 2);
  if (field(L.WORKER_PHASE) !== L.PHASE_CALL) return undefined;
  const event = (field(L.WORKER_STREAM) + field(L.WORKER_POSITION) * L.EVENT_BYTES) >> 2;
  const object = (area.objects + words[event + (L.EVENT_OBJECT >> 2)]! * L.OBJECT_BYTES) >> 2;
  const op = words[event]! & 7;
  return {
    op,
    event: words[event + (L.EVENT_INDEX >> 2)]!,
    block: op === FREE || op === REALLOC ? words[object + (L.OBJECT_ADDRESS >> 2)]! : 0,
    size: words[event + (L.EVENT_SIZE >> 2)]!,
  };
}

/** Addresses of the objects that live. */
export function liveBlocks(words: Uint32Array, area: Area): Uint32Array {
  const live = new Uint32Array(area.objectCount);
  let count = 0;
  for (let id = 0; id < area.objectCount; ++id) {
    const object = (area.objects + id * L.OBJECT_BYTES) >> 2;
    if (words[object + (L.OBJECT_STATE >> 2)] === L.STATE_LIVE) live[count++] = words[object + (L.OBJECT_ADDRESS >> 2)]!;
  }
  return live.subarray(0, count);
}

/**
 * Blocks no kill explains. A call that was cut off explains one block: the one it was freeing or moving, or one of at least
 * the size it was asking for and at most four pages or twice that size, whichever is more.
 */
export function unexplained(lost: readonly UnaccountedBlock[], calls: readonly CutOffCall[]): UnaccountedBlock[] {
  const open = new Set(calls);
  const byBlock = (block: UnaccountedBlock): CutOffCall | undefined => [...open].find((call) => call.block === block.ptr);
  const bySize = (block: UnaccountedBlock): CutOffCall | undefined =>
    [...open]
      .filter((call) => call.op !== FREE && call.size <= block.size && block.size <= Math.max(4 * HEAP_PAGE, call.size * 2))
      .sort((a, b) => b.size - a.size)[0];
  // The exact matches first: one of the others might take a call that another block needs.
  const rest: UnaccountedBlock[] = [];
  for (const block of lost) {
    const call = byBlock(block);
    if (call) open.delete(call);
    else rest.push(block);
  }
  return rest
    .sort((a, b) => b.size - a.size)
    .filter((block) => {
      const call = bySize(block);
      if (call) open.delete(call);
      return !call;
    });
}

/** The result of a trace that could not be replayed at all: nothing ran, and nothing was walked. */
export function notReplayed(trace: string, threads: number, nodes: number, failure: string): ReplayResult {
  return {
    trace,
    events: 0,
    eventsPerWorker: [],
    threads,
    nodes,
    seconds: 0,
    opsPerSecond: 0,
    peakLiveBytes: 0,
    peakCommittedBytes: 0,
    remoteFrees: 0,
    localAllocations: 0,
    remoteAllocations: 0,
    spansRebound: 0,
    pagesMoved: 0,
    pagesMovedInUse: 0,
    topologyChanges: 0,
    killed: 0,
    skippedEvents: 0,
    unaccountedBlocks: 0,
    leakedBytes: 0,
    failures: [failure],
    walk: [],
    rounds: 0,
  };
}

const hex = (address: number): string => `0x${address.toString(16)}`;
const OPS = ["malloc", "calloc", "memalign", "realloc", "free", "exit"];

/** A failure slot of a worker in words. */
export function describeFailure(trace: Trace, worker: number, kind: number, event: number, address: number, detail: number): string {
  const where =
    kind === L.FAILURE_DAMAGED_AT_END
      ? `worker ${worker}`
      : `worker ${worker}, event ${event} (${OPS[trace.ops[event]!]}, object ${trace.objectOf[event]})`;
  switch (kind) {
    case L.FAILURE_NO_MEMORY:
      return `${where}: no memory for ${detail} bytes`;
    case L.FAILURE_MISALIGNED:
      return `${where}: ${hex(address)} is not aligned to ${detail}`;
    case L.FAILURE_OUTSIDE:
      return `${where}: ${hex(address)} + ${detail} is not inside the heap`;
    case L.FAILURE_NOT_ZERO:
      return `${where}: byte ${detail} of ${hex(address)} is not zero`;
    case L.FAILURE_DAMAGED_AT_FREE:
      return `${where}: ${hex(address)} is damaged at byte ${detail} when freed`;
    case L.FAILURE_DAMAGED_AT_REALLOC:
      return `${where}: ${hex(address)} is damaged at byte ${detail} when reallocated`;
    case L.FAILURE_LOST_BY_REALLOC:
      return `${where}: ${hex(address)} has lost byte ${detail} by realloc`;
    case L.FAILURE_DAMAGED_AT_END:
      return `${where}: ${hex(address)}, alive at the end, is damaged at byte ${detail}`;
    default:
      return `${where}: failure ${kind} at ${hex(address)}`;
  }
}

/** Whether the replay proves the heap sound. */
export function passed(result: ReplayResult): boolean {
  return result.failures.length === 0 && result.walk === "ok" && result.leakedBytes === 0 && result.unaccountedBlocks <= result.killed;
}

/** Lower end of bucket `i` of a histogram, in ns. */
function bucketFloor(i: number): number {
  if (i < 32) return i;
  const octave = (i >> 4) - 1;
  return (16 + (i & 15)) * 2 ** octave;
}

/** p50, p99.9 and maximum of histograms of WORKER_HISTOGRAMS, added up. */
export function quantiles(histograms: readonly DataView[]): Quantiles & { samples: number } {
  const counts = new Array<number>(L.HISTOGRAM_BUCKETS).fill(0);
  let max = 0;
  for (const view of histograms) {
    for (let i = 0; i < counts.length; ++i) counts[i]! += view.getUint32(4 * i, true);
    max = Math.max(max, view.getFloat64(L.HISTOGRAM_MAX, true) * 1e6);
  }
  const samples = counts.reduce((sum, count) => sum + count, 0);
  const at = (share: number): number => {
    let left = Math.ceil(samples * share);
    const bucket = counts.findIndex((count) => (left -= count) <= 0);
    return Math.round(bucketFloor(Math.max(0, bucket)));
  };
  return { samples, p50: at(0.5), p999: at(0.999), max: Math.round(max) };
}
