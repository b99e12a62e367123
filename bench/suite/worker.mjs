// A thread of the benchmark, in any engine: told what to measure, and answers.
import { cellOf } from "./cells.mjs";
import { coldStart } from "./cold-start.mjs";
import { measure } from "./measure.mjs";
import { numa } from "./numa.mjs";
import { replay } from "./replay.mjs";
import { memoryOf, Stage } from "./stage.mjs";

/** Compiled modules and traces, by their names: they come once. */
const kept = new Map();

/** Word of the threads' common SharedArrayBuffer: 1 + address of the driver's region, once the first thread has made the allocator's instance. */
const OPENED = 8;
const LONGEST_WAIT_MS = 60_000;

function openStage({ subject, build, memory, thread, threads, sync, cell }) {
  const { driver, heap, create, inspect, merged } = subject.modules;
  const names = build === "merged" ? { merged, create } : { driver, heap, create, inspect };
  const modules = Object.fromEntries(Object.entries(names).map(([role, name]) => [role, name && kept.get(name)]));
  const first = thread === 0;
  const place = { memory, thread, threads, first, nodes: cell && cellOf(cell).nodes };
  if (first) {
    const stage = new Stage(subject, modules, place);
    Atomics.store(sync, OPENED, stage.base + 1);
    Atomics.notify(sync, OPENED);
    return stage;
  }
  while (Atomics.load(sync, OPENED) === 0)
    if (Atomics.wait(sync, OPENED, 0, LONGEST_WAIT_MS) === "timed-out") throw new Error("the first thread did not come");
  return new Stage(subject, modules, { ...place, base: Atomics.load(sync, OPENED) - 1 });
}

/** A script that has no address here. */
const imported = (script) => import(`data:text/javascript;base64,${btoa(script)}`);

/** A stage for an allocator in JavaScript: nobody drives it but JavaScript. */
function scriptStage({ subject, memory, thread, threads }) {
  const { allocatorOf } = kept.get(subject.modules.script);
  return { subject, memory, thread, threads, heap: allocatorOf(memory.buffer), end() {} };
}

const orders = {
  keep: async ({ name, value }) => void kept.set(name, typeof value === "string" ? await imported(value) : value),
  forget: ({ name }) => void kept.delete(name),
  measure: (order) => measure(cellOf(order.cell), (order.subject.script ? scriptStage : openStage)(withMemory(order)), order.sync, order),
  replay: (order) => replay(openStage(withMemory(order)), order.sync, kept.get(order.trace)),
  numa: (order) => numa(() => openStage({ ...withMemory(order), threads: 1, thread: 0, sync: new Int32Array(16) })),
  coldStart: ({ subject, bytes }) => coldStart(subject, bytes),
};

/** Alone, a thread makes its memory itself: an unshared one cannot be handed over. */
function withMemory(order) {
  return { ...order, memory: order.memory ?? memoryOf(order.subject) };
}

async function answer(order) {
  try {
    return { value: await orders[order.is](order) };
  } catch (error) {
    return { error: String(error?.stack ?? error) };
  }
}

const port = globalThis.process?.getBuiltinModule?.("node:worker_threads")?.parentPort;
if (port && !("WorkerGlobalScope" in globalThis)) port.on("message", async (order) => port.postMessage(await answer(order)));
else globalThis.onmessage = async ({ data }) => globalThis.postMessage(await answer(data));
