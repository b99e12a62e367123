// Compiles the driver's loops, bench/drivers/*.c, with clang in WebAssembly: for memories that are shared and not, for allocators and for floors.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Exit, runLLVM } from "@yowasp/clang";

const drivers = new URL("../drivers/", import.meta.url);
const out = fileURLToPath(new URL("../../build/bench/", import.meta.url));
const SOURCES = ["cells.h", "cells.c", "trace.c"];
const FLAGS = ["--target=wasm32", "-O3", "-nostdlib", "-ffreestanding", "-mbulk-memory", "-Wall", "-Werror"];

/** The path of the driver's module, compiled anew if its sources have changed. */
export async function driverModule({ shared, floor }) {
  const texts = Object.fromEntries(SOURCES.map((name) => [name, readFileSync(new URL(name, drivers), "utf8")]));
  const flags = [...FLAGS, ...(shared ? ["-matomics"] : []), ...(floor ? ["-DFLOOR"] : [])];
  const key = createHash("sha256")
    .update(JSON.stringify([texts, flags]))
    .digest("hex")
    .slice(0, 16);
  const path = `${out}driver-${shared ? "shared" : "own"}${floor ? "-floor" : ""}-${key}.wasm`;
  if (existsSync(path)) return path;
  mkdirSync(out, { recursive: true });
  const objects = {};
  for (const name of floor ? ["cells"] : ["cells", "trace"]) {
    const { [`${name}.o`]: object } = await run(["clang", ...flags, "-c", `${name}.c`, "-o", `${name}.o`], texts);
    objects[`${name}.o`] = object;
  }
  const memory = ["--import-memory", "--max-memory=4294967296", ...(shared ? ["--shared-memory"] : [])];
  const linked = await run(["wasm-ld", "--no-entry", ...memory, ...Object.keys(objects), "-o", "driver.wasm"], objects);
  writeFileSync(path, linked["driver.wasm"]);
  return path;
}

async function run(args, files) {
  let said = "";
  const decoder = new TextDecoder();
  const stderr = (bytes) => void (said += bytes ? decoder.decode(bytes) : "");
  try {
    return await runLLVM(args, files, { stderr, fetchProgress: () => {} });
  } catch (error) {
    if (error instanceof Exit) throw new Error(`${args.join(" ")}\n${said}`, { cause: said });
    throw error;
  }
}
