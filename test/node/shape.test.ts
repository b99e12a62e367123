// What the binaries may and may not contain.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as host from "../../src/heap/exports.js";
import { constant, fieldOf } from "../support/rig.js";

const read = (name: string): Uint8Array<ArrayBuffer> => new Uint8Array(readFileSync(new URL(`../../dist/${name}.wasm`, import.meta.url)));

/** Ids of the sections of a binary. */
function sections(bytes: Uint8Array): Set<number> {
  const ids = new Set<number>();
  for (let at = 8; at < bytes.length;) {
    ids.add(bytes[at++]!);
    let size = 0;
    for (let shift = 0, byte = 0x80; byte & 0x80; shift += 7) size |= ((byte = bytes[at++]!) & 0x7f) << shift;
    at += size;
  }
  return ids;
}

const TABLE = 4;
const START = 8;
const ELEMENTS = 9;
const DATA = 11;
const DATA_COUNT = 12;

test.each(["heap", "heap.hardened", "heap.guest", "create", "inspect", "replay"])(
  "%s.wasm has no data, start function or table",
  (name) => {
    const ids = sections(read(name));
    expect([TABLE, START, ELEMENTS, DATA, DATA_COUNT].filter((id) => ids.has(id))).toEqual([]);
  },
);

test.each(["heap", "heap.hardened", "heap.guest", "create"])("%s.wasm imports the memory and nothing else", (name) => {
  expect(WebAssembly.Module.imports(new WebAssembly.Module(read(name)))).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
});

test("heap.wasm is at most 16 KiB", () => {
  expect(read("heap").length).toBeLessThanOrEqual(16 * 1024);
});

test("the table of size classes wastes at most an eighth of a block from 128 bytes up", async () => {
  const { NumaHeap } = await import("../../dist/index.js");
  using heap = await NumaHeap.create();
  for (let size = 128; size <= 64 * 1024; size += 8) {
    const ptr = heap.malloc(size);
    expect(ptr % 16).toBe(0);
    expect(heap.usableSize(ptr) - size).toBeLessThanOrEqual(heap.usableSize(ptr) / 8);
    heap.free(ptr);
  }
});

test("both sides of the heap have the same constants", () => {
  const { HEAP_PAGE, HEAP_WORDS, MAY_BLOCK, ...shared } = host;
  expect(HEAP_PAGE).toBe(constant("PAGE_SIZE"));
  expect(MAY_BLOCK).toBe(constant("THREAD_MAY_BLOCK"));
  for (const name of ["MAGIC", "ABI_VERSION", "HEAP_GROWS_ALONE", "MAX_NODES", "MAX_THREADS", "MAX_VCPUS"] as const)
    expect(shared[name], name).toBe(constant(name));
  HEAP_WORDS.forEach((name, i) => expect(fieldOf("Heap", name), name).toEqual({ offset: 4 * i, size: 4 }));
});
