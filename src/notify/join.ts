// Several changes as one, for whoever was busy meanwhile: what is so in the end, in bounded room.

import { MIXED, type MovedRange, type TopologyChange } from "../heap/topology-event.js";

/** More ranges than these become one, of mixed nodes. */
export const MOST_RANGES = 64;

function joinRanges(before: readonly MovedRange[], after: readonly MovedRange[]): readonly MovedRange[] {
  // What moved again has the node of its last move only.
  const kept = before.flatMap((range) =>
    after.reduce((parts, { start, end }) => parts.flatMap((part) => without(part, start, end)), [range]),
  );
  const joined: MovedRange[] = [];
  for (const range of [...kept, ...after].sort((a, b) => a.start - b.start)) {
    const last = joined.at(-1);
    if (last && last.end === range.start && last.node === range.node) joined[joined.length - 1] = { ...last, end: range.end };
    else joined.push(range);
  }
  return joined.length <= MOST_RANGES ? joined : [{ start: joined[0]!.start, end: joined.at(-1)!.end, node: MIXED }];
}

function without(range: MovedRange, start: number, end: number): MovedRange[] {
  if (range.end <= start || range.start >= end) return [range];
  const parts: MovedRange[] = [];
  if (range.start < start) parts.push({ ...range, end: start });
  if (range.end > end) parts.push({ ...range, start: end });
  return parts;
}

/** What has changed by `before` and then by `after`. */
export function join(before: TopologyChange | undefined, after: TopologyChange): TopologyChange {
  const nodeOf = new Map([...(before?.vcpus ?? []), ...after.vcpus].map(({ vcpu, node }) => [vcpu, node]));
  return {
    epoch: after.epoch,
    nodeCount: after.nodeCount,
    nodes: (before?.nodes ?? false) || after.nodes,
    vcpus: [...nodeOf].sort(([a], [b]) => a - b).map(([vcpu, node]) => ({ vcpu, node })),
    ranges: joinRanges(before?.ranges ?? [], after.ranges),
  };
}
