// Whether the rivals do what is asked of them: `node bench/rivals/check.mjs [id...]`.
import { readFileSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import binaryen from "assemblyscript/binaryen";
import { fileOf, installed } from "./installed.mjs";
import { merged } from "./merge.mjs";
import { endThread, heapOf, importsOf, startThread } from "./start.mjs";

const LOW = 64 << 20;
const LARGEST = 300 << 10;
const ROUNDS = 20_000;
const SHARED_ROUNDS = 200_000;
const RING = 1024;

function expect(sound, what) {
  if (!sound) throw new Error(what);
}

/** xorshift32 */
function random(seed) {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

function instantiate(id, bytes, memory) {
  const instance = new WebAssembly.Instance(
    new WebAssembly.Module(bytes),
    importsOf(id, memory, () => instance.exports),
  );
  return instance.exports;
}

function memoryFor({ initialPages, maximumPages, shared }) {
  return new WebAssembly.Memory({ initial: initialPages, maximum: Math.min(maximumPages, 16384), shared });
}

/** Bytes of a block; a thread may be told late of another one's growth, unless it asks. */
function bytesAt(memory, block, size) {
  if (block + size > memory.buffer.byteLength) memory.grow(0);
  return Buffer.from(memory.buffer, block, size);
}

// ---- one thread against a model

const FILLS = Array.from({ length: 16 }, (_, value) => Buffer.alloc(LARGEST, value + 1));
const ZEROS = Buffer.alloc(LARGEST);

function same(bytes, expected) {
  return expected.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

function alone(rival) {
  const memory = memoryFor(rival);
  const low = rival.region === "low" ? Buffer.alloc(LOW, 0xa5) : undefined;
  if (low) Buffer.from(memory.buffer).set(low);
  const exports = instantiate(rival.id, readFileSync(fileOf(rival.id)), memory);
  startThread(rival.id, exports, { memory });
  const heap = heapOf(exports);
  const draw = random(7);
  const live = [];

  const size = () => 1 + (draw(2 << draw(18)) % LARGEST);
  // mimalloc aligns a block of 4 bytes to no more than that.
  const add = (block, length, align = length > 4 ? 8 : 4) => {
    expect(block, `no memory for ${length} bytes`);
    expect(block % align === 0, `block ${block} is not aligned to ${align}`);
    expect(!low || block >= LOW, `block ${block} is in the driver's memory`);
    const fill = FILLS[draw(FILLS.length)];
    bytesAt(memory, block, length).set(fill.subarray(0, length));
    live.push({ block, length, fill });
  };
  const take = () => {
    const at = draw(live.length);
    const taken = live[at];
    live[at] = live.at(-1);
    live.pop();
    expect(same(bytesAt(memory, taken.block, taken.length), taken.fill), `block ${taken.block} of ${taken.length} bytes has changed`);
    return taken;
  };
  const apart = () => {
    const sorted = live.toSorted((a, b) => a.block - b.block);
    for (let i = 1; i < sorted.length; ++i) expect(sorted[i - 1].block + sorted[i - 1].length <= sorted[i].block, "blocks overlap");
  };

  heap.free(0);
  for (let round = 0; round < ROUNDS; ++round) {
    const what = live.length < 200 ? draw(4) : draw(8);
    const length = size();
    if (what < 2 || !live.length) add(heap.malloc(length) >>> 0, length);
    else if (what === 2 && exports.calloc) {
      const block = heap.calloc(length, 1) >>> 0;
      expect(same(bytesAt(memory, block, length), ZEROS), "calloc: not zero");
      add(block, length);
    } else if (what === 3 && (exports.aligned_alloc ?? exports.emscripten_builtin_memalign)) {
      const align = Math.min(8 << draw(10), rival.alignment);
      const whole = Math.ceil(length / align) * align;
      add(heap.aligned_alloc(align, whole) >>> 0, Math.min(whole, LARGEST), align);
    } else if (what === 4 && exports.realloc) {
      const old = take();
      const block = heap.realloc(old.block, length) >>> 0;
      expect(same(bytesAt(memory, block, Math.min(length, old.length)), old.fill), "realloc: contents lost");
      add(block, length);
    } else heap.free(take().block);
    if (round % 1000 === 0) apart();
  }
  if (exports.realloc) add(heap.realloc(0, 100) >>> 0, 100);
  while (live.length) heap.free(take().block);
  if (low) expect(same(Buffer.from(memory.buffer, 0, LOW), low), "the driver's memory has changed");
}

// ---- two threads that exchange blocks

/** A block holds its size, and bytes that follow from it. */
function fillOf(size) {
  return (size * 31) & 255;
}

function write(memory, block, size) {
  const bytes = bytesAt(memory, block, size);
  bytes.fill(fillOf(size));
  bytes.writeUInt32LE(size, 0);
}

function verify(memory, block) {
  const size = bytesAt(memory, block, 4).readUInt32LE(0);
  expect(size >= 8 && size <= 1 << 16, `block ${block} has lost its size`);
  const bytes = bytesAt(memory, block, size);
  const fill = fillOf(size);
  for (let i = 4; i < size; ++i) expect(bytes[i] === fill, `block ${block} of ${size} bytes has changed`);
  return size;
}

function exchange({ id, bytes, memory, ring, thread }) {
  const exports = instantiate(id, bytes, memory);
  startThread(id, exports, { memory, thread, threads: 5 });
  const { malloc, free, realloc } = heapOf(exports);
  const draw = random(thread * 7919 + 1);
  const slots = new Uint32Array(ring);
  const own = new Uint32Array(500);
  const release = (block) => {
    verify(memory, block);
    free(block);
  };
  for (let round = 0; round < SHARED_ROUNDS; ++round) {
    const at = draw(own.length);
    const size = 8 + draw(8 << draw(10));
    if (!own[at]) {
      own[at] = malloc(size);
      expect(own[at], `no memory for ${size} bytes`);
      write(memory, own[at], size);
    } else if (round % 3 === 0) {
      const given = Atomics.exchange(slots, draw(RING), own[at]);
      own[at] = 0;
      if (given) release(given);
    } else if (round % 16 === 1 && exports.realloc) {
      verify(memory, own[at]);
      own[at] = realloc(own[at], size);
      write(memory, own[at], size);
    } else {
      release(own[at]);
      own[at] = 0;
    }
  }
  // What it still has goes to whoever comes later: the thread dies with blocks alive.
  own.forEach((block, i) => {
    const given = block ? Atomics.exchange(slots, i, block) : 0;
    if (given) release(given);
  });
  endThread(id, exports);
}

async function together(rival) {
  const memory = memoryFor(rival);
  const bytes = readFileSync(fileOf(rival.id));
  const exports = instantiate(rival.id, bytes, memory);
  startThread(rival.id, exports, { memory, thread: 0, threads: 5 });
  const ring = new SharedArrayBuffer(RING * 4);
  for (const generation of [
    [1, 2],
    [3, 4],
  ]) {
    const threads = generation.map((thread) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { id: rival.id, bytes, memory, ring, thread } });
      return new Promise((resolve, reject) => worker.on("error", reject).on("exit", resolve));
    });
    await Promise.all(threads);
  }
  for (const block of new Uint32Array(ring)) {
    if (!block) continue;
    verify(memory, block);
    heapOf(exports).free(block);
  }
}

// ---- merged with a driver

/** Keeps the addresses of 64 blocks at `base` and replaces block after block; traps where one has lost its word. */
const DRIVER = `(module
  (import "env" "memory" (memory 1 65536 shared))
  (import "heap" "malloc" (func $malloc (param i32) (result i32)))
  (import "heap" "free" (func $free (param i32)))
  (import "heap" "of no allocator" (func $lacking (param i32)))
  (func (export "free") (param i32) (call $lacking (local.get 0)))
  (func (export "run") (param $base i32) (param $rounds i32) (result i32)
    (local $i i32) (local $slot i32) (local $block i32)
    (loop $next
      (local.set $slot (i32.add (local.get $base) (i32.shl (i32.and (i32.mul (local.get $i) (i32.const 37)) (i32.const 63)) (i32.const 2))))
      (local.set $block (i32.load (local.get $slot)))
      (if (local.get $block) (then
        (if (i32.ne (i32.load (local.get $block)) (local.get $slot)) (then (unreachable)))
        (call $free (local.get $block))))
      (local.set $block (call $malloc (i32.add (i32.const 4) (i32.and (i32.mul (local.get $i) (i32.const 7919)) (i32.const 2047)))))
      (i32.store (local.get $block) (local.get $slot))
      (i32.store (local.get $slot) (local.get $block))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $rounds))))
    (local.get $i)))`;

function linked(rival) {
  const module = binaryen.parseText(DRIVER);
  module.setFeatures(binaryen.Features.All);
  const bytes = merged(module.emitBinary(), readFileSync(fileOf(rival.id)));
  module.dispose();
  const memory = memoryFor(rival);
  const exports = instantiate(rival.id, bytes, memory);
  startThread(rival.id, exports, { memory });
  const base = rival.region === "low" ? 1024 : exports.malloc(4096) >>> 0;
  Buffer.from(memory.buffer, base, 256).fill(0);
  expect(exports.run(base, 100_000) === 100_000, "the merged driver stops early");
  let trapped = false;
  try {
    exports.free(0);
  } catch {
    trapped = true;
  }
  expect(trapped, "free is not the driver's, or a lacking function does not trap");
  return bytes.length;
}

async function check(rival) {
  const done = [];
  alone(rival);
  done.push("alone");
  if (rival.threads === "many") {
    await together(rival);
    done.push("together");
  }
  if (rival.merged) done.push(`merged (${linked(rival)} bytes)`);
  return done.join(", ");
}

if (!isMainThread) exchange(workerData);
else {
  const wanted = process.argv.slice(2);
  const rivals = installed().filter(({ id, script }) => !script && (!wanted.length || wanted.includes(id)));
  for (const rival of rivals) {
    try {
      console.log(`${rival.id.padEnd(24)} ok      ${await check(rival)}`);
    } catch (error) {
      console.log(`${rival.id.padEnd(24)} failed  ${error.stack}`);
      process.exitCode = 1;
    }
  }
}
