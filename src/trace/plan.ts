// How a trace is shared out among workers and laid down in memory below the heap.

import { WASM_PAGE } from "../heap/exports.js";
import { EXIT, type Trace } from "./format.js";
import type { Ground } from "./ground.js";
import * as L from "./replay-layout.js";

/** Events of one trace thread that stay together where it is dealt out to several workers. */
export const RUN_LENGTH = 1000;
/** Most events a worker may be ahead of the slowest. */
export const WINDOW = 10_000;

/** The trace cannot be replayed on this heap at all. */
export class PlanError extends Error {
  override readonly name = "PlanError";
  readonly code = "NUMAHEAP_REPLAY_PLAN";
}

/** Who runs which event, and where workers wait for each other. */
export interface Deal {
  readonly workers: number;
  /** Worker of each event. */
  readonly workerOf: Uint8Array;
  /** Index + 1 of the event to wait for, 0 = none: the last of the same object, where another worker runs it. */
  readonly after: Uint32Array;
  /** 1 = some event waits for this one. */
  readonly handsOver: Uint8Array;
  /** Events of each worker. */
  readonly counts: number[];
}

/**
 * Deals the events out. Threads are folded onto the workers: thread t runs on worker t mod `workers`. Where there are more
 * workers than threads, thread t has the workers t, t + threads, t + 2 threads, ... and its events go to them in runs of RUN_LENGTH,
 * round robin; so a single thread is dealt out over all.
 */
export function deal(trace: Pick<Trace, "events" | "objects" | "threads" | "ops" | "threadOf" | "objectOf">, workers: number): Deal {
  const { events, objects, threads, ops, threadOf, objectOf } = trace;
  const workerOf = new Uint8Array(events);
  const after = new Uint32Array(events);
  const handsOver = new Uint8Array(events);
  const counts = new Array<number>(workers).fill(0);
  const done = new Uint32Array(threads);
  const lastOf = new Uint32Array(objects);
  for (let i = 0; i < events; ++i) {
    const thread = threadOf[i]!;
    let worker = thread % workers;
    if (threads < workers) {
      const hands = Math.ceil((workers - thread) / threads);
      worker = thread + threads * (Math.floor(done[thread]! / RUN_LENGTH) % hands);
      ++done[thread]!;
    }
    workerOf[i] = worker;
    ++counts[worker]!;
    if (ops[i] === EXIT) continue;
    const object = objectOf[i]!;
    const previous = lastOf[object]!;
    lastOf[object] = i + 1;
    if (previous !== 0 && workerOf[previous - 1] !== worker) {
      after[i] = previous;
      handsOver[previous - 1] = 1;
    }
  }
  return { workers, workerOf, after, handsOver, counts };
}

/** Where the parts of a replay lie. */
export interface Area {
  readonly control: number;
  readonly objects: number;
  readonly objectCount: number;
  readonly events: number;
  /** First byte behind it all, a multiple of 64 KiB. */
  readonly end: number;
}

/** Lays the parts out from `control` on. Histograms (two a worker) stand behind the worker records. */
export function layOut(trace: Pick<Trace, "events" | "objects">, workers: number, control: number): Area {
  const objects = align(control + L.CONTROL_BYTES + workers * (L.WORKER_BYTES + 2 * L.HISTOGRAM_BYTES), 64);
  const events = align(objects + trace.objects * L.OBJECT_BYTES, 64);
  const end = align(events + trace.events * L.EVENT_BYTES, WASM_PAGE);
  if (end >= 2 ** 31) throw new PlanError(`the trace has too many events to lie beside a heap: ${trace.events}`);
  return { control, objects, objectCount: trace.objects, events, end };
}

export function workerRecord(area: Area, worker: number): number {
  return area.control + L.CONTROL_BYTES + worker * L.WORKER_BYTES;
}

export function histogramsOf(area: Area, workers: number, worker: number): number {
  return area.control + L.CONTROL_BYTES + workers * L.WORKER_BYTES + worker * 2 * L.HISTOGRAM_BYTES;
}

/** Writes events and records for the heap at `heapBase` into `buffer`, which covers the area. `truth`: see Ground. */
export function writePlan(
  buffer: SharedArrayBuffer,
  area: Area,
  trace: Trace,
  dealt: Deal,
  { heapBase, flags, truth }: { heapBase: number; flags: number; truth?: Ground["truth"] },
): void {
  const words = new Uint32Array(buffer, 0, area.end >> 2);
  const { workers, workerOf, after, handsOver, counts } = dealt;
  words[(area.control + L.CONTROL_HEAP) >> 2] = heapBase;
  words[(area.control + L.CONTROL_WORKERS) >> 2] = workers;
  words[(area.control + L.CONTROL_FLAGS) >> 2] = flags;
  words[(area.control + L.CONTROL_OBJECTS) >> 2] = area.objects;
  words[(area.control + L.CONTROL_OBJECT_COUNT) >> 2] = area.objectCount;
  words[(area.control + L.CONTROL_WINDOW) >> 2] = WINDOW;
  words[(area.control + L.CONTROL_VCPU_TRUTH) >> 2] = truth?.vcpus ?? 0;
  words[(area.control + L.CONTROL_FRAME_TRUTH) >> 2] = truth?.frames ?? 0;
  words[(area.control + L.CONTROL_TOUCHERS) >> 2] = truth?.touchers ?? 0;

  const cursors: number[] = [];
  let stream = area.events;
  for (let worker = 0; worker < workers; ++worker) {
    const record = workerRecord(area, worker) >> 2;
    words[record + (L.WORKER_STREAM >> 2)] = stream;
    words[record + (L.WORKER_COUNT >> 2)] = counts[worker]!;
    words[record + (L.WORKER_VCPU >> 2)] = worker;
    words[record + (L.WORKER_HISTOGRAMS >> 2)] = histogramsOf(area, workers, worker);
    cursors.push(stream >> 2);
    stream += counts[worker]! * L.EVENT_BYTES;
  }
  for (let i = 0; i < trace.events; ++i) {
    const size = trace.sizes[i]!;
    if (size > 0xffff_ffff) throw new PlanError(`event ${i} asks for ${size} bytes: more than WebAssembly can address`);
    const worker = workerOf[i]!;
    const at = cursors[worker]!;
    words[at] = trace.ops[i]! | (handsOver[i]! && L.EVENT_HANDS_OVER) | (trace.alignments[i]! << L.EVENT_ALIGNMENT_SHIFT);
    words[at + (L.EVENT_OBJECT >> 2)] = trace.objectOf[i]!;
    words[at + (L.EVENT_SIZE >> 2)] = size;
    words[at + (L.EVENT_INDEX >> 2)] = i;
    words[at + (L.EVENT_AFTER >> 2)] = after[i]!;
    cursors[worker] = at + (L.EVENT_BYTES >> 2);
  }
}

/** Makes objects and workers ready for another run of the same events. Counters go on. */
export function resetRound(buffer: SharedArrayBuffer, area: Area, workers: number, round: number): void {
  const words = new Uint32Array(buffer, 0, area.end >> 2);
  words[(area.control + L.CONTROL_ROUND) >> 2] = round;
  words.fill(0, area.objects >> 2, (area.objects + area.objectCount * L.OBJECT_BYTES) >> 2);
  for (let worker = 0; worker < workers; ++worker) {
    const record = workerRecord(area, worker) >> 2;
    for (const field of [L.WORKER_PROGRESS, L.WORKER_POSITION, L.WORKER_PHASE, L.WORKER_KEPT]) words[record + (field >> 2)] = 0;
  }
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
