// A scenario out of JSON: its form by the schema, then what its fields owe each other. Whatever the value, the answer is a scenario that can
// be played within the limits, or an error that names the field.

import * as v from "valibot";
import { announces } from "../hypervisor/modes.js";
import { FRAME_BYTES, vmLayout } from "../hypervisor/vm-layout.js";
import { TopologyError } from "../topology/errors.js";
import { presets } from "../topology/presets.js";
import { memoryOfNode } from "../topology/queries.js";
import { parseTopology, type Topology } from "../topology/topology.js";
import { uniformTopology } from "../topology/uniform.js";
import { ScenarioError } from "./errors.js";
import { LIMITS, type MachineShape, type ScenarioEvent, ScenarioSchema, type ScenarioShape } from "./schema.js";

/** What whoever plays a scenario may say instead of it. */
export type Overrides = Partial<Pick<ScenarioShape, "hypervisor" | "guest" | "mode" | "seed">>;

/** A scenario that can be played. */
export interface Scenario extends Omit<ScenarioShape, "machine" | "destination" | "load"> {
  readonly machine: Topology;
  readonly destination: Topology | undefined;
  readonly load: ScenarioShape["load"] & { readonly threads: number };
  /** In the order they happen. */
  readonly events: ScenarioEvent[];
  /** The guest is told of changes, so that it has to know them. */
  readonly follows: boolean;
}

const bad = (field: string, message: string): never => {
  throw new ScenarioError("NUMAHEAP_SCENARIO_VALUE", field, message);
};

/** `events[3].toNode` of the path to an issue. */
const fieldOf = (path: readonly { key: unknown }[] = []): string =>
  path
    .map(({ key }) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .replace(/^\./, "");

/** A key of a strict object that is not to be there, or one that is missing: the schema library has words of its own for these. */
function messageOf(issue: v.BaseIssue<unknown>): string {
  if (issue.type !== "strict_object" || issue.path === undefined) return issue.message;
  if (issue.expected === "never") return "is not known";
  return issue.input === undefined ? "is missing" : issue.message;
}

/** @throws {ScenarioError} */
function shapeOf(value: unknown): ScenarioShape {
  const result = v.safeParse(ScenarioSchema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  return bad(fieldOf(issue.path as { key: unknown }[] | undefined) || "scenario", messageOf(issue));
}

function topologyOf(machine: MachineShape, field: string): Topology {
  if ("preset" in machine) return presets[machine.preset].topology;
  if (machine.nodes * machine.memoryPerNode > LIMITS.machineBytes) bad(`${field}.memoryPerNode`, "a machine has at most 32 GiB");
  try {
    return parseTopology(uniformTopology(machine));
  } catch (error) {
    if (!(error instanceof TopologyError)) throw error;
    throw new ScenarioError("NUMAHEAP_SCENARIO_VALUE", `${field}.${error.field}`, error.message.slice(error.field.length + 2), {
      cause: error,
    });
  }
}

const cpusOf = ({ nodes }: Topology): number => nodes.reduce((sum, { cpus }) => sum + cpus.length, 0);
const bytesOf = (topology: Topology): number => topology.nodes.reduce((sum, { id }) => sum + memoryOfNode(topology, id), 0);

/** Checks an event on the machine that it happens on. */
function checkEvent(event: ScenarioEvent, field: string, { vm, mode }: ScenarioShape, machine: Topology): void {
  const { memory, vcpus } = vm;
  const least = (vmLayout(memory / FRAME_BYTES).kernelFrames + 1) * FRAME_BYTES;
  const target = (name: string, bytes: number): void => {
    if (bytes < least || bytes > memory) bad(`${field}.${name}`, `must be from ${least} to the machine's memory, ${memory}`);
  };
  const range = (start: number, bytes: number): void => {
    if (start + bytes > memory) bad(`${field}.bytes`, `the range ends behind the machine's memory, ${memory}`);
  };
  if ("toNode" in event && event.toNode !== undefined && event.toNode >= machine.nodes.length)
    bad(`${field}.toNode`, `the host has nodes 0 to ${machine.nodes.length - 1} at that time`);
  if (event.do === "migrate-vcpu") {
    if (event.vcpu >= vcpus) bad(`${field}.vcpu`, `there are vCPUs 0 to ${vcpus - 1}`);
    if ((event.toNode === undefined) === (event.toCpu === undefined)) bad(field, "must have toNode or toCpu");
    if (event.toCpu !== undefined && event.toCpu >= cpusOf(machine))
      bad(`${field}.toCpu`, `the host has pCPUs 0 to ${cpusOf(machine) - 1} at that time`);
    if (event.toNode !== undefined && machine.nodes[event.toNode]!.cpus.length === 0) bad(`${field}.toNode`, "that node has no CPU");
  } else if (event.do === "migrate-pages") {
    const { start, bytes, share } = event;
    if (share !== undefined ? start !== undefined || bytes !== undefined : start === undefined || bytes === undefined)
      bad(field, "must have start and bytes, or share");
    if (start !== undefined && bytes !== undefined) range(start, bytes);
  } else if (event.do === "advise") range(event.start, event.bytes);
  else if (event.do === "balloon") target("target", event.target);
  else if (event.do === "storm" && event.balloon !== undefined) target("balloon", event.balloon);
  else if (event.do === "placement" && mode !== "policy-hypercall") bad(field, `in mode ${mode} a guest has nothing to choose`);
  else if (event.do === "balance" && event.loads && event.loads.length > vcpus) bad(`${field}.loads`, `there are ${vcpus} vCPUs`);
}

function checkEvents(shape: ScenarioShape, order: readonly number[], machine: Topology, destination: Topology | undefined): void {
  let moves = 0;
  let storms = 0;
  for (const index of order) {
    const event = shape.events[index]!;
    const field = `events[${index}]`;
    checkEvent(event, field, shape, moves % 2 === 0 ? machine : destination!);
    if (event.do === "migrate-live") {
      if (!destination) bad("destination", "is missing: a live migration wants another host");
      if (++moves > LIMITS.liveMigrations) bad(field, `there may be ${LIMITS.liveMigrations} live migrations at most`);
    } else if (event.do === "storm" && (storms += event.for) > LIMITS.milliseconds)
      bad(`${field}.for`, `all storms together may last ${LIMITS.milliseconds} ms at most`);
  }
}

/** Gives each storm a seed: its own, unless `all` are to follow from the scenario's. */
function withSeeds(events: readonly ScenarioEvent[], seed: number, all: boolean): ScenarioEvent[] {
  let storms = 0;
  return events.map((event) => {
    if (event.do !== "storm") return event;
    const next = (seed + storms++) >>> 0;
    return { ...event, seed: all ? next : (event.seed ?? next) };
  });
}

/**
 * The scenario a value describes.
 * @param value what JSON.parse gives
 * @param overrides what is to hold instead of what it says
 * @throws {ScenarioError} NUMAHEAP_SCENARIO_VALUE, which names the field
 */
export function parseScenario(value: unknown, overrides: Overrides = {}): Scenario {
  const shape = { ...shapeOf(value), ...overrides };
  const machine = topologyOf(shape.machine, "machine");
  const destination = shape.destination && topologyOf(shape.destination, "destination");
  const { vm, load, mode, placement } = shape;
  for (const [host, field] of [[machine, "machine"] as const, ...(destination ? [[destination, "destination"] as const] : [])]) {
    if (vm.memory > bytesOf(host)) bad("vm.memory", `the ${field} has ${bytesOf(host)} bytes`);
  }
  if (vmLayout(vm.memory / FRAME_BYTES).kernelFrames * FRAME_BYTES >= vm.memory) bad("vm.memory", "is less than a kernel needs");
  const threads = load.threads ?? Math.min(vm.vcpus, LIMITS.threads);
  if (threads > vm.vcpus) bad("load.threads", `worker i runs on vCPU i, and there are ${vm.vcpus}`);
  if (placement !== undefined && mode !== "policy-hypercall") bad("placement", `in mode ${mode} a guest has nothing to choose`);
  const order = [...shape.events.keys()].sort((a, b) => shape.events[a]!.at - shape.events[b]!.at || a - b);
  checkEvents(shape, order, machine, destination);
  const events = withSeeds(
    order.map((index) => shape.events[index]!),
    shape.seed,
    overrides.seed !== undefined,
  );
  return { ...shape, machine, destination, events, load: { ...load, threads }, follows: announces(mode) };
}
