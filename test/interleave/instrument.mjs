// wasm -> wasm: every operation on the shared memory first asks the imported scheduler, and the module can be suspended
// there (asyncify). memory.size, memory.grow, wait and notify are left to the scheduler altogether.
//
//   i32.atomic.rmw.add offset=8   ->   i32.const 8   i32.const POINT   call $loom.i32.atomic.rmw.add

import { Kind, assemble, disassemble, mapInstructions, mutableGlobals, parseOperation, withDefinitions, withImports } from "./linear.mjs";

const IMPORTS = [
  ' (import "loom" "at" (func $loom.at (param i32 i32 i32 i32)))',
  ' (import "loom" "source" (func $loom.source (param i32)))',
  ' (import "loom" "wait" (func $loom.wait (param i32 i64 i64) (result i32)))',
  ' (import "loom" "notify" (func $loom.notify (param i32 i32) (result i32)))',
  ' (import "loom" "size" (func $loom.size (result i32)))',
  ' (import "loom" "grow" (func $loom.grow (param i32) (result i32)))',
];

/** What a helper does once the scheduler lets it go on. */
function body(op) {
  const operands = op.operands.map((_, i) => `(local.get $${i})`).join(" ");
  switch (op.name) {
    case "memory.atomic.notify":
      return `(call $loom.notify (local.get $p) ${operands})`;
    case "memory.atomic.wait32":
      return "(call $loom.wait (local.get $p) (i64.extend_i32_s (local.get $0)) (local.get $1))";
    case "memory.atomic.wait64":
      return `(call $loom.wait (local.get $p) ${operands})`;
    default:
      return `(${op.name} (local.get $p) ${operands})`;
  }
}

function accessHelper(op, name) {
  const params = op.operands.map((type, i) => `(param $${i} ${type})`).join(" ");
  return ` (func $loom.${name} (param $p i32) ${params} (param $offset i32) (param $point i32) ${op.result ? `(result ${op.result})` : ""}
  (local.set $p (i32.add (local.get $p) (local.get $offset)))
  (call $loom.at (i32.const ${op.kind}) (local.get $p) (i32.const ${op.size}) (local.get $point))
  ${body(op)})`;
}

const wholeHelpers = {
  "memory.fill": ` (func $loom.memory.fill (param $to i32) (param $byte i32) (param $n i32) (param $point i32)
  (call $loom.at (i32.const ${Kind.Bulk}) (local.get $to) (local.get $n) (local.get $point))
  (memory.fill (local.get $to) (local.get $byte) (local.get $n)))`,
  "memory.copy": ` (func $loom.memory.copy (param $to i32) (param $from i32) (param $n i32) (param $point i32)
  (call $loom.source (local.get $from))
  (call $loom.at (i32.const ${Kind.Bulk}) (local.get $to) (local.get $n) (local.get $point))
  (memory.copy (local.get $to) (local.get $from) (local.get $n)))`,
  "memory.size": ` (func $loom.memory.size (param $point i32) (result i32)
  (call $loom.at (i32.const ${Kind.Size}) (i32.const 0) (i32.const 0) (local.get $point))
  (call $loom.size))`,
  "memory.grow": ` (func $loom.memory.grow (param $n i32) (param $point i32) (result i32)
  (call $loom.at (i32.const ${Kind.Grow}) (i32.const 0) (i32.const 0) (local.get $point))
  (call $loom.grow (local.get $n)))`,
};

/**
 * Instruments a module, given as binary or as linear text.
 * Returns { bytes, points, globals }: points[i] = { fn, what, line } is the place of point i in the text, globals are the exported names
 * of an instance's mutable globals. Beside the module's own exports there is `foreignGrow(pages)`: somebody else's memory.grow.
 */
export function instrument(module) {
  const source = Array.isArray(module) ? module : disassemble(module);
  const helpers = new Map([["memory.grow", wholeHelpers["memory.grow"]]]);
  const points = [];
  let lines = mapInstructions(source, (line, fn, index) => {
    const op = parseOperation(line, source[index + 1]);
    if (!op) return null;
    const point = points.push({ fn, what: op.name, line: index }) - 1;
    const helper = op.kind === Kind.Add ? `${op.name}.drop` : op.name;
    if (!helpers.has(helper)) helpers.set(helper, wholeHelpers[helper] ?? accessHelper(op, helper));
    const constants = wholeHelpers[op.name] ? [point] : [op.offset, point];
    return [...constants.map((value) => `${op.indent}i32.const ${value}`), `${op.indent}call $loom.${helper}`];
  });
  const foreign = points.push({ fn: "foreignGrow", what: "memory.grow", line: -1 }) - 1;
  const globals = mutableGlobals(lines).map((global, i) => ({ ...global, name: `loom.global${i}` }));
  lines = withImports(lines, IMPORTS);
  lines = withDefinitions(lines, [
    ...helpers.values(),
    ` (func $loom.foreign (export "foreignGrow") (param i32) (result i32) (call $loom.memory.grow (local.get 0) (i32.const ${foreign})))`,
    ...globals.map((global) => ` (export "${global.name}" (global ${global.id}))`),
  ]);
  const bytes = assemble(lines, ["asyncify"], { "asyncify-imports": "loom.at,loom.wait" });
  return { bytes, points, globals };
}
