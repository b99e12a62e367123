// A worker of the stress test: allocates, swaps blocks with others through a mailbox, checks and frees what it gets.
import { parentPort, workerData } from "node:worker_threads";
import { NumaHeap } from "../../dist/index.js";

const { handle, mailbox, slots, seed, operations, forever } = workerData;
const heap = await NumaHeap.attach(handle);
let state = seed;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const raw = heap.imports;
let words = new Int32Array(handle.memory.buffer);
for (let i = 0; forever || i < operations; ++i) {
  const r = random();
  const size = 16 + Math.floor(r < 0.9 ? random() * 500 : r < 0.995 ? random() * 20_000 : random() * 200_000);
  const ptr = raw.malloc(size) >>> 0;
  if (ptr === 0) throw new Error(`no memory: errno ${raw.errno()}`);
  if (ptr + size > words.byteLength) words = heap.view(Int32Array, 0, handle.memory.buffer.byteLength >> 2);
  words[ptr >> 2] = size;
  words[(ptr >> 2) + 1] = ptr ^ size;
  words[(ptr + size - 4) >> 2] = ptr ^ size;
  if (size < 12) throw new Error("too small");
  const slot = (mailbox >> 2) + Math.floor(random() * slots);
  const got = Atomics.exchange(words, slot, ptr) >>> 0;
  if (got === 0) continue;
  if (got + 8 > words.byteLength) words = heap.view(Int32Array, 0, handle.memory.buffer.byteLength >> 2);
  const bytes = words[got >> 2];
  if (got + bytes > words.byteLength) words = heap.view(Int32Array, 0, handle.memory.buffer.byteLength >> 2);
  if (words[(got >> 2) + 1] !== (got ^ bytes) || words[(got + bytes - 4) >> 2] !== (got ^ bytes))
    throw new Error(`block ${got} of ${bytes} bytes is damaged`);
  heap.free(got);
}
heap.detach();
parentPort.postMessage("done");
