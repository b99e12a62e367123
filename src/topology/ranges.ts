// Ranges of memory with the node they lie on.

/** Bytes [start, end). */
export interface MemoryRange {
  readonly start: number;
  readonly end: number;
}

export interface OwnedRange extends MemoryRange {
  readonly node: number;
}

export const byStart = (a: MemoryRange, b: MemoryRange): number => a.start - b.start;

/** As Linux prints it, with the last byte: `[mem 0x00000000-0x0009ffff]`. */
export function formatRange({ start, end }: MemoryRange): string {
  const hex = (address: number): string => `0x${address.toString(16).padStart(8, "0")}`;
  return `[mem ${hex(start)}-${hex(end - 1)}]`;
}

/** The same bytes in as few ranges as possible, ascending. They may touch and overlap. */
export function mergeRanges(ranges: readonly MemoryRange[]): MemoryRange[] {
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of [...ranges].sort(byStart)) {
    const last = merged.at(-1);
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

/** Of two ranges that share bytes, the one that begins later and the one before it; undefined if none do. They keep their fields. */
export function findOverlap<R extends MemoryRange>(ranges: readonly R[]): [later: R, earlier: R] | undefined {
  const sorted = [...ranges].sort(byStart);
  for (let i = 1; i < sorted.length; ++i) {
    if (sorted[i]!.start < sorted[i - 1]!.end) return [sorted[i]!, sorted[i - 1]!];
  }
  return undefined;
}

/** What of `ranges` lies within [start, end), and what lies without. */
export function cutRanges(ranges: readonly OwnedRange[], start: number, end: number): { inside: OwnedRange[]; outside: OwnedRange[] } {
  const inside: OwnedRange[] = [];
  const outside: OwnedRange[] = [];
  const put = (to: OwnedRange[], from: number, until: number, node: number): void => {
    if (from < until) to.push({ start: from, end: until, node });
  };
  for (const range of ranges) {
    put(outside, range.start, Math.min(range.end, start), range.node);
    put(inside, Math.max(range.start, start), Math.min(range.end, end), range.node);
    put(outside, Math.max(range.start, end), range.end, range.node);
  }
  return { inside, outside };
}
