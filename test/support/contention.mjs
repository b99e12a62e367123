// A fresh process of contention: 4 workers on one class of one node for a moment, then a walk. Exit status 1 on any problem.
import { Worker } from "node:worker_threads";
import { NumaHeap } from "../../dist/index.js";

const seed = Number(process.argv[2] ?? 1);
const heap = await NumaHeap.create({ maximumBytes: 2 ** 28 });
const mailbox = heap.calloc(64, 4);
await Promise.all(
  [1, 2, 3, 4].map(
    (i) =>
      new Promise((resolve, reject) => {
        const workerData = { handle: heap.handle(), mailbox, slots: 64, seed: seed + i, operations: 20_000 };
        const worker = new Worker(new URL("./stress-worker.mjs", import.meta.url), { workerData });
        worker.once("message", resolve);
        worker.once("error", reject);
      }),
  ),
);
const live = [...heap.view(Uint32Array, mailbox, 64)].filter((ptr) => ptr !== 0);
const walk = heap.walk({ live: [...live, mailbox] });
if (!walk.ok) {
  console.error(JSON.stringify(walk));
  process.exit(1);
}
