// The storm: a thread of the heap that changes the topology so many times a second while others allocate.

import { parentPort, workerData } from "node:worker_threads";
import { HEAP_PAGE, instantiate, MAY_BLOCK, type Modules } from "./engine.js";
import { seeded } from "./random.js";
import * as L from "./replay-layout.js";

/** What the storm is started with. */
export interface StormData {
  readonly modules: Modules;
  readonly memory: WebAssembly.Memory;
  readonly heapBase: number;
  readonly key: number;
  /** vCPUs 0 .. workers - 1 are moved; the storm itself runs on the next one. */
  readonly workers: number;
  readonly nodes: number;
  /** Changes a second. */
  readonly rate: number;
  readonly seed: number;
  readonly objects: number;
  readonly objectCount: number;
  /** Int32 of its own memory: 1 = blow, 0 = stop. */
  readonly blow: SharedArrayBuffer;
}

/** Answer to "blow", once it has stopped. */
export interface StormAnswer {
  readonly done: "ready" | "blow" | "detach";
  readonly changes: number;
  readonly errors: number;
}

const data = workerData as StormData;
const { heap, replay } = await instantiate(data.modules, data.memory);
const random = seeded(data.seed);
const blow = new Int32Array(data.blow);
const objects = new Uint32Array(data.memory.buffer, data.objects, data.objectCount * (L.OBJECT_BYTES >> 2));
const basePage = data.heapBase / HEAP_PAGE;
const port = parentPort!;
replay.bindHost(data.heapBase);
if (heap.attach(data.heapBase, data.key, data.workers, MAY_BLOCK) === 0)
  throw new Error(`the storm cannot attach to the heap: errno ${heap.errno()}`);

const below = (n: number): number => Math.floor(random() * n);

/** A page of some live object, or of the heap's beginning while there is none. Objects of like age stand together in the table. */
function usedPage(): number {
  for (let tries = 0, near = below(data.objectCount); tries < 4096; ++tries) {
    const object = ((near + tries * 97) % data.objectCount) * (L.OBJECT_BYTES >> 2);
    if (objects[object + (L.OBJECT_STATE >> 2)] === L.STATE_LIVE) return Math.floor(objects[object + (L.OBJECT_ADDRESS >> 2)]! / HEAP_PAGE);
  }
  return basePage;
}

/** A range of 1 page to a quarter of what is committed, log-uniform, at least half of it in spans in use where there is such a one. */
function range(): { first: number; pages: number } {
  const committed = replay.ownedPages();
  const longest = Math.max(1, Math.floor(committed / 4));
  const pages = Math.min(longest, Math.floor(Math.exp(random() * Math.log(longest + 1))));
  let best = { first: basePage, pages: 1, used: -1 };
  for (let tries = 0; tries < 8; ++tries) {
    const first = Math.max(basePage, usedPage() - below(pages));
    const used = replay.pagesInUse(first, pages);
    if (used * 2 >= pages) return { first, pages };
    if (used > best.used) best = { first, pages, used };
  }
  return { first: best.first, pages: Math.min(pages, Math.max(1, best.used * 2)) };
}

function change(): number {
  if (random() < 0.5) return heap.setVcpuNode(below(data.workers), below(data.nodes));
  const { first, pages } = range();
  return heap.rebind(first, pages, below(data.nodes));
}

function storm(): StormAnswer {
  let changes = 0;
  let errors = 0;
  const start = performance.now();
  while (Atomics.load(blow, 0) === 1) {
    const due = Math.floor(((performance.now() - start) * data.rate) / 1000);
    for (let i = 0; changes + errors < due && i < 64; ++i) {
      if (change() === 0) ++changes;
      else ++errors;
    }
    if (changes + errors >= due) Atomics.wait(blow, 0, 1, Math.max(0.2, 1000 / data.rate));
  }
  return { done: "blow", changes, errors };
}

port.on("message", (command: "blow" | "detach") => {
  if (command === "blow") {
    port.postMessage(storm());
  } else {
    heap.detach();
    port.postMessage({ done: "detach", changes: 0, errors: 0 } satisfies StormAnswer);
    port.close();
  }
});
port.postMessage({ done: "ready", changes: 0, errors: 0 } satisfies StormAnswer);
