// A worker of the torture: random calls of every kind over one heap that is often exhausted. Blocks go round through a mailbox in shared
// memory; each begins with its size, and is filled with a byte that depends on its address.
import { parentPort, workerData } from "node:worker_threads";

const { memory, module, base, mailbox, slots, seed, flags, operations, nodes } = workerData;
const EBUSY = 10;
const ENOMEM = 48;
const HEAD = 8;

let state = seed | 0 || 1;
const random = (below) => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
let key = workerData.key;
let heap = join();
let done = 0;

/** A fresh instance, attached; the second key of a worker is beyond those of all workers. */
function join() {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  while (exports.attach(base, key, random(8), flags) === 0) {
    const error = exports.errno();
    if (error !== EBUSY && error !== ENOMEM) throw new Error(`attach: errno ${error}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
  return exports;
}

/** The bytes as they are: the length of a buffer may lag behind a growth by another thread. */
function bytes(end) {
  if (end > memory.buffer.byteLength) memory.grow(0);
  return new Uint8Array(memory.buffer);
}

const byteOf = (ptr, size) => (Math.imul(ptr ^ size, 0x9e37_79b1) >>> 24) | 1;

function fill(ptr, size) {
  bytes(ptr + size).fill(byteOf(ptr, size), ptr + HEAD, ptr + size);
  new Uint32Array(memory.buffer, ptr, 2).set([size, ~size]);
}

/** Size of the intact block at `ptr`. */
function check(ptr) {
  bytes(ptr + HEAD);
  const [size, complement] = new Uint32Array(memory.buffer, ptr, 2);
  if (size !== ~complement >>> 0) throw new Error(`the head of ${ptr} is damaged: ${size} ${complement}`);
  expectBytes(ptr, size, byteOf(ptr, size), HEAD);
  return size;
}

function expectBytes(ptr, size, byte, from = 0) {
  const all = bytes(ptr + size);
  for (let i = ptr + from; i < ptr + size; ++i) {
    if (all[i] !== byte) throw new Error(`byte ${i - ptr} of the ${size} at ${ptr} is ${all[i]} instead of ${byte}`);
  }
}

/** Puts a block, or 0, into a random slot of the mailbox; the block that stood there, or 0. */
const swap = (ptr) => Atomics.exchange(new Uint32Array(memory.buffer), (mailbox >> 2) + random(slots), ptr) >>> 0;

function free(ptr) {
  if (ptr === 0) return;
  check(ptr);
  heap.free(ptr);
  const kind = heap.badCall();
  if (kind !== 0) throw new Error(`free of ${ptr}: bad call ${kind}`);
}

function sizeOf() {
  const most = [100, 600, 600, 600, 600, 5000, 40_000, 200_000][random(8)];
  return HEAD + random(random(50) === 0 ? 3_000_000 : most);
}

function failed() {
  const error = heap.errno();
  if (error !== EBUSY && error !== ENOMEM) throw new Error(`errno ${error}`);
  // What is exhausted is given up by all.
  for (let i = 0; i < 4; ++i) free(swap(0));
}

function allocate() {
  const size = sizeOf();
  const kind = random(8);
  const alignment = 1 << random(random(8) ? 13 : 18);
  const ptr =
    (kind === 0
      ? heap.calloc(1, size)
      : kind === 1
        ? heap.memalign(alignment, size)
        : kind === 2
          ? heap.mallocOnNode(size, 0)
          : heap.malloc(size)) >>> 0;
  if (ptr === 0) return failed();
  if (kind === 1 && ptr % alignment !== 0) throw new Error(`${ptr} is not aligned to ${alignment}`);
  if (kind === 0) expectBytes(ptr, size, 0);
  fill(ptr, size);
  free(swap(ptr));
}

function reallocate() {
  const ptr = swap(0);
  if (ptr === 0) return;
  const old = check(ptr);
  const byte = byteOf(ptr, old);
  const size = sizeOf();
  const moved = heap.realloc(ptr, size) >>> 0;
  if (moved === 0) {
    free(ptr);
    return failed();
  }
  expectBytes(moved, Math.min(old, size), byte, HEAD);
  fill(moved, size);
  free(swap(moved));
}

function place() {
  const node = random(nodes);
  switch (random(9)) {
    case 0:
      return heap.setPolicy(random(7), random(1 << nodes));
    case 1:
      return heap.setWeight(node, 1 + random(9));
    case 2:
      return heap.moveThread(random(8));
    case 3:
      return heap.setVcpuNode(random(8), node);
    case 4:
      return heap.setDistance(node, (node + 1) % nodes, 11 + random(200));
    case 5:
      return heap.setNodes(random(2) ? nodes : 1 + random(nodes));
    case 6:
      return heap.setNodeLimit(node, random(2) ? 0 : 8 + random(400));
    default:
      return heap.rebind(random(memory.buffer.byteLength >> 13), 1 + random(random(2) ? 4 : 300), node);
  }
}

for (; done < operations; ++done) {
  const r = random(100);
  if (r < 60) allocate();
  else if (r < 80) free(swap(0));
  else if (r < 90) reallocate();
  else if (r < 97) place();
  else if (r < 98) heap.malloc_trim(0);
  else if (r < 99) heap.settle();
  else if (random(4) === 0 && heap.detach() === 0) heap = join();
}
while (heap.detach() === EBUSY);
parentPort.postMessage("done");
