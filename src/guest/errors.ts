// Typed errors of the guest's kernel. What a program of the guest does wrong it learns by an errno, as its system has it.

/** What went wrong. */
export type GuestErrorCode =
  /** A value out of its range. */
  | "NUMAHEAP_INVALID_ARGUMENT"
  /** A change that the platform tells cannot be: `change` of the message says which. Nothing was changed. */
  | "NUMAHEAP_TOPOLOGY_CHANGE"
  /** No frame is left where the policy allows one, after heaps were asked to give theirs back. A kernel would kill somebody. */
  | "NUMAHEAP_OUT_OF_MEMORY"
  /** A heap cannot end while threads are attached to it. */
  | "NUMAHEAP_HEAP_IN_USE"
  /** A heap cannot be told of what has changed, since somebody holds its locks; it will be once that ends. */
  | "NUMAHEAP_HEAP_BUSY"
  /** A thread of a heap cannot be made to stand still for a live migration. */
  | "NUMAHEAP_CANNOT_STOP"
  /** An address that is not mapped. */
  | "NUMAHEAP_SEGMENTATION_FAULT";

export class GuestError extends Error {
  override readonly name = "GuestError";
  readonly code: GuestErrorCode;

  constructor(code: GuestErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT unless `value` is a whole number from `least` to `most` */
export function whole(value: number, least: number, most: number, what: string): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `${what} must be a whole number from ${least} to ${most}, not ${value}`);
}
