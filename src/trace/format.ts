// The trace format ALTRACE1: the calls one process made to its allocator, in one global order. bench/traces/FORMAT.md
// describes it. Here: the decoded form, and the decoder of the inflated bytes. Whatever the bytes, decodeTrace returns a
// trace that keeps every promise of the format, or throws a TraceError; it allocates in proportion to the bytes it was
// given, not to what they claim.

import { TraceError, type TraceErrorCode } from "./errors.js";

/** Operations of events. A CALLOC is zeroed, an ALIGNED aligned, and EXIT is the end of a thread. */
export const MALLOC = 0;
export const CALLOC = 1;
export const ALIGNED = 2;
export const REALLOC = 3;
export const FREE = 4;
export const EXIT = 5;

export const MAGIC = "ALTRACE1";
export const VERSION = 1;
export const FIXED_HEADER_BYTES = 72;
/** Tag bits. */
export const TAG_OP = 0x07;
export const TAG_THREAD = 0x08;
export const TAG_RELATIVE = 0x10;

/** A trace in memory: one entry of every array an event, in global order. */
export interface Trace {
  readonly name: string;
  /** Program, version, workload. */
  readonly description: string;
  readonly threads: number;
  readonly events: number;
  readonly objects: number;
  readonly maxLiveObjects: number;
  /** Most requested bytes live at once, in file order. */
  readonly peakLiveBytes: number;
  readonly liveAtEnd: number;
  /** MALLOC .. EXIT. */
  readonly ops: Uint8Array;
  /** Thread that made the call. */
  readonly threadOf: Uint32Array;
  /** Object the event names; 0 for EXIT. */
  readonly objectOf: Uint32Array;
  /** Requested bytes; 0 for FREE and EXIT. */
  readonly sizes: Float64Array;
  /** log2 of the alignment; 0 unless ALIGNED. */
  readonly alignments: Uint8Array;
}

/** The checksum of the format, one event at a time. */
export function checksumStep(h: number, op: number, thread: number, object: number, size: number, alignment: number): number {
  h = Math.imul(h ^ op, 16777619);
  h = Math.imul(h ^ thread, 16777619);
  h = Math.imul(h ^ object, 16777619);
  h = Math.imul(h ^ size, 16777619);
  return Math.imul(h ^ alignment, 16777619) >>> 0;
}
export const CHECKSUM_START = 2166136261;

/** A cursor that never leaves its part of the bytes. */
class Column {
  constructor(
    private readonly bytes: Uint8Array,
    public at: number,
    public readonly end: number,
    private readonly what: string,
  ) {}

  byte(): number {
    if (this.at >= this.end) this.fail("NUMAHEAP_TRACE_TRUNCATED", `the ${this.what} column ends too early`);
    return this.bytes[this.at++]!;
  }

  /** An unsigned LEB128 of at most ten bytes; beyond 2^53 - 1 nothing is exact any more. */
  varint(): number {
    const start = this.at;
    let byte = this.byte();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 128;
    for (let i = 1; ; ++i) {
      if (i === 10) this.fail("NUMAHEAP_TRACE_VARINT", `varint longer than ten bytes in the ${this.what} column`, start);
      byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 128;
    }
    if (value > Number.MAX_SAFE_INTEGER) this.fail("NUMAHEAP_TRACE_RANGE", `number beyond 2^53 - 1 in the ${this.what} column`, start);
    return value;
  }

  fail(code: TraceErrorCode, message: string, at = this.at): never {
    throw new TraceError(code, at, message);
  }
}

interface Header {
  threads: number;
  events: number;
  objects: number;
  maxLiveObjects: number;
  peakLiveBytes: number;
  liveAtEnd: number;
  checksum: number;
  name: string;
  description: string;
  tags: Column;
  sizes: Column;
  references: Column;
}

function decodeHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const need = (at: number, length: number, what: string): void => {
    if (at + length > bytes.length) throw new TraceError("NUMAHEAP_TRACE_TRUNCATED", bytes.length, `the file ends within ${what}`);
  };
  const u32 = (at: number): number => view.getUint32(at, true);
  const u64 = (at: number): number => {
    const value = view.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new TraceError("NUMAHEAP_TRACE_RANGE", at, "number beyond 2^53 - 1 in the header");
    return Number(value);
  };
  for (let i = 0; i < MAGIC.length; ++i) {
    need(i, 1, "the magic number");
    if (bytes[i] !== MAGIC.charCodeAt(i)) throw new TraceError("NUMAHEAP_TRACE_MAGIC", i, `not an ${MAGIC} trace`);
  }
  need(0, FIXED_HEADER_BYTES, "the header");
  if (u32(8) !== VERSION)
    throw new TraceError("NUMAHEAP_TRACE_VERSION", 8, `version ${u32(8)} of the format; this reader knows ${VERSION}`);

  let at = FIXED_HEADER_BYTES;
  const text = (what: string): string => {
    need(at, 4, `the length of the ${what}`);
    const length = u32(at);
    at += 4;
    need(at, length, `the ${what}`);
    const start = at;
    at += length;
    // Built in pieces: a long list of arguments would overflow the stack.
    let out = "";
    for (let i = start; i < at; ++i) {
      const code = bytes[i]!;
      if (code >= 0x80) throw new TraceError("NUMAHEAP_TRACE_HEADER", i, `the ${what} is not ASCII`);
      out += String.fromCharCode(code);
    }
    return out;
  };
  const name = text("name");
  const description = text("description");

  const column = (field: number, what: string): Column => {
    const length = u32(field);
    need(at, length, `the ${what} column`);
    at += length;
    return new Column(bytes, at - length, at, what);
  };
  const header: Header = {
    threads: u32(12),
    events: u64(16),
    objects: u64(24),
    maxLiveObjects: u64(32),
    peakLiveBytes: u64(40),
    liveAtEnd: u64(48),
    checksum: u32(56),
    name,
    description,
    tags: column(60, "tag"),
    sizes: column(64, "size"),
    references: column(68, "reference"),
  };
  if (at !== bytes.length) throw new TraceError("NUMAHEAP_TRACE_TRAILING", at, `${bytes.length - at} bytes behind the columns`);
  return header;
}

/**
 * Decodes the inflated bytes of a trace and checks all that the format promises.
 * @throws {TraceError}
 */
export function decodeTrace(bytes: Uint8Array): Trace {
  const header = decodeHeader(bytes);
  const { tags, sizes: sizeColumn, references } = header;
  const disagree = (field: number, what: string, claimed: number, found: number | string): never => {
    throw new TraceError("NUMAHEAP_TRACE_HEADER", field, `the header says ${claimed} ${what}, the events ${found}`);
  };
  // An event takes a tag byte, and all but a thread's EXIT a byte of another column: what follows is bounded by the length of the file.
  const atMost = (field: number, what: string, claimed: number, most: number): void => {
    if (claimed > most) disagree(field, what, claimed, `at most ${most}`);
  };
  atMost(12, "threads", header.threads, header.events);
  atMost(16, "events", header.events, tags.end - tags.at);
  atMost(16, "events", header.events, sizeColumn.end - sizeColumn.at + (references.end - references.at) + header.threads);
  atMost(24, "objects", header.objects, sizeColumn.end - sizeColumn.at);

  const { events, objects, threads } = header;
  const ops = new Uint8Array(events);
  const threadOf = new Uint32Array(events);
  const objectOf = new Uint32Array(events);
  const sizes = new Float64Array(events);
  const alignments = new Uint8Array(events);
  // Requested bytes of an object, -1 = not live.
  const liveSize = new Float64Array(objects).fill(-1);
  const last = new Float64Array(threads);
  const ended = new Uint8Array(threads);

  let h = CHECKSUM_START;
  let thread = 0;
  let threadsSeen = 0;
  let next = 0;
  let live = 0;
  let maxLive = 0;
  let liveBytes = 0;
  let peakBytes = 0;

  for (let i = 0; i < events; ++i) {
    const tagAt = tags.at;
    const tag = tags.byte();
    const op = tag & TAG_OP;
    const refers = op === REALLOC || op === FREE;
    if (op > EXIT || tag >= 0x20 || (!refers && (tag & TAG_RELATIVE) !== 0))
      tags.fail("NUMAHEAP_TRACE_TAG", `tag 0x${tag.toString(16)} of event ${i}`, tagAt);
    if ((tag & TAG_THREAD) !== 0) thread = tags.varint();
    if (thread >= threadsSeen) {
      if (thread !== threadsSeen || thread >= threads)
        tags.fail(
          "NUMAHEAP_TRACE_THREAD",
          `event ${i} is of thread ${thread}, where at most ${Math.min(threadsSeen, threads - 1)} can be`,
          tagAt,
        );
      ++threadsSeen;
    }
    if (ended[thread] !== 0) tags.fail("NUMAHEAP_TRACE_THREAD", `event ${i} of thread ${thread}, which has ended`, tagAt);

    let object = 0;
    let size = 0;
    let alignment = 0;
    if (op <= ALIGNED) {
      if (op === ALIGNED) {
        alignment = sizeColumn.byte();
        if (alignment > 31) sizeColumn.fail("NUMAHEAP_TRACE_RANGE", `alignment 2^${alignment} of event ${i}`, sizeColumn.at - 1);
      }
      size = sizeColumn.varint();
      if (next >= objects) disagree(24, "objects", objects, "more");
      object = next++;
      liveSize[object] = size;
      liveBytes += size;
      if (++live > maxLive) maxLive = live;
    } else if (refers) {
      const at = references.at;
      const r = references.varint();
      // Not the bit operations of the format's description: those would wrap at 2^32.
      object = (tag & TAG_RELATIVE) === 0 ? next - 1 - r : last[thread]! + (r % 2 === 0 ? r / 2 : -(r + 1) / 2);
      const old = object >= 0 && object < next ? liveSize[object]! : -1;
      if (old < 0) references.fail("NUMAHEAP_TRACE_OBJECT", `event ${i} names object ${object}, which is not live`, at);
      last[thread] = object;
      if (op === REALLOC) {
        size = sizeColumn.varint();
        liveSize[object] = size;
        liveBytes += size - old;
      } else {
        liveSize[object] = -1;
        liveBytes -= old;
        --live;
      }
    } else {
      ended[thread] = 1;
    }
    if (liveBytes > peakBytes) {
      peakBytes = liveBytes;
      if (peakBytes > Number.MAX_SAFE_INTEGER) sizeColumn.fail("NUMAHEAP_TRACE_RANGE", `event ${i}: more than 2^53 - 1 bytes live`);
    }
    ops[i] = op;
    threadOf[i] = thread;
    objectOf[i] = object;
    sizes[i] = size;
    alignments[i] = alignment;
    h = checksumStep(h, op, thread, object, size, alignment);
  }

  for (const column of [tags, sizeColumn, references]) {
    if (column.at !== column.end) column.fail("NUMAHEAP_TRACE_TRAILING", `${column.end - column.at} bytes of a column are left over`);
  }
  if (threadsSeen !== threads) disagree(12, "threads", threads, threadsSeen);
  if (next !== objects) disagree(24, "objects", objects, next);
  if (maxLive !== header.maxLiveObjects) disagree(32, "objects live at once", header.maxLiveObjects, maxLive);
  if (peakBytes !== header.peakLiveBytes) disagree(40, "bytes live at once", header.peakLiveBytes, peakBytes);
  if (live !== header.liveAtEnd) disagree(48, "objects live at the end", header.liveAtEnd, live);
  if (h !== header.checksum)
    throw new TraceError("NUMAHEAP_TRACE_CHECKSUM", 56, `checksum ${h.toString(16)}, the header says ${header.checksum.toString(16)}`);

  const { name, description, maxLiveObjects, peakLiveBytes, liveAtEnd } = header;
  return {
    name,
    description,
    threads,
    events,
    objects,
    maxLiveObjects,
    peakLiveBytes,
    liveAtEnd,
    ops,
    threadOf,
    objectOf,
    sizes,
    alignments,
  };
}
