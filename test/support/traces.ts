// Random programs, as traces.
import fc from "fast-check";
import { ALIGNED, EXIT, FREE, MALLOC, REALLOC } from "../../src/trace/format.js";
import type { TraceEvent } from "../../src/trace/encode.js";

/** Turns random numbers into events that keep the promises of the format. */
export function eventsFrom(choices: readonly (readonly [number, number, number])[], threads: number): TraceEvent[] {
  const live: number[] = [];
  const events: TraceEvent[] = [];
  let next = 0;
  let seen = 0;
  const ended = new Set<number>();
  for (const [what, who, size] of choices) {
    const thread = Math.min(who % threads, seen);
    if (ended.has(thread)) continue;
    if (thread === seen) ++seen;
    const op = what % 16;
    const at = who % Math.max(1, live.length);
    if (live.length === 0 || op < 7) {
      const kind = op % 3;
      events.push({ op: kind, thread, object: 0, size, alignment: kind === ALIGNED ? size % 13 : 0 });
      live.push(next++);
    } else if (op < 9) {
      events.push({ op: REALLOC, thread, object: live[at]!, size: size + 1, alignment: 0 });
    } else if (op === 15 && who % 8 === 0 && thread + 1 < seen) {
      events.push({ op: EXIT, thread, object: 0, size: 0, alignment: 0 });
      ended.add(thread);
    } else {
      events.push({ op: FREE, thread, object: live.splice(at, 1)[0]!, size: 0, alignment: 0 });
    }
  }
  if (events.length === 0) events.push({ op: MALLOC, thread: 0, object: 0, size: 1, alignment: 0 });
  return events;
}

/** A random program: its events. */
export const programs = (threads: number, length = 400): fc.Arbitrary<TraceEvent[]> =>
  fc
    .array(fc.tuple(fc.nat(255), fc.nat(1000), fc.oneof(fc.nat(300), fc.nat(70_000))), { minLength: 1, maxLength: length })
    .map((choices) => eventsFrom(choices, threads));
