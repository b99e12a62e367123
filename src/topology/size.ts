// Sizes as people write them.

const UNITS: Record<string, number> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** Bytes of "65536", "512KiB", "64M", "4GiB"; undefined if it is no size. Units are powers of 1024, in any case. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmg])(?:ib|b)?|b)?$/i.exec(text.trim());
  if (!match) return undefined;
  const bytes = Number(match[1]) * UNITS[(match[2] ?? "").toLowerCase()]!;
  return Number.isInteger(bytes) ? bytes : undefined;
}

/** Bytes as parseSize reads them, to the byte: "1536KiB". */
export function exactSize(bytes: number): string {
  const units = ["", "KiB", "MiB", "GiB"];
  let unit = 0;
  let value = bytes;
  while (value > 0 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    ++unit;
  }
  return `${value}${units[unit]}`;
}

/** Bytes in the unit they read best in: "1.5 MiB". */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  let value = bytes;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    ++unit;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
