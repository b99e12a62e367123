// The heap's layout, read from assembly/layout.ts: offsets of fields, constants, and what an address is called.

import { readFileSync } from "node:fs";

const source = readFileSync(new URL("../../assembly/layout.ts", import.meta.url), "utf8");
const sizes = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4 };

/** Constants of layout.ts by name. */
export const constants = {};
for (const [, name, expression] of source.matchAll(/^(?:export )?const (\w+): \w+ = ([^;]+);/gm)) {
  const plain = expression.replace(/_(?=[0-9a-f])/g, (all, at) => (/[0-9a-fx]/.test(expression[at - 1]) ? "" : all)).replace(/<\w+>/g, "");
  constants[name] = new Function(...Object.keys(constants), `return (${plain}) >>> 0`)(...Object.values(constants));
}

/** Structs of layout.ts: name -> { field: { offset, size } }. */
export const structs = {};
for (const [, name, body] of source.matchAll(/^export class (\w+) \{\n([\s\S]*?)^\}/gm)) {
  let offset = 0;
  structs[name] = {};
  for (const [, field, type] of body.replace(/\/\*\*[\s\S]*?\*\/|\/\/.*$/gm, "").matchAll(/(\w+): (\w+);/g)) {
    const size = sizes[type];
    offset = (offset + size - 1) & -size;
    structs[name][field] = { offset, size };
    offset += size;
  }
}

function fieldAt(struct, offset) {
  for (const [field, { offset: from, size }] of Object.entries(structs[struct])) if (offset >= from && offset < from + size) return field;
  return `+${offset}`;
}

/** What stands at an address of the heap at `base`; indexes in brackets. */
export function nameIn(base, words, address) {
  const c = constants;
  const word = (at) => words[at >> 2] >>> 0;
  const offset = address - base;
  if (offset < 0) return `@${address}`;
  if (offset < c.CLASS_INFO) return `Heap.${fieldAt("Heap", offset)}`;
  const tables = [
    ["CLASS_INFO", 16],
    ["SIZE_TO_CLASS", 1],
    ["DISTANCES", 1],
    ["VCPU_NODE", 1],
    ["ARENAS", 4],
    ["SLOTS", 8],
    ["THREADS", 4],
    ["ROOT", 4],
  ];
  if (offset >= c.NO_LEAF && offset < c.HEAP_BYTES) return offset < c.NO_LEAF + 8 ? "sentinel" : "noLeaf";
  if (offset < c.NO_LEAF) {
    const [name, size] = tables.findLast(([table]) => c[table] <= offset);
    return `${name.toLowerCase()}[${Math.floor((offset - c[name]) / size)}]`;
  }
  for (let slot = 0; slot < 8; ++slot) {
    const at = word(base + c.THREADS + 4 * slot);
    if (at && address >= at && address < at + c.THREAD_SIZE) return `Thread[${slot}].${threadField(address - at)}`;
  }
  for (let node = 0; node < 4; ++node) {
    const arena = word(base + c.ARENAS + 4 * node);
    if (!arena) continue;
    if (address >= arena && address < arena + c.ARENA_SIZE) return `Arena[${node}].${arenaField(address - arena)}`;
    for (let i = 0; i < c.MAX_CLASSES; ++i) {
      const central = word(arena + c.ARENA_CENTRALS + 4 * i);
      if (central && address >= central && address < central + 64) return `Central[${node}][${i}].${fieldAt("Central", address - central)}`;
    }
  }
  const leaf = word(base + c.ROOT);
  if (leaf !== base + c.NO_LEAF && address >= leaf && address < leaf + c.LEAF_BYTES) {
    const [name, size] = [
      ["LEAF_TAGS", 2],
      ["LEAF_ENTRIES", 4],
      ["LEAF_NODES", 1],
      ["LEAF_FLAGS", 1],
    ].findLast(([table]) => c[table] <= address - leaf);
    return `${{ LEAF_TAGS: "tag", LEAF_ENTRIES: "entry", LEAF_NODES: "node", LEAF_FLAGS: "flags" }[name]}[${Math.floor((address - leaf - c[name]) / size)}]`;
  }
  return nameInPage(words, leaf, address);
}

function threadField(offset) {
  const c = constants;
  if (offset >= c.THREAD_REMOTE) return `remote[${(offset - c.THREAD_REMOTE) >> 3}]`;
  if (offset >= c.THREAD_CACHE) return `cache[${(offset - c.THREAD_CACHE) >> 4}].${fieldAt("CacheList", (offset - c.THREAD_CACHE) & 15)}`;
  if (offset >= c.THREAD_WEIGHTS) return `weights[${offset - c.THREAD_WEIGHTS}]`;
  if (offset >= c.THREAD_ORDER) return `order[${offset - c.THREAD_ORDER}]`;
  return fieldAt("Thread", offset);
}

function arenaField(offset) {
  const c = constants;
  if (offset >= c.ARENA_CENTRALS) return `centrals[${(offset - c.ARENA_CENTRALS) >> 2}]`;
  if (offset >= c.ARENA_BINS) return `bins[${(offset - c.ARENA_BINS) >> 2}]`;
  return fieldAt("Arena", offset);
}

function nameInPage(words, leaf, address) {
  const c = constants;
  const page = address >>> c.PAGE_SHIFT;
  const flags = (words[(leaf + c.LEAF_FLAGS + page) >> 2] >>> (8 * (page & 3))) & 0xff;
  const place = address.toString(16);
  if ((flags & c.PAGE_METADATA) === 0) return `block[${place}]`;
  if ((flags & (c.PAGE_SHORT_HEADERS | c.PAGE_LONG_HEADERS)) === 0) return `metadata[${place}]`;
  const offset = (address & (c.PAGE_SIZE - 1)) % (flags & c.PAGE_LONG_HEADERS ? c.LONG_HEADER : c.SHORT_HEADER);
  return `Span[${(address - offset).toString(16)}].${offset < c.SPAN_HEADER ? fieldAt("Span", offset) : "bitmap"}`;
}
