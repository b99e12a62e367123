// The header every ACPI table begins with, and the bytes behind it, both ways (ACPI 6.5, 5.2.6). All numbers are little-endian.
//
//   0 signature  4 length  8 revision  9 checksum  10 OEM id  16 OEM table id  24 OEM revision  28 creator id  32 creator revision
//
// All bytes of a table sum up to 0, modulo 256.

import { AcpiError, type AcpiErrorCode, type AcpiTable } from "./errors.js";

export const HEADER_BYTES = 36;
const LENGTH = 4;
const REVISION = 8;
const CHECKSUM = 9;

/** What a table's header says beside signature, length and checksum. Texts have a character a byte (Latin-1). */
export interface AcpiHeader {
  readonly revision: number;
  /** 6 characters; shorter ones are filled up with spaces. */
  readonly oemId: string;
  /** 8 characters. */
  readonly oemTableId: string;
  readonly oemRevision: number;
  /** 4 characters. */
  readonly creatorId: string;
  readonly creatorRevision: number;
}

/** Header of tables made here. */
export const ownHeader = (revision: number): AcpiHeader => ({
  revision,
  oemId: "NUMA",
  oemTableId: "NUMAHEAP",
  oemRevision: 1,
  creatorId: "NUMA",
  creatorRevision: 1,
});

/** Reads a table whose header, length and checksum it has verified. */
export class TableReader {
  readonly header: AcpiHeader;
  readonly length: number;
  private readonly view: DataView;

  /**
   * @param least bytes the fixed part of the table takes
   * @throws {AcpiError}
   */
  constructor(
    private readonly table: AcpiTable,
    private readonly bytes: Uint8Array,
    least: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.length = bytes.length;
    if (this.text(0, Math.min(4, bytes.length)) !== table.slice(0, bytes.length))
      this.fail("NUMAHEAP_ACPI_SIGNATURE", 0, "signature", "the bytes are no such table");
    if (bytes.length < HEADER_BYTES)
      this.fail("NUMAHEAP_ACPI_TRUNCATED", bytes.length, "header", `${bytes.length} bytes, and a header alone has ${HEADER_BYTES}`);
    const length = this.u32(LENGTH);
    if (length < least)
      this.fail("NUMAHEAP_ACPI_LENGTH", LENGTH, "length", `the header says ${length} bytes, and such a table has ${least} at least`);
    if (length > bytes.length)
      this.fail("NUMAHEAP_ACPI_TRUNCATED", bytes.length, "length", `the bytes end at ${bytes.length}, the table at ${length}`);
    if (length < bytes.length)
      this.fail("NUMAHEAP_ACPI_TRAILING", length, "length", `${bytes.length - length} bytes behind the table, which ends at ${length}`);
    const sum = bytes.reduce((total, byte) => total + byte, 0) & 0xff;
    if (sum !== 0) {
      const right = (this.u8(CHECKSUM) - sum) & 0xff;
      this.fail("NUMAHEAP_ACPI_CHECKSUM", CHECKSUM, "checksum", `the checksum is ${this.u8(CHECKSUM)}, and these bytes need ${right}`);
    }
    this.header = {
      revision: this.u8(REVISION),
      oemId: this.text(10, 6),
      oemTableId: this.text(16, 8),
      oemRevision: this.u32(24),
      creatorId: this.text(28, 4),
      creatorRevision: this.u32(32),
    };
    if (this.header.revision === 0) this.fail("NUMAHEAP_ACPI_REVISION", REVISION, "revision", "the revision is 0, and they begin at 1");
  }

  fail(code: AcpiErrorCode, offset: number, field: string, message: string): never {
    throw new AcpiError(code, this.table, offset, field, message);
  }

  u8(at: number): number {
    return this.view.getUint8(at);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  u64(at: number, field: string): number {
    const value = this.view.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail("NUMAHEAP_ACPI_RANGE", at, field, `0x${value.toString(16)} is beyond 2^53 - 1`);
    return Number(value);
  }

  /** A copy of bytes [from, to); slice of a Buffer would be none. */
  copy(from: number, to: number): Uint8Array {
    return new Uint8Array(this.bytes.subarray(from, to));
  }

  /** Bytes [from, to) must be 0. */
  reserved(from: number, to: number): void {
    for (let at = from; at < to; ++at) {
      if (this.bytes[at] !== 0) this.fail("NUMAHEAP_ACPI_RESERVED", at, "reserved", `a reserved byte is ${this.bytes[at]}, not 0`);
    }
  }

  /** Flags, of which only those of `mask` are known. */
  flags(at: number, mask: number): number {
    const flags = this.u32(at);
    if ((flags & ~mask) !== 0)
      this.fail("NUMAHEAP_ACPI_RESERVED", at, "flags", `0x${flags.toString(16)} has bits beyond 0x${mask.toString(16)}`);
    return flags;
  }

  private text(at: number, length: number): string {
    return String.fromCharCode(...this.bytes.subarray(at, at + length));
  }
}

/** Writes a table; what does not fit its field is refused, not cut. */
export class TableWriter {
  private readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(
    private readonly table: AcpiTable,
    length: number,
    header: AcpiHeader,
  ) {
    this.bytes = new Uint8Array(length);
    this.text(0, 4, table, "signature");
    this.put(LENGTH, 4, length, "length");
    this.put(REVISION, 1, header.revision, "revision");
    this.text(10, 6, header.oemId, "oem id");
    this.text(16, 8, header.oemTableId, "oem table id");
    this.put(24, 4, header.oemRevision, "oem revision");
    this.text(28, 4, header.creatorId, "creator id");
    this.put(32, 4, header.creatorRevision, "creator revision");
  }

  fail(offset: number, field: string, message: string): never {
    throw new AcpiError("NUMAHEAP_ACPI_RANGE", this.table, offset, field, message);
  }

  /** A number of `width` bytes. */
  put(at: number, width: number, value: number, field: string): void {
    if (!Number.isSafeInteger(value) || value < 0 || value >= 256 ** width) this.fail(at, field, `${value} does not fit ${width} bytes`);
    for (let i = 0, rest = value; i < width; ++i, rest = Math.floor(rest / 256)) this.bytes[at + i] = rest % 256;
  }

  set(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
  }

  /** The table with its checksum. */
  seal(): Uint8Array<ArrayBuffer> {
    this.bytes[CHECKSUM] = 0;
    this.bytes[CHECKSUM] = -this.bytes.reduce((total, byte) => total + byte, 0) & 0xff;
    return this.bytes;
  }

  private text(at: number, length: number, value: string, field: string): void {
    const fits = value.length <= length && [...value].every((char) => char <= "\xff");
    if (!fits) this.fail(at, field, `${JSON.stringify(value)} does not fit ${length} bytes`);
    for (let i = 0; i < length; ++i) this.bytes[at + i] = i < value.length ? value.charCodeAt(i) : 0x20;
  }
}
