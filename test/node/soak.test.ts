// A short soak of every pairing; bench/soak.mjs is the long one.
import { expect, test } from "vitest";
import { PAIRINGS } from "../../dist/rig/rig.js";
import { soak } from "../../dist/rig/soak.js";
import { readTrace } from "../../dist/trace/file.js";

const trace = await readTrace(new URL("../../bench/traces/lua-mix.trace.gz", import.meta.url).pathname);
const CHANGES = 400;

test.each(PAIRINGS)("$platform, $os", async (pairing) => {
  const result = await soak({ ...pairing, trace, changes: CHANGES, seed: 11, liveEvery: 100, memory: 2 ** 25 });
  expect(result).toMatchObject({
    disagreements: [],
    problems: [],
    replay: { failures: [], walk: "ok", leakedBytes: 0, unaccountedBlocks: 0 },
    sound: true,
  });
  expect(result.changes.all).toBe(CHANGES);
  for (const [kind, count] of Object.entries(result.changes)) expect([kind, count > 0]).toEqual([kind, true]);
  expect(result.changes.live).toBe(3);
  expect(result.framesBackElsewhere).toBeGreaterThan(0);
});
