// The System Resource Affinity Table: which proximity domain each processor and each range of memory is in (ACPI 6.5, 5.2.16).
//
//   36 u32 1   40 u64 reserved   48 structures, each: u8 type, u8 length, ...
//
//   type 0, 16 bytes   2 domain u8   3 APIC id u8   4 flags u32   8 SAPIC EID u8   9 domain, high u8[3]   12 clock domain u32
//   type 1, 40 bytes   2 domain u32   8 base u64   16 length u64   28 flags u32            6-7, 24-27, 32-39 reserved
//   type 2, 24 bytes   4 domain u32   8 x2APIC id u32   12 flags u32   16 clock domain u32      2-3, 20-23 reserved
//
// In revision 1 a domain of types 0 and 1 is its low byte alone; what stands in the others is ignored, as Linux does.

import { byStart, formatRange } from "../ranges.js";
import { type AcpiHeader, HEADER_BYTES, ownHeader, TableReader, TableWriter } from "./header.js";

const ONE = HEADER_BYTES;
const STRUCTURES = 48;
const REVISION = 3;

const APIC = 0;
const MEMORY = 1;
const X2APIC = 2;
const LENGTHS: Readonly<Record<number, number>> = { [APIC]: 16, [MEMORY]: 40, [X2APIC]: 24 };

const ENABLED = 1;
const HOT_PLUGGABLE = 2;
const NON_VOLATILE = 4;
const SPECIFIC_PURPOSE = 8;

interface Affinity {
  readonly proximityDomain: number;
  /** Entries that are not enabled say nothing. */
  readonly enabled: boolean;
}

/** Type 0. */
export interface ApicAffinity extends Affinity {
  readonly kind: "apic";
  /** 0 to 255. */
  readonly apicId: number;
  readonly localSapicEid: number;
  readonly clockDomain: number;
  /** Bits of the domain beyond its low byte, which revision 1 ignores; left out if 0. */
  readonly ignoredDomainBits?: number;
}

/** Type 1: bytes [base, base + length). */
export interface MemoryAffinity extends Affinity {
  readonly kind: "memory";
  readonly base: number;
  readonly length: number;
  /** Memory may come later; none need be there at boot. */
  readonly hotPluggable: boolean;
  readonly nonVolatile: boolean;
  readonly specificPurpose: boolean;
  readonly ignoredDomainBits?: number;
}

/** Type 2. */
export interface X2ApicAffinity extends Affinity {
  readonly kind: "x2apic";
  readonly x2apicId: number;
  readonly clockDomain: number;
}

/** A structure of a type not known here, as it is. */
export interface UnknownAffinity {
  readonly kind: "unknown";
  readonly type: number;
  /** What stands behind type and length; 253 bytes at most. */
  readonly body: Uint8Array;
}

export type SratEntry = ApicAffinity | MemoryAffinity | X2ApicAffinity | UnknownAffinity;

export interface SratTable {
  readonly header: AcpiHeader;
  /** In the order of the table. */
  readonly entries: readonly SratEntry[];
}

function lengthOf(entry: SratEntry): number {
  switch (entry.kind) {
    case "apic":
      return LENGTHS[APIC]!;
    case "memory":
      return LENGTHS[MEMORY]!;
    case "x2apic":
      return LENGTHS[X2APIC]!;
    case "unknown":
      return 2 + entry.body.length;
  }
}

/** Byte of the table at which each entry begins. */
export function entryOffsets(entries: readonly SratEntry[]): number[] {
  let at = STRUCTURES;
  return entries.map((entry) => (at += lengthOf(entry)) - lengthOf(entry));
}

type Domain = Pick<ApicAffinity, "proximityDomain" | "ignoredDomainBits">;

/** What a revision takes of the 32 bits of a domain, and what it ignores. */
function domainOf(bits: number, revision: number): Domain {
  const ignored = revision <= 1 ? bits - (bits % 256) : 0;
  return { proximityDomain: bits - ignored, ...(ignored > 0 && { ignoredDomainBits: ignored }) };
}

function decodeEntry(reader: TableReader, at: number, type: number, end: number): SratEntry {
  const { revision } = reader.header;
  switch (type) {
    case APIC: {
      const bits = reader.u8(at + 2) + 256 * (reader.u32(at + 8) >>> 8);
      return {
        kind: "apic",
        ...domainOf(bits, revision),
        enabled: reader.flags(at + 4, ENABLED) !== 0,
        apicId: reader.u8(at + 3),
        localSapicEid: reader.u8(at + 8),
        clockDomain: reader.u32(at + 12),
      };
    }
    case MEMORY: {
      reader.reserved(at + 6, at + 8);
      reader.reserved(at + 24, at + 28);
      reader.reserved(at + 32, at + 40);
      const flags = reader.flags(at + 28, ENABLED | HOT_PLUGGABLE | NON_VOLATILE | SPECIFIC_PURPOSE);
      const base = reader.u64(at + 8, "base address");
      const length = reader.u64(at + 16, "range length");
      if (base + length > Number.MAX_SAFE_INTEGER)
        reader.fail("NUMAHEAP_ACPI_RANGE", at + 16, "range length", "the range ends beyond 2^53 - 1");
      return {
        kind: "memory",
        ...domainOf(reader.u32(at + 2), revision),
        enabled: (flags & ENABLED) !== 0,
        base,
        length,
        hotPluggable: (flags & HOT_PLUGGABLE) !== 0,
        nonVolatile: (flags & NON_VOLATILE) !== 0,
        specificPurpose: (flags & SPECIFIC_PURPOSE) !== 0,
      };
    }
    case X2APIC:
      reader.reserved(at + 2, at + 4);
      reader.reserved(at + 20, at + 24);
      return {
        kind: "x2apic",
        proximityDomain: reader.u32(at + 4),
        enabled: reader.flags(at + 12, ENABLED) !== 0,
        x2apicId: reader.u32(at + 8),
        clockDomain: reader.u32(at + 16),
      };
    default:
      return { kind: "unknown", type, body: reader.copy(at + 2, end) };
  }
}

/** Linux takes the last word on a processor that is in two domains; it is an error all the same. */
function checkProcessors(reader: TableReader, entries: readonly SratEntry[], offsets: readonly number[]): void {
  const domains = new Map<number, number>();
  entries.forEach((entry, i) => {
    if ((entry.kind !== "apic" && entry.kind !== "x2apic") || !entry.enabled) return;
    const [id, at] = entry.kind === "apic" ? [entry.apicId, offsets[i]! + 3] : [entry.x2apicId, offsets[i]! + 8];
    const domain = domains.get(id) ?? entry.proximityDomain;
    if (domain !== entry.proximityDomain)
      reader.fail("NUMAHEAP_ACPI_DUPLICATE", at, "apic id", `APIC ${id} is in domains ${domain} and ${entry.proximityDomain}`);
    domains.set(id, domain);
  });
}

/** Within a domain ranges may overlap, of two domains never; some memory must be there at boot. */
function checkMemory(reader: TableReader, entries: readonly SratEntry[], offsets: readonly number[]): void {
  const ranges = entries.flatMap((entry, i) => {
    if (entry.kind !== "memory" || !entry.enabled || entry.length === 0) return [];
    const { base, length, proximityDomain, hotPluggable } = entry;
    return [{ start: base, end: base + length, domain: proximityDomain, present: !hotPluggable, at: offsets[i]! }];
  });
  if (!ranges.some(({ present }) => present))
    reader.fail("NUMAHEAP_ACPI_NO_MEMORY", STRUCTURES, "memory affinity structures", "no memory is present at boot");
  // A range that lies in a longer one of its own domain could hide one of another domain behind it: the longer one goes on for both.
  let last: (typeof ranges)[number] | undefined;
  for (const range of [...ranges].sort(byStart)) {
    if (last && range.start < last.end && range.domain !== last.domain) {
      const message = `${formatRange(range)} of domain ${range.domain} overlaps ${formatRange(last)} of domain ${last.domain}`;
      reader.fail("NUMAHEAP_ACPI_OVERLAP", range.at + 8, "base address", message);
    }
    if (!last || range.end > last.end) last = range;
  }
}

/**
 * Decodes an SRAT, checksum and all. Structures of unknown types are kept as they are.
 * @throws {AcpiError}
 */
export function decodeSrat(bytes: Uint8Array): SratTable {
  const reader = new TableReader("SRAT", bytes, STRUCTURES);
  if (reader.u32(ONE) !== 1) reader.fail("NUMAHEAP_ACPI_RESERVED", ONE, "reserved", `this field is ${reader.u32(ONE)}, and must be 1`);
  reader.reserved(40, STRUCTURES);
  const entries: SratEntry[] = [];
  for (let at = STRUCTURES; at < reader.length;) {
    if (at + 2 > reader.length)
      reader.fail("NUMAHEAP_ACPI_TRUNCATED", at, "subtable length", "the table ends within a structure's type and length");
    const type = reader.u8(at);
    const length = reader.u8(at + 1);
    const right = LENGTHS[type];
    if (length < 2 || (right !== undefined && length !== right)) {
      const message = `a structure of type ${type} has ${right ?? "2 or more"} bytes, not ${length}`;
      reader.fail("NUMAHEAP_ACPI_LENGTH", at + 1, "subtable length", message);
    }
    if (at + length > reader.length)
      reader.fail(
        "NUMAHEAP_ACPI_TRUNCATED",
        at + 1,
        "subtable length",
        `the table ends at ${reader.length}, this structure at ${at + length}`,
      );
    entries.push(decodeEntry(reader, at, type, at + length));
    at += length;
  }
  const offsets = entryOffsets(entries);
  checkProcessors(reader, entries, offsets);
  checkMemory(reader, entries, offsets);
  return { header: reader.header, entries };
}

function encodeEntry(writer: TableWriter, at: number, entry: SratEntry, revision: number): void {
  const head = (type: number): void => {
    writer.put(at, 1, type, "subtable type");
    writer.put(at + 1, 1, lengthOf(entry), "subtable length");
  };
  const domainBits = ({ proximityDomain, ignoredDomainBits = 0 }: Domain): number => {
    const bits = proximityDomain + ignoredDomainBits;
    if (domainOf(bits, revision).proximityDomain !== proximityDomain)
      writer.fail(
        at + 2,
        "proximity domain",
        `revision ${revision} has no domain ${proximityDomain} with ignored bits ${ignoredDomainBits}`,
      );
    return bits;
  };
  switch (entry.kind) {
    case "apic": {
      const bits = domainBits(entry);
      head(APIC);
      writer.put(at + 2, 1, bits % 256, "proximity domain");
      writer.put(at + 3, 1, entry.apicId, "apic id");
      writer.put(at + 4, 4, entry.enabled ? ENABLED : 0, "flags");
      writer.put(at + 8, 1, entry.localSapicEid, "local sapic eid");
      writer.put(at + 9, 3, Math.floor(bits / 256), "proximity domain");
      writer.put(at + 12, 4, entry.clockDomain, "clock domain");
      return;
    }
    case "memory": {
      const flags =
        (entry.enabled ? ENABLED : 0) |
        (entry.hotPluggable ? HOT_PLUGGABLE : 0) |
        (entry.nonVolatile ? NON_VOLATILE : 0) |
        (entry.specificPurpose ? SPECIFIC_PURPOSE : 0);
      head(MEMORY);
      writer.put(at + 2, 4, domainBits(entry), "proximity domain");
      writer.put(at + 8, 8, entry.base, "base address");
      writer.put(at + 16, 8, entry.length, "range length");
      writer.put(at + 28, 4, flags, "flags");
      return;
    }
    case "x2apic":
      head(X2APIC);
      writer.put(at + 4, 4, entry.proximityDomain, "proximity domain");
      writer.put(at + 8, 4, entry.x2apicId, "x2apic id");
      writer.put(at + 12, 4, entry.enabled ? ENABLED : 0, "flags");
      writer.put(at + 16, 4, entry.clockDomain, "clock domain");
      return;
    case "unknown":
      head(entry.type);
      writer.set(at + 2, entry.body);
  }
}

/**
 * The bytes of an SRAT; `encodeSrat(decodeSrat(bytes))` equals `bytes`.
 * @throws {AcpiError} for what decodeSrat would refuse, or what does not fit its field
 */
export function encodeSrat({ entries, header = {} }: { entries: readonly SratEntry[]; header?: Partial<AcpiHeader> }): Uint8Array {
  const full = { ...ownHeader(REVISION), ...header };
  const offsets = entryOffsets(entries);
  const length = entries.reduce((sum, entry) => sum + lengthOf(entry), STRUCTURES);
  const writer = new TableWriter("SRAT", length, full);
  writer.put(ONE, 4, 1, "reserved");
  entries.forEach((entry, i) => encodeEntry(writer, offsets[i]!, entry, full.revision));
  const bytes = writer.seal();
  decodeSrat(bytes);
  return bytes;
}
