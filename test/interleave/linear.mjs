// A wasm module as linear text: one instruction a line, its operands already on the stack. In this form every rewrite
// of a memory operation is local to its line, and what is rewritten is the released binary, not its source.

import binaryen from "assemblyscript/binaryen";

/** Kinds of points: memory operations, and the places between a thread's calls. */
export const Kind = {
  Call: 0,
  Load: 1,
  Store: 2,
  Rmw: 3,
  Cas: 4,
  Wait: 5,
  Notify: 6,
  PlainLoad: 7,
  PlainStore: 8,
  Bulk: 9,
  Wake: 10,
  Size: 11,
  Grow: 12,
  /** An atomic addition whose result nobody looks at: such additions commute. */
  Add: 13,
};
export const kindNames = Object.keys(Kind);

/** What an operation does to a word. */
export const READ = 1;
export const WRITE = 2;
export const ADD = 4;

const effects = new Uint8Array(kindNames.length);
for (const kind of [Kind.Load, Kind.PlainLoad, Kind.Size, Kind.Wait, Kind.Notify]) effects[kind] = READ;
for (const kind of [Kind.Store, Kind.PlainStore, Kind.Bulk]) effects[kind] = WRITE; // a copy's source is another word
for (const kind of [Kind.Rmw, Kind.Cas, Kind.Grow]) effects[kind] = READ | WRITE;
effects[Kind.Add] = ADD;

export const effectsOf = (kind) => effects[kind];
export const isWrite = (kind) => (effects[kind] & (WRITE | ADD)) !== 0;
export const isRead = (kind) => (effects[kind] & READ) !== 0;
export const isPlain = (kind) => kind === Kind.PlainLoad || kind === Kind.PlainStore || kind === Kind.Bulk;

// Not `All`: that also turns on encodings which engines do not read yet.
const F = binaryen.Features;
const FEATURES =
  F.MutableGlobals |
  F.SignExt |
  F.Atomics |
  F.BulkMemory |
  F.BulkMemoryOpt |
  F.NontrappingFPToInt |
  F.SIMD128 |
  F.Multivalue |
  F.ReferenceTypes;

/** Lines of the module's linear text. */
export function disassemble(wasm) {
  // The optimizer's settings are global, and the text depends on them: as it is, nothing improved.
  binaryen.setOptimizeLevel(0);
  binaryen.setShrinkLevel(0);
  binaryen.setOptimizeStackIR(false);
  const module = binaryen.readBinary(wasm);
  module.setFeatures(FEATURES);
  const text = module.emitStackIR();
  module.dispose();
  return text.split("\n");
}

/** Binary of linear text, after the given binaryen passes. */
export function assemble(lines, passes = [], passArguments = {}) {
  binaryen.setOptimizeLevel(passes.length ? 2 : 0); // fewer locals to save in each frame
  const module = binaryen.parseText(lines.join("\n"));
  module.setFeatures(FEATURES);
  for (const [name, value] of Object.entries(passArguments)) binaryen.setPassArgument(name, value);
  if (passes.length) module.runPasses(passes);
  for (const name of Object.keys(passArguments)) binaryen.setPassArgument(name, null);
  if (!module.validate()) throw new Error("the rewritten module does not validate");
  const bytes = module.emitBinary();
  module.dispose();
  return bytes;
}

const ACCESS = /^(\s*)(i32|i64|f32|f64|v128)\.(atomic\.)?(load|store|rmw)([\w.]*)((?: (?:offset|align)=\d+)*)$/;
const WAITING = /^(\s*)memory\.atomic\.(wait32|wait64|notify)((?: (?:offset|align)=\d+)*)$/;
const WHOLE = /^(\s*)memory\.(copy|fill|size|grow)(?: .*)?$/;
const ANY = /^\s*(memory\.|atomic\.|\w+\.atomic\.|\w+\.(load|store)|table\.(init|copy)|data\.)/;
const typeSize = { i32: 4, f32: 4, i64: 8, f64: 8, v128: 16 };

/**
 * The memory operation on a line, or null. `operands` are the types it takes above the address; `next` is the line after it.
 * Throws on one it does not know, so that nothing escapes a rewrite unseen.
 */
export function parseOperation(line, next = "") {
  let m;
  if ((m = ACCESS.exec(line))) {
    const [, indent, type, atomic = "", base, rest, immediates] = m;
    const cas = rest.includes("cmpxchg");
    const bits = /^\d+/.exec(rest)?.[0];
    const kind =
      base === "rmw"
        ? changeKind(rest, next)
        : (atomic ? { load: Kind.Load, store: Kind.Store } : { load: Kind.PlainLoad, store: Kind.PlainStore })[base];
    return {
      indent,
      kind,
      name: `${type}.${atomic}${base}${rest}`,
      size: bits ? bits / 8 : typeSize[type],
      offset: offsetIn(immediates),
      operands: base === "load" ? [] : cas ? [type, type] : [type],
      result: base === "store" ? null : type,
    };
  }
  if ((m = WAITING.exec(line))) {
    const [, indent, what, immediates] = m;
    const value = what === "wait64" ? "i64" : "i32";
    return {
      indent,
      kind: what === "notify" ? Kind.Notify : Kind.Wait,
      name: `memory.atomic.${what}`,
      size: what === "wait64" ? 8 : 4,
      offset: offsetIn(immediates),
      operands: what === "notify" ? ["i32"] : [value, "i64"],
      result: "i32",
    };
  }
  if ((m = WHOLE.exec(line))) {
    const [, indent, what] = m;
    const kind = { copy: Kind.Bulk, fill: Kind.Bulk, size: Kind.Size, grow: Kind.Grow }[what];
    return { indent, kind, name: `memory.${what}`, size: 0, offset: 0, operands: [], result: kind === Kind.Bulk ? null : "i32" };
  }
  if (ANY.test(line)) throw new Error(`unknown memory operation: ${line.trim()}`);
  return null;
}

function changeKind(operation, next) {
  if (operation.includes("cmpxchg")) return Kind.Cas;
  return /\.(add|sub)/.test(operation) && next.trim() === "drop" ? Kind.Add : Kind.Rmw;
}

const offsetIn = (immediates) => Number(/offset=(\d+)/.exec(immediates)?.[1] ?? 0);

/** Walks the instructions: calls `visit(line, function, index)` for every line in a function; its answer, if any, replaces the line. */
export function mapInstructions(lines, visit) {
  const exported = new Map();
  let inside = null;
  const out = [];
  lines.forEach((line, index) => {
    let m;
    if ((m = /^ \(export "([^"]+)" \(func (\S+)\)\)/.exec(line))) exported.set(m[2], m[1]);
    if ((m = /^ \(func (\S+)/.exec(line))) inside = m[1];
    else if (/^ \)/.test(line)) inside = null;
    else if (inside) {
      const replaced = visit(line, exported.get(inside) ?? inside, index);
      if (replaced) return void out.push(...replaced);
    }
    out.push(line);
  });
  return out;
}

/** Mutable globals of the module: what an instance keeps to itself. */
export function mutableGlobals(lines) {
  return lines.flatMap((line) => {
    const m = /^ \(global (\S+) \(mut (\w+)\) /.exec(line);
    return m ? [{ id: m[1], type: m[2] }] : [];
  });
}

/** Lines with `definitions` added at the end of the module. */
export function withDefinitions(lines, definitions) {
  const end = lines.lastIndexOf(")");
  return [...lines.slice(0, end), ...definitions, ...lines.slice(end)];
}

/** Lines with `imports` added after those there are (imports stand before all else). */
export function withImports(lines, imports) {
  let at = lines.findIndex((line) => line.startsWith(" (import "));
  if (at < 0) at = lines.findIndex((line) => !/^(\(module| \(type)/.test(line));
  return [...lines.slice(0, at), ...imports, ...lines.slice(at)];
}
