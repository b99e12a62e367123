// Makes the allocators that come with npm's packages: `node bench/rivals/npm.mjs`.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { runClang, runLLVM } from "@yowasp/clang";
import binaryen from "assemblyscript/binaryen";
import { build } from "vite";
import { fileOf } from "./installed.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const here = "bench/rivals";
const emnapi = "node_modules/emnapi/lib/wasm32";

/** Where the allocator's memory begins: below it is the driver's. */
const BASE = 64 << 20;

/** The most that the memory can grow to. */
const MAXIMUM = 2 ** 32 - 65536;

/** [id, what it is made of, how] */
const MADE = [
  ["as-minimal", [`${here}/tlsf.ts`], tlsf],
  ["as-minimal-lock", [`${here}/tlsf-lock.ts`], lockedTlsf],
  ["emnapi-dlmalloc", [`${emnapi}/libdlmalloc.a`], linked],
  ["emnapi-emmalloc", [`${emnapi}/libemmalloc.a`], linked],
  ["emnapi-dlmalloc-mt", [`${emnapi}/libdlmalloc-mt.a`, `${here}/thread.c`], linked],
  ["emnapi-emmalloc-mt", [`${emnapi}/libemmalloc-mt.a`, `${here}/thread.c`], linked],
  ["thi-ng", [`${here}/thi-ng.mjs`], bundled],
  ["wasm-vips-mimalloc", ["node_modules/wasm-vips/lib/vips.wasm"], (out, [module]) => copyFileSync(root + module, out)],
];

/** Makes those that are missing or older than what they are made of. */
export async function buildNpmRivals({ onProgress = () => {} } = {}) {
  mkdirSync(`${root}build/rivals`, { recursive: true });
  for (const [id, parts, make] of MADE) {
    const out = fileOf(id);
    if (upToDate(out, [...parts, `${here}/npm.mjs`])) continue;
    await make(out, parts);
    onProgress(`${out.slice(root.length).padEnd(40)} ${statSync(out).size} bytes`);
  }
}

function upToDate(out, parts) {
  return existsSync(out) && parts.every((part) => statSync(root + part).mtimeMs < statSync(out).mtimeMs);
}

/** Away from asconfig.json, which is numaheap's. */
function tlsf(out, [source], ...options) {
  const memory = ["--importMemory", "--noExportMemory", "--initialMemory", `${(BASE >> 16) + 1}`, "--maximumMemory", `${MAXIMUM / 65536}`];
  const speed = ["-O3", "--converge", "--noAssert", "--runtime", "minimal", "--memoryBase", `${BASE}`, "--use", "abort="];
  const file = source.slice(here.length + 1);
  const args = [`${root}node_modules/assemblyscript/bin/asc.js`, file, "--outFile", out, ...memory, ...speed, ...options];
  execFileSync(process.execPath, args, { cwd: root + here, stdio: ["ignore", "inherit", "ignore"] });
}

/**
 * TLSF asks for the size of the memory before and after it grows it. A thread may be told the size of before another one's growth, and then what
 * TLSF takes for new is the other's: memory.grow always knows.
 */
function lockedTlsf(out, parts) {
  tlsf(out, parts, "--sharedMemory", "--enable", "threads", "--zeroFilledMemory");
  const module = binaryen.readBinary(readFileSync(out));
  const current = binaryen.parseText(module.emitText().replaceAll("(memory.size)", "(memory.grow (i32.const 0))"));
  current.setFeatures(binaryen.Features.All);
  writeFileSync(out, current.emitBinary());
  module.dispose();
  current.dispose();
}

/** An archive of emnapi's, linked as clang does it for a program without a C library. */
async function linked(out, parts) {
  await runLLVM(null, {}, { fetchProgress: () => {} });
  const files = Object.fromEntries(parts.map((part) => [part.split("/").at(-1), readFileSync(root + part)]));
  // dlmalloc leaves the values of its errors to the program.
  files["errno.c"] = "const int __ENOMEM = 48, __EINVAL = 28;";
  const exported = ["malloc", "free", "calloc", "realloc", "aligned_alloc", "malloc_usable_size"].map((name) => `--export=${name}`);
  const shared = parts.length > 1 ? ["--shared-memory"] : [];
  const place = [`--global-base=${BASE}`, "-z,stack-size=65536", "--no-stack-first"];
  const linker = ["--no-entry", "--import-memory", ...shared, `--max-memory=${MAXIMUM}`, ...place, ...exported].join();
  const target = ["--target=wasm32", "-O3", "-nostdlib", "-mbulk-memory", ...(shared.length ? ["-matomics"] : [])];
  const made = await runClang(["clang", ...target, ...Object.keys(files), `-Wl,${linker}`, "-o", "out.wasm"], files);
  writeFileSync(out, made["out.wasm"]);
}

/** JavaScript from a package, as one module that any engine's worker can import. */
async function bundled(out, [entry]) {
  const lib = { entry: root + entry, formats: ["es"] };
  const [{ output }] = await build({ root, configFile: false, logLevel: "silent", build: { lib, write: false } });
  writeFileSync(out, output[0].code);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildNpmRivals({ onProgress: console.log });
