// The writer of the trace format, for tests and for recorders written in JavaScript.

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

/** One event as a recorder sees it. `object` is ignored for allocations: the k-th one makes object k. */
export interface TraceEvent {
  op: number;
  thread: number;
  object: number;
  size: number;
  alignment: number;
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

/** Encodes events that keep the promises of the format (the decoder checks them) to bytes ready for gzip. */
export function encodeTrace(events: Iterable<TraceEvent>, name: string, description = ""): Uint8Array {
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
    const { op } = event;
    const allocates = op <= ALIGNED;
    const refers = op === REALLOC || op === FREE;
    const object = allocates ? next : refers ? event.object : 0;
    const size = allocates || op === REALLOC ? event.size : 0;
    const alignment = op === ALIGNED ? event.alignment : 0;
    const back = next - 1 - object;
    const delta = object - (last.get(event.thread) ?? 0);
    const zigzag = delta >= 0 ? delta * 2 : -delta * 2 - 1;
    const relative = refers && zigzag < back;

    tags.push(op | (event.thread === thread ? 0 : TAG_THREAD) | (relative ? TAG_RELATIVE : 0));
    if (event.thread !== thread) tags.varint(event.thread);
    thread = event.thread;
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

  const texts = [name, description].map((text) => new TextEncoder().encode(text));
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
