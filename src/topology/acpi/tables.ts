// From the two tables to a topology and back. Nodes get their numbers as Linux gives them (drivers/acpi/numa/srat.c): in order of first
// appearance, processors before memory. A proximity domain is not a node number.
//
// CPUs go by their APIC ids: what numbers CPUs is another table, the MADT.

import { nodeById } from "../queries.js";
import { mergeRanges, type OwnedRange } from "../ranges.js";
import { defaultDistances, parseTopology, type Topology } from "../topology.js";
import { AcpiError } from "./errors.js";
import type { AcpiHeader } from "./header.js";
import { decodeSlit, encodeSlit, type SlitTable } from "./slit.js";
import { decodeSrat, encodeSrat, entryOffsets, type SratEntry, type SratTable } from "./srat.js";

/** What firmware says of the nodes. */
export interface AcpiTopology {
  /** With the memory present at boot. */
  readonly topology: Topology;
  /** Proximity domain of each node. */
  readonly proximityDomains: readonly number[];
  /** Where memory may come later, by node; each node's in as few ranges as possible. */
  readonly hotplug: readonly OwnedRange[];
  /** Structures of the SRAT whose type is not known here, by the byte they begin at. */
  readonly skipped: readonly { readonly type: number; readonly offset: number; readonly length: number }[];
}

/** First id that takes an x2APIC structure: 255 is everybody's address in the older one. */
const FIRST_X2APIC = 255;
const NUMBER_OF_LOCALITIES = 36;

const isProcessor = (entry: SratEntry): boolean => entry.kind === "apic" || entry.kind === "x2apic";

/** Domains in the order in which their nodes are numbered. */
function domainsOf({ entries }: SratTable): number[] {
  const enabled = entries.filter((entry) => entry.kind !== "unknown").filter((entry) => entry.enabled);
  const ordered = [...enabled.filter(isProcessor), ...enabled.filter((entry) => !isProcessor(entry))];
  return [...new Set(ordered.map(({ proximityDomain }) => proximityDomain))];
}

/** What the parts of a SLIT say of these domains; 10 and 20 without one. */
function distancesOf(domains: readonly number[], slit: SlitTable | undefined): readonly (readonly number[])[] {
  if (!slit) return defaultDistances(domains.length);
  const highest = domains.reduce((most, domain) => Math.max(most, domain), 0);
  const count = slit.distances.length;
  if (count <= highest) {
    throw new AcpiError(
      "NUMAHEAP_ACPI_LOCALITIES",
      "SLIT",
      NUMBER_OF_LOCALITIES,
      "number of system localities",
      `${count} localities, and the SRAT has a proximity domain ${highest}`,
    );
  }
  return domains.map((from) => domains.map((to) => slit.distances[from]![to]!));
}

function fromTables(srat: SratTable, slit: SlitTable | undefined): AcpiTopology {
  const domains = domainsOf(srat);
  const nodeOf = new Map(domains.map((domain, node) => [domain, node]));
  const cpus = domains.map((): Set<number> => new Set());
  const memory = domains.map((): OwnedRange[] => []);
  const hotplug = domains.map((): OwnedRange[] => []);
  const skipped: { type: number; offset: number; length: number }[] = [];
  const offsets = entryOffsets(srat.entries);
  srat.entries.forEach((entry, i) => {
    if (entry.kind === "unknown") {
      skipped.push({ type: entry.type, offset: offsets[i]!, length: 2 + entry.body.length });
      return;
    }
    if (!entry.enabled) return;
    const node = nodeOf.get(entry.proximityDomain)!;
    if (entry.kind === "memory") {
      const to = entry.hotPluggable ? hotplug : memory;
      if (entry.length > 0) to[node]!.push({ start: entry.base, end: entry.base + entry.length, node });
    } else cpus[node]!.add(entry.kind === "apic" ? entry.apicId : entry.x2apicId);
  });
  return {
    topology: parseTopology({
      nodes: domains.map((_, id) => ({ id, cpus: [...cpus[id]!], memory: mergeRanges(memory[id]!) })),
      distances: distancesOf(domains, slit),
    }),
    proximityDomains: domains,
    hotplug: hotplug.flatMap((ranges, node) => mergeRanges(ranges).map((range) => ({ ...range, node }))),
    skipped,
  };
}

/**
 * The topology an SRAT and a SLIT describe. Distances are 10 and 20 without a SLIT. With a SLIT alone, which Linux would not look at, each
 * of its localities is a node without CPUs and memory.
 * @throws {AcpiError} for a malformed table, tables that contradict each other, or none at all
 */
export function topologyFromAcpi({ srat, slit }: { srat?: Uint8Array | undefined; slit?: Uint8Array | undefined }): AcpiTopology {
  const slitTable = slit && decodeSlit(slit);
  if (srat) return fromTables(decodeSrat(srat), slitTable);
  if (!slitTable) throw new AcpiError("NUMAHEAP_ACPI_NO_TABLE", "SRAT", 0, "signature", "neither an SRAT nor a SLIT is given");
  const nodes = slitTable.distances.map((_, id) => ({ id, cpus: [], memory: [] }));
  return {
    topology: parseTopology({ nodes, distances: slitTable.distances }),
    proximityDomains: nodes.map(({ id }) => id),
    hotplug: [],
    skipped: [],
  };
}

export interface AcpiOptions {
  /** Where memory may come later, by node number. */
  hotplug?: readonly OwnedRange[];
  /** What the headers say instead of what is usual here. Each table has its own revision: 3 and 1. */
  header?: Omit<Partial<AcpiHeader>, "revision">;
}

/**
 * The tables that say this topology: the i-th node is proximity domain i. Linux gives it number i too if nodes without CPUs come last, as
 * in all presets. CPUs are APIC ids, from 255 on of x2APICs. A node without anything is said by an empty range.
 * @throws {AcpiError} where the tables cannot say it: no memory at all, say
 * @throws {TopologyError} NUMAHEAP_TOPOLOGY_UNKNOWN where hotplug memory names a node that is not there
 */
export function topologyToAcpi(
  topology: Topology,
  { hotplug = [], header = {} }: AcpiOptions = {},
): { srat: Uint8Array; slit: Uint8Array } {
  const { nodes, distances } = topology;
  for (const { node } of hotplug) nodeById(topology, node);
  const processors = nodes.flatMap(({ cpus }, proximityDomain) =>
    cpus.map((id): SratEntry => {
      const common = { proximityDomain, enabled: true, clockDomain: 0 };
      return id < FIRST_X2APIC ? { kind: "apic", ...common, apicId: id, localSapicEid: 0 } : { kind: "x2apic", ...common, x2apicId: id };
    }),
  );
  const memory = nodes.flatMap(({ id, cpus, memory }, proximityDomain) => {
    const range = (start: number, end: number, hotPluggable: boolean): SratEntry => ({
      kind: "memory",
      proximityDomain,
      enabled: true,
      base: start,
      length: end - start,
      hotPluggable,
      nonVolatile: false,
      specificPurpose: false,
    });
    const entries = [
      ...memory.map(({ start, end }) => range(start, end, false)),
      ...hotplug.filter(({ node }) => node === id).map(({ start, end }) => range(start, end, true)),
    ];
    return cpus.length + entries.length > 0 ? entries : [range(0, 0, false)];
  });
  return { srat: encodeSrat({ entries: [...processors, ...memory], header }), slit: encodeSlit({ distances, header }) };
}
