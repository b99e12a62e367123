// The crash build: heap.wasm with a countdown before every store, atomic operation, growth and bulk operation, which traps at
// zero. Deaths by the clock hardly ever strike between two stores; this one strikes between any two.

import { readFileSync } from "node:fs";
import { Kind, assemble, disassemble, isWrite, mapInstructions, parseOperation, withDefinitions } from "../interleave/linear.mjs";

const COUNTED = (kind) => isWrite(kind) || kind === Kind.Notify || kind === Kind.Wait;

/** Compiles dist/NAME.wasm as a crash build: it also exports the global `countdown`, 0 = never. */
export function crashBuild(name = "heap") {
  const lines = mapInstructions(disassemble(readFileSync(new URL(`../../dist/${name}.wasm`, import.meta.url))), (line) => {
    const op = parseOperation(line);
    return op && COUNTED(op.kind) ? [`${op.indent}call $crash.step`, line] : null;
  });
  const bytes = assemble(
    withDefinitions(lines, [
      ' (global $crash.countdown (export "countdown") (mut i32) (i32.const 0))',
      ` (func $crash.step
  (if (i32.eqz (global.get $crash.countdown)) (then (return)))
  (global.set $crash.countdown (i32.sub (global.get $crash.countdown) (i32.const 1)))
  (if (i32.eqz (global.get $crash.countdown)) (then (unreachable))))`,
    ]),
  );
  return new WebAssembly.Module(bytes);
}
