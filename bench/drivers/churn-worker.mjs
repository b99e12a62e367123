// One thread of bench/churn.mjs: attaches, then runs the loops it is told to.
import { parentPort, workerData } from "node:worker_threads";

const { module, memory, base, key, vcpu } = workerData;
const { exports } = new WebAssembly.Instance(module, { env: { memory } });
if (!exports.attach(base, key, vcpu, 1)) throw new Error(`attach: errno ${exports.errno()}`);
exports.seed(key);
parentPort.on("message", ({ loop, args }) => {
  const ok = exports[loop](...args);
  parentPort.postMessage(ok === 0 ? { error: `${loop}: errno ${exports.errno()}` } : {});
});
parentPort.postMessage({});
