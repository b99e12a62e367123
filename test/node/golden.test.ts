// What the hit paths of malloc and free are made of: instructions by class, pinned, so that a change to them shows. After a
// change that is meant: `GOLDEN=write npm run test:host -- golden`.

import { readFileSync, writeFileSync } from "node:fs";
import binaryen from "assemblyscript/binaryen";
import { expect, test } from "vitest";

const GOLDEN = new URL("../golden/hit-path.json", import.meta.url);

/** Classes of instructions, the first that fits. */
const CLASSES: readonly (readonly [name: string, mnemonic: RegExp])[] = [
  ["atomic", /atomic/],
  ["memory", /^memory\./],
  ["load", /\.load/],
  ["store", /\.store/],
  ["constant", /\.const$/],
  ["local", /^local\./],
  ["global", /^global\./],
  ["call", /^call|^return_call/],
  ["loop", /^loop$/],
  ["branch", /^(if|br|br_if|br_table|return|select|unreachable)$/],
  ["arithmetic", /^[if]\d+\./],
];
/** Not instructions, or without an effect of their own. */
const SILENT = new Set([
  "func",
  "param",
  "result",
  "local",
  "type",
  "then",
  "else",
  "block",
  "export",
  "module",
  "import",
  "memory",
  "global",
]);

/** Instructions of an exported function by class. */
function instructionsOf(module: binaryen.Module, name: string): Record<string, number> {
  const index = Array.from({ length: module.getNumExports() }, (_, i) => i).find(
    (i) => binaryen.getExportInfo(module.getExportByIndex(i)).name === name,
  );
  if (index === undefined) throw new Error(`${name} is not exported`);
  const internal = binaryen.getExportInfo(module.getExportByIndex(index)).value;
  const text = module.emitText();
  const from = text.indexOf(`(func $${internal} `);
  const body = text.slice(from, text.indexOf("\n )\n", from));
  const counts: Record<string, number> = {};
  for (const [, mnemonic] of body.matchAll(/\(([a-z][\w.]*)/g)) {
    if (SILENT.has(mnemonic!)) continue;
    const found = CLASSES.find(([, pattern]) => pattern.test(mnemonic!));
    if (!found) throw new Error(`${mnemonic} is in no class`);
    counts[found[0]] = (counts[found[0]] ?? 0) + 1;
  }
  return counts;
}

test("the hit paths of malloc and free are what they were", () => {
  const module = binaryen.readBinary(readFileSync(new URL("../../dist/heap.wasm", import.meta.url)));
  const found = { malloc: instructionsOf(module, "malloc"), free: instructionsOf(module, "free") };
  for (const counts of Object.values(found)) {
    // Whatever else changes: one call, the slow path's; no loop and nothing atomic.
    expect(counts["call"]).toBe(1);
    expect(counts["loop"]).toBeUndefined();
    expect(counts["atomic"]).toBeUndefined();
    expect(counts["memory"]).toBeUndefined();
  }
  if (process.env["GOLDEN"] === "write") writeFileSync(GOLDEN, `${JSON.stringify(found, null, 2)}\n`);
  expect(found).toEqual(JSON.parse(readFileSync(GOLDEN, "utf8")));
});
