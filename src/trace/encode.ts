// The writer of the trace format, for tests and for recorders written in JavaScript. It holds what it is given to what the columns can
// hold; whether objects and threads live is for the reader to say, which writeTrace asks.

import { shown } from "../shown.js";
import { TraceError, type TraceErrorCode } from "./errors.js";
import {
  ALIGNED,
  CHECKSUM_START,
  checksumStep,
  EXIT,
  FIXED_HEADER_BYTES,
  FREE,
  MAGIC,
  REALLOC,
  TAG_RELATIVE,
  TAG_THREAD,
  VERSION,
} from "./format.js";

/** One event as a recorder sees it. What does not belong to its operation is ignored. */
export interface TraceEvent {
  /** MALLOC, CALLOC, ALIGNED, REALLOC, FREE or EXIT. */
  readonly op: number;
  /** From 0 on, in order of their first events. */
  readonly thread: number;
  /** What is reallocated or freed: the k-th allocation, from 0 on, made object k. */
  readonly object?: number;
  /** Bytes that are asked for. */
  readonly size?: number;
  /** Of ALIGNED: log2 of the bytes, up to 31. */
  readonly alignment?: number;
}

class Bytes {
  private buffer = new Uint8Array(1024);
  length = 0;

  push(byte: number): void {
    if (this.length === this.buffer.length) {
      const larger = new Uint8Array(this.buffer.length * 2);
      larger.set(this.buffer);
      this.buffer = larger;
    }
    this.buffer[this.length++] = byte;
  }

  varint(value: number): void {
    while (value >= 128) {
      this.push(0x80 | (value % 128));
      value = Math.floor(value / 128);
    }
    this.push(value);
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}

/** Thread indexes are counted in 32 bits. */
const MAX_THREAD = 2 ** 32 - 2;

/** What a field is that holds what the format cannot, in the words of the decoder. */
const CODE_OF: Readonly<Record<keyof TraceEvent, TraceErrorCode>> = {
  op: "NUMAHEAP_TRACE_TAG",
  thread: "NUMAHEAP_TRACE_THREAD",
  object: "NUMAHEAP_TRACE_OBJECT",
  size: "NUMAHEAP_TRACE_RANGE",
  alignment: "NUMAHEAP_TRACE_RANGE",
};

/**
 * Encodes events that keep the promises of the format (the decoder checks them) to bytes ready for gzip.
 * @throws {TraceError} for what the format cannot hold
 */
export function encodeTrace(events: Iterable<TraceEvent>, name: string, description = ""): Uint8Array {
  const texts = [name, description].map((text) => new TextEncoder().encode(text));
  const tagsAt = texts.reduce((at, text) => at + 4 + text.length, FIXED_HEADER_BYTES);
  const tags = new Bytes();
  const sizes = new Bytes();
  const references = new Bytes();
  const last = new Map<number, number>();
  const liveSize = new Map<number, number>();
  let count = 0;
  let next = 0;
  let thread = 0;
  let threads = 0;
  let liveBytes = 0;
  let peakLiveBytes = 0;
  let maxLiveObjects = 0;
  let h = CHECKSUM_START;

  for (const event of events) {
    const refuse = (code: TraceErrorCode, message: string): never => {
      throw new TraceError(code, tagsAt + tags.length, message);
    };
    const whole = (name: keyof TraceEvent, most: number): number => {
      const value = event[name];
      if (Number.isInteger(value) && value! >= 0 && value! <= most) return value!;
      return refuse(CODE_OF[name], `${name} of event ${count} must be a whole number from 0 to ${most}, not ${shown(value)}`);
    };
    if (Object(event) !== event) refuse("NUMAHEAP_TRACE_TAG", `event ${count} must be an object, not ${shown(event)}`);
    const op = whole("op", EXIT);
    const by = whole("thread", MAX_THREAD);
    const allocates = op <= ALIGNED;
    const refers = op === REALLOC || op === FREE;
    const object = allocates ? next : refers ? whole("object", Number.MAX_SAFE_INTEGER) : 0;
    const size = allocates || op === REALLOC ? whole("size", Number.MAX_SAFE_INTEGER) : 0;
    const alignment = op === ALIGNED ? whole("alignment", 31) : 0;
    if (refers && object >= next)
      refuse("NUMAHEAP_TRACE_OBJECT", `event ${count} names object ${object}, and only ${next} were made before it`);
    const back = next - 1 - object;
    const delta = object - (last.get(by) ?? 0);
    const zigzag = delta >= 0 ? delta * 2 : -delta * 2 - 1;
    const relative = refers && zigzag < back;

    tags.push(op | (by === thread ? 0 : TAG_THREAD) | (relative ? TAG_RELATIVE : 0));
    if (by !== thread) tags.varint(by);
    thread = by;
    if (op === ALIGNED) sizes.push(alignment);
    if (op < FREE) sizes.varint(size);
    if (refers) {
      references.varint(relative ? zigzag : back);
      last.set(thread, object);
    }

    if (op < FREE) {
      liveBytes += size - (liveSize.get(object) ?? 0);
      liveSize.set(object, size);
    } else if (op !== EXIT) {
      liveBytes -= liveSize.get(object) ?? 0;
      liveSize.delete(object);
    }
    if (allocates) ++next;
    peakLiveBytes = Math.max(peakLiveBytes, liveBytes);
    maxLiveObjects = Math.max(maxLiveObjects, liveSize.size);
    threads = Math.max(threads, thread + 1);
    h = checksumStep(h, op, thread, object, size, alignment);
    ++count;
  }

  const parts: Uint8Array[] = [];
  for (const text of texts) parts.push(new Uint8Array(new Uint32Array([text.length]).buffer), text);
  parts.push(tags.bytes(), sizes.bytes(), references.bytes());
  const out = new Uint8Array(FIXED_HEADER_BYTES + parts.reduce((sum, part) => sum + part.length, 0));
  const view = new DataView(out.buffer);
  out.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, threads, true);
  [count, next, maxLiveObjects, peakLiveBytes, liveSize.size].forEach((value, i) => view.setBigUint64(16 + 8 * i, BigInt(value), true));
  [h, tags.length, sizes.length, references.length].forEach((value, i) => view.setUint32(56 + 4 * i, value, true));
  let at = FIXED_HEADER_BYTES;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
