// What a thread needs to attach: where the heap is, what runs it, and what the thread is to be called.

import { shown } from "../shown.js";
import { HeapError } from "./errors.js";
import { ABI_VERSION, HEAP_GROWS_ALONE, HEAP_WORDS, MAGIC, WASM_PAGE } from "./exports.js";
import type { HeapModules } from "./modules.js";
import type { WasmMemory } from "./wasm.js";

/** All that another thread needs to attach; can be posted to it. For one thread only. */
export interface HeapHandle {
  readonly memory: WasmMemory;
  readonly modules: HeapModules;
  readonly base: number;
  readonly abiVersion: number;
  /** What the heap will know the thread by: whoever made the handle can reap it by this. */
  readonly key: number;
  /** vCPU the thread runs on. */
  readonly vcpu: number;
  readonly keys: SharedArrayBuffer;
  /** One word: 1 once a thread has attached with this handle. */
  readonly claimed: SharedArrayBuffer;
  readonly name: string;
}

/** The handle of the thread that has made the heap. */
export function firstHandle(memory: WasmMemory, modules: HeapModules, base: number, vcpu: number): HeapHandle {
  const keys = new SharedArrayBuffer(4);
  new Int32Array(keys)[0] = 1;
  const name = `numaheap-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  return { memory, modules, base, abiVersion: ABI_VERSION, key: 1, vcpu, keys, claimed: new SharedArrayBuffer(4), name };
}

/** First words of what may be a heap at `base`; none if the memory ends before. */
function headAt(memory: WasmMemory, base: number): Uint32Array {
  // A buffer's length may lag behind a growth by another thread; growing by nothing brings it up to date.
  if (base >= memory.buffer.byteLength) memory.grow(0);
  const { buffer } = memory;
  return base + 4 * HEAP_WORDS.length <= buffer.byteLength ? new Uint32Array(buffer, base, HEAP_WORDS.length) : new Uint32Array(0);
}

/** A word of a head by its name. */
const word = (head: Uint32Array, name: (typeof HEAP_WORDS)[number]): number | undefined => head[HEAP_WORDS.indexOf(name)];

/**
 * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT for what is no handle, NUMAHEAP_ABI_MISMATCH for one of another version or of a memory
 * without a heap
 */
export function checkHandle(handle: HeapHandle): void {
  checkShape(handle);
  const { memory, base } = handle;
  const head = headAt(memory, base);
  if (word(head, "magic") !== MAGIC || word(head, "base") !== base)
    mismatch(`no heap stands at ${base} of the handle's memory: it was overwritten, or the memory is another one`);
  const version = word(head, "abiVersion");
  if (version !== ABI_VERSION)
    mismatch(`the heap is of format ${version}, and this package speaks ${ABI_VERSION}: use one version of numaheap in all threads`);
}

function mismatch(why: string): never {
  throw new HeapError("NUMAHEAP_ABI_MISMATCH", why);
}

/**
 * Whether it is a handle, wherever its heap is by now.
 * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_ABI_MISMATCH
 */
export function checkShape(handle: HeapHandle): void {
  const { memory, modules, base, abiVersion, claimed } = Object(handle) as Partial<HeapHandle>;
  if (
    !memory?.buffer ||
    !modules?.heap ||
    claimed?.[Symbol.toStringTag] !== "SharedArrayBuffer" ||
    !(base! > 0 && base! % WASM_PAGE === 0)
  ) {
    throw new HeapError("NUMAHEAP_INVALID_ARGUMENT", `${shown(handle)} is no handle of a heap: post what heap.handle() returned as it is`);
  }
  if (abiVersion !== ABI_VERSION)
    mismatch(
      `the handle is of format ${shown(abiVersion)}, and this package speaks ${ABI_VERSION}: use one version of numaheap in all threads`,
    );
}

/**
 * Whether the memory is one that NumaHeap.create made for a heap, which counts on growing it alone. The heap itself says so, behind the
 * first 64 KiB, in whichever thread it is asked.
 */
export function isHeapsOwn(memory: WasmMemory): boolean {
  const head = headAt(memory, WASM_PAGE);
  return word(head, "magic") === MAGIC && word(head, "base") === WASM_PAGE && (word(head, "flags")! & HEAP_GROWS_ALONE) !== 0;
}
