// Typed errors of the hypervisors and of the drivers that talk to them. Across workers compare codes, not classes.

import { shown } from "../shown.js";

/** What went wrong. */
export type HypervisorErrorCode =
  /** A value out of its range. */
  | "NUMAHEAP_INVALID_ARGUMENT"
  /** No such virtual machine here: destroyed, moved to another host, or never made. */
  | "NUMAHEAP_NO_SUCH_VM"
  /** More memory is asked for than the machine has left. */
  | "NUMAHEAP_OVERCOMMIT"
  /** No node has a machine frame left. */
  | "NUMAHEAP_NO_MACHINE_FRAME"
  /** The affinity of a vCPU does not allow it there. */
  | "NUMAHEAP_AFFINITY"
  /** A live migration was given up; the virtual machine runs on where it was. */
  | "NUMAHEAP_MIGRATION_ABORTED"
  /** A guest broke the rules of a device, which does nothing until it is reset. */
  | "NUMAHEAP_DEVICE_NEEDS_RESET"
  /** The hypervisor refused a guest's request; `errno` says why. */
  | "NUMAHEAP_PLATFORM_REFUSED"
  /** The other side of a connection is gone. */
  | "NUMAHEAP_DISCONNECTED";

export class HypervisorError extends Error {
  override readonly name = "HypervisorError";
  readonly code: HypervisorErrorCode;
  /** What a guest would find in errno; 0 where no guest asked. */
  readonly errno: number;

  constructor(code: HypervisorErrorCode, message: string, options?: ErrorOptions & { errno?: number }) {
    super(message, options);
    this.code = code;
    this.errno = options?.errno ?? 0;
  }
}

export const disconnected = (): HypervisorError =>
  new HypervisorError(
    "NUMAHEAP_DISCONNECTED",
    "the connection to the hypervisor is closed: the machine ended, or another guest was connected to it",
  );

/** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT unless `value` is a whole number from `least` to `most` */
export function whole(value: unknown, least: number, most: number, what: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `${what} must be a whole number from ${least} to ${most}, not ${shown(value)}`);
}

/** Error numbers a guest is answered with, as Xen and Linux count them. */
export const ENOENT = 2;
export const E2BIG = 7;
export const ENOMEM = 12;
export const EACCES = 13;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENOSPC = 28;
export const ENOSYS = 38;
export const EOPNOTSUPP = 95;
export const ENOBUFS = 105;

const ERRNO_OF: Partial<Record<HypervisorErrorCode, number>> = {
  NUMAHEAP_INVALID_ARGUMENT: EINVAL,
  NUMAHEAP_NO_SUCH_VM: ENOENT,
  NUMAHEAP_OVERCOMMIT: ENOMEM,
  NUMAHEAP_NO_MACHINE_FRAME: ENOMEM,
};

/** What a guest is answered for a refusal; anything else is a fault of the hypervisor's own and goes on upwards. */
export function errnoOf(error: unknown): number {
  if (error instanceof HypervisorError) {
    const errno = error.errno || ERRNO_OF[error.code];
    if (errno) return errno;
  }
  throw error;
}
