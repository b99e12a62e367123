// Compiles a driver together with the allocator into one module.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import binaryen from "assemblyscript/binaryen";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Nodes of the largest function that `inlined` inlines: malloc and free have less than half of it. */
const INLINE = 250;

/** The bytes of bench/drivers/NAME.ts, compiled as the released heap is. */
export function buildDriver(name) {
  const out = `build/bench/${name}.wasm`;
  mkdirSync(`${root}build/bench`, { recursive: true });
  const options = ["--target", "release", "--debug", "--outFile", out, "--transform", "./assembly/no-inline.mjs"];
  execFileSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", `bench/drivers/${name}.ts`, ...options], {
    cwd: root,
    stdio: ["ignore", "inherit", "ignore"],
  });
  return readFileSync(root + out);
}

/** The same module with all but slow paths inlined: what a program merged with the allocator can become. */
export function inlined(bytes) {
  const module = binaryen.readBinary(bytes);
  module.setFeatures(binaryen.Features.All);
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(0);
  binaryen.setAlwaysInlineMaxSize(INLINE);
  binaryen.setFlexibleInlineMaxSize(INLINE);
  binaryen.setPassArgument("no-inline", "*NoInline");
  module.runPasses(["no-inline", "inlining-optimizing"]);
  module.optimize();
  return module.emitBinary();
}

/** Calls in an exported function. */
export function callsIn(bytes, name) {
  const module = binaryen.readBinary(bytes);
  const text = module.emitText();
  const internal = text.slice(text.indexOf(`(export "${name}"`)).match(/\(func (\$[^)]+)\)/)[1];
  const from = text.indexOf(`(func ${internal} `);
  return text.slice(from, text.indexOf("\n )\n", from)).match(/\(call /g)?.length ?? 0;
}

/** A module of dist/. */
export function built(name) {
  return new WebAssembly.Module(readFileSync(`${root}dist/${name}.wasm`));
}

/** What the figures were measured on. */
export function machine() {
  return { cpu: cpus()[0].model, cpus: cpus().length, node: process.version, v8: process.versions.v8 };
}
