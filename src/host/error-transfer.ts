// Errors that cross threads keep their class, code and fields. Comlink alone would carry their name, message and stack.

import * as Comlink from "comlink";
import { GuestError } from "../guest/errors.js";
import { Errno } from "../guest/linux/errno.js";
import { HeapError } from "../heap/errors.js";
import { HypervisorError } from "../hypervisor/errors.js";
import { AcpiError } from "../topology/acpi/errors.js";
import { TopologyError } from "../topology/errors.js";

/** Classes that arrive as what they were, by the name their errors bear. Any other error arrives as an Error of its name. */
const CLASSES: Readonly<Record<string, { readonly prototype: Error }>> = {
  HeapError,
  HypervisorError,
  GuestError,
  TopologyError,
  AcpiError,
  Errno,
  TypeError,
  RangeError,
};

/** An error as it is posted. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** What else it has that is text, a number or a truth value: code, field, offset, errno. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly cause: WireError | undefined;
}

/** Causes beyond this depth are left out; they could be a circle. */
const MOST_CAUSES = 8;

const isPlain = (value: unknown): boolean => ["string", "number", "boolean"].includes(typeof value);

/** Anything that was thrown, to be posted. */
export function toWire(thrown: unknown, depth = 0): WireError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const own = Object.entries(error).filter(([, value]) => isPlain(value));
  const cause = error.cause === undefined || depth === MOST_CAUSES ? undefined : toWire(error.cause, depth + 1);
  return { name: error.name, message: error.message, stack: error.stack, fields: Object.fromEntries(own), cause };
}

/** The error that was posted. */
export function fromWire({ name, message, stack, fields, cause }: WireError): Error {
  const error = new Error(message, cause && { cause: fromWire(cause) });
  const kind = Object.hasOwn(CLASSES, name) ? CLASSES[name] : undefined;
  if (kind) Object.setPrototypeOf(error, kind.prototype);
  if (stack !== undefined) error.stack = stack;
  Object.assign(error, fields);
  if (error.name !== name) Object.defineProperty(error, "name", { value: name, configurable: true });
  return error;
}

/** What Comlink throws is marked by a symbol it keeps to itself; its own handler knows it. */
const original = Comlink.transferHandlers.get("throw")! as Comlink.TransferHandler<{ value: unknown }, unknown>;

const typed: Comlink.TransferHandler<{ value: unknown }, WireError> = {
  canHandle: (value): value is { value: unknown } => original.canHandle(value),
  serialize: ({ value }) => [toWire(value), []],
  deserialize: (wire) => {
    throw fromWire(wire);
  },
};

/** To be called once in every thread that speaks Comlink, at both ends. */
export function carryErrors(): void {
  Comlink.transferHandlers.set("throw", typed);
}
