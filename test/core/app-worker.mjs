// A thread of an application, in Node and in browsers: attached to a heap of a virtual machine, it does what it is told to.
import { attachHeap } from "../../dist/host/index.js";
import { NumaHeap } from "../../dist/index.js";

const port = globalThis.process?.getBuiltinModule("node:worker_threads").parentPort ?? globalThis;
let heap;
let blocks = [];
const events = [];

const orders = {
  async attach({ handle, patience, port: carrier, plain }) {
    const options = { ...(patience && { patience }), ...(carrier && { port: carrier }) };
    heap = plain ? await NumaHeap.attach(handle) : await attachHeap(handle, options);
    heap.addEventListener("topologychange", ({ epoch, nodeCount, nodes, vcpus, ranges }) => {
      events.push({ epoch, nodeCount, nodes, vcpus, ranges, seen: heap.epoch });
    });
  },
  /** Nodes of so many new blocks, each filled with its number. */
  allocate({ count, bytes }) {
    return Array.from({ length: count }, () => {
      const block = heap.alloc(Uint32Array, bytes / 4);
      block.view.fill(blocks.length);
      blocks.push(block);
      return heap.nodeOf(block.ptr);
    });
  },
  /** Addresses of all blocks, the content of which is checked. */
  verify() {
    blocks.forEach((block, i) => {
      if (!block.view.every((word) => word === i)) throw new Error(`block ${i} is damaged`);
    });
    return blocks.map(({ ptr }) => ptr);
  },
  freeAll() {
    for (const block of blocks) block[Symbol.dispose]();
    blocks = [];
  },
  node: () => (heap.settle(), heap.node),
  /** Allocates, and hears no message, until it finds itself on `node` or somebody sets the word. */
  loop({ node, words }) {
    Atomics.store(words, 1, 1);
    let rounds = 0;
    while (heap.node !== node && Atomics.load(words, 0) === 0) {
      // Beyond the largest class: each allocation looks at the epoch.
      heap.free(heap.malloc(40_000));
      ++rounds;
    }
    while (Atomics.load(words, 0) === 0);
    return { node: heap.node, rounds };
  },
  /** What the heap was told since this was asked last. */
  events: () => events.splice(0),
  detach: () => heap.detach(),
};

const hear = async ({ data }) => {
  try {
    port.postMessage({ value: await orders[data.order](data) });
  } catch (error) {
    port.postMessage({ error: `${error.code ?? ""} ${error.stack}` });
  }
};
port.onmessage = hear;
