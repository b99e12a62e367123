// Builds every module into dist/: `node assembly/build.mjs`. Two compilations run at a time.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import binaryen from "assemblyscript/binaryen";
import { shrink } from "./shrink.mjs";

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
  if (target !== "debug") writeFileSync(root + out, shrink(binaryen, readFileSync(root + out)));
  console.log(`${out.padEnd(26)} ${statSync(root + out).size} bytes`);
}

mkdirSync(`${root}dist`, { recursive: true });
const queue = [...MODULES];
const worker = async () => {
  for (let next = queue.shift(); next; next = queue.shift()) await compile(next);
};
await run(process.execPath, ["assembly/size-classes.mjs", "--check"], { cwd: root });
await Promise.all([worker(), worker()]);
