// The form of a scenario: what its JSON may say, field by field. What fields owe each other is checked in parse.ts.

import * as v from "valibot";
import { BOOT_MODES, PLACEMENT_POLICIES } from "../hypervisor/modes.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { DISTANCE_NAMES } from "../topology/uniform.js";
import { parseSize } from "../topology/size.js";
import { presets } from "../topology/presets.js";

/** What a scenario may ask for at most, so that a file from anywhere costs bounded memory and time. */
export const LIMITS = {
  fileBytes: 2 ** 20,
  events: 1000,
  /** Of `at`, and of all storms together. */
  milliseconds: 600_000,
  perSecond: 10_000,
  liveMigrations: 16,
  nodes: 32,
  cpusPerNode: 64,
  machineBytes: 32 * 2 ** 30,
  vcpus: 128,
  threads: 32,
  listeners: 8,
  vmBytes: 2 ** 30,
} as const;

const WASM_PAGE = 65536;

const one = <const Names extends readonly string[]>(names: Names) => v.picklist(names, `must be one of ${names.join(", ")}`);

const number = (least: number, most: number) => {
  const message = `must be a whole number from ${least} to ${most}`;
  return v.pipe(v.number(message), v.safeInteger(message), v.minValue(least, message), v.maxValue(most, message));
};

const text = (most: number) => {
  const message = `must be text of at most ${most} characters`;
  return v.pipe(v.string(message), v.maxLength(most, message));
};

/** Bytes, as a number or as text such as "512MiB", in steps of `unit`. */
const size = (unit: number, least: number, most: number) => {
  const message = `must be bytes, or a size such as "16MiB": a multiple of ${unit} from ${least} to ${most}`;
  return v.pipe(
    v.union([v.number(), v.string()], message),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const bytes = typeof dataset.value === "string" ? parseSize(dataset.value) : dataset.value;
      if (bytes !== undefined && bytes % unit === 0 && bytes >= least && bytes <= most) return bytes;
      addIssue({ message });
      return NEVER;
    }),
  );
};

const node = number(0, LIMITS.nodes - 1);
const vcpu = number(0, LIMITS.vcpus - 1);
const milliseconds = number(0, LIMITS.milliseconds);
const seed = number(0, 0xffff_ffff);

const Distances = v.lazy((input) =>
  Array.isArray(input)
    ? v.pipe(
        v.array(v.pipe(v.array(number(10, 255), "must be a row of distances"), v.maxLength(LIMITS.nodes, "is too long"))),
        v.maxLength(LIMITS.nodes, "has too many rows"),
      )
    : v.picklist(DISTANCE_NAMES, `must be ${DISTANCE_NAMES.join(" or ")}, or rows of distances`),
);

const PresetMachine = v.strictObject({ preset: one(Object.keys(presets) as (keyof typeof presets)[]) });
const UniformMachine = v.strictObject(
  {
    nodes: number(1, LIMITS.nodes),
    cpusPerNode: v.optional(number(1, LIMITS.cpusPerNode), 2),
    memoryPerNode: v.optional(size(FRAME_BYTES, FRAME_BYTES, LIMITS.machineBytes), "256MiB"),
    distances: v.optional(Distances, "mesh"),
  },
  "must be { preset } or { nodes, cpusPerNode, memoryPerNode, distances }",
);
const isPreset = (input: unknown): boolean => typeof input === "object" && input !== null && "preset" in input;
const Machine = v.lazy((input) => (isPreset(input) ? PresetMachine : UniformMachine));

const at = milliseconds;
const pages = {
  start: size(FRAME_BYTES, 0, LIMITS.vmBytes),
  bytes: size(FRAME_BYTES, FRAME_BYTES, LIMITS.vmBytes),
};
const share = v.pipe(
  v.number("must be a number above 0, at most 1"),
  v.gtValue(0, "must be a number above 0, at most 1"),
  v.maxValue(1, "must be a number above 0, at most 1"),
);

const EVENTS = [
  /** A vCPU goes to a node, or to a pCPU. */
  v.strictObject({ at, do: v.literal("migrate-vcpu"), vcpu, toNode: v.optional(node), toCpu: v.optional(number(0, 4095)) }),
  /** A range of the guest's memory goes to a node, or that share of each 2 MiB of it. */
  v.strictObject({
    at,
    do: v.literal("migrate-pages"),
    start: v.optional(pages.start),
    bytes: v.optional(pages.bytes),
    share: v.optional(share),
    toNode: node,
  }),
  /** The guest is to do with so much memory. */
  v.strictObject({ at, do: v.literal("balloon"), target: size(FRAME_BYTES, FRAME_BYTES, LIMITS.vmBytes) }),
  /** The hypervisor's load balancer runs; `loads` says before how busy each vCPU is, in per cent. */
  v.strictObject({
    at,
    do: v.literal("balance"),
    loads: v.optional(v.pipe(v.array(number(0, 100), "must be a list of per cents"), v.maxLength(LIMITS.vcpus, "is too long"))),
  }),
  /** Mode policy-hypercall: the guest chooses how memory not yet touched is placed. */
  v.strictObject({ at, do: v.literal("placement"), policy: one(PLACEMENT_POLICIES) }),
  /** The guest advises its hypervisor where a range would best lie. */
  v.strictObject({ at, do: v.literal("advise"), ...pages, toNode: node }),
  /** The machine goes to the other host. */
  v.strictObject({
    at,
    do: v.literal("migrate-live"),
    maxRounds: v.optional(number(1, 100)),
    stopBelow: v.optional(number(0, 2 ** 20)),
  }),
  /** vCPUs and page ranges move at random; with `balloon`, the target is drawn too, from there up. */
  v.strictObject({
    at,
    do: v.literal("storm"),
    for: number(1, LIMITS.milliseconds),
    perSecond: number(1, LIMITS.perSecond),
    seed: v.optional(seed),
    balloon: v.optional(size(FRAME_BYTES, FRAME_BYTES, LIMITS.vmBytes)),
  }),
] as const;

/** What an event may do. */
export const ACTIONS = EVENTS.map(({ entries }) => entries.do.literal);

export const ScenarioSchema = v.strictObject(
  {
    name: v.optional(text(100), "unnamed"),
    description: v.optional(text(1000), ""),
    hypervisor: v.optional(one(["xen", "kvm"]), "xen"),
    guest: v.optional(one(["linux", "freebsd"]), "linux"),
    mode: v.optional(one(BOOT_MODES), "adaptive"),
    placement: v.optional(one(PLACEMENT_POLICIES)),
    seed: v.optional(seed, 1),
    machine: Machine,
    vm: v.strictObject({ vcpus: number(1, LIMITS.vcpus), memory: size(WASM_PAGE, WASM_PAGE, LIMITS.vmBytes) }, "must be { vcpus, memory }"),
    load: v.strictObject(
      {
        trace: v.pipe(text(4096), v.minLength(1, "must name a trace")),
        threads: v.optional(number(1, LIMITS.threads)),
        verify: v.optional(v.boolean("must be true or false"), true),
        listeners: v.optional(number(0, LIMITS.listeners), 2),
      },
      "must be { trace, threads, verify, listeners }",
    ),
    destination: v.optional(Machine),
    events: v.pipe(
      v.array(v.variant("do", EVENTS, `must be { at, do, ... }, "do" one of ${ACTIONS.join(", ")}`), "must be a list of events"),
      v.maxLength(LIMITS.events, `may have ${LIMITS.events} events at most`),
    ),
  },
  "must be { machine, vm, load, events, ... }",
);

/** A scenario as its JSON may be written. */
export type ScenarioFile = v.InferInput<typeof ScenarioSchema>;
/** The same with sizes in bytes, and what was left out filled in. */
export type ScenarioShape = v.InferOutput<typeof ScenarioSchema>;
export type ScenarioEvent = ScenarioShape["events"][number];
export type MachineShape = ScenarioShape["machine"];
