// Topologies as values: what is refused and by which field, queries, presets, changes between two of them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatCpuList, parseCpuList } from "../../src/topology/cpu-list.js";
import { apply, type Change, diff } from "../../src/topology/diff.js";
import { TopologyError, type TopologyErrorCode } from "../../src/topology/errors.js";
import { formatTopology } from "../../src/topology/format.js";
import { assertFitsHeap } from "../../src/topology/limits.js";
import { type PresetName, presets } from "../../src/topology/presets.js";
import { distance, memoryOfNode, nearestNodes, nodeById, nodeOfAddress, nodeOfCpu } from "../../src/topology/queries.js";
import { flatTopology, parseTopology, type Topology } from "../../src/topology/topology.js";
import { anyTopology } from "../support/topologies.js";

const MIB = 2 ** 20;
/** Two nodes of two CPUs and 64 MiB; the tests change copies of it. */
const two = () => ({
  nodes: [
    { id: 0, cpus: [0, 1], memory: [{ start: 0, end: 64 * MIB }] },
    { id: 1, cpus: [2, 3], memory: [{ start: 64 * MIB, end: 128 * MIB }] },
  ],
  distances: [
    [10, 20],
    [21, 10],
  ],
});
type Two = ReturnType<typeof two>;

/** The error a call throws. */
function errorOf(call: () => unknown): TopologyError {
  try {
    call();
  } catch (error) {
    if (error instanceof TopologyError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a value", () => {
  test("is frozen all through, plain, and survives JSON and a structured clone", () => {
    const topology = parseTopology(two());
    expect(topology).toEqual(two());
    for (const part of [
      topology,
      topology.nodes,
      topology.nodes[1],
      topology.nodes[1]!.cpus,
      topology.nodes[0]!.memory[0],
      topology.distances[1],
    ])
      expect(Object.isFrozen(part)).toBe(true);
    expect(parseTopology(JSON.parse(JSON.stringify(topology)))).toEqual(topology);
    expect(structuredClone(topology)).toEqual(topology);
  });

  test("does not share its parts with what it was made of", () => {
    const made = two();
    const topology = parseTopology(made);
    made.nodes[0]!.cpus.push(9);
    made.distances[0]![1] = 99;
    expect(topology).toEqual(two());
  });

  test("has one form: CPUs ascend, touching ranges are one, other keys are left out", () => {
    const memory = [
      { start: 8192, end: 12288 },
      { start: 0, end: 4096 },
      { start: 4096, end: 8192 },
      { start: 20480, end: 24576 },
    ];
    const topology = parseTopology({ name: "x", nodes: [{ id: 3, cpus: [5, 1, 3], memory, free: 1 }], distances: [[10]] });
    expect(topology).toEqual({
      nodes: [
        {
          id: 3,
          cpus: [1, 3, 5],
          memory: [
            { start: 0, end: 12288 },
            { start: 20480, end: 24576 },
          ],
        },
      ],
      distances: [[10]],
    });
  });

  test("takes CPUs as Linux lists them", () => {
    expect(parseTopology({ nodes: [{ id: 0, cpus: "0-2,8", memory: [] }], distances: [[10]] }).nodes[0]!.cpus).toEqual([0, 1, 2, 8]);
  });

  test("may have distances that differ by direction, and nodes out of reach", () => {
    expect(parseTopology({ ...two(), distances: [[10, 255], [11, 10]] }).distances).toEqual([[10, 255], [11, 10]]); // prettier-ignore
  });

  const value = "NUMAHEAP_TOPOLOGY_VALUE";
  const far = "NUMAHEAP_TOPOLOGY_DISTANCE";
  const twice = "NUMAHEAP_TOPOLOGY_DUPLICATE";
  const overlap = "NUMAHEAP_TOPOLOGY_OVERLAP";
  const edited = (edit: (made: Two) => unknown) => (): unknown => {
    const made = two();
    edit(made);
    return made;
  };
  const as = (thing: unknown): never => thing as never;
  test.each<[string, () => unknown, TopologyErrorCode, string, RegExp]>([
    ["no object", () => 7, value, "topology", /must be \{ nodes, distances \}/],
    ["nothing", () => undefined, value, "topology", /is missing/],
    ["no nodes", edited((t) => (t.nodes = [])), value, "nodes", /a node at least/],
    ["nodes that are no list", edited((t) => (t.nodes = as({}))), value, "nodes", /list of nodes/],
    ["a node that is none", edited((t) => (t.nodes[1] = as("x"))), value, "nodes[1]", /must be \{ id, cpus, memory \}/],
    ["a number that is none", edited((t) => (t.nodes[1]!.id = -1)), value, "nodes[1].id", /whole number/],
    ["a node twice", edited((t) => (t.nodes[1]!.id = 0)), twice, "nodes[1].id", /node 0 is there twice/],
    ["nodes out of order", edited((t) => (t.nodes[0]!.id = 5)), value, "nodes[1].id", /1 comes after 5/],
    ["no CPUs said", edited((t) => delete as(t.nodes[0]!)["cpus"]), value, "nodes[0].cpus", /is missing/],
    ["half a CPU", edited((t) => (t.nodes[0]!.cpus[1] = 0.5)), value, "nodes[0].cpus[1]", /a CPU must be a whole number/],
    ["a CPU too large", edited((t) => (t.nodes[0]!.cpus[1] = 2 ** 32)), value, "nodes[0].cpus[1]", /to 4294967295/],
    ["a bad list of CPUs", edited((t) => (t.nodes[0]!.cpus = as("0-"))), value, "nodes[0].cpus", /such as 0-3,8/],
    ["a CPU on two nodes", edited((t) => t.nodes[1]!.cpus.push(0)), twice, "nodes[1].cpus[2]", /CPU 0 is on node 0 already/],
    ["a CPU twice on one", edited((t) => t.nodes[1]!.cpus.push(2)), twice, "nodes[1].cpus[2]", /CPU 2 is on node 1 already/],
    ["a range without an end", edited((t) => delete as(t.nodes[1]!.memory[0]!)["end"]), value, "nodes[1].memory[0].end", /is missing/],
    ["a range of nothing", edited((t) => (t.nodes[0]!.memory[0]!.end = 0)), value, "nodes[0].memory[0].end", /greater than start/],
    ["an address that is none", edited((t) => (t.nodes[0]!.memory[0]!.end = 2 ** 53)), value, "nodes[0].memory[0].end", /an address/],
    ["not a number", edited((t) => (t.nodes[0]!.memory[0]!.start = NaN)), value, "nodes[0].memory[0].start", /an address/],
    ["memory of two", edited((t) => (t.nodes[0]!.memory[0]!.end += 1)), overlap, "nodes[1].memory[0]", /nodes\[0\]\.memory\[0\]/],
    [
      "memory twice",
      edited((t) => t.nodes[1]!.memory.push({ start: 65 * MIB, end: 66 * MIB })),
      overlap,
      "nodes[1].memory[1]",
      /shares bytes/,
    ],
    ["no distances", edited((t) => delete as(t)["distances"]), value, "distances", /is missing/],
    ["too few rows", edited((t) => t.distances.pop()), far, "distances", /1 rows for 2 nodes/],
    ["a short row", edited((t) => t.distances[1]!.pop()), far, "distances[1]", /1 distances for 2 nodes/],
    ["a diagonal not 10", edited((t) => (t.distances[1]![1] = 11)), far, "distances[1][1]", /10 from itself/],
    ["as near as itself", edited((t) => (t.distances[1]![0] = 10)), far, "distances[1][0]", /farther than 10/],
    ["too far", edited((t) => (t.distances[0]![1] = 256)), value, "distances[0][1]", /to 255/],
  ])("%s is refused, and the field named", (_, made, code, field, words) => {
    const error = errorOf(() => parseTopology(made()));
    expect([error.code, error.field]).toEqual([code, field]);
    expect(error.message).toMatch(words);
    expect(error.message.startsWith(field)).toBe(true);
  });
});

describe("queries", () => {
  const topology = parseTopology({
    nodes: [
      { id: 0, cpus: [0, 4], memory: [{ start: 0, end: 100 }, { start: 200, end: 300 }] }, // prettier-ignore
      { id: 2, cpus: [], memory: [{ start: 100, end: 150 }] },
      { id: 7, cpus: [1], memory: [] },
    ],
    distances: [
      [10, 30, 20],
      [17, 10, 17],
      [21, 22, 10],
    ],
  });

  test("find the node of a CPU and of an address, or none", () => {
    expect([0, 1, 4, 5].map((cpu) => nodeOfCpu(topology, cpu))).toEqual([0, 7, 0, -1]);
    expect([0, 99, 100, 149, 150, 200, 299, 300].map((address) => nodeOfAddress(topology, address))).toEqual([0, 0, 2, 2, -1, 0, 0, -1]);
  });

  test("go by node numbers, not places", () => {
    expect(distance(topology, 7, 2)).toBe(22);
    expect(distance(topology, 2, 7)).toBe(17);
    expect(nodeById(topology, 7)).toBe(topology.nodes[2]);
    expect([0, 2, 7].map((node) => memoryOfNode(topology, node))).toEqual([200, 50, 0]);
  });

  test("order nodes by distance from one, ties by the lower number", () => {
    expect(nearestNodes(topology, 0)).toEqual([0, 7, 2]);
    expect(nearestNodes(topology, 2)).toEqual([2, 0, 7]);
    expect(nearestNodes(topology, 7)).toEqual([7, 0, 2]);
  });

  test.each([
    ["distance from", () => distance(topology, 1, 0)],
    ["distance to", () => distance(topology, 0, 1)],
    ["nearest nodes of", () => nearestNodes(topology, 1)],
    ["memory of", () => memoryOfNode(topology, 1)],
  ])("%s a node that is not there is an error", (_, ask) => {
    expect(errorOf(ask)).toMatchObject({ code: "NUMAHEAP_TOPOLOGY_UNKNOWN", field: "node", message: "node: there is no node 1" });
  });

  test("a flat topology has everything on node 0", () => {
    expect(flatTopology(topology)).toEqual({
      nodes: [{ id: 0, cpus: [0, 1, 4], memory: [{ start: 0, end: 150 }, { start: 200, end: 300 }] }], // prettier-ignore
      distances: [[10]],
    });
  });
});

test("beyond what a heap knows a topology is refused where a heap is to follow it, not before", () => {
  const large = (id: number, cpu: number): Topology => parseTopology({ nodes: [{ id, cpus: [0, cpu], memory: [] }], distances: [[10]] });
  expect(() => assertFitsHeap(large(31, 255))).not.toThrow();
  expect(errorOf(() => assertFitsHeap(large(32, 1)))).toMatchObject({ code: "NUMAHEAP_TOPOLOGY_LIMIT", field: "nodes[0].id" });
  expect(errorOf(() => assertFitsHeap(large(0, 256)))).toMatchObject({ code: "NUMAHEAP_TOPOLOGY_LIMIT", field: "nodes[0].cpus[1]" });
});

describe("presets", () => {
  const distances = (name: PresetName, node: number): string => presets[name].topology.distances[node]!.join(" ");
  const without = (name: PresetName, part: "cpus" | "memory"): number[] =>
    presets[name].topology.nodes.filter((node) => node[part].length === 0).map(({ id }) => id);

  test.each(Object.entries(presets))("%s fits a heap, and is symmetric", (_, { topology, summary }) => {
    assertFitsHeap(topology);
    expect(summary).not.toBe("");
    topology.distances.forEach((row, i) => row.forEach((value, j) => expect(value).toBe(topology.distances[j]![i])));
    const cpus = topology.nodes.flatMap((node) => node.cpus);
    expect(cpus).toEqual(cpus.map((_, i) => i));
  });

  test("are the machines their names say", () => {
    expect(Object.values(presets).map(({ topology }) => topology.nodes.length)).toEqual([1, 2, 4, 4, 8, 3, 3]);
    expect([0, 1, 2, 3].map((node) => distances("4-socket-ring", node))).toEqual([
      "10 21 31 21",
      "21 10 21 31",
      "31 21 10 21",
      "21 31 21 10",
    ]);
    expect([0, 3].map((node) => distances("4-socket-mesh", node))).toEqual(["10 21 21 21", "21 21 21 10"]);
    expect([0, 3, 6].map((node) => distances("8-node-glued", node))).toEqual([
      "10 12 16 16 32 32 32 32",
      "16 16 12 10 32 32 32 32",
      "32 32 32 32 16 16 10 12",
    ]);
    expect([without("memoryless-node", "memory"), without("memoryless-node", "cpus")]).toEqual([[1], []]);
    expect([without("cpuless-node", "memory"), without("cpuless-node", "cpus")]).toEqual([[], [2]]);
  });
});

describe("changes", () => {
  const base = parseTopology(two());
  const after = (edit: (made: Two) => unknown): Topology => {
    const made = two();
    edit(made);
    return parseTopology(made);
  };

  test("of a vCPU, of a range in the middle, and of a distance", () => {
    const next = after((made) => {
      made.nodes[0]!.cpus = [0];
      made.nodes[1]!.cpus = [1, 2, 3];
      made.nodes[0]!.memory = [{ start: 0, end: 16 * MIB }, { start: 32 * MIB, end: 64 * MIB }]; // prettier-ignore
      made.nodes[1]!.memory.push({ start: 16 * MIB, end: 32 * MIB });
      made.distances[0]![1] = 30;
    });
    expect(diff(base, next)).toEqual([
      { kind: "distance-changed", from: 0, to: 1, before: 20, after: 30 },
      { kind: "cpu-moved", cpu: 1, from: 0, to: 1 },
      { kind: "memory-moved", start: 16 * MIB, end: 32 * MIB, from: 0, to: 1 },
    ]);
  });

  test("of memory are as long as can be, whatever the ranges were cut like", () => {
    const a = after((made) => {
      made.nodes[0]!.memory = [0, 2, 4].map((k) => ({ start: k * MIB, end: (k + 1) * MIB }));
      made.nodes[1]!.memory = [1, 3, 5].map((k) => ({ start: k * MIB, end: (k + 1) * MIB }));
    });
    const b = after((made) => {
      made.nodes[0]!.memory = [];
      made.nodes[1]!.memory = [{ start: 8 * MIB, end: 10 * MIB }];
    });
    expect(diff(b, a).filter(({ kind }) => kind === "memory-added").length).toBe(6);
    const flat = after((made) => {
      made.nodes[0]!.memory = [];
      made.nodes[1]!.memory = [{ start: 0, end: 6 * MIB }];
    });
    expect(diff(flat, b)).toEqual([
      { kind: "memory-removed", start: 0, end: 6 * MIB, node: 1 },
      { kind: "memory-added", start: 8 * MIB, end: 10 * MIB, node: 1 },
    ]);
  });

  test("of nodes that come and go", () => {
    const next = parseTopology({
      nodes: [base.nodes[0], { ...base.nodes[1], id: 4 }],
      distances: [
        [10, 20],
        [17, 10],
      ],
    });
    expect(diff(base, next)).toEqual([
      { kind: "node-added", node: 4 },
      { kind: "distance-changed", from: 4, to: 0, before: 20, after: 17 },
      { kind: "cpu-moved", cpu: 2, from: 1, to: 4 },
      { kind: "cpu-moved", cpu: 3, from: 1, to: 4 },
      { kind: "memory-moved", start: 64 * MIB, end: 128 * MIB, from: 1, to: 4 },
      { kind: "node-removed", node: 1 },
    ]);
  });

  test("lead from any topology to any other, one by one; JSON keeps them", () => {
    fc.assert(
      fc.property(anyTopology, anyTopology, (a, b) => {
        const changes = diff(a, b);
        expect(apply(a, changes)).toEqual(b);
        expect(apply(a, JSON.parse(JSON.stringify(changes)) as Change[])).toEqual(b);
        expect(changes.reduce((topology, change) => apply(topology, [change]), a)).toEqual(b);
        expect(diff(a, a)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test("name each CPU, byte and distance once, and touching memory that changed alike as one", () => {
    fc.assert(
      fc.property(anyTopology, anyTopology, (a, b) => {
        const seen = new Set<string>();
        let last: { end: number; how: string } | undefined;
        for (const change of diff(a, b)) {
          if ("start" in change) {
            const { start, end, ...how } = change;
            expect(start).toBeGreaterThanOrEqual(last?.end ?? 0);
            if (last?.end === start) expect(JSON.stringify(how)).not.toBe(last.how);
            last = { end, how: JSON.stringify(how) };
          } else {
            const name = "cpu" in change ? `cpu ${change.cpu}` : "before" in change ? `${change.from}-${change.to}` : `node ${change.node}`;
            expect(seen.has(name)).toBe(false);
            seen.add(name);
          }
        }
      }),
    );
  });

  test.each<[string, Change, string, RegExp]>([
    ["a node that is there", { kind: "node-added", node: 1 }, "node", /there already/],
    ["a node that is not", { kind: "node-removed", node: 7 }, "node", /no node 7/],
    ["a node in use", { kind: "node-removed", node: 1 }, "node", /still has CPUs or memory/],
    ["a CPU to nowhere", { kind: "cpu-moved", cpu: 0, from: 0, to: 9 }, "to", /no node 9/],
    ["a CPU from elsewhere", { kind: "cpu-moved", cpu: 0, from: 1, to: 0 }, "cpu", /CPU 0 is on node 0/],
    ["a CPU that is not there", { kind: "cpu-removed", cpu: 9, node: 0 }, "cpu", /no CPU 9/],
    ["a CPU that is", { kind: "cpu-added", cpu: 3, node: 0 }, "cpu", /CPU 3 is on node 1/],
    ["a CPU to no node", { kind: "cpu-added", cpu: 9, node: 9 }, "node", /no node 9/],
    ["memory of two nodes", { kind: "memory-moved", start: 0, end: 65 * MIB, from: 0, to: 1 }, "start", /not all of node 0/],
    ["memory nobody has", { kind: "memory-removed", start: 128 * MIB, end: 129 * MIB, node: 1 }, "start", /not all of node 1/],
    ["memory somebody has", { kind: "memory-added", start: 127 * MIB, end: 129 * MIB, node: 1 }, "start", /is not free/],
    ["memory to nowhere", { kind: "memory-moved", start: 0, end: MIB, from: 0, to: 9 }, "to", /no node 9/],
    ["no memory", { kind: "memory-moved", start: MIB, end: MIB, from: 0, to: 1 }, "end", /greater than start/],
    ["another distance", { kind: "distance-changed", from: 0, to: 1, before: 21, after: 22 }, "before", /the distance is 20/],
    ["a distance to nowhere", { kind: "distance-changed", from: 0, to: 5, before: 20, after: 22 }, "to", /no node 5/],
  ])("of %s do not fit, and are refused by number and field", (_, change, field, words) => {
    const error = errorOf(() => apply(base, [{ kind: "node-added", node: 2 }, change]));
    expect([error.code, error.field]).toEqual(["NUMAHEAP_TOPOLOGY_CHANGE", `changes[1].${field}`]);
    expect(error.message).toMatch(words);
  });

  test.each<[string, unknown, string, RegExp]>([
    ["null", null, "changes[1]", /no change, but null/],
    ["a word", "cpu-moved", "changes[1]", /no change, but "cpu-moved"/],
    ["an unknown kind", { kind: "cpu-move", cpu: 0, from: 0, to: 1 }, "changes[1].kind", /no change of kind "cpu-move"$/],
    ["no kind", {}, "changes[1].kind", /no change of kind undefined/],
  ])("out of JSON: %s is refused by number", (_, change, field, words) => {
    const error = errorOf(() => apply(base, [{ kind: "node-added", node: 2 }, change as Change]));
    expect([error.code, error.field]).toEqual(["NUMAHEAP_TOPOLOGY_CHANGE", field]);
    expect(error.message).toMatch(words);
  });

  test("whose outcome is no topology are refused", () => {
    const near: Change = { kind: "distance-changed", from: 0, to: 1, before: 20, after: 10 };
    expect(errorOf(() => apply(base, [near]))).toMatchObject({ code: "NUMAHEAP_TOPOLOGY_DISTANCE", field: "distances[0][1]" });
  });
});

test("a topology in words is what numactl --hardware prints, but for the free memory", () => {
  const topology = parseTopology({
    nodes: [
      { id: 0, cpus: [0, 1, 2], memory: [{ start: 0, end: 64 * MIB + 5 }] },
      { id: 1, cpus: [], memory: [] },
      { id: 12, cpus: [3], memory: [] },
    ],
    distances: [
      [10, 20, 100],
      [20, 10, 20],
      [100, 20, 10],
    ],
  });
  expect(formatTopology(topology)).toBe(
    [
      "available: 3 nodes (0-1,12)",
      "node 0 cpus: 0 1 2",
      "node 0 size: 64 MB",
      "node 1 cpus:",
      "node 1 size: 0 MB",
      "node 12 cpus: 3",
      "node 12 size: 0 MB",
      "node distances:",
      "node   0   1  12",
      "  0:  10  20 100",
      "  1:  20  10  20",
      " 12: 100  20  10",
      "",
    ].join("\n"),
  );
});

describe("lists of CPUs", () => {
  test("are read and written as Linux does", () => {
    expect(parseCpuList("0-3,8,10-11\n")).toEqual([0, 1, 2, 3, 8, 10, 11]);
    expect(parseCpuList("")).toEqual([]);
    expect(formatCpuList([0, 1, 2, 3, 8, 10, 11])).toBe("0-3,8,10-11");
    expect(formatCpuList([])).toBe("");
    expect(parseCpuList("0-65535")?.length).toBe(65536);
    expect(parseCpuList("5,1-2,2")).toEqual([1, 2, 5]);
  });

  test.each(["x", "1-", "-1", "3-1", "1,,2", "1.5", "0-65536", "9,0-99999999", "0x1", "1 2"])("%s is none", (list) => {
    expect(parseCpuList(list)).toBeUndefined();
  });

  test("come back as they went", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(300)), (list) => {
        const sorted = [...list].sort((a, b) => a - b);
        expect(parseCpuList(formatCpuList(sorted))).toEqual(sorted);
      }),
    );
  });
});
