// Conducts one round of the benchmark inside an engine: takes the plan from the server that started it, has its workers measure task after
// task, and reports each. In Node: node runner.mjs URL; in a page: <script type="module" src="/bench/suite/runner.mjs">.
import { SYNC_BYTES } from "./measure.mjs";
import { memoryOf } from "./stage.mjs";

const nodeWorkers = globalThis.process?.getBuiltinModule?.("node:worker_threads");
const url = nodeWorkers ? process.argv[2] : location.origin;
/** Milliseconds for a task; whoever has not answered by then never will. */
const LONGEST_TASK_MS = 20_000;

class Thread {
  constructor() {
    const script = new URL("./worker.mjs", import.meta.url);
    this.worker = globalThis.Worker ? new Worker(script, { type: "module" }) : new nodeWorkers.Worker(script);
    const hear = (answer) => this.heard(answer);
    if (this.worker.on) {
      this.worker.on("message", hear);
      this.worker.on("error", (error) => this.heard({ error: String(error?.stack ?? error) }));
    } else {
      this.worker.onmessage = ({ data }) => hear(data);
      this.worker.onerror = (event) => this.heard({ error: String(event.message) });
    }
  }

  order(order) {
    return new Promise((resolve, reject) => {
      this.heard = ({ value, error }) => (error ? reject(new Error(error)) : resolve(value));
      this.worker.postMessage(order);
    });
  }
}

const fetched = async (path) => {
  const response = await fetch(`${url}${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
};
const report = (what) => fetch(`${url}/report`, { method: "POST", body: JSON.stringify(what) });

const threads = [];
const threadsFor = (count) => {
  while (threads.length < count) threads.push(new Thread());
  return threads.slice(0, count);
};

/** Names that a thread has been given. */
const given = new WeakMap();
const values = new Map();

/** The threads have the value of this name. */
async function give(crew, name, make) {
  for (const thread of crew) {
    const names = given.get(thread) ?? new Set();
    given.set(thread, names);
    if (names.has(name)) continue;
    if (!values.has(name)) values.set(name, await make());
    names.add(name);
    await thread.order({ is: "keep", name, value: values.get(name) });
  }
}

async function forget(crew, name) {
  values.delete(name);
  for (const thread of crew) {
    given.get(thread)?.delete(name);
    await thread.order({ is: "forget", name });
  }
}

const bytesOf = async (name) => (await fetched(`/module/${name}`)).arrayBuffer();

async function giveModules(crew, { modules }, build) {
  if (modules.script) return give(crew, modules.script, async () => (await fetched(`/module/${modules.script}`)).text());
  const { driver, heap, create, inspect, merged } = modules;
  for (const name of build === "merged" ? [merged, create] : [driver, heap, create, inspect])
    if (name) await give(crew, name, async () => WebAssembly.compile(await bytesOf(name)));
}

const sync = () => new Int32Array(new SharedArrayBuffer(SYNC_BYTES));

/** Times a task is measured until no thread of it had to wait for a processor, and the share of time that is no waiting. */
const TRIES = 4;
const IDLE = 0.02;

/** Share of the time that one of the threads waited. */
const waited = (told) => Math.max(...told.map(({ queued = 0, ms }) => (ms > 0 ? queued / ms : 0)));

/**
 * A task on all its threads: what each of them says. Threads that take turns on one processor do not get into each other's way, so where there
 * are processors enough, a try in which one had to wait is another task's measurement.
 */
async function together(task, order) {
  const { subject, build } = task;
  const crew = threadsFor(task.threads);
  await giveModules(crew, subject, build);
  let best;
  for (let tries = 0; tries < TRIES; ++tries) {
    const memory = subject.shared ? memoryOf(subject) : undefined;
    const common = { ...order, subject, build, memory, threads: task.threads, sync: sync() };
    const told = await Promise.all(crew.map((each, thread) => each.order({ ...common, thread })));
    if (!best || waited(told) < waited(best)) best = told;
    if (!task.alone || order.is !== "measure" || waited(best) <= IDLE) break;
  }
  return best;
}

let lastTrace;

const tasks = {
  measure: (task) => together(task, { is: "measure", cell: task.cell, part: task.part, warmUpMs: task.warmUpMs, ms: task.ms }),
  async replay(task) {
    const name = `${task.part}/${task.threads}`;
    const crew = threadsFor(task.threads);
    if (lastTrace && lastTrace !== name) await forget(threads, lastTrace);
    lastTrace = name;
    await give(crew, name, async () => traceOf(await (await fetched(`/trace/${name}`)).arrayBuffer()));
    return together(task, { is: "replay", trace: name });
  },
  async numa({ subject }) {
    const crew = threadsFor(1);
    await giveModules(crew, subject, "cross");
    return [await crew[0].order({ is: "numa", cell: "q2", subject, build: "cross" })];
  },
  async coldStart({ subject }) {
    const [thread] = threadsFor(1);
    const bytes = { heap: await bytesOf(subject.modules.heap) };
    if (subject.modules.create) bytes.create = await bytesOf(subject.modules.create);
    return [await thread.order({ is: "coldStart", subject, bytes })];
  },
};

/** [slots, events, most bytes live, number of streams, their lengths in words, the streams], shared rather than copied to each thread. */
function traceOf(buffer) {
  const words = new Uint32Array(new SharedArrayBuffer(buffer.byteLength));
  words.set(new Uint32Array(buffer));
  const [slots, events, peakLiveBytes, count] = words;
  let at = 4 + count;
  const streams = [...words.subarray(4, at)].map((length) => words.subarray(at, (at += length)));
  return { slots, events, peakLiveBytes, streams };
}

const late = (ms) => new Promise((_, reject) => setTimeout(() => reject(new Error(`no answer in ${ms / 1000} s`)), ms));

async function main() {
  const plan = await (await fetched("/plan")).json();
  // The first measurement is made twice, since it is the one in which an engine compiles this program.
  for (const task of plan.slice(0, 1)) await tasks[task.is](task).catch(() => {});
  for (const task of plan) {
    try {
      await report({ task: task.id, threads: await Promise.race([tasks[task.is](task), late(LONGEST_TASK_MS)]) });
    } catch (error) {
      await report({ task: task.id, error: String(error?.message ?? error) });
      // Whoever was left waiting by it is of no use any more.
      for (const { worker } of threads.splice(0)) worker.terminate();
      lastTrace = undefined;
    }
  }
  await report({ end: true });
  globalThis.process?.exit?.(0);
}

try {
  await main();
} catch (error) {
  await report({ failed: String(error?.stack ?? error) });
  globalThis.process?.exit?.(1);
}
