// A worker of the core tests, in Node and in browsers: trades blocks with others through a mailbox in shared memory.
import { NumaHeap } from "../../dist/index.js";

const port = globalThis.process?.getBuiltinModule("node:worker_threads").parentPort ?? globalThis;

/** Takes whatever block stands in a slot, checks and frees it, and leaves a new one there; so many times. */
function trade(heap, { mailbox, slots, operations, seed }) {
  let state = seed;
  const below = (n) => (state = (state * 48271) % 0x7fffffff) % n;
  for (let i = 0; i < operations; ++i) {
    const size = 16 + below(below(50) === 0 ? 60_000 : 1000);
    const mine = heap.malloc(size);
    if (mine === 0) throw new Error(`no memory: errno ${heap.errno()}`);
    heap.view(Uint32Array, mine, 2).set([size, ~mine]);
    const words = heap.view(Uint32Array, mailbox, slots);
    const theirs = Atomics.exchange(words, below(slots), mine);
    if (theirs === 0) continue;
    const [bytes, stamp] = heap.view(Uint32Array, theirs, 2);
    if (stamp !== ~theirs >>> 0 || heap.usableSize(theirs) < bytes) throw new Error(`the block ${theirs} is damaged`);
    heap.free(theirs);
  }
}

port.onmessage = async ({ data }) => {
  try {
    const heap = await NumaHeap.attach(data.handle);
    port.postMessage("attached");
    trade(heap, data);
    heap.detach();
    port.postMessage("done");
  } catch (error) {
    port.postMessage(String(error));
  }
};
