// What create and attach may be asked for, and the checks of it.

import { shown } from "../shown.js";
import { integer, oneOf } from "./arguments.js";
import { HeapError } from "./errors.js";
import { MAX_NODES, MAX_VCPUS, WASM_PAGE, WASM_PAGES } from "./exports.js";
import { isHeapsOwn } from "./handle.js";
import { BUILDS, type HeapBuild } from "./modules.js";
import type { WasmMemory } from "./wasm.js";

export interface CreateOptions {
  /** Nodes, 1 to 32. vCPU v begins on node v mod nodes; distances begin as 10 and 20. Default 1. */
  nodes?: number;
  /** Bytes claimed at once, rounded up to 64 KiB. Default 64 KiB. */
  initialBytes?: number;
  /** Most bytes the heap may claim, its own structs included, rounded up to 64 KiB; at most 4 GiB, of which it never has the last 8 KiB. Default 1 GiB. */
  maximumBytes?: number;
  /**
   * Shared memory to live in; the heap claims its end and grows it, and so may others. Default: a memory of its own, which nobody else may
   * grow. So another heap's own memory is refused: make the memory first, and give it to both.
   */
  memory?: WasmMemory;
  build?: HeapBuild;
  /** vCPU the creating thread runs on, 0 to 255. Default 0. */
  vcpu?: number;
  /** As in AttachOptions. */
  mayBlock?: boolean;
}

export interface AttachOptions {
  /**
   * This thread may sleep while another holds a lock. Default: it may, unless it is a browser's page. A thread that may not is told
   * NUMAHEAP_BUSY (errno 10) instead. A thread that sleeps hears of no worker's death, so one that is to
   * free, allocate or change the topology while workers it registered may be terminated must not: the lock may be the dead worker's.
   */
  mayBlock?: boolean;
}

/** What create is to do. */
export interface CheckedOptions {
  readonly nodes: number;
  /** Pages of 64 KiB to begin with, and most there may be. */
  readonly initialPages: number;
  readonly maximumPages: number;
  readonly memory: WasmMemory | undefined;
  readonly build: HeapBuild;
  readonly vcpu: number;
}

const invalid = (message: string): HeapError => new HeapError("NUMAHEAP_INVALID_ARGUMENT", message);

function pagesOf(bytes: number, what: string): number {
  if (typeof bytes === "number" && bytes > 0 && bytes <= 2 ** 32) return Math.ceil(bytes / WASM_PAGE);
  throw invalid(`${what} must be a number of bytes above 0 and at most 4 GiB, not ${shown(bytes)}`);
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT for a memory that no heap can be made in */
function checkMemory(memory: WasmMemory): void {
  const tag = (Object(memory) as Partial<WasmMemory>).buffer?.[Symbol.toStringTag] as string | undefined;
  if (tag === undefined || typeof memory.grow !== "function") throw invalid(`memory must be a WebAssembly.Memory, not ${shown(memory)}`);
  if (tag !== "SharedArrayBuffer") throw invalid("the memory is not shared: make it with { shared: true }");
  if (isHeapsOwn(memory)) {
    throw invalid(
      "the memory is another heap's own, which that heap grows alone: make a WebAssembly.Memory first, and pass it as `memory` to both heaps",
    );
  }
}

/** @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT for the first option that cannot be */
export function checkOptions(options: CreateOptions): CheckedOptions {
  const { nodes = 1, vcpu = 0, build = "release", memory, initialBytes = WASM_PAGE, maximumBytes = 2 ** 30 } = options;
  integer(nodes, 1, MAX_NODES, "nodes");
  integer(vcpu, 0, MAX_VCPUS - 1, "vcpu");
  oneOf(build, BUILDS, "build");
  checkMayBlock(options);
  const initialPages = pagesOf(initialBytes, "initialBytes");
  const maximumPages = pagesOf(maximumBytes, "maximumBytes");
  if (initialPages > maximumPages) {
    throw invalid(
      `initialBytes, ${initialBytes}, is more than ${options.maximumBytes === undefined ? "the default of " : ""}maximumBytes, ${maximumBytes}`,
    );
  }
  if (memory !== undefined) checkMemory(memory);
  else if (initialPages >= WASM_PAGES)
    throw invalid("initialBytes is at most 4 GiB less 64 KiB: the first 64 KiB of a memory are no heap's");
  return { nodes, initialPages, maximumPages, memory, build, vcpu };
}

/** A browser's page may not sleep on a lock; workers and Node's threads may. */
const mayBlockHere = (): boolean => typeof document === "undefined";

/** Whether this thread may sleep. @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT */
export function checkMayBlock({ mayBlock = mayBlockHere() }: AttachOptions): boolean {
  if (typeof mayBlock === "boolean") return mayBlock;
  throw invalid(`mayBlock must be true or false, not ${shown(mayBlock)}`);
}
