// What changed between two topologies, as a list of changes that leads from one to the other, and the way there. Every change leaves a
// topology that could be: nodes come first and go last, so that whatever moves between them has where to come from and go to.

import { shown } from "../shown.js";
import { TopologyError } from "./errors.js";
import { byStart, cutRanges, formatRange, type OwnedRange } from "./ranges.js";
import { LOCAL_DISTANCE, parseTopology, REMOTE_DISTANCE, type Topology } from "./topology.js";

/** One change. Nodes and CPUs by number, memory in bytes, [start, end). */
export type Change =
  /** A node comes, without CPUs and memory, at 20 from and to all others until told otherwise. */
  | { readonly kind: "node-added"; readonly node: number }
  /** A node goes, which has neither CPUs nor memory any more. */
  | { readonly kind: "node-removed"; readonly node: number }
  | { readonly kind: "cpu-added"; readonly cpu: number; readonly node: number }
  | { readonly kind: "cpu-removed"; readonly cpu: number; readonly node: number }
  | { readonly kind: "cpu-moved"; readonly cpu: number; readonly from: number; readonly to: number }
  | { readonly kind: "memory-added"; readonly start: number; readonly end: number; readonly node: number }
  | { readonly kind: "memory-removed"; readonly start: number; readonly end: number; readonly node: number }
  | { readonly kind: "memory-moved"; readonly start: number; readonly end: number; readonly from: number; readonly to: number }
  | { readonly kind: "distance-changed"; readonly from: number; readonly to: number; readonly before: number; readonly after: number };

const NONE = -1;

const cpuNodes = ({ nodes }: Topology): Map<number, number> => new Map(nodes.flatMap(({ id, cpus }) => cpus.map((cpu) => [cpu, id])));

const ownedRanges = ({ nodes }: Topology): OwnedRange[] =>
  nodes.flatMap(({ id, memory }) => memory.map((range) => ({ ...range, node: id }))).sort(byStart);

function cpuChanges(a: Topology, b: Topology): Change[] {
  const before = cpuNodes(a);
  const after = cpuNodes(b);
  const changes: Change[] = [];
  for (const cpu of [...new Set([...before.keys(), ...after.keys()])].sort((x, y) => x - y)) {
    const from = before.get(cpu) ?? NONE;
    const to = after.get(cpu) ?? NONE;
    if (from === to) continue;
    if (from === NONE) changes.push({ kind: "cpu-added", cpu, node: to });
    else if (to === NONE) changes.push({ kind: "cpu-removed", cpu, node: from });
    else changes.push({ kind: "cpu-moved", cpu, from, to });
  }
  return changes;
}

/** Sweeps over all ends of ranges at once. At each of them a node begins or ends, before or after: no two changes that touch are alike. */
function memoryChanges(a: Topology, b: Topology): Change[] {
  const before = ownedRanges(a);
  const after = ownedRanges(b);
  const cuts = [...new Set([...before, ...after].flatMap(({ start, end }) => [start, end]))].sort((x, y) => x - y);
  const changes: Change[] = [];
  let i = 0;
  let j = 0;
  for (let k = 0; k + 1 < cuts.length; ++k) {
    const [start, end] = [cuts[k]!, cuts[k + 1]!];
    while (i < before.length && before[i]!.end <= start) ++i;
    while (j < after.length && after[j]!.end <= start) ++j;
    const from = (before[i]?.start ?? Infinity) <= start ? before[i]!.node : NONE;
    const to = (after[j]?.start ?? Infinity) <= start ? after[j]!.node : NONE;
    if (from === to) continue;
    if (from === NONE) changes.push({ kind: "memory-added", start, end, node: to });
    else if (to === NONE) changes.push({ kind: "memory-removed", start, end, node: from });
    else changes.push({ kind: "memory-moved", start, end, from, to });
  }
  return changes;
}

/** Between nodes that stay or come; of one that comes, what is not as it begins. */
function distanceChanges(a: Topology, b: Topology): Change[] {
  const placeInA = new Map(a.nodes.map(({ id }, place) => [id, place]));
  const changes: Change[] = [];
  b.nodes.forEach(({ id: from }, i) => {
    b.nodes.forEach(({ id: to }, j) => {
      if (i === j) return;
      const before = a.distances[placeInA.get(from) ?? NONE]?.[placeInA.get(to) ?? NONE] ?? REMOTE_DISTANCE;
      const after = b.distances[i]![j]!;
      if (before !== after) changes.push({ kind: "distance-changed", from, to, before, after });
    });
  });
  return changes;
}

/**
 * The changes that lead from `a` to `b`, in an order in which they can be applied one by one; none where both are equal. Memory that
 * changed alike is one range, as long as can be.
 */
export function diff(a: Topology, b: Topology): Change[] {
  const has = ({ nodes }: Topology, node: number): boolean => nodes.some(({ id }) => id === node);
  return [
    ...b.nodes.filter(({ id }) => !has(a, id)).map(({ id }): Change => ({ kind: "node-added", node: id })),
    ...distanceChanges(a, b),
    ...cpuChanges(a, b),
    ...memoryChanges(a, b),
    ...a.nodes.filter(({ id }) => !has(b, id)).map(({ id }): Change => ({ kind: "node-removed", node: id })),
  ];
}

/** A topology in the form in which it is quick to change. */
class Draft {
  private readonly distances: Map<number, Map<number, number>>;
  private readonly cpus: Map<number, number>;
  private memory: OwnedRange[];
  /** Path of the change at work. */
  private at = "changes";

  constructor(topology: Topology) {
    const { nodes, distances } = topology;
    this.distances = new Map(nodes.map(({ id }, i) => [id, new Map(nodes.map((other, j) => [other.id, distances[i]![j]!]))]));
    this.cpus = cpuNodes(topology);
    this.memory = ownedRanges(topology);
  }

  /** @param field of the change at work; "": the change itself */
  private fail(field: string, message: string): never {
    throw new TopologyError("NUMAHEAP_TOPOLOGY_CHANGE", field === "" ? this.at : `${this.at}.${field}`, message);
  }

  private row(node: number, field: string): Map<number, number> {
    return this.distances.get(node) ?? this.fail(field, `there is no node ${node}`);
  }

  private moveCpu(cpu: number, from: number, to: number, field: string): void {
    const node = this.cpus.get(cpu) ?? NONE;
    if (node !== from) this.fail("cpu", node === NONE ? `there is no CPU ${cpu}` : `CPU ${cpu} is on node ${node}`);
    if (to === NONE) {
      this.cpus.delete(cpu);
      return;
    }
    this.row(to, field);
    this.cpus.set(cpu, to);
  }

  private moveMemory(start: number, end: number, from: number, to: number, field: string): void {
    if (!(end > start)) this.fail("end", `must be greater than start, ${start}`);
    const { inside, outside } = cutRanges(this.memory, start, end);
    const bytes = inside.filter(({ node }) => node === from).reduce((sum, range) => sum + range.end - range.start, 0);
    const strange = from === NONE ? inside.length > 0 : bytes !== end - start;
    if (strange) this.fail("start", `${formatRange({ start, end })} is not ${from === NONE ? "free" : `all of node ${from}`}`);
    this.memory = outside;
    if (to === NONE) return;
    this.row(to, field);
    this.memory.push({ start, end, node: to });
  }

  apply(change: Change, index: number): void {
    this.at = `changes[${index}]`;
    // A change may come from JSON.
    if (typeof (change as unknown) !== "object" || (change as unknown) === null) this.fail("", `is no change, but ${shown(change)}`);
    switch (change.kind) {
      case "node-added": {
        const { node } = change;
        if (this.distances.has(node)) this.fail("node", `node ${node} is there already`);
        const row = new Map([...this.distances.keys()].map((other) => [other, REMOTE_DISTANCE]));
        for (const other of this.distances.values()) other.set(node, REMOTE_DISTANCE);
        this.distances.set(node, row.set(node, LOCAL_DISTANCE));
        return;
      }
      case "node-removed": {
        const { node } = change;
        this.row(node, "node");
        const busy = [...this.cpus.values()].includes(node) || this.memory.some((range) => range.node === node);
        if (busy) this.fail("node", `node ${node} still has CPUs or memory`);
        this.distances.delete(node);
        return;
      }
      case "cpu-added":
        return this.moveCpu(change.cpu, NONE, change.node, "node");
      case "cpu-removed":
        return this.moveCpu(change.cpu, change.node, NONE, "node");
      case "cpu-moved":
        return this.moveCpu(change.cpu, change.from, change.to, "to");
      case "memory-added":
        return this.moveMemory(change.start, change.end, NONE, change.node, "node");
      case "memory-removed":
        return this.moveMemory(change.start, change.end, change.node, NONE, "node");
      case "memory-moved":
        return this.moveMemory(change.start, change.end, change.from, change.to, "to");
      case "distance-changed": {
        const row = this.row(change.from, "from");
        this.row(change.to, "to");
        const before = row.get(change.to);
        if (before !== change.before) this.fail("before", `the distance is ${before}`);
        row.set(change.to, change.after);
        return;
      }
      default:
        this.fail("kind", `there is no change of kind ${shown((change as { kind?: unknown }).kind)}`);
    }
  }

  finish(): Topology {
    const ids = [...this.distances.keys()].sort((a, b) => a - b);
    const cpus = [...this.cpus];
    return parseTopology({
      nodes: ids.map((id) => ({
        id,
        cpus: cpus.filter(([, node]) => node === id).map(([cpu]) => cpu),
        memory: this.memory.filter(({ node }) => node === id).map(({ start, end }) => ({ start, end })),
      })),
      distances: ids.map((from) => ids.map((to) => this.distances.get(from)!.get(to)!)),
    });
  }
}

/**
 * The topology after these changes, in order: `apply(a, diff(a, b))` equals `b`.
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_CHANGE where a change does not fit what is there; others where the outcome is no topology
 */
export function apply(topology: Topology, changes: readonly Change[]): Topology {
  const draft = new Draft(topology);
  changes.forEach((change, index) => draft.apply(change, index));
  return draft.finish();
}
