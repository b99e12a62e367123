// SRAT and SLIT: real guests' tables against what Linux made of them, topologies there and back, and iasl.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AcpiTable } from "../../src/topology/acpi/errors.js";
import { decodeSlit, encodeSlit } from "../../src/topology/acpi/slit.js";
import { decodeSrat, encodeSrat, type SratEntry } from "../../src/topology/acpi/srat.js";
import { topologyFromAcpi, topologyToAcpi } from "../../src/topology/acpi/tables.js";
import { presets } from "../../src/topology/presets.js";
import { flatTopology, parseTopology, type Topology } from "../../src/topology/topology.js";
import { acpiErrorOf, guests, memory, patched, processor, srat, tablesOf, x2apic } from "../support/acpi.js";
import { anyTopology } from "../support/topologies.js";

const withTables = guests.filter(({ srat }) => srat !== undefined);
const MIB = 2 ** 20;

describe("tables of real guests", () => {
  test("are there", () => {
    expect(withTables.length).toBe(11);
    expect(guests.filter(({ slit }) => slit !== undefined).length).toBe(7);
  });

  test.each(withTables)("$name: nodes, CPUs, distances and memory are what Linux shows", ({ srat, slit, linux }) => {
    const { topology, proximityDomains, hotplug, skipped } = topologyFromAcpi({ srat, slit });
    expect(skipped).toEqual([]);
    expect(linux.nodes.length).toBeGreaterThan(0);
    expect(linux.memory.length).toBeGreaterThan(0);
    expect(topology.nodes.map(({ id }) => id)).toEqual(linux.online);
    // Tables name processors that may come; /sys shows those that are there.
    expect(topology.nodes.flatMap(({ cpus }) => cpus).sort((a, b) => a - b)).toEqual(linux.cpusPossible);
    const present = topology.nodes.map(({ id, cpus }, i) => ({
      id,
      cpus: cpus.filter((cpu) => linux.cpusOnline.includes(cpu)),
      distances: topology.distances[i],
    }));
    expect(present).toEqual(linux.nodes);
    expect(present.filter(({ cpus }) => cpus.length > 0).map(({ id }) => id)).toEqual(linux.hasCpu);
    expect(topology.nodes.filter((node) => node.memory.length > 0).map(({ id }) => id)).toEqual(linux.hasMemory);

    const processors = topology.nodes.flatMap(({ id, cpus }) => cpus.map((apic) => ({ domain: proximityDomains[id], apic, node: id })));
    expect(processors.sort((a, b) => a.apic - b.apic)).toEqual(linux.processors);
    const ranges = linux.memory.map(({ node, domain, start, end, hotplug }) => {
      expect(proximityDomains[node]).toBe(domain);
      return { node, start, end, hotplug };
    });
    expect([
      ...topology.nodes.flatMap((node) => node.memory.map((range) => ({ node: node.id, ...range, hotplug: false }))),
      ...hotplug.map((range) => ({ ...range, hotplug: true })),
    ]).toEqual(ranges);
  });

  test.each(withTables)("$name: headers are what the kernel logs", ({ srat, slit, linux }) => {
    const found = [
      { table: "SRAT", bytes: srat!, header: decodeSrat(srat!).header },
      ...(slit ? [{ table: "SLIT", bytes: slit, header: decodeSlit(slit).header }] : []),
    ];
    const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");
    expect(
      found.map(({ table, bytes, header }) => ({
        table,
        length: bytes.length,
        revision: header.revision,
        ids: `${header.oemId} ${header.oemTableId} ${hex(header.oemRevision)} ${header.creatorId} ${hex(header.creatorRevision)}`,
      })),
    ).toEqual(linux.tables);
  });

  test.each(withTables)("$name: encoded again they are the same bytes", ({ srat, slit }) => {
    expect(encodeSrat(decodeSrat(srat!))).toEqual(srat);
    if (slit) expect(encodeSlit(decodeSlit(slit))).toEqual(slit);
  });

  test("a guest without tables has nothing to decode", () => {
    const without = guests.filter(({ srat }) => srat === undefined);
    expect(without.map(({ name, slit }) => [name, slit])).toEqual([["uma-none", undefined]]);
    expect(acpiErrorOf(() => topologyFromAcpi(without[0]!))).toMatchObject({ code: "NUMAHEAP_ACPI_NO_TABLE", table: "SRAT" });
  });
});

describe("nodes", () => {
  test("are numbered by first appearance, processors before memory, whatever their domains", () => {
    const entries = [memory(5, 0, MIB), processor(0, 300), memory(300, MIB, MIB), processor(1, 7), x2apic(400, 2), memory(9, 4 * MIB, MIB)];
    const { topology, proximityDomains } = topologyFromAcpi({ srat: srat(...entries) });
    expect(proximityDomains).toEqual([300, 7, 2, 5, 9]);
    expect(topology.nodes.map(({ cpus }) => cpus)).toEqual([[0], [1], [400], [], []]);
    expect(topology.nodes.map(({ memory }) => memory[0]?.start)).toEqual([MIB, undefined, undefined, 0, 4 * MIB]);
  });

  test("have their distances permuted alike", () => {
    const far = Array.from({ length: 8 }, (_, i) => Array.from({ length: 8 }, (_, j) => (i === j ? 10 : 20 + 10 * i + j)));
    const tables = { srat: srat(processor(0, 7), processor(1, 3), memory(3, 0, MIB)), slit: encodeSlit({ distances: far }) };
    expect(topologyFromAcpi(tables).topology.distances).toEqual([[10, 93], [57, 10]]); // prettier-ignore
  });

  test("of entries that are not enabled do not exist", () => {
    const off = [processor(1, 4, false), memory(5, 8 * MIB, MIB, { enabled: false }), memory(6, 0, MIB, { enabled: false })];
    const { topology, proximityDomains } = topologyFromAcpi({ srat: srat(...off, processor(0, 1), memory(1, 0, MIB)) });
    expect(proximityDomains).toEqual([1]);
    expect(topology.nodes).toEqual([{ id: 0, cpus: [0], memory: [{ start: 0, end: MIB }] }]);
  });

  test("with memory that may come have none yet", () => {
    const later = memory(1, 2 ** 32, 2 ** 30, { hotPluggable: true });
    const { topology, hotplug } = topologyFromAcpi({ srat: srat(processor(0, 0), memory(0, 0, MIB), later) });
    expect(topology.nodes[1]).toEqual({ id: 1, cpus: [], memory: [] });
    expect(hotplug).toEqual([{ node: 1, start: 2 ** 32, end: 2 ** 32 + 2 ** 30 }]);
  });

  test("may name a processor twice, and their own memory too", () => {
    const entries = [processor(3, 0), x2apic(3, 0), memory(0, 0, 2 * MIB), memory(0, MIB, 4 * MIB), memory(0, 0, MIB)];
    expect(topologyFromAcpi({ srat: srat(...entries) }).topology.nodes).toEqual([
      { id: 0, cpus: [3], memory: [{ start: 0, end: 5 * MIB }] },
    ]);
  });

  test("of a SLIT alone have distances and nothing else", () => {
    const { topology } = topologyFromAcpi({ slit: tablesOf("memless").slit });
    expect(topology.nodes).toEqual([0, 1, 2].map((id) => ({ id, cpus: [], memory: [] })));
    expect(topology.distances[2]).toEqual([25, 17, 10]);
  });

  test("without a SLIT are at 10 and 20; a SLIT may be larger than needed", () => {
    const table = srat(processor(0, 0), processor(1, 1), memory(0, 0, MIB));
    expect(topologyFromAcpi({ srat: table }).topology.distances).toEqual([[10, 20], [20, 10]]); // prettier-ignore
    expect(topologyFromAcpi({ srat: table, slit: tablesOf("4node").slit }).topology.distances).toEqual([[10, 16], [16, 10]]); // prettier-ignore
  });
});

describe("structures", () => {
  test("of unknown types are skipped, reported, and kept", () => {
    const generic = { kind: "unknown", type: 5, body: Uint8Array.from({ length: 30 }, (_, i) => i) } as const;
    const empty = { kind: "unknown", type: 200, body: new Uint8Array() } as const;
    const bytes = srat(processor(0, 0), generic, memory(0, 0, MIB), empty);
    expect(topologyFromAcpi({ srat: bytes }).skipped).toEqual([
      { type: 5, offset: 64, length: 32 },
      { type: 200, offset: 136, length: 2 },
    ]);
    const buffer = Buffer.from(bytes);
    const { entries } = decodeSrat(buffer);
    buffer.fill(0);
    expect(entries[1]).toEqual(generic);
    expect(encodeSrat(decodeSrat(bytes))).toEqual(bytes);
  });

  test("of revision 1 have a domain of one byte; the others are ignored, and kept", () => {
    const bytes = srat(processor(0, 0x0102_0304), memory(0x0506_0704, 0, MIB), x2apic(9, 0x0100_0004));
    expect(topologyFromAcpi({ srat: bytes }).proximityDomains).toEqual([0x0102_0304, 0x0100_0004, 0x0506_0704]);
    const old = patched(bytes, 8, 1);
    expect(decodeSrat(old).entries.map((entry) => "proximityDomain" in entry && entry.proximityDomain)).toEqual([4, 4, 0x0100_0004]);
    expect(topologyFromAcpi({ srat: old }).proximityDomains).toEqual([4, 0x0100_0004]);
    expect(encodeSrat(decodeSrat(old))).toEqual(old);
  });

  test("stand where the specification puts them", () => {
    const bytes = srat(
      { ...processor(0x22, 0x7766_5511), localSapicEid: 0x33, clockDomain: 0x4444_4445 } as SratEntry,
      memory(0x1122_3344, 0x12_3456_7890_00, 0x5000, { nonVolatile: true, specificPurpose: true }),
      { ...x2apic(0xaabb_ccdd, 0x1234_5678), clockDomain: 0x99 } as SratEntry,
    );
    const hex = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString("hex");
    expect(hex(0, 10)).toBe(Buffer.from("SRAT\x80\0\0\0\x03", "latin1").toString("hex") + hex(9, 10));
    expect(Buffer.from(bytes.subarray(10, 36)).toString("latin1")).toBe("NUMA  NUMAHEAP\x01\0\0\0NUMA\x01\0\0\0");
    expect(hex(36, 48)).toBe("010000000000000000000000");
    expect(hex(48, 64)).toBe("00101122010000003355667745444444");
    expect(hex(64, 72)).toBe("0128443322110000");
    expect(hex(72, 88)).toBe("00907856341200000050000000000000");
    expect(hex(88, 104)).toBe("000000000d0000000000000000000000");
    expect(hex(104, 128)).toBe("0218000078563412ddccbbaa010000009900000000000000");
  });
});

/** How Linux numbers the nodes of our tables: those with CPUs first. */
function asLinuxNumbers({ nodes, distances }: Topology): Topology {
  const places = nodes.map((_, i) => i);
  const order = [...places.filter((i) => nodes[i]!.cpus.length > 0), ...places.filter((i) => nodes[i]!.cpus.length === 0)];
  return parseTopology({
    nodes: order.map((i, id) => ({ ...nodes[i], id })),
    distances: order.map((i) => order.map((j) => distances[i]![j])),
  });
}

describe("a topology as tables", () => {
  const hasMemory = ({ nodes }: Topology): boolean => nodes.some((node) => node.memory.length > 0);

  test.each(Object.entries(presets))("%s comes back as it is", (_, { topology }) => {
    const { topology: again, proximityDomains, hotplug } = topologyFromAcpi(topologyToAcpi(topology));
    expect(again).toEqual(topology);
    expect(proximityDomains).toEqual(topology.nodes.map(({ id }) => id));
    expect(hotplug).toEqual([]);
  });

  test("any comes back with the numbers Linux gives", () => {
    fc.assert(
      fc.property(anyTopology.filter(hasMemory), (topology) => {
        const { topology: again } = topologyFromAcpi(topologyToAcpi(topology));
        expect(again).toEqual(asLinuxNumbers(topology));
      }),
      { numRuns: 300 },
    );
  });

  test("has x2APIC structures from id 255 on", () => {
    const topology = parseTopology({ nodes: [{ id: 0, cpus: [254, 255, 256], memory: [{ start: 0, end: MIB }] }], distances: [[10]] });
    expect(decodeSrat(topologyToAcpi(topology).srat).entries.map(({ kind }) => kind)).toEqual(["apic", "x2apic", "x2apic", "memory"]);
  });

  test("may be flat, as a guest boots", () => {
    const flat = flatTopology(presets["4-socket-ring"].topology);
    const tables = topologyToAcpi(flat, { header: { oemId: "BOCHS ", oemTableId: "BXPC    ", oemRevision: 2 } });
    expect(decodeSrat(tables.srat).header).toMatchObject({ revision: 3, oemId: "BOCHS ", oemTableId: "BXPC    ", oemRevision: 2 });
    expect(decodeSlit(tables.slit)).toMatchObject({ header: { revision: 1, oemId: "BOCHS " }, distances: [[10]] });
    expect(topologyFromAcpi(tables)).toMatchObject({ topology: flat, proximityDomains: [0] });
  });

  test("may say where memory can come", () => {
    const { srat: table, slit } = tablesOf("2node-hotplug");
    const read = topologyFromAcpi({ srat: table, slit });
    const again = topologyFromAcpi(topologyToAcpi(read.topology, { hotplug: read.hotplug }));
    expect(read.hotplug).toEqual([{ node: 1, start: 2 ** 32, end: 0x2_e000_0000 }]);
    expect(again).toEqual(read);
    expect(() => topologyToAcpi(read.topology, { hotplug: [{ node: 2, start: 0, end: 1 }] })).toThrow(
      expect.objectContaining({ code: "NUMAHEAP_TOPOLOGY_UNKNOWN" }),
    );
  });

  test("without memory cannot be said", () => {
    const topology = parseTopology({ nodes: [{ id: 0, cpus: [0], memory: [] }], distances: [[10]] });
    expect(acpiErrorOf(() => topologyToAcpi(topology)).code).toBe("NUMAHEAP_ACPI_NO_MEMORY");
  });
});

describe("iasl", () => {
  const installed = (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, "iasl")));
  const folder = mkdtempSync(join(tmpdir(), "numaheap-acpi-"));

  /** What iasl has against a table; its exit status alone says nothing. */
  function complaints(table: AcpiTable, bytes: Uint8Array): string[] {
    const [aml, dsl, again] = ["t.aml", "t.dsl", "again.aml"].map((name) => join(folder, name)) as [string, string, string];
    const found: string[] = [];
    const run = (...args: string[]): void => {
      const { status, stdout, stderr } = spawnSync("iasl", args, { encoding: "utf8" });
      if (status !== 0) found.push(`iasl ${args[0]}: exit status ${status}`);
      // The summary has "0 Errors, 0 Warnings".
      for (const line of `${stdout}\n${stderr}`.replace(/0 (Errors|Warnings)/g, "").split("\n"))
        if (/Incorrect checksum|Unknown|Invalid|Warning|Error/.test(line)) found.push(line);
    };
    writeFileSync(aml, bytes);
    run("-d", aml);
    const text = readFileSync(dsl, "utf8");
    if (!text.includes(`"${table}"`)) found.push(`no ${table} in what it shows`);
    found.push(...text.split("\n").filter((line) => line.includes("****")));
    run("-p", again, dsl);
    // iasl makes the checksum and the creator's fields anew.
    const rewritten = (at: number): boolean => at === 9 || (at >= 28 && at < 36);
    const other = existsSync(again) ? readFileSync(again) : Buffer.alloc(0);
    if (other.length !== bytes.length) found.push(`${other.length} bytes, not ${bytes.length}`);
    bytes.forEach((byte, at) => {
      if (byte !== other[at] && !rewritten(at)) found.push(`byte ${at} is ${other[at]}, not ${byte}`);
    });
    return found;
  }

  test.runIf(process.env["CI"])("is installed where CI runs (Debian: apt-get install acpica-tools)", () => {
    expect(installed).toBe(true);
  });

  const name = installed ? "" : " [skipped: iasl is not installed; Debian has it in acpica-tools]";
  describe.skipIf(!installed)(`as an oracle${name}`, () => {
    test.each(Object.entries(presets))("has nothing against the tables of %s", (_, { topology }) => {
      const { srat, slit } = topologyToAcpi(topology);
      expect([complaints("SRAT", srat), complaints("SLIT", slit)]).toEqual([[], []]);
    });

    test("has nothing against x2APICs, large domains, kinds of memory, entries not enabled", () => {
      // Not specific-purpose memory: Debian 12's iasl does not know the flag yet.
      const entries = [
        processor(0, 0x0102_0304),
        processor(1, 7, false),
        x2apic(0x1_0000, 300),
        memory(300, 0, MIB, { nonVolatile: true }),
        memory(7, 2 ** 40, 2 ** 33, { hotPluggable: true }),
        memory(9, 0, 0, { enabled: false }),
      ];
      expect(complaints("SRAT", srat(...entries))).toEqual([]);
    });

    test("has nothing against tables of random topologies", () => {
      const some = anyTopology.filter(({ nodes }) => nodes.some((node) => node.memory.length > 0));
      fc.assert(
        fc.property(some, (topology) => {
          const { srat, slit } = topologyToAcpi(topology);
          expect([complaints("SRAT", srat), complaints("SLIT", slit)]).toEqual([[], []]);
        }),
        { numRuns: 10 },
      );
    });

    test("has something against damage", () => {
      const { srat, slit } = tablesOf("2node");
      expect(complaints("SRAT", srat)).toEqual([]);
      expect(complaints("SRAT", srat.map((byte, at) => (at === 9 ? byte + 1 : byte)))).not.toEqual([]); // prettier-ignore
      expect(complaints("SRAT", patched(srat, 40, 1))).not.toEqual([]);
      expect(complaints("SLIT", patched(slit, 36, 3))).not.toEqual([]);
    });
  });
});
