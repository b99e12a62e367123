/** What is wrong with a trace; `offset` of the error says where. */
export type TraceErrorCode =
  /** Not a gzip stream, or a damaged one. */
  | "NUMAHEAP_TRACE_GZIP"
  /** More bytes than the reader was told to accept. */
  | "NUMAHEAP_TRACE_TOO_LARGE"
  /** The first bytes are not `ALTRACE1`. */
  | "NUMAHEAP_TRACE_MAGIC"
  | "NUMAHEAP_TRACE_VERSION"
  /** The file or a column ends too early. */
  | "NUMAHEAP_TRACE_TRUNCATED"
  /** Bytes are left over behind the columns, or in one of them. */
  | "NUMAHEAP_TRACE_TRAILING"
  /** A field of the header contradicts the events, or is not text where text belongs. */
  | "NUMAHEAP_TRACE_HEADER"
  /** An unknown operation, or a tag byte with a bit set that must be clear. */
  | "NUMAHEAP_TRACE_TAG"
  /** A varint longer than ten bytes. */
  | "NUMAHEAP_TRACE_VARINT"
  /** A value no reader can hold: a size that is negative or beyond 2^53 - 1, an alignment beyond 2^31. */
  | "NUMAHEAP_TRACE_RANGE"
  /** A thread index out of range or order, or an event of a thread that has ended. */
  | "NUMAHEAP_TRACE_THREAD"
  /** An event names an object that is not live. */
  | "NUMAHEAP_TRACE_OBJECT"
  | "NUMAHEAP_TRACE_CHECKSUM";

/** A damaged or hostile trace, or events that no trace can hold. */
export class TraceError extends Error {
  override readonly name = "TraceError";
  readonly code: TraceErrorCode;
  /**
   * Offset of the damage in bytes: of the compressed file for `NUMAHEAP_TRACE_GZIP`, of the inflated bytes otherwise. Of an event that was
   * refused in writing: where its tag would stand.
   */
  readonly offset: number;

  constructor(code: TraceErrorCode, offset: number, message: string, options?: ErrorOptions) {
    super(`${message} (at byte ${offset})`, options);
    this.code = code;
    this.offset = offset;
  }
}
