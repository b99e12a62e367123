// A heap for tests: compiled modules out of dist/, several instances over one memory in this thread, and its words by name.

import { readFileSync } from "node:fs";
import { inspect, type HeapWalk, type Inspector } from "../../src/heap/inspect.js";
// @ts-expect-error -- plain JavaScript
import * as layout from "../interleave/layout.mjs";

export const constants = layout.constants as Record<string, number>;
const structs = layout.structs as Record<string, Record<string, { offset: number; size: number }>>;

const compiled = new Map<string, WebAssembly.Module>();

/** dist/NAME.wasm, compiled once. */
export function moduleOf(name: string): WebAssembly.Module {
  let module = compiled.get(name);
  if (!module) compiled.set(name, (module = new WebAssembly.Module(readFileSync(new URL(`../../dist/${name}.wasm`, import.meta.url)))));
  return module;
}

/** What an instance of heap.wasm exports. Pointers come back signed; `Rig.malloc` makes them addresses. */
export type HeapExports = Record<
  | "attach"
  | "detach"
  | "reap"
  | "malloc"
  | "free"
  | "calloc"
  | "realloc"
  | "memalign"
  | "aligned_alloc"
  | "posix_memalign"
  | "malloc_usable_size"
  | "malloc_trim"
  | "mallocOnNode"
  | "errno"
  | "badCall"
  | "setPolicy"
  | "setWeight"
  | "setNodes"
  | "setDistance"
  | "setVcpuNode"
  | "setNodeLimit"
  | "rebind"
  | "moveThread"
  | "settle"
  | "nodeOf"
  | "threadNode"
  | "threadId"
  | "epoch",
  (...args: number[]) => number
>;

export interface RigOptions {
  threads?: number;
  nodes?: number;
  /** Wasm pages the heap is given, and may own. */
  pages?: number;
  maximumPages?: number;
  base?: number;
  build?: string;
  /** The instances may sleep on locks. */
  mayBlock?: boolean;
}

/** A heap in a memory of its own, with threads that take turns. */
export class Rig {
  readonly memory: WebAssembly.Memory;
  readonly base: number;
  readonly threads: HeapExports[];
  readonly inspector: Inspector;
  private readonly module: WebAssembly.Module;
  private keys = 0;

  constructor({ threads = 2, nodes = 2, pages = 16, maximumPages = 4096, base = 65536, build = "heap", mayBlock = true }: RigOptions = {}) {
    const first = base / 65536;
    this.memory = new WebAssembly.Memory({ initial: first + pages, maximum: Math.min(65536, first + maximumPages), shared: true });
    this.base = base;
    this.module = moduleOf(build);
    const { create } = new WebAssembly.Instance(moduleOf("create"), { env: { memory: this.memory } }).exports as unknown as {
      create(...args: number[]): number;
    };
    const error = create(base, base + pages * 65536, maximumPages * 8, nodes, 0);
    if (error) throw new Error(`create: errno ${error}`);
    this.threads = Array.from({ length: threads }, (_, i) => this.attach(i, mayBlock));
    this.inspector = inspect(this.memory, base, moduleOf("inspect"));
  }

  /** One more instance, attached on `vcpu`. */
  attach(vcpu: number, mayBlock = true): HeapExports {
    const instance = this.instance();
    if (!instance.attach(this.base, ++this.keys, vcpu, mayBlock ? 1 : 0)) throw new Error(`attach: errno ${instance.errno()}`);
    return instance;
  }

  /** One more instance, not attached. */
  instance(): HeapExports {
    return new WebAssembly.Instance(this.module, { env: { memory: this.memory } }).exports as unknown as HeapExports;
  }

  walk(live?: Iterable<number>): HeapWalk {
    return this.inspector.walk(live ? { live } : {});
  }

  // ---- the memory, word by word

  get view(): DataView {
    return new DataView(this.memory.buffer);
  }
  u8(at: number): number {
    return this.view.getUint8(at);
  }
  u16(at: number): number {
    return this.view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.view.getUint32(at, true);
  }
  set8(at: number, value: number): void {
    this.view.setUint8(at, value);
  }
  set16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }
  set32(at: number, value: number): void {
    this.view.setUint32(at, value >>> 0, true);
  }

  /** Address of a field of the struct at `at`. */
  field(struct: string, at: number, name: string): number {
    return at + fieldOf(struct, name).offset;
  }
  /** Address of a constant's table in the head. */
  table(name: string, index = 0, size = 4): number {
    return this.base + constant(name) + index * size;
  }
  arena(node: number): number {
    return this.u32(this.table("ARENAS", node));
  }
  central(node: number, sizeClass: number): number {
    return this.u32(this.arena(node) + constant("ARENA_CENTRALS") + sizeClass * 4);
  }
  thread(slot: number): number {
    return this.u32(this.table("THREADS", slot));
  }
  cache(slot: number, sizeClass: number): number {
    return this.thread(slot) + constant("THREAD_CACHE") + sizeClass * 16;
  }
  remote(slot: number, node: number): number {
    return this.thread(slot) + constant("THREAD_REMOTE") + node * 8;
  }
  /** Address of what the page map has in `array` (LEAF_TAGS, ...) for `page`. */
  leaf(array: string, page: number): number {
    const size = array === "LEAF_TAGS" ? 2 : array === "LEAF_ENTRIES" ? 4 : 1;
    return this.u32(this.table("ROOT", page >>> 10)) + constant(array) + (page & 1023) * size;
  }
  entry(page: number): number {
    return this.u32(this.leaf("LEAF_ENTRIES", page));
  }
  /** Header of the small span, or of the large block, at `at`. */
  span(at: number): number {
    return this.entry(at >>> 13);
  }
  classOf(at: number): number {
    return (this.u16(this.leaf("LEAF_TAGS", at >>> 13)) & 0x7ff) >>> 4;
  }
}

export function constant(name: string): number {
  const value = constants[name];
  if (value === undefined) throw new Error(`layout.ts has no ${name}`);
  return value;
}

/** Where layout.ts has a field of a struct. */
export function fieldOf(struct: string, name: string): { offset: number; size: number } {
  const field = structs[struct]?.[name];
  if (!field) throw new Error(`layout.ts has no ${struct}.${name}`);
  return field;
}

/** A seeded sequence of u32 (xorshift). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
