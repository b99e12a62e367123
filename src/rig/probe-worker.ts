// A thread of the heap that does nothing but watch for a change: when its epoch is to be seen, when a block first comes from the node the
// thread truly runs on, and when the last cached block of another node has gone.

import { parentPort, workerData } from "node:worker_threads";
import { NumaHeap } from "../heap/numa-heap.js";
import { attachHeap } from "../host/attach.js";
import { FRAME_SHIFT } from "../hypervisor/vm-layout.js";
import { FLAG_PARK, FLAG_WATCHING, type ProbeAnswer, type ProbeCommand, type ProbeData, type Seen } from "./probe-protocol.js";

const SIZES = [16, 48, 128, 512];
/** Blocks of each size that are allocated and freed before a change, so often that the cache keeps as many as it may. */
const PRIMED = 256;
const PRIMINGS = 12;
/** Blocks in a row on the true node after which none of another can be left in the cache. */
const ENOUGH = SIZES.length * PRIMED * 2;
/** Blocks kept at once: a change that is long in coming must not cost the machine its memory. */
const MOST_HELD = 4 * ENOUGH;
const PATIENCE_NS = 10_000_000_000n;
/** Looks at the epoch between two blocks, and blocks between two looks at the clock. */
const LOOKS_A_PAIR = 64;
const PAIRS_A_LOOK = 64;

const { handle, layout, follows, flags } = workerData as ProbeData;
const port = parentPort!;
const words = new Int32Array(flags);
const heap = await (follows ? attachHeap(handle) : NumaHeap.attach(handle));
const now = (): bigint => process.hrtime.bigint();
let epoch = 0;

/** Whether a block lies on the node of the thread's vCPU, by the hypervisor's tables. */
function isLocal(bytes: Uint8Array, ptr: number): boolean {
  return bytes[layout.frameTruth + (ptr >>> FRAME_SHIFT)]! - 1 === bytes[layout.vcpuTruth + handle.vcpu]!;
}

function prime(): ProbeAnswer {
  const { malloc, free } = heap.imports;
  let first = Infinity;
  let end = 0;
  for (let i = 0; i < PRIMINGS; ++i) {
    first = Infinity;
    end = 0;
    const blocks = SIZES.flatMap((size) => Array.from({ length: PRIMED }, () => malloc(size) >>> 0));
    for (const ptr of blocks) {
      first = Math.min(first, ptr >>> FRAME_SHIFT);
      end = Math.max(end, (ptr >>> FRAME_SHIFT) + 1);
      free(ptr);
    }
  }
  epoch = heap.epoch;
  return { is: "primed", first, end };
}

/** Takes blocks and gives them back until a change is seen, or for too long; false: it is to stand still before. */
function waits(): boolean {
  const { malloc, free, epoch: read } = heap.imports;
  const until = now() + PATIENCE_NS;
  Atomics.store(words, FLAG_WATCHING, 1);
  for (let i = 0; ; ++i) {
    // Far more looks than blocks: a malloc that sees the change first sorts the cache out before it returns.
    for (let look = 0; look < LOOKS_A_PAIR; ++look) if (read() >>> 0 !== epoch) return true;
    if (Atomics.load(words, FLAG_PARK) === 1) return false;
    if (i % PAIRS_A_LOOK === 0 && now() > until) return true;
    free(malloc(SIZES[i % SIZES.length]!));
  }
}

/** Takes blocks and keeps them, until so many in a row are on the thread's node that none of another can be left in its cache. */
function drain(): Seen {
  const at = now();
  const { malloc, free } = heap.imports;
  const bytes = new Uint8Array(heap.memory.buffer);
  const held: number[] = [];
  let inARow = 0;
  let local = 0n;
  let clean = 0n;
  let stale = 0;
  let time = at;
  for (let i = 0; inARow < ENOUGH && time - at < PATIENCE_NS; ++i) {
    const ptr = malloc(SIZES[i % SIZES.length]!) >>> 0;
    time = now();
    held.push(ptr);
    if (isLocal(bytes, ptr)) {
      ++inARow;
      local ||= time;
      clean ||= time;
    } else {
      ++stale;
      inARow = 0;
      clean = 0n;
    }
    if (held.length === MOST_HELD) for (const block of held.splice(0)) free(block);
  }
  for (const block of held) free(block);
  Atomics.store(words, FLAG_WATCHING, 0);
  return { epoch: at, local, clean, stale, complete: heap.epoch !== epoch && inARow === ENOUGH };
}

function answer(message: ProbeAnswer): void {
  port.postMessage(message);
}

port.on("message", async (command: ProbeCommand) => {
  if (command === "prime") return answer(prime());
  if (command === "detach") {
    heap.detach();
    answer({ is: "detached" });
    return port.close();
  }
  if (command !== "watch") {
    await heap.moveOver(command);
    answer({ is: "moved" });
  }
  if (waits()) answer({ is: "seen", ...drain() });
  else answer({ is: "parked" });
});
answer({ is: "ready" });
