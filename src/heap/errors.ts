// Typed errors of the heap. Their `code` survives a structured clone of the message only as text: compare codes, not classes, across realms.

/** What went wrong. */
export type HeapErrorCode =
  /** No memory is left within the limits, or on the nodes the policy binds to. */
  | "NUMAHEAP_OUT_OF_MEMORY"
  /** A lock is held by another thread and this one may not sleep: try again. */
  | "NUMAHEAP_BUSY"
  /** As many threads are attached as can be. */
  | "NUMAHEAP_TOO_MANY_THREADS"
  /** A pointer that is no live block of this heap. */
  | "NUMAHEAP_INVALID_FREE"
  /** A value out of its range. */
  | "NUMAHEAP_INVALID_ARGUMENT"
  /** The memory holds no heap of this version. */
  | "NUMAHEAP_ABI_MISMATCH"
  /** The platform cannot share memory between threads. */
  | "NUMAHEAP_NOT_ISOLATED"
  /** The heap was detached. */
  | "NUMAHEAP_DETACHED";

export class HeapError extends Error {
  override readonly name = "HeapError";
  readonly code: HeapErrorCode;

  constructor(code: HeapErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const EBUSY = 10;
const EINVAL = 28;
export const ENOMEM = 48;

/** The error an errno of the heap stands for. `what` names the call. */
export function errorOf(errno: number, what: string): HeapError {
  if (errno === EBUSY) return new HeapError("NUMAHEAP_BUSY", `${what}: a lock is held and this thread may not sleep; try again`);
  if (errno === EINVAL) return new HeapError("NUMAHEAP_INVALID_ARGUMENT", `${what}: an argument is out of its range`);
  return new HeapError("NUMAHEAP_OUT_OF_MEMORY", `${what}: no memory is left within the heap's limits`);
}

/** In words, by the kinds of assembly/bad-call.ts. */
const BAD_CALLS = [
  "",
  "it lies outside the heap",
  "its page serves no block",
  "it points into a large block",
  "it is not aligned as blocks are",
  "it points into a block",
  "its block is not live: freed twice, or never allocated",
  "bytes beyond the end of its block were written",
];

/** The error of a bad call of this kind. */
export function badCall(kind: number, ptr: number): HeapError {
  return new HeapError("NUMAHEAP_INVALID_FREE", `0x${ptr.toString(16)} is no live block: ${BAD_CALLS[kind] ?? "unknown reason"}`);
}
