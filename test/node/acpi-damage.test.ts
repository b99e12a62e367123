// Damaged SRATs and SLITs: every malformation by place and name, what cannot be encoded, and random bytes.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AcpiError, type AcpiErrorCode, type AcpiTable } from "../../src/topology/acpi/errors.js";
import { decodeSlit, encodeSlit } from "../../src/topology/acpi/slit.js";
import { decodeSrat, encodeSrat } from "../../src/topology/acpi/srat.js";
import { topologyFromAcpi } from "../../src/topology/acpi/tables.js";
import { acpiErrorOf, guests, memory, patched, processor, resealed, srat, tablesOf, x2apic } from "../support/acpi.js";

const MIB = 2 ** 20;

describe("a malformed table is refused by code, table, byte and field:", () => {
  const { srat: good, slit } = tablesOf("2node");
  const entry = 48;
  const firstMemory = 112;
  const both = (srat: Uint8Array, slit?: Uint8Array) => () => topologyFromAcpi({ srat, slit });
  const ofSrat = (bytes: Uint8Array) => () => decodeSrat(bytes);
  const ofSlit = (bytes: Uint8Array) => () => decodeSlit(bytes);
  const le = (value: number | bigint): number[] => [...new Uint8Array(new BigUint64Array([BigInt(value)]).buffer)];
  const resized = (bytes: Uint8Array, length: number): Uint8Array => resealed(Uint8Array.from({ length }, (_, i) => bytes[i] ?? 0));
  const cut = (bytes: Uint8Array, length: number): Uint8Array => patched(bytes.slice(0, length), length);

  test.each<[string, () => unknown, AcpiErrorCode, AcpiTable, number, string]>([
    // The header.
    ["SLIT for SRAT", ofSrat(slit), "NUMAHEAP_ACPI_SIGNATURE", "SRAT", 0, "signature"],
    ["SRAT for SLIT", ofSlit(good), "NUMAHEAP_ACPI_SIGNATURE", "SLIT", 0, "signature"],
    ["no bytes at all", ofSrat(new Uint8Array()), "NUMAHEAP_ACPI_TRUNCATED", "SRAT", 0, "header"],
    ["half a header", ofSlit(slit.slice(0, 20)), "NUMAHEAP_ACPI_TRUNCATED", "SLIT", 20, "header"],
    ["a header alone", ofSrat(cut(good, 36)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 4, "length"],
    ["no room for the count", ofSlit(cut(slit, 43)), "NUMAHEAP_ACPI_LENGTH", "SLIT", 4, "length"],
    ["a length of 0", ofSrat(resealed(patched(good, 4, 0, 0))), "NUMAHEAP_ACPI_LENGTH", "SRAT", 4, "length"],
    ["fewer bytes than said", ofSrat(resealed(good.slice(0, 271))), "NUMAHEAP_ACPI_TRUNCATED", "SRAT", 271, "length"],
    ["a byte more", ofSrat(resized(good, 273)), "NUMAHEAP_ACPI_TRAILING", "SRAT", 272, "length"],
    ["a byte more", ofSlit(resized(slit, 49)), "NUMAHEAP_ACPI_TRAILING", "SLIT", 48, "length"],
    ["a wrong checksum", ofSrat(good.map((byte, i) => (i === 9 ? byte + 1 : byte))), "NUMAHEAP_ACPI_CHECKSUM", "SRAT", 9, "checksum"],
    ["a changed byte", ofSlit(slit.map((byte, i) => (i === 45 ? byte + 1 : byte))), "NUMAHEAP_ACPI_CHECKSUM", "SLIT", 9, "checksum"],
    ["revision 0", ofSrat(patched(good, 8, 0)), "NUMAHEAP_ACPI_REVISION", "SRAT", 8, "revision"],
    ["revision 0", ofSlit(patched(slit, 8, 0)), "NUMAHEAP_ACPI_REVISION", "SLIT", 8, "revision"],
    // The SRAT.
    ["36 not 1", ofSrat(patched(good, 36, 2)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 36, "reserved"],
    ["reserved of the table", ofSrat(patched(good, 47, 1)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 47, "reserved"],
    ["a structure of 0 bytes", ofSrat(patched(good, entry + 1, 0)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 49, "subtable length"],
    ["a structure of 1 byte", ofSrat(patched(good, entry, 9, 1)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 49, "subtable length"],
    ["type 0 of 17 bytes", ofSrat(patched(good, entry + 1, 17)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 49, "subtable length"],
    ["type 1 of 16 bytes", ofSrat(patched(good, entry, 1)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 49, "subtable length"],
    ["type 2 of 16 bytes", ofSrat(patched(good, entry, 2)), "NUMAHEAP_ACPI_LENGTH", "SRAT", 49, "subtable length"],
    ["a cut last structure", ofSrat(cut(good, 271)), "NUMAHEAP_ACPI_TRUNCATED", "SRAT", 233, "subtable length"],
    ["an unknown structure past the end", ofSrat(patched(good, 272, 99, 3)), "NUMAHEAP_ACPI_TRUNCATED", "SRAT", 273, "subtable length"],
    ["a single byte at the end", ofSrat(patched(good, 272, 0)), "NUMAHEAP_ACPI_TRUNCATED", "SRAT", 272, "subtable length"],
    ["flags of type 0", ofSrat(patched(good, entry + 4, 3)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 52, "flags"],
    ["flags of type 1", ofSrat(patched(good, firstMemory + 28, 0x11)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 140, "flags"],
    ["reserved of type 1, first", ofSrat(patched(good, firstMemory + 7, 1)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 119, "reserved"],
    ["reserved of type 1, middle", ofSrat(patched(good, firstMemory + 24, 1)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 136, "reserved"],
    ["reserved of type 1, last", ofSrat(patched(good, firstMemory + 39, 1)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 151, "reserved"],
    ["reserved of type 1 not enabled", ofSrat(patched(good, 232 + 6, 1)), "NUMAHEAP_ACPI_RESERVED", "SRAT", 238, "reserved"],
    [
      "reserved of type 2, first",
      ofSrat(patched(good, 272, 2, 24, 0, 1, ...Array<number>(20).fill(0))),
      "NUMAHEAP_ACPI_RESERVED",
      "SRAT",
      275,
      "reserved",
    ],
    [
      "reserved of type 2, last",
      ofSrat(patched(good, 272, 2, 24, ...Array<number>(18).fill(0), 1, 0, 0, 0)),
      "NUMAHEAP_ACPI_RESERVED",
      "SRAT",
      292,
      "reserved",
    ],
    [
      "flags of type 2",
      ofSrat(patched(good, 272, 2, 24, ...Array<number>(10).fill(0), 4, ...Array<number>(11).fill(0))),
      "NUMAHEAP_ACPI_RESERVED",
      "SRAT",
      284,
      "flags",
    ],
    [
      "an address beyond 2^53",
      ofSrat(patched(good, firstMemory + 8, ...le(2n ** 53n))),
      "NUMAHEAP_ACPI_RANGE",
      "SRAT",
      120,
      "base address",
    ],
    [
      "a length beyond 2^53",
      ofSrat(patched(good, firstMemory + 16, ...le(2n ** 64n - 1n))),
      "NUMAHEAP_ACPI_RANGE",
      "SRAT",
      128,
      "range length",
    ],
    [
      "an end beyond 2^53",
      ofSrat(patched(good, firstMemory + 8, ...le(2n ** 53n - 1n), ...le(1))),
      "NUMAHEAP_ACPI_RANGE",
      "SRAT",
      128,
      "range length",
    ],
    ["memory of two domains", ofSrat(patched(good, 192 + 8, ...le(0x0fff_ffff))), "NUMAHEAP_ACPI_OVERLAP", "SRAT", 200, "base address"],
    ["a processor of two domains", ofSrat(patched(good, 64 + 2, 1, 0)), "NUMAHEAP_ACPI_DUPLICATE", "SRAT", 67, "apic id"],
    ["no memory at all", ofSrat(cut(good, firstMemory)), "NUMAHEAP_ACPI_NO_MEMORY", "SRAT", 48, "memory affinity structures"],
    ["no structure at all", ofSrat(cut(good, entry)), "NUMAHEAP_ACPI_NO_MEMORY", "SRAT", 48, "memory affinity structures"],
    [
      "memory that may come only",
      ofSrat(patched(patched(patched(good, 140, 3), 180, 3), 220, 3)),
      "NUMAHEAP_ACPI_NO_MEMORY",
      "SRAT",
      48,
      "memory affinity structures",
    ],
    // The SLIT.
    ["a count too large", ofSlit(patched(slit, 36, 3)), "NUMAHEAP_ACPI_LOCALITIES", "SLIT", 36, "number of system localities"],
    ["a count too small", ofSlit(patched(slit, 36, 1)), "NUMAHEAP_ACPI_LOCALITIES", "SLIT", 36, "number of system localities"],
    ["a count of 2^32 + 2", ofSlit(patched(slit, 40, 1)), "NUMAHEAP_ACPI_LOCALITIES", "SLIT", 36, "number of system localities"],
    ["a count no number holds", ofSlit(patched(slit, 43, 0x80)), "NUMAHEAP_ACPI_RANGE", "SLIT", 36, "number of system localities"],
    ["no localities", ofSlit(patched(cut(slit, 44), 36, 0)), "NUMAHEAP_ACPI_LOCALITIES", "SLIT", 36, "number of system localities"],
    ["a row and a bit", ofSlit(patched(slit, 48, 10)), "NUMAHEAP_ACPI_LOCALITIES", "SLIT", 36, "number of system localities"],
    ["a diagonal not 10", ofSlit(patched(slit, 47, 11)), "NUMAHEAP_ACPI_DIAGONAL", "SLIT", 47, "entry[1][1]"],
    ["a distance of 10", ofSlit(patched(slit, 45, 10)), "NUMAHEAP_ACPI_DISTANCE", "SLIT", 45, "entry[0][1]"],
    ["a distance of 0", ofSlit(patched(slit, 46, 0)), "NUMAHEAP_ACPI_DISTANCE", "SLIT", 46, "entry[1][0]"],
    // Both.
    [
      "fewer localities than domains",
      both(tablesOf("4node").srat, slit),
      "NUMAHEAP_ACPI_LOCALITIES",
      "SLIT",
      36,
      "number of system localities",
    ],
    [
      "a domain beyond the localities",
      both(patched(good, 96 + 2, 2), slit),
      "NUMAHEAP_ACPI_LOCALITIES",
      "SLIT",
      36,
      "number of system localities",
    ],
    ["a bad SLIT beside a good SRAT", both(good, patched(slit, 47, 11)), "NUMAHEAP_ACPI_DIAGONAL", "SLIT", 47, "entry[1][1]"],
    ["neither table", () => topologyFromAcpi({}), "NUMAHEAP_ACPI_NO_TABLE", "SRAT", 0, "signature"],
  ])("%s", (_, decode, code, table, offset, field) => {
    const error = acpiErrorOf(decode);
    expect({ code: error.code, table: error.table, offset: error.offset, field: error.field }).toEqual({ code, table, offset, field });
    expect(error.message).toMatch(new RegExp(`^${table}: .+ \\(.+, at byte ${offset}\\)$`));
  });

  test("a wrong checksum is told with the right one", () => {
    const wrong = good.map((byte, at) => (at === 9 ? 0x5a : byte));
    expect(acpiErrorOf(ofSrat(wrong)).message).toBe(`SRAT: the checksum is ${0x5a}, and these bytes need ${good[9]} (checksum, at byte 9)`);
  });

  test("overlaps are found behind a shorter range of the same domain", () => {
    const [long, short] = [memory(0, 0, 100 * MIB), memory(0, MIB, MIB)];
    expect(acpiErrorOf(() => srat(long, short, memory(1, 99 * MIB, 2 * MIB))).code).toBe("NUMAHEAP_ACPI_OVERLAP");
    expect(acpiErrorOf(() => srat(memory(1, 99 * MIB, MIB, { hotPluggable: true }), short, long)).code).toBe("NUMAHEAP_ACPI_OVERLAP");
    expect(() => srat(long, short, memory(1, 100 * MIB, MIB))).not.toThrow();
    expect(() => srat(long, memory(1, 50 * MIB, MIB, { enabled: false }))).not.toThrow();
  });
});

describe("what no table can say is refused when encoding:", () => {
  const base = memory(0, 0, MIB);
  test.each<[string, () => unknown, AcpiErrorCode, number, string]>([
    ["an APIC id of 256", () => srat(processor(256, 0), base), "NUMAHEAP_ACPI_RANGE", 51, "apic id"],
    ["half an APIC id", () => srat(processor(0.5, 0), base), "NUMAHEAP_ACPI_RANGE", 51, "apic id"],
    ["a domain of 33 bits", () => srat(processor(0, 2 ** 32), base), "NUMAHEAP_ACPI_RANGE", 57, "proximity domain"],
    ["a negative domain", () => srat(processor(0, -1), base), "NUMAHEAP_ACPI_RANGE", 50, "proximity domain"],
    ["a negative base", () => srat(memory(0, -4096, MIB)), "NUMAHEAP_ACPI_RANGE", 56, "base address"],
    ["an end beyond 2^53", () => srat(memory(0, 2 ** 53 - 1, 1)), "NUMAHEAP_ACPI_RANGE", 64, "range length"],
    ["an x2APIC id of 33 bits", () => srat(x2apic(2 ** 32, 0), base), "NUMAHEAP_ACPI_RANGE", 56, "x2apic id"],
    [
      "a structure of 256 bytes",
      () => srat({ kind: "unknown", type: 9, body: new Uint8Array(254) }),
      "NUMAHEAP_ACPI_RANGE",
      49,
      "subtable length",
    ],
    [
      "a domain of two bytes in revision 1",
      () => encodeSrat({ entries: [memory(256, 0, MIB)], header: { revision: 1 } }),
      "NUMAHEAP_ACPI_RANGE",
      50,
      "proximity domain",
    ],
    [
      "ignored bits in revision 3",
      () => srat(memory(1, 0, MIB, { ignoredDomainBits: 256 })),
      "NUMAHEAP_ACPI_RANGE",
      50,
      "proximity domain",
    ],
    ["an OEM id of 7 characters", () => encodeSrat({ entries: [base], header: { oemId: "1234567" } }), "NUMAHEAP_ACPI_RANGE", 10, "oem id"],
    ["an OEM id not of bytes", () => encodeSrat({ entries: [base], header: { oemId: "\u0100" } }), "NUMAHEAP_ACPI_RANGE", 10, "oem id"],
    ["no memory", () => srat(processor(0, 0)), "NUMAHEAP_ACPI_NO_MEMORY", 48, "memory affinity structures"],
    ["a distance of 256", () => encodeSlit({ distances: [[10, 256], [20, 10]] }), "NUMAHEAP_ACPI_RANGE", 45, "entry[0][1]"], // prettier-ignore
    ["a distance of 10", () => encodeSlit({ distances: [[10, 20], [10, 10]] }), "NUMAHEAP_ACPI_DISTANCE", 46, "entry[1][0]"], // prettier-ignore
    ["a short row", () => encodeSlit({ distances: [[10, 20], [20]] }), "NUMAHEAP_ACPI_RANGE", 46, "entry[1]"], // prettier-ignore
    ["no rows", () => encodeSlit({ distances: [] }), "NUMAHEAP_ACPI_LOCALITIES", 36, "number of system localities"],
  ])("%s", (_, encode, code, offset, field) => {
    expect(acpiErrorOf(encode)).toMatchObject({ code, offset, field });
  });
});

describe("random damage", () => {
  /** Whatever the bytes are: a value that is encoded to the same bytes, or an AcpiError. */
  const sound = (decode: () => unknown): void => {
    try {
      decode();
    } catch (error) {
      if (!(error instanceof AcpiError)) throw error;
    }
  };
  const tables = guests
    .filter(({ srat }) => srat !== undefined)
    .flatMap(({ srat, slit }) => [
      { bytes: srat!, again: (bytes: Uint8Array) => encodeSrat(decodeSrat(bytes)) },
      ...(slit ? [{ bytes: slit, again: (bytes: Uint8Array) => encodeSlit(decodeSlit(bytes)) }] : []),
    ]);
  const partner = tablesOf("2node");
  const edits = fc.array(fc.tuple(fc.nat(), fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 16, 24, 40, 255))), { maxLength: 6 });

  test("of some bytes gives the value of exactly those bytes, or an AcpiError", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...tables),
        edits,
        fc.integer({ min: -20, max: 20 }),
        fc.boolean(),
        fc.boolean(),
        (table, edits, more, fixLength, fixSum) => {
          let bytes = Uint8Array.from({ length: Math.max(0, table.bytes.length + more) }, (_, i) => table.bytes[i] ?? 0);
          for (const [at, byte] of edits) if (bytes.length > 0) bytes[at % bytes.length] = byte;
          if (fixLength) bytes = Uint8Array.from(patched(bytes, bytes.length));
          if (fixSum) bytes = Uint8Array.from(resealed(bytes));
          sound(() => expect(table.again(bytes)).toEqual(bytes));
          sound(() => topologyFromAcpi({ srat: bytes, slit: partner.slit }));
          sound(() => topologyFromAcpi({ srat: partner.srat, slit: bytes }));
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("of structures alone is mostly decoded", () => {
    let decoded = 0;
    fc.assert(
      fc.property(fc.nat(), fc.nat(255), (at, byte) => {
        const { srat } = tablesOf("4node");
        const bytes = patched(srat, 48 + (at % (srat.length - 48)), byte);
        sound(() => {
          expect(encodeSrat(decodeSrat(bytes))).toEqual(bytes);
          topologyFromAcpi({ srat: bytes });
          ++decoded;
        });
      }),
      { numRuns: 500 },
    );
    expect(decoded).toBeGreaterThan(50);
  });

  test("may be all there is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (tail) => {
        const head = srat(memory(0, 0, MIB)).slice(0, 48);
        const bytes = patched(head, 48, ...tail);
        sound(() => expect(encodeSrat(decodeSrat(bytes))).toEqual(bytes));
        sound(() => topologyFromAcpi({ srat: tail, slit: tail }));
      }),
      { numRuns: 1000 },
    );
  });
});
