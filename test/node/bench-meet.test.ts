// The benchmark's threads go on together, and not before.
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
// @ts-expect-error -- plain JavaScript
import { meet, SYNC_BYTES } from "../../bench/suite/measure.mjs";

const ARRIVED = 0;
const PHASE = 1;
const measure = new URL("../../bench/suite/measure.mjs", import.meta.url).href;
const program = `
  const { parentPort, workerData } = require("node:worker_threads");
  import(${JSON.stringify(measure)}).then(({ meet }) => {
    meet(workerData, 2);
    parentPort.postMessage("met");
  });
`;
const ticks = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("a thread that is woken for a phase that is over goes on waiting", async () => {
  const sync = new Int32Array(new SharedArrayBuffer(SYNC_BYTES));
  let met = false;
  const worker = new Worker(program, { eval: true, workerData: sync });
  const done = new Promise<void>((resolve, reject) => worker.on("message", () => resolve()).on("error", reject)).then(() => (met = true));
  // As whoever ended the phase before would wake it, late: until it sleeps there is nobody to wake.
  while (Atomics.notify(sync, PHASE) === 0) await ticks(5);
  await ticks(100);
  expect(met).toBe(false);
  expect(sync[ARRIVED]).toBe(1);
  meet(sync, 2);
  await done;
  expect(sync[PHASE]).toBe(1);
  await worker.terminate();
});
