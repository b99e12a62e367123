// Tasks over worker threads. A module that is to do them exports `perform(task)`; it is imported once by each worker.

import { Worker } from "node:worker_threads";

/**
 * Has `module` perform the tasks, `size` at a time and in their order; `onResult(task, result)` after each. A task that throws, or takes
 * longer than `patience` milliseconds, has the result { error }. Returns the results.
 */
export function performAll(module, tasks, { size = 2, patience = 2 ** 31 - 1, onResult } = {}) {
  const results = new Array(tasks.length);
  let next = 0;
  const serve = async () => {
    let worker = null;
    while (next < tasks.length) {
      const i = next++;
      worker ??= new Worker(new URL("worker.mjs", import.meta.url), { workerData: { module } });
      results[i] = await performOne(worker, tasks[i], patience);
      if (results[i].late) {
        await worker.terminate();
        worker = null;
      }
      onResult?.(tasks[i], results[i]);
    }
    await worker?.terminate();
  };
  return Promise.all(Array.from({ length: Math.min(size, tasks.length) }, serve)).then(() => results);
}

function performOne(worker, task, patience) {
  return new Promise((resolve, reject) => {
    const finish = (result) => {
      clearTimeout(timer);
      worker.off("message", finish);
      worker.off("error", reject);
      resolve(result);
    };
    const timer = setTimeout(() => finish({ error: `no answer after ${patience / 1000} s`, late: true }), patience);
    worker.on("message", finish);
    worker.on("error", reject);
    worker.postMessage(task);
  });
}
