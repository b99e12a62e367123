// A worker of pool.mjs: performs the tasks it is sent.

import { parentPort, workerData } from "node:worker_threads";

const { perform } = await import(workerData.module);
parentPort.on("message", async (task) => {
  try {
    parentPort.postMessage(await perform(task));
  } catch (error) {
    parentPort.postMessage({ error: error.stack });
  }
});
