/** What is wrong with a table; `table`, `offset` and `field` of the error say where. */
export type AcpiErrorCode =
  /** Not the table it should be. */
  | "NUMAHEAP_ACPI_SIGNATURE"
  /** The bytes end before the table does, or the table within a structure. */
  | "NUMAHEAP_ACPI_TRUNCATED"
  /** Bytes are left over behind the table. */
  | "NUMAHEAP_ACPI_TRAILING"
  /** A length that is not that of such a table or structure. */
  | "NUMAHEAP_ACPI_LENGTH"
  | "NUMAHEAP_ACPI_CHECKSUM"
  /** A revision no table of this kind has. */
  | "NUMAHEAP_ACPI_REVISION"
  /** A reserved byte or bit is not what it must be. */
  | "NUMAHEAP_ACPI_RESERVED"
  /** A number that cannot be held: an address beyond 2^53 - 1 when decoding; one too large for its field when encoding. */
  | "NUMAHEAP_ACPI_RANGE"
  /** Memory of two proximity domains overlaps. */
  | "NUMAHEAP_ACPI_OVERLAP"
  /** A processor is in two proximity domains. */
  | "NUMAHEAP_ACPI_DUPLICATE"
  /** No memory is present at boot. */
  | "NUMAHEAP_ACPI_NO_MEMORY"
  /** The distance of a locality to itself is not 10. */
  | "NUMAHEAP_ACPI_DIAGONAL"
  /** The distance to another locality is not greater than 10. */
  | "NUMAHEAP_ACPI_DISTANCE"
  /** The number of localities is none, does not fit the table's length, or leaves out a proximity domain. */
  | "NUMAHEAP_ACPI_LOCALITIES"
  /** Neither table is there. */
  | "NUMAHEAP_ACPI_NO_TABLE";

export type AcpiTable = "SRAT" | "SLIT";

/** A malformed table, or a value that no table can say. */
export class AcpiError extends Error {
  override readonly name = "AcpiError";
  readonly code: AcpiErrorCode;
  readonly table: AcpiTable;
  /** Byte of the table where the field begins. */
  readonly offset: number;
  /** As the ACPI specification calls it, in small letters: `base address`. */
  readonly field: string;

  constructor(code: AcpiErrorCode, table: AcpiTable, offset: number, field: string, message: string) {
    super(`${table}: ${message} (${field}, at byte ${offset})`);
    this.code = code;
    this.table = table;
    this.offset = offset;
    this.field = field;
  }
}
