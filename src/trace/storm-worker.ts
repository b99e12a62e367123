// The storm: a thread of the heap that changes the topology so many times a second while others allocate.

import { parentPort, workerData } from "node:worker_threads";
import { errorOf } from "../heap/errors.js";
import { HEAP_PAGE, MAY_BLOCK } from "../heap/exports.js";
import { instantiate, type Modules } from "./engine.js";
import { seeded } from "./random.js";
import * as L from "./replay-layout.js";
import { drawRange } from "./storm-range.js";

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
const nodeOfVcpu = Array.from({ length: data.workers }, (_, vcpu) => vcpu % data.nodes);
const port = parentPort!;
replay.bindHost(data.heapBase);
if (heap.attach(data.heapBase, data.key, data.workers, MAY_BLOCK) === 0) throw errorOf(heap.errno(), "the storm cannot attach to the heap");

const below = (n: number): number => Math.floor(random() * n);

/** A page of some live object, or of the heap's beginning while there is none. Objects of like age stand together in the table. */
function usedPage(): number {
  for (let tries = 0, near = below(data.objectCount); tries < 4096; ++tries) {
    const object = ((near + tries * 97) % data.objectCount) * (L.OBJECT_BYTES >> 2);
    if (objects[object + (L.OBJECT_STATE >> 2)] === L.STATE_LIVE) return Math.floor(objects[object + (L.OBJECT_ADDRESS >> 2)]! / HEAP_PAGE);
  }
  return basePage;
}

const pagesOfHeap = { base: basePage, usedPage, inUse: (first: number, pages: number) => replay.pagesInUse(first, pages) };

/** Another node than `node`, where there is one. */
const otherThan = (node: number): number => (data.nodes === 1 ? 0 : (node + 1 + below(data.nodes - 1)) % data.nodes);

function change(): number {
  if (random() < 0.5) {
    const vcpu = below(data.workers);
    nodeOfVcpu[vcpu] = otherThan(nodeOfVcpu[vcpu]!);
    return heap.setVcpuNode(vcpu, nodeOfVcpu[vcpu]!);
  }
  const { first, pages } = drawRange({ ...pagesOfHeap, committed: replay.ownedPages() }, random);
  return heap.rebind(first, pages, otherThan(heap.nodeOf(first * HEAP_PAGE)));
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
