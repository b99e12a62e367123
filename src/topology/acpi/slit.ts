// The System Locality Information Table: a square of distances, a row for each locality. Proximity domain i of the SRAT is locality i
// (ACPI 6.5, 5.2.17).
//
//   36 u64 number of localities N    44 u8 distance[N][N]    10 to itself, more to others, 255 = unreachable

import { LOCAL_DISTANCE } from "../topology.js";
import { type AcpiHeader, HEADER_BYTES, ownHeader, TableReader, TableWriter } from "./header.js";

const COUNT = HEADER_BYTES;
const DISTANCES = 44;
const REVISION = 1;

export interface SlitTable {
  readonly header: AcpiHeader;
  /** `distances[i][j]`: from locality i to locality j. */
  readonly distances: readonly (readonly number[])[];
}

/**
 * Decodes a SLIT, checksum and all.
 * @throws {AcpiError}
 */
export function decodeSlit(bytes: Uint8Array): SlitTable {
  const reader = new TableReader("SLIT", bytes, DISTANCES);
  const count = reader.u64(COUNT, "number of system localities");
  const room = reader.length - DISTANCES;
  if (count === 0 || count * count !== room) {
    const message = `the table says ${count} localities, and has ${room} distances`;
    reader.fail("NUMAHEAP_ACPI_LOCALITIES", COUNT, "number of system localities", message);
  }
  const distances = Array.from({ length: count }, (_, i) =>
    Array.from({ length: count }, (_, j) => {
      const at = DISTANCES + i * count + j;
      const distance = reader.u8(at);
      if (i === j && distance !== LOCAL_DISTANCE)
        reader.fail("NUMAHEAP_ACPI_DIAGONAL", at, `entry[${i}][${j}]`, `a locality is at ${LOCAL_DISTANCE} from itself, not ${distance}`);
      if (i !== j && distance <= LOCAL_DISTANCE)
        reader.fail(
          "NUMAHEAP_ACPI_DISTANCE",
          at,
          `entry[${i}][${j}]`,
          `another locality is farther than ${LOCAL_DISTANCE}, which ${distance} is not`,
        );
      return distance;
    }),
  );
  return { header: reader.header, distances };
}

/**
 * The bytes of a SLIT; `encodeSlit(decodeSlit(bytes))` equals `bytes`.
 * @throws {AcpiError} for what decodeSlit would refuse, or what does not fit its field
 */
export function encodeSlit({ distances, header = {} }: { distances: SlitTable["distances"]; header?: Partial<AcpiHeader> }): Uint8Array {
  const count = distances.length;
  const writer = new TableWriter("SLIT", DISTANCES + count * count, { ...ownHeader(REVISION), ...header });
  writer.put(COUNT, 8, count, "number of system localities");
  distances.forEach((row, i) => {
    if (row.length !== count) writer.fail(DISTANCES + i * count, `entry[${i}]`, `a row of ${row.length} distances, not ${count}`);
    row.forEach((distance, j) => writer.put(DISTANCES + i * count + j, 1, distance, `entry[${i}][${j}]`));
  });
  const bytes = writer.seal();
  decodeSlit(bytes);
  return bytes;
}
