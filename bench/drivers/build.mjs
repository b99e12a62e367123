// Compiles a driver together with the allocator into one module: as the released heap is, or as `asc -O3` makes it.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The compiled module of bench/drivers/NAME.ts; `target` is one of asconfig.json. */
export function buildDriver(name, target = "release") {
  const out = `build/bench/${name}.${target}.wasm`;
  mkdirSync(`${root}build/bench`, { recursive: true });
  const args = [`bench/drivers/${name}.ts`, "--target", target, "--outFile", out, "--transform", "./assembly/no-inline.mjs"];
  execFileSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", ...args], {
    cwd: root,
    stdio: ["ignore", "inherit", "ignore"],
  });
  return new WebAssembly.Module(readFileSync(root + out));
}

/** A module of dist/. */
export function built(name) {
  return new WebAssembly.Module(readFileSync(`${root}dist/${name}.wasm`));
}

/** What the figures were measured on. */
export function machine() {
  return { cpu: cpus()[0].model, cpus: cpus().length, node: process.version, v8: process.versions.v8 };
}
