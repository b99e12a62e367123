// What a caller of the host passes, checked before it goes to another thread: a schema for each call, and one error for whatever does not fit.

import * as v from "valibot";
import { ADDRESS_END } from "../guest/process.js";
import { HypervisorError } from "../hypervisor/errors.js";
import { BOOT_MODES, PLACEMENT_POLICIES } from "../hypervisor/modes.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { PATIENCE_MS } from "../notify/notifier.js";
import { exactSize, parseSize } from "../topology/size.js";

const one = <const Names extends readonly string[]>(names: Names) => v.picklist(names, `must be one of ${names.join(", ")}`);

const number = (least: number, most: number) => {
  const message = `must be a whole number from ${least} to ${most}`;
  return v.pipe(v.number(message), v.safeInteger(message), v.minValue(least, message), v.maxValue(most, message));
};

const index = number(0, 0xffff_ffff);
const text = v.string("must be text");

/** Bytes, as a number or as text such as "512MiB". */
const Size = v.pipe(
  v.union([v.number(), v.string()], "must be bytes, or a size such as 256MiB"),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const bytes = typeof dataset.value === "string" ? parseSize(dataset.value) : dataset.value;
    if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
    addIssue({ message: "must be bytes, or a size such as 256MiB" });
    return NEVER;
  }),
);

const Frames = v.pipe(
  Size,
  v.check((bytes) => bytes % FRAME_BYTES === 0, `must be a multiple of ${FRAME_BYTES} bytes`),
);

/** What the machine is, is left to whoever makes a topology of it. */
export const HostSchema = v.looseObject({ hypervisor: one(["xen", "kvm"]) }, "must be { hypervisor, ... }");

export const BootSchema = v.strictObject(
  {
    guest: v.optional(one(["linux", "freebsd"]), "linux"),
    vcpus: number(1, 256),
    memory: Size,
    mode: v.optional(one(BOOT_MODES), "adaptive"),
    placement: v.optional(one(PLACEMENT_POLICIES)),
    autonuma: v.optional(v.boolean("must be true or false"), false),
    name: v.optional(text),
  },
  "must be { guest, vcpus, memory, ... }",
);

export const HeapSchema = v.strictObject(
  {
    initialBytes: v.optional(Size),
    maximumBytes: v.optional(Size),
    vcpu: v.optional(index, 0),
    mayBlock: v.optional(v.boolean("must be true or false"), false),
    patience: v.optional(number(1, 2 ** 31 - 1), PATIENCE_MS),
  },
  "must be { initialBytes, maximumBytes, vcpu, mayBlock, patience }",
);

export const DestinationSchema = v.union(
  [v.strictObject({ toNode: index }), v.strictObject({ toCpu: index })],
  "must be { toNode } or { toCpu }, a whole number",
);

export const PagesSchema = v.strictObject({ start: Frames, bytes: Frames, toNode: index }, "must be { start, bytes, toNode }");

export const CpusSchema = v.optional(v.array(index, "must be a list of pCPUs"));

export const TaskSchema = v.strictObject(
  {
    vcpu: index,
    pid: v.optional(index),
    uid: v.optional(index, 0),
    sysNice: v.optional(v.boolean("must be true or false"), false),
  },
  "must be { vcpu, pid, uid, sysNice }",
);

export const IndexSchema = index;
export const AddressSchema = number(0, ADDRESS_END - 1);
export const FramesSchema = Frames;
export const TextSchema = text;
export const PlacementSchema = one(PLACEMENT_POLICIES);

export const LimitsSchema = v.strictObject(
  {
    maxRounds: v.optional(number(1, 1000)),
    stopBelow: v.optional(index),
    onRound: v.optional(v.function("must be a function")),
    pause: v.optional(v.function("must be a function")),
  },
  "must be { maxRounds, stopBelow, onRound, pause }",
);

/**
 * The value, as the schema has it.
 * @param what names it in the message
 * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, which names the field
 */
export function checked<Schema extends v.GenericSchema>(schema: Schema, value: unknown, what: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = [what, ...(issue.path ?? []).map(({ key }) => String(key))].join(".");
  throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `${field}: ${messageOf(issue, schema)}`);
}

/** Of a key that is missing, or that is not to be there, the schema library says what the whole object must be. */
function messageOf(issue: v.BaseIssue<unknown>, schema: v.GenericSchema): string {
  const isKey = (issue.type === "strict_object" || issue.type === "loose_object") && issue.path !== undefined;
  if (!isKey) return issue.message;
  if (issue.expected === "never") return "is not known";
  const { entries } = schema as unknown as { readonly entries: Readonly<Record<string, v.GenericSchema>> };
  const [wanted] = v.safeParse(entries[String(issue.path[0].key)]!, undefined).issues ?? [];
  return wanted ? `is missing, and ${wanted.message}` : "is missing";
}

/** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT unless so many bytes are from `least` to `most` */
export function checkBytes(bytes: number, least: number, most: number, what: string): void {
  if (bytes >= least && bytes <= most) return;
  const message = `${what}: must be from ${exactSize(least)} to ${exactSize(most)}, not ${exactSize(bytes)}`;
  throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", message);
}
