// Builds every module into dist/: `node assembly/build.mjs`. Two compilations run at a time.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import binaryen from "assemblyscript/binaryen";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);

/** [module, entry, target of asconfig.json] */
const MODULES = [
  ["heap", "index", "release"],
  ["heap.hardened", "index-hardened", "hardened"],
  ["heap.debug", "index", "debug"],
  ["heap.guest", "index-guest", "guest"],
  ["create", "create", "release"],
  ["inspect", "inspect", "fast"],
  ["replay", "replay", "fast"],
];

async function compile([name, entry, target]) {
  const out = `dist/${name}.wasm`;
  const args = ["node_modules/assemblyscript/bin/asc.js", `assembly/${entry}.ts`, "--target", target, "--outFile", out];
  // The transform keeps waits out of line: see parkNoInline in lock.ts.
  const { stderr } = await run(
    process.execPath,
    [...args, "--transform", "./assembly/no-inline.mjs", ...(target === "debug" ? [] : ["--debug"])],
    { cwd: root },
  );
  const warnings = stderr.replaceAll("Last converge was suboptimal.", "").trim();
  if (warnings) throw new Error(`${entry}.ts: the build is kept free of warnings\n${warnings}`);
  if (target !== "debug") shrink(root + out);
  console.log(`${out.padEnd(26)} ${statSync(root + out).size} bytes`);
}

/** Once more through the optimizer, which the names of functions let keep waits out of line; then the names go. */
function shrink(path) {
  const module = binaryen.readBinary(readFileSync(path));
  const { MutableGlobals, SignExt, Atomics, BulkMemory, BulkMemoryOpt, NontrappingFPToInt, SIMD128 } = binaryen.Features;
  module.setFeatures(MutableGlobals | SignExt | Atomics | BulkMemory | BulkMemoryOpt | NontrappingFPToInt | SIMD128);
  // Locks are taken and released by calls: each is as long as a call when inlined, and there are many.
  for (const kept of ["*NoInline", "assembly/lock/*"]) {
    binaryen.setPassArgument("no-inline", kept);
    module.runPasses(["no-inline"]);
  }
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(1);
  binaryen.setAlwaysInlineMaxSize(4);
  binaryen.setGenerateStackIR(true);
  binaryen.setOptimizeStackIR(true);
  for (let i = 0; i < 3; ++i) module.optimize();
  module.runPasses(["strip-debug", "strip-producers", "strip-target-features"]);
  writeFileSync(path, module.emitBinary());
  module.dispose();
}

mkdirSync(`${root}dist`, { recursive: true });
const queue = [...MODULES];
const worker = async () => {
  for (let next = queue.shift(); next; next = queue.shift()) await compile(next);
};
await run(process.execPath, ["assembly/size-classes.mjs", "--check"], { cwd: root });
await Promise.all([worker(), worker()]);
