// Recorded programs as the driver replays them (bench/drivers/trace.c): per thread, events of two words.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { constants, gunzipSync } from "node:zlib";
import { EXIT, FREE, readTrace } from "../../dist/trace/index.js";
import { deal } from "../../dist/trace/plan.js";

const folder = fileURLToPath(new URL("../traces/", import.meta.url));
const AWAIT = 5;
const PASS = 6;
const OP_SHIFT = 29;
const ALIGNMENT_SHIFT = 24;

export const TRACES = readdirSync(folder)
  .filter((name) => name.endsWith(".trace.gz"))
  .map((name) => name.slice(0, -".trace.gz".length))
  .sort();

/** Bytes that a header surely needs no more of, compressed; and where in it the number of threads stands. */
const HEADER_BYTES = 1024;
const THREADS_AT = 12;

/** Threads that the recorded program had. */
export function threadsOf(name) {
  const header = readFileSync(`${folder}${name}.trace.gz`).subarray(0, HEADER_BYTES);
  return gunzipSync(header, { finishFlush: constants.Z_SYNC_FLUSH }).readUInt32LE(THREADS_AT);
}

/** Words of one thread's events, as they come. */
class Stream {
  #words = new Uint32Array(1 << 16);
  #length = 0;

  push(what, size) {
    if (this.#length === this.#words.length) {
      const larger = new Uint32Array(this.#length * 2);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[this.#length++] = what;
    this.#words[this.#length++] = size;
  }

  get words() {
    return this.#words.subarray(0, this.#length);
  }
}

/**
 * A trace dealt out to threads: { name, events, peakLiveBytes, slots, streams }. A block that several threads have has a slot of its own and
 * passes from turn to turn; slots of others are used again.
 */
export async function encodedTrace(name, threads) {
  const trace = await readTrace(`${folder}${name}.trace.gz`);
  const { workerOf, after, handsOver } = deal(trace, threads);
  const { events, objects, ops, objectOf, sizes, alignments } = trace;
  const crosses = new Uint8Array(objects);
  for (let i = 0; i < events; ++i) if (after[i] !== 0) crosses[objectOf[i]] = 1;
  const slotOf = new Uint32Array(objects);
  const turnOf = new Uint32Array(objects);
  const free = Array.from({ length: threads }, () => []);
  const streams = Array.from({ length: threads }, () => new Stream());
  let slots = 0;
  for (let i = 0; i < events; ++i) {
    const op = ops[i];
    if (op === EXIT) continue;
    const [worker, object] = [workerOf[i], objectOf[i]];
    const stream = streams[worker];
    if (op < 3) slotOf[object] = (!crosses[object] && free[worker].pop()) || ++slots;
    const slot = slotOf[object];
    if (after[i] !== 0) stream.push(((AWAIT << OP_SHIFT) | slot) >>> 0, turnOf[object]);
    // A realloc to nothing frees, or does not, as the allocator likes.
    stream.push(
      ((op << OP_SHIFT) | (op === 2 ? alignments[i] << ALIGNMENT_SHIFT : 0) | slot) >>> 0,
      op === FREE ? 0 : Math.max(1, sizes[i]),
    );
    if (handsOver[i]) stream.push(((PASS << OP_SHIFT) | slot) >>> 0, ++turnOf[object]);
    if (op === FREE && !crosses[object]) free[worker].push(slot);
  }
  if (slots >= 1 << ALIGNMENT_SHIFT) throw new RangeError(`${name}: ${slots} blocks at once are too many`);
  return { name, events, peakLiveBytes: Number(trace.peakLiveBytes), slots: slots + 1, streams: streams.map(({ words }) => words) };
}
