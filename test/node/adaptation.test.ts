// What bench/adaptation.mjs measures is there to be measured: every change reaches a thread that does nothing but allocate.
import { describe, expect, test } from "vitest";
import { EVENTS, measureAdaptation, THREADS } from "../../dist/rig/adaptation.js";
import { measureLocality } from "../../dist/rig/locality.js";
import { PAIRINGS } from "../../dist/rig/rig.js";
import { readTrace } from "../../dist/trace/file.js";

const trace = await readTrace(new URL("../../bench/traces/lua-mix.trace.gz", import.meta.url).pathname);

describe.each([PAIRINGS[0]!, PAIRINGS[3]!])("$platform, $os", (pairing) => {
  const cases = EVENTS.flatMap((kind) => THREADS.map((threads) => ({ kind, threads })));
  test.each(cases)("$kind, $threads: the epoch, then a block on the true node, then no other", async ({ kind, threads }) => {
    const samples = await measureAdaptation(pairing, kind, 2, threads);
    expect(samples).toHaveLength(2);
    for (const { epoch, local, clean } of samples) {
      expect(epoch).toBeGreaterThan(0);
      expect(local).toBeGreaterThanOrEqual(epoch);
      expect(clean).toBeGreaterThanOrEqual(local);
    }
  });
});

test.each(["vcpu migration", "ballooning"] as const)(
  "%s: allocations are counted, and a heap that is told has more of them on its nodes",
  async (kind) => {
    const measure = (mode: "adaptive" | "static") =>
      measureLocality({ ...PAIRINGS[0]!, kind, mode, trace, events: 2, allocations: 5000, seed: 1, memory: 2 ** 26 });
    const shares: number[] = [];
    for (const mode of ["adaptive", "static"] as const) {
      const { before, after, result } = await measure(mode);
      expect(result).toMatchObject({ sound: true, disagreements: [], problems: [] });
      expect(before.local + before.remote).toBeGreaterThanOrEqual(10_000);
      expect(after.local + after.remote).toBeGreaterThanOrEqual(10_000);
      shares.push(after.local / (after.local + after.remote));
    }
    expect(shares[0]).toBeGreaterThanOrEqual(shares[1]! - 0.01);
  },
);
