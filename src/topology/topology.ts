// The topology of a machine as a value: which CPUs and which memory each node has, and how far the nodes are from each other. It is plain
// data, frozen: it can be compared, sent to another thread and written as JSON as it is.

import * as v from "valibot";
import { parseCpuList } from "./cpu-list.js";
import { TopologyError } from "./errors.js";
import { findOverlap, formatRange, type MemoryRange, mergeRanges } from "./ranges.js";

/** Distance of a node to itself, as in a SLIT; all others are greater. */
export const LOCAL_DISTANCE = 10;
/** Distance between two nodes of which nothing is said, as Linux takes it. */
export const REMOTE_DISTANCE = 20;
/** Distance of nodes that cannot reach each other (ACPI 6.5, 5.2.17). */
export const UNREACHABLE = 255;

export interface TopologyNode {
  /** Number of the node; numbers may have gaps. */
  readonly id: number;
  /** Numbers of its CPUs, ascending; none: a node of memory only. */
  readonly cpus: readonly number[];
  /** Its memory in bytes, in as few ranges as possible, ascending; none: a node of CPUs only. */
  readonly memory: readonly MemoryRange[];
}

/** Nodes and distances; parseTopology makes it, and nothing in it changes afterwards. */
export interface Topology {
  /** Ascending by id. */
  readonly nodes: readonly TopologyNode[];
  /** `distances[i][j]`: from `nodes[i]` to `nodes[j]`, 10 to 255. Need not be symmetric. */
  readonly distances: readonly (readonly number[])[];
}

const U32 = 0xffff_ffff;

function whole(what: string, most: number) {
  const message = `${what} must be a whole number from 0 to ${most}`;
  return v.pipe(v.number(message), v.safeInteger(message), v.minValue(0, message), v.maxValue(most, message));
}

const list = <Item extends v.GenericSchema>(item: Item, what: string) => v.array(item, `must be a list of ${what}`);

const CpuList = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const cpus = parseCpuList(dataset.value);
    if (cpus) return cpus;
    addIssue({ message: "must be a list of CPUs such as 0-3,8" });
    return NEVER;
  }),
);

const Range = v.pipe(
  v.object(
    { start: whole("an address", Number.MAX_SAFE_INTEGER), end: whole("an address", Number.MAX_SAFE_INTEGER) },
    "must be { start, end }",
  ),
  v.forward(
    v.partialCheck([["start"], ["end"]], ({ start, end }) => end > start, "must be greater than start: ranges are [start, end)"),
    ["end"],
  ),
);

const Shape = v.object(
  {
    nodes: v.pipe(
      list(
        v.object(
          {
            id: whole("the number of a node", U32),
            cpus: v.lazy((input) => (typeof input === "string" ? CpuList : list(whole("a CPU", U32), "CPUs"))),
            memory: list(Range, "ranges"),
          },
          "must be { id, cpus, memory }",
        ),
        "nodes",
      ),
      v.minLength(1, "must have a node at least"),
    ),
    distances: list(list(whole("a distance", UNREACHABLE), "distances"), "rows"),
  },
  "must be { nodes, distances }",
);
type Shape = v.InferOutput<typeof Shape>;

/** `nodes[1].memory[0].end` of the path to an issue. */
function fieldOf(issue: v.BaseIssue<unknown>): string {
  const steps = (issue.path ?? []).map(({ key }) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
  return steps.join("").replace(/^\./, "") || "topology";
}

function checkNodes({ nodes }: Shape): void {
  const nodeOfCpu = new Map<number, number>();
  nodes.forEach(({ id, cpus }, i) => {
    const before = nodes[i - 1]?.id ?? -1;
    if (id === before) throw new TopologyError("NUMAHEAP_TOPOLOGY_DUPLICATE", `nodes[${i}].id`, `node ${id} is there twice`);
    if (id < before)
      throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", `nodes[${i}].id`, `nodes must ascend, and ${id} comes after ${before}`);
    cpus.forEach((cpu, k) => {
      const other = nodeOfCpu.get(cpu);
      if (other !== undefined)
        throw new TopologyError("NUMAHEAP_TOPOLOGY_DUPLICATE", `nodes[${i}].cpus[${k}]`, `CPU ${cpu} is on node ${other} already`);
      nodeOfCpu.set(cpu, id);
    });
  });
}

function checkMemory({ nodes }: Shape): void {
  const named = nodes.flatMap(({ memory }, i) => memory.map((range, k) => ({ ...range, field: `nodes[${i}].memory[${k}]` })));
  const overlap = findOverlap(named);
  if (!overlap) return;
  const [later, earlier] = overlap;
  throw new TopologyError(
    "NUMAHEAP_TOPOLOGY_OVERLAP",
    later.field,
    `${formatRange(later)} shares bytes with ${earlier.field}, ${formatRange(earlier)}`,
  );
}

function checkDistances({ nodes, distances }: Shape): void {
  const fail = (field: string, message: string): never => {
    throw new TopologyError("NUMAHEAP_TOPOLOGY_DISTANCE", field, message);
  };
  if (distances.length !== nodes.length) fail("distances", `${distances.length} rows for ${nodes.length} nodes`);
  distances.forEach((row, i) => {
    if (row.length !== nodes.length) fail(`distances[${i}]`, `${row.length} distances for ${nodes.length} nodes`);
    row.forEach((distance, j) => {
      if (i === j && distance !== LOCAL_DISTANCE)
        fail(`distances[${i}][${j}]`, `a node is at ${LOCAL_DISTANCE} from itself, not ${distance}`);
      if (i !== j && distance <= LOCAL_DISTANCE)
        fail(`distances[${i}][${j}]`, `another node is farther than ${LOCAL_DISTANCE}, which ${distance} is not`);
    });
  });
}

function freeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === "object" && part !== null) freeze(part as object);
  return Object.freeze(value);
}

/**
 * The topology a value describes, checked and in its one form: CPUs ascending, touching ranges of a node joined, everything frozen.
 * `cpus` may be a list as Linux writes it ("0-3,8"). What is not part of a topology is left out.
 * @param value what JSON.parse of a written topology gives, or the same made by hand
 * @throws {TopologyError} which names the field
 */
export function parseTopology(value: unknown): Topology {
  const result = v.safeParse(Shape, value);
  if (!result.success) {
    const [issue] = result.issues;
    // A key that is missing has the schema library's own message.
    const message = issue.input === undefined ? "is missing" : issue.message;
    throw new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", fieldOf(issue), message);
  }
  const shape = result.output;
  checkNodes(shape);
  checkMemory(shape);
  checkDistances(shape);
  return freeze({
    nodes: shape.nodes.map(({ id, cpus, memory }) => ({ id, cpus: [...cpus].sort((a, b) => a - b), memory: mergeRanges(memory) })),
    distances: shape.distances,
  });
}

/** Distances of `count` nodes of which nothing is said: 10 and 20. */
export function defaultDistances(count: number): number[][] {
  return Array.from({ length: count }, (_, i) => Array.from({ length: count }, (_, j) => (i === j ? LOCAL_DISTANCE : REMOTE_DISTANCE)));
}

/** The same CPUs and memory on one node, 0: what a guest is booted with that is to learn its nodes later. */
export function flatTopology({ nodes }: Topology): Topology {
  return parseTopology({
    nodes: [{ id: 0, cpus: nodes.flatMap(({ cpus }) => cpus), memory: nodes.flatMap(({ memory }) => memory) }],
    distances: defaultDistances(1),
  });
}
