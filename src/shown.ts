// What a caller passed, in a message about it: an object's own toString is the caller's, and may be anything.

/** A value as a message shows it. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  return value !== null && (typeof value === "object" || typeof value === "function") ? `this ${typeof value}` : String(value);
}
