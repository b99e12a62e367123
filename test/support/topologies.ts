// Random topologies: gaps in node numbers, nodes without CPUs or memory or both, several ranges, x2APIC numbers, lopsided distances.
import fc from "fast-check";
import { parseTopology, type Topology } from "../../src/topology/topology.js";

/** Few places, so that two topologies have many of them in common. */
const EDGES = [0, 4096, 0xa0000, 0x100000, 0x8000000, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 40, 2 ** 52];
const CPUS = [0, 1, 2, 3, 4, 5, 6, 7, 254, 255, 256, 70_000];
const IDS = [0, 1, 2, 3, 4, 31, 32, 300];

const parts = fc.record({
  ids: fc.subarray(IDS, { minLength: 1, maxLength: 6 }),
  cpus: fc.array(fc.option(fc.nat()), { minLength: CPUS.length, maxLength: CPUS.length }),
  pieces: fc.array(fc.option(fc.nat()), { minLength: EDGES.length - 1, maxLength: EDGES.length - 1 }),
  distances: fc.array(fc.integer({ min: 11, max: 255 }), { minLength: 36, maxLength: 36 }),
});

export const anyTopology: fc.Arbitrary<Topology> = parts.map(({ ids, cpus, pieces, distances }) =>
  parseTopology({
    nodes: ids.map((id, i) => ({
      id,
      cpus: CPUS.filter((_, k) => cpus[k] !== null && cpus[k]! % ids.length === i),
      memory: EDGES.slice(1).flatMap((end, k) => (pieces[k] !== null && pieces[k]! % ids.length === i ? [{ start: EDGES[k]!, end }] : [])),
    })),
    distances: ids.map((_, i) => ids.map((_, j) => (i === j ? 10 : distances[i * ids.length + j]!))),
  }),
);
