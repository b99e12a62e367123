// Trace files: gzip around the bytes of format.ts, both ways. Node only.

import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { gunzipSync, gzipSync, type ZlibOptions } from "node:zlib";
import { encodeTrace, type TraceEvent } from "./encode.js";
import { TraceError } from "./errors.js";
import { decodeTrace, type Trace } from "./format.js";

/** Most bytes a trace may inflate to unless the caller says otherwise: 32 MiB, some 8 times the longest recordings. */
export const MAX_TRACE_BYTES = 32 * 1024 * 1024;

/** What gunzipSync returns when asked for `info`. */
interface Inflated {
  buffer: Uint8Array;
  /** `bytesWritten`: bytes of the input it consumed. */
  engine: { bytesWritten: number };
}

/**
 * Inflates and decodes a trace.
 * @param file bytes of a `.trace.gz` file
 * @param maxBytes most bytes it may inflate to
 * @throws {TraceError}
 */
export function parseTrace(file: Uint8Array, maxBytes: number = MAX_TRACE_BYTES): Trace {
  let inflated: Inflated;
  try {
    const options: ZlibOptions = { maxOutputLength: maxBytes, info: true };
    inflated = gunzipSync(file, options) as unknown as Inflated;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
      throw new TraceError("NUMAHEAP_TRACE_TOO_LARGE", maxBytes, `the trace inflates to more than ${maxBytes} bytes`, { cause });
    }
    throw new TraceError("NUMAHEAP_TRACE_GZIP", 0, `not a whole gzip stream: ${(cause as Error).message}`, { cause });
  }
  const consumed = inflated.engine.bytesWritten;
  if (consumed !== file.length)
    throw new TraceError("NUMAHEAP_TRACE_GZIP", consumed, `${file.length - consumed} bytes behind the gzip stream`);
  return decodeTrace(inflated.buffer);
}

/**
 * Reads a `.trace.gz` file, or a pipe. No more of it is read than a trace of `maxBytes` can take, deflated as badly as it may be.
 * @throws {TraceError} where the content is damaged; errors of the file system as Node gives them
 */
export async function readTrace(path: string, maxBytes: number = MAX_TRACE_BYTES): Promise<Trace> {
  const most = maxBytes + (maxBytes >> 8) + 4096;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > most)
      throw new TraceError("NUMAHEAP_TRACE_TOO_LARGE", length, `the file is longer than a trace of ${maxBytes} bytes can be`);
  }
  return parseTrace(Buffer.concat(chunks), maxBytes);
}

/**
 * Writes a `.trace.gz` file of these events. Nothing is written that readTrace would refuse.
 * @param name ASCII, as `description` is
 * @throws {TraceError} where the events break a promise of the format, or are what it cannot hold; errors of the file system as Node gives them
 */
export async function writeTrace(path: string, events: Iterable<TraceEvent>, name: string, description = ""): Promise<void> {
  const bytes = encodeTrace(events, name, description);
  if (bytes.length > MAX_TRACE_BYTES)
    throw new TraceError("NUMAHEAP_TRACE_TOO_LARGE", bytes.length, `a trace has at most ${MAX_TRACE_BYTES} bytes before it is deflated`);
  decodeTrace(bytes);
  await writeFile(path, gzipSync(bytes, { level: 9 }));
}
