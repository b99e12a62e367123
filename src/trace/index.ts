// numaheap/trace: traces of allocations read and written, in Node. bench/traces/FORMAT.md describes the format.

export { encodeTrace, type TraceEvent } from "./encode.js";
export { TraceError, type TraceErrorCode } from "./errors.js";
export { MAX_TRACE_BYTES, parseTrace, readTrace, writeTrace } from "./file.js";
export { ALIGNED, CALLOC, decodeTrace, EXIT, FREE, MALLOC, REALLOC, type Trace } from "./format.js";
