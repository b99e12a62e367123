// Tables for tests: the guests of test/fixtures/acpi with what Linux made of them, structures by hand, and ways to damage bytes.
import { readdirSync, readFileSync } from "node:fs";
import { AcpiError } from "../../src/topology/acpi/errors.js";
import { encodeSrat, type MemoryAffinity, type SratEntry } from "../../src/topology/acpi/srat.js";
import { parseCpuList } from "../../src/topology/cpu-list.js";

const folder = new URL("../fixtures/acpi/", import.meta.url);
const files = readdirSync(folder);
const read = (name: string): Uint8Array | undefined =>
  files.includes(name) ? new Uint8Array(readFileSync(new URL(name, folder))) : undefined;

/** What the guest showed in /sys and dmesg. */
export interface LinuxView {
  nodes: { id: number; cpus: number[]; distances: number[] }[];
  online: number[];
  hasMemory: number[];
  hasCpu: number[];
  cpusOnline: number[];
  cpusPossible: number[];
  /** SRAT: PXM 0 -> APIC 0x00 -> Node 0 */
  processors: { domain: number; apic: number; node: number }[];
  /** ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x0009ffff] */
  memory: { node: number; domain: number; start: number; end: number; hotplug: boolean }[];
  /** ACPI: SRAT 0x000000000FFE2273 0000C8 (v01 BOCHS  BXPC     00000001 BXPC 00000001) */
  tables: { table: string; length: number; revision: number; ids: string }[];
}

function parseLinux(text: string): LinuxView {
  const all = (pattern: RegExp): string[][] => [...text.matchAll(pattern)].map((match) => match.slice(1));
  const list = (name: string): number[] => parseCpuList(new RegExp(`^${name}=(\\S*)`, "m").exec(text)![1]!)!;
  const [online, possible] = /^cpus online=(\S+) possible=(\S+)/m.exec(text)!.slice(1);
  return {
    nodes: all(/^node(\d+) cpulist=(\S*) distance=([\d ]+?) Node/gm).map(([id, cpus, row]) => ({
      id: Number(id),
      cpus: parseCpuList(cpus!)!,
      distances: row!.split(" ").map(Number),
    })),
    online: list("online"),
    hasMemory: list("has_memory"),
    hasCpu: list("has_cpu"),
    cpusOnline: parseCpuList(online!)!,
    cpusPossible: parseCpuList(possible!)!,
    processors: all(/SRAT: PXM (\d+) -> APIC 0x([0-9a-f]+) -> Node (\d+)/g).map(([domain, apic, node]) => ({
      domain: Number(domain),
      apic: parseInt(apic!, 16),
      node: Number(node),
    })),
    memory: all(/SRAT: Node (\d+) PXM (\d+) \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]( hotplug)?/g).map(
      ([node, domain, start, last, hotplug]) => ({
        node: Number(node),
        domain: Number(domain),
        start: parseInt(start!, 16),
        end: parseInt(last!, 16) + 1,
        hotplug: hotplug !== undefined,
      }),
    ),
    tables: all(/ACPI: (SRAT|SLIT) 0x[0-9A-F]+ ([0-9A-F]{6}) \(v(\d\d) (.{6} .{8} [0-9A-F]{8} .{4} [0-9A-F]{8})\)/g).map(
      ([table, length, revision, ids]) => ({ table: table!, length: parseInt(length!, 16), revision: Number(revision), ids: ids! }),
    ),
  };
}

export interface Guest {
  name: string;
  srat: Uint8Array | undefined;
  slit: Uint8Array | undefined;
  linux: LinuxView;
}

export const guests: Guest[] = files
  .filter((file) => file.endsWith(".linux.txt"))
  .map((file) => {
    const name = file.slice(0, -".linux.txt".length);
    const linux = parseLinux(readFileSync(new URL(file, folder), "utf8"));
    return { name, srat: read(`${name}.srat.dat`), slit: read(`${name}.slit.dat`), linux };
  });

/** The tables of one guest. */
export function tablesOf(name: string): { srat: Uint8Array; slit: Uint8Array } {
  const { srat, slit } = guests.find((guest) => guest.name === name)!;
  return { srat: srat!, slit: slit! };
}

/** The same bytes with a checksum that is right. */
export function resealed(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy[9] = 0;
  copy[9] = -copy.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return copy;
}

/** The bytes with others put over them from `at` on, checksum and length made right. */
export function patched(bytes: Uint8Array, at: number, ...others: number[]): Uint8Array {
  const copy = new Uint8Array(Math.max(bytes.length, at + others.length));
  copy.set(bytes);
  new DataView(copy.buffer).setUint32(4, copy.length, true);
  copy.set(others, at);
  return resealed(copy);
}

/** Structures of an SRAT. */
export const processor = (apicId: number, proximityDomain: number, enabled = true): SratEntry => ({
  kind: "apic",
  apicId,
  proximityDomain,
  enabled,
  localSapicEid: 0,
  clockDomain: 0,
});
export const x2apic = (x2apicId: number, proximityDomain: number): SratEntry => ({
  kind: "x2apic",
  x2apicId,
  proximityDomain,
  enabled: true,
  clockDomain: 0,
});
export const memory = (proximityDomain: number, base: number, length: number, more: Partial<MemoryAffinity> = {}): SratEntry => ({
  kind: "memory",
  proximityDomain,
  base,
  length,
  enabled: true,
  hotPluggable: false,
  nonVolatile: false,
  specificPurpose: false,
  ...more,
});
/** An SRAT of these. */
export const srat = (...entries: SratEntry[]): Uint8Array => encodeSrat({ entries });

/** The error a call throws, which must be one of ours. */
export function acpiErrorOf(call: () => unknown): AcpiError {
  try {
    call();
  } catch (error) {
    if (error instanceof AcpiError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
