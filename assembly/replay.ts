// Replays one worker's share of a trace: a module of its own over the heap's memory, so that no event costs a round
// trip to JavaScript. Layout of its data and the words it shares: src/trace/replay-layout.ts.
//
// An event goes through phases, each stored before it begins, so that whoever replaces a terminated worker knows what
// was in hand (resume, below). Only a death in PHASE_CALL leaves a question open; its object is abandoned.

import { PAGE_SHIFT, VCPU_NODE } from "./layout";
import { damage, dirt, fill, INTACT } from "./replay-pattern";
import { awaitObject, bindOrder, enterWindow, handOver, publish } from "./replay-order";
import {
  CONTROL_FLAGS,
  CONTROL_FRAME_TRUTH,
  CONTROL_HEAP,
  CONTROL_LIVE,
  CONTROL_OBJECT_COUNT,
  CONTROL_OBJECTS,
  CONTROL_ROUND,
  CONTROL_TOUCHERS,
  CONTROL_VCPU_TRUTH,
  CONTROL_WORKERS,
  DONE,
  EVENT_AFTER,
  EVENT_ALIGNMENT_SHIFT,
  EVENT_BYTES,
  EVENT_HANDS_OVER,
  EVENT_INDEX,
  EVENT_OBJECT,
  EVENT_OP,
  EVENT_SIZE,
  FAILURE_BYTES,
  FAILURE_DAMAGED_AT_END,
  FAILURE_DAMAGED_AT_FREE,
  FAILURE_DAMAGED_AT_REALLOC,
  FAILURE_LOST_BY_REALLOC,
  FAILURE_MISALIGNED,
  FAILURE_NO_MEMORY,
  FAILURE_NOT_ZERO,
  FAILURE_OUTSIDE,
  FAILURE_SLOTS,
  FLAG_LATENCY,
  FLAG_VERIFY,
  HISTOGRAM_BUCKETS,
  HISTOGRAM_BYTES,
  HISTOGRAM_MAX,
  OBJECT_ADDRESS,
  OBJECT_BYTES,
  OBJECT_SIZE,
  OBJECT_STATE,
  PHASE_CALL,
  PHASE_FILL,
  PHASE_HAND_OVER,
  PHASE_READY,
  STATE_ABANDONED,
  STATE_LIVE,
  WORKER_COUNT,
  WORKER_FAILURE_SLOTS,
  WORKER_FAILURES,
  WORKER_HISTOGRAMS,
  WORKER_KEPT,
  WORKER_LOCAL,
  WORKER_PEAK,
  WORKER_PHASE,
  WORKER_POSITION,
  WORKER_REMOTE,
  WORKER_REMOTE_FREES,
  WORKER_SKIPPED,
  WORKER_STREAM,
  WORKER_VCPU,
} from "../src/trace/replay-layout";

export { badCalls, bindHost, ownedPages, pagesInUse, pagesMoved, pagesMovedInUse, spansRebound } from "./replay-host";

// @ts-ignore: decorator
@external("heap", "malloc")
declare function heapMalloc(size: u32): usize;
// @ts-ignore: decorator
@external("heap", "calloc")
declare function heapCalloc(count: u32, size: u32): usize;
// @ts-ignore: decorator
@external("heap", "realloc")
declare function heapRealloc(block: usize, size: u32): usize;
// @ts-ignore: decorator
@external("heap", "memalign")
declare function heapMemalign(alignment: u32, size: u32): usize;
// @ts-ignore: decorator
@external("heap", "free")
declare function heapFree(block: usize): void;
// @ts-ignore: decorator
@external("heap", "nodeOf")
declare function heapNodeOf(block: usize): i32;
/** Milliseconds, as finely as the host can. Called only while latency is measured. */
// @ts-ignore: decorator
@external("host", "now")
declare function now(): f64;

// Operations, as the trace format numbers them.
const MALLOC: u32 = 0;
const CALLOC: u32 = 1;
const ALIGNED: u32 = 2;
const REALLOC: u32 = 3;
const FREE: u32 = 4;
const EXIT: u32 = 5;

let heap: usize = 0;
/** Node of each vCPU. */
let vcpuNodes: usize = 0;
let frameTruth: usize = 0;
let touchers: usize = 0;
let control: usize = 0;
let worker: usize = 0;
let objects: usize = 0;
let round: u32 = 0;
let verify: bool = false;
let latency: bool = false;

function bind(controlAddress: usize, workerAddress: usize): void {
  control = controlAddress;
  worker = workerAddress;
  heap = load<u32>(control, CONTROL_HEAP);
  vcpuNodes = load<u32>(control, CONTROL_VCPU_TRUTH);
  if (vcpuNodes == 0) vcpuNodes = heap + VCPU_NODE;
  frameTruth = load<u32>(control, CONTROL_FRAME_TRUTH);
  touchers = load<u32>(control, CONTROL_TOUCHERS);
  objects = load<u32>(control, CONTROL_OBJECTS);
  round = load<u32>(control, CONTROL_ROUND);
  const flags = load<u32>(control, CONTROL_FLAGS);
  verify = (flags & FLAG_VERIFY) != 0;
  latency = (flags & FLAG_LATENCY) != 0;
  bindOrder(control, worker);
}

/** Runs the worker's events from where its record says. True: all done; false: stopped. */
export function run(controlAddress: usize, workerAddress: usize): bool {
  bind(controlAddress, workerAddress);
  const count = load<u32>(worker, WORKER_COUNT);
  let position = load<u32>(worker, WORKER_POSITION);
  let event = <usize>load<u32>(worker, WORKER_STREAM) + position * EVENT_BYTES;
  while (position < count) {
    const phase = load<u32>(worker, WORKER_PHASE);
    if (phase == PHASE_READY ? !runEvent(event) : !resume(event, phase)) return false;
    event += EVENT_BYTES;
    ++position;
    store<u32>(worker, PHASE_READY, WORKER_PHASE);
    store<u32>(worker, position, WORKER_POSITION);
  }
  publish(DONE);
  return true;
}

/** Verifies and frees this worker's part of the objects that the trace leaves alive. To be called by workers 0 .. n-1. */
export function freeRest(controlAddress: usize, workerAddress: usize, part: u32): void {
  bind(controlAddress, workerAddress);
  const count = load<u32>(control, CONTROL_OBJECT_COUNT);
  const step = load<u32>(control, CONTROL_WORKERS);
  for (let id = part; id < count; id += step) {
    const object = objects + <usize>id * OBJECT_BYTES;
    if (load<u32>(object, OBJECT_STATE) != STATE_LIVE) continue;
    const block = <usize>load<u32>(object, OBJECT_ADDRESS);
    if (verify) expectPattern(FAILURE_DAMAGED_AT_END, 0, block, load<u32>(object, OBJECT_SIZE), id);
    account(-(<i64>load<u32>(object, OBJECT_SIZE)));
    heapFree(block);
    store<u32>(object, 0, OBJECT_STATE);
  }
}

function runEvent(event: usize): bool {
  const index = load<u32>(event, EVENT_INDEX);
  if (!enterWindow(index)) return false;
  const word = load<u32>(event, EVENT_OP);
  const op = word & 7;
  if (op == EXIT) return true;
  const id = load<u32>(event, EVENT_OBJECT);
  const object = objects + <usize>id * OBJECT_BYTES;
  const after = load<u32>(event, EVENT_AFTER);
  if (after != 0 && !awaitObject(object, after, index)) return false;
  if (op <= ALIGNED) allocateObject(event, word, object, id, index);
  else if (load<u32>(object, OBJECT_STATE) != STATE_LIVE) increment(WORKER_SKIPPED);
  else if (op == FREE) freeObject(object, id, index);
  else reallocObject(event, object, id, index);
  finishEvent(word, object, index);
  return true;
}

// @ts-ignore: decorator
@inline
function finishEvent(word: u32, object: usize, index: u32): void {
  if ((word & EVENT_HANDS_OVER) == 0) return;
  store<u32>(worker, PHASE_HAND_OVER, WORKER_PHASE);
  handOver(object, index);
}

/** Goes on with the event that a terminated worker had in hand. */
function resume(event: usize, phase: u32): bool {
  const index = load<u32>(event, EVENT_INDEX);
  const word = load<u32>(event, EVENT_OP);
  const id = load<u32>(event, EVENT_OBJECT);
  const object = objects + <usize>id * OBJECT_BYTES;
  if (phase == PHASE_CALL) {
    // Whether the call took effect is not known: neither the old block nor a new one may be touched again.
    if ((word & 7) == REALLOC) account(-(<i64>load<u32>(object, OBJECT_SIZE)));
    abandon(object);
  } else if (phase == PHASE_FILL) {
    settleBlock(object, id, index);
  }
  finishEvent(word, object, index);
  return true;
}

// @ts-ignore: decorator
@inline
function abandon(object: usize): void {
  store<u32>(object, 0, OBJECT_ADDRESS);
  store<u32>(object, STATE_ABANDONED, OBJECT_STATE);
}

// @ts-ignore: decorator
@inline
function allocateObject(event: usize, word: u32, object: usize, id: u32, index: u32): void {
  const size = load<u32>(event, EVENT_SIZE);
  store<u32>(worker, PHASE_CALL, WORKER_PHASE);
  const block = latency ? timedAllocation(word, size) : allocation(word, size);
  if (block == 0) {
    fail(FAILURE_NO_MEMORY, index, 0, size);
    abandon(object);
    return;
  }
  record(object, block, size, 0, size);
  increment(trueNodeOf(block) == trueNode() ? WORKER_LOCAL : WORKER_REMOTE);
  const alignment: u32 = (word & 7) == ALIGNED ? 1 << (word >> EVENT_ALIGNMENT_SHIFT) : 1;
  if (!expectPlace(index, block, size, alignment)) {
    abandon(object);
    return;
  }
  if (verify && (word & 7) == CALLOC) {
    const at = dirt(block, size);
    if (at != INTACT) fail(FAILURE_NOT_ZERO, index, block, at);
  }
  settleBlock(object, id, index);
}

// @ts-ignore: decorator
@inline
function allocation(word: u32, size: u32): usize {
  const op = word & 7;
  if (op == MALLOC) return heapMalloc(size);
  if (op == CALLOC) return heapCalloc(1, size);
  return heapMemalign(1 << (word >> EVENT_ALIGNMENT_SHIFT), size);
}

// @ts-ignore: decorator
@inline
function freeObject(object: usize, id: u32, index: u32): void {
  const block = <usize>load<u32>(object, OBJECT_ADDRESS);
  const size = load<u32>(object, OBJECT_SIZE);
  if (verify) expectPattern(FAILURE_DAMAGED_AT_FREE, index, block, size, id);
  if (trueNodeOf(block) != trueNode()) increment(WORKER_REMOTE_FREES);
  store<u32>(worker, PHASE_CALL, WORKER_PHASE);
  account(-(<i64>size));
  heapFree(block);
  store<u32>(object, 0, OBJECT_ADDRESS);
  store<u32>(object, 0, OBJECT_STATE);
  store<u32>(worker, PHASE_HAND_OVER, WORKER_PHASE);
}

// @ts-ignore: decorator
@inline
function reallocObject(event: usize, object: usize, id: u32, index: u32): void {
  const old = <usize>load<u32>(object, OBJECT_ADDRESS);
  const oldSize = load<u32>(object, OBJECT_SIZE);
  const size = load<u32>(event, EVENT_SIZE);
  if (verify) expectPattern(FAILURE_DAMAGED_AT_REALLOC, index, old, oldSize, id);
  store<u32>(worker, PHASE_CALL, WORKER_PHASE);
  // A size of 0 that frees is stored as FREE in a trace: here the object stays.
  const block = heapRealloc(old, max(size, 1));
  if (block == 0) {
    // The old block is as it was.
    store<u32>(worker, PHASE_HAND_OVER, WORKER_PHASE);
    fail(FAILURE_NO_MEMORY, index, old, size);
    return;
  }
  record(object, block, size, min(oldSize, size), <i64>size - oldSize);
  if (!expectPlace(index, block, size, 1)) abandon(object);
  else settleBlock(object, id, index);
}

/** Writes the result of a call down: from here on the object is this block, and `bytes` more are live. */
// @ts-ignore: decorator
@inline
function record(object: usize, block: usize, size: u32, kept: u32, bytes: i64): void {
  store<u32>(object, <u32>block, OBJECT_ADDRESS);
  store<u32>(object, size, OBJECT_SIZE);
  store<u32>(object, STATE_LIVE, OBJECT_STATE);
  store<u32>(worker, kept, WORKER_KEPT);
  store<u32>(worker, PHASE_FILL, WORKER_PHASE);
  account(bytes);
}

/** Verifies what a realloc had to keep and fills the rest of the block. May be done twice. */
// @ts-ignore: decorator
@inline
function settleBlock(object: usize, id: u32, index: u32): void {
  if (!verify || load<u32>(object, OBJECT_STATE) != STATE_LIVE) return;
  const block = <usize>load<u32>(object, OBJECT_ADDRESS);
  const kept = load<u32>(worker, WORKER_KEPT);
  if (kept != 0) expectPattern(FAILURE_LOST_BY_REALLOC, index, block, kept, id);
  fill(block, kept, load<u32>(object, OBJECT_SIZE), id, round);
}

/** Node of the vCPU this worker stands for, as it is: not what its thread has heard of. */
// @ts-ignore: decorator
@inline
function trueNode(): i32 {
  return atomic.load<u8>(vcpuNodes + load<u32>(worker, WORKER_VCPU));
}

/** Node a block's first byte lies on, as it is. */
// @ts-ignore: decorator
@inline
function trueNodeOf(block: usize): i32 {
  return frameTruth == 0 ? heapNodeOf(block) : frameNodeOf(block);
}

function frameNodeOf(block: usize): i32 {
  const frame = block >> PAGE_SHIFT;
  const backed: i32 = atomic.load<u8>(frameTruth + frame);
  if (backed) return backed - 1;
  return touchers ? <i32>atomic.load<u8>(touchers + frame) - 1 : heapNodeOf(block);
}

// @ts-ignore: decorator
@inline
function increment(field: usize): void {
  store<u32>(worker + field, load<u32>(worker + field) + 1);
}

/**
 * Adds to the live bytes: what is freed counts before the call and what is allocated after it, so never too much. In line, as all that
 * stands between it and the phase it belongs to: a thread is terminated at calls and loops, so it has done both or neither.
 */
// @ts-ignore: decorator
@inline
function account(bytes: i64): void {
  const live = atomic.add<i64>(control, bytes, CONTROL_LIVE) + bytes;
  if (live > load<i64>(worker, WORKER_PEAK)) store<i64>(worker, live, WORKER_PEAK);
}

function expectPattern(kind: u32, index: u32, block: usize, size: u32, id: u32): void {
  const at = damage(block, size, id, round);
  if (at != INTACT) fail(kind, index, block, at);
}

// @ts-ignore: decorator
@inline
function expectPlace(index: u32, block: usize, size: u32, alignment: u32): bool {
  if (block < heap || <u64>block + size > (<u64>memory.size()) << 16) {
    fail(FAILURE_OUTSIDE, index, block, size);
    return false;
  }
  const least = max(alignment, size >= 16 ? 16 : 8);
  if ((block & (least - 1)) != 0) fail(FAILURE_MISALIGNED, index, block, least);
  return true;
}

function fail(kind: u32, index: u32, address: usize, detail: u32): void {
  const count = load<u32>(worker, WORKER_FAILURES);
  store<u32>(worker, count + 1, WORKER_FAILURES);
  if (count >= <u32>FAILURE_SLOTS) return;
  const slot = worker + WORKER_FAILURE_SLOTS + <usize>count * FAILURE_BYTES;
  store<u32>(slot, kind);
  store<u32>(slot, index, 4);
  store<u32>(slot, <u32>address, 8);
  store<u32>(slot, detail, 12);
}

/** An allocation between two readings of the clock, and then the same around a function that does nothing. */
function timedAllocation(word: u32, size: u32): usize {
  const histograms = <usize>load<u32>(worker, WORKER_HISTOGRAMS);
  const start = now();
  const block = allocation(word, size);
  const end = now();
  observe(histograms, end - start);
  const controlStart = now();
  nothingNoInline(word, size);
  const controlEnd = now();
  observe(histograms + HISTOGRAM_BYTES, controlEnd - controlStart);
  return block;
}

function nothingNoInline(word: u32, size: u32): usize {
  return word ^ size;
}

function observe(histogram: usize, milliseconds: f64): void {
  const ns = <u64>max(milliseconds * 1e6, 0);
  // Below 32 ns a bucket a nanosecond; from there 16 buckets an octave.
  const octave: u64 = ns < 32 ? 0 : 59 - clz<u64>(ns);
  const bucket = <usize>min<u64>((octave << 4) + (ns >> octave), HISTOGRAM_BUCKETS - 1);
  store<u32>(histogram + (bucket << 2), load<u32>(histogram + (bucket << 2)) + 1);
  if (milliseconds > load<f64>(histogram, HISTOGRAM_MAX)) store<f64>(histogram, milliseconds, HISTOGRAM_MAX);
}
