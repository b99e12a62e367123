// What is measured: numaheap, its floors and its rivals, each with the modules that its threads instantiate.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { RIVALS } from "../rivals/catalogue.mjs";
import { fileOf, installed } from "../rivals/installed.mjs";
import { merged } from "../rivals/merge.mjs";
import { driverModule } from "./driver.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const out = `${root}build/bench/`;
const REGION_PAGES = 1024;

const OURS = { lacks: [], threads: "many", shared: true, merged: true, region: "low", maximumPages: 65535 };
const NUMAHEAP = { ...OURS, id: "numaheap", title: "numaheap", kind: "numaheap", initialPages: REGION_PAGES + 1 };
const FLOORS = [
  { ...OURS, id: "lists", title: "bare free lists", kind: "floor", lists: true, initialPages: REGION_PAGES + 513 },
  { ...OURS, id: "bump", title: "bump pointer", kind: "floor", lists: false, initialPages: REGION_PAGES + 513 },
];

/** A hash of files, as part of a name. */
function hashOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths) hash.update(readFileSync(path));
  return hash.digest("hex").slice(0, 16);
}

/** An AssemblyScript module of a tree of this project, compiled for speed and with the names of its functions, where its sources have changed. */
async function compiled(tree, entry, name) {
  const sources = readdirSync(`${tree}assembly`)
    .filter((file) => /\.(ts|mjs)$/.test(file))
    .map((file) => `${tree}assembly/${file}`);
  const path = `${out}${name}-${hashOf([...sources, `${tree}${entry}`, `${tree}asconfig.json`])}.wasm`;
  if (existsSync(path)) return path;
  const options = ["--target", "fast", "--debug", "--outFile", path, "--transform", "./assembly/no-inline.mjs"];
  await promisify(execFile)(process.execPath, ["node_modules/assemblyscript/bin/asc.js", entry, ...options], { cwd: tree });
  return path;
}

/** The driver merged with an allocator, made anew where either has changed. */
function mergedModule(driver, heap, id) {
  const hash = hashOf([driver, heap, new URL("../rivals/merge.mjs", import.meta.url)]);
  const path = `${out}merged-${id}-${hash}.wasm`;
  if (!existsSync(path)) writeFileSync(path, merged(readFileSync(driver), readFileSync(heap)));
  return path;
}

/** numaheap as a tree has built it: `dist/` holds what a program imports, and what is linked is compiled for speed. */
export async function numaheapOf(tree, id = "numaheap") {
  const driver = await driverModule({ shared: true, floor: false });
  const linked = mergedModule(driver, await compiled(tree, "assembly/index.ts", id), id);
  const modules = {
    driver,
    heap: `${tree}dist/heap.wasm`,
    create: `${tree}dist/create.wasm`,
    inspect: `${tree}dist/inspect.wasm`,
    merged: linked,
  };
  return { ...NUMAHEAP, id, modules, version: JSON.parse(readFileSync(`${tree}package.json`, "utf8")).version };
}

/** The line of malloc's hit path that sees changes of the topology. */
const TOPOLOGY_CHECK = /^ *if \(load<u32>\(heap, offsetof<Heap>\("epoch"\)\) != epochSeen\) break;\n/m;

/** numaheap as it would be if it knew one node, for ever: without the check for changes in malloc's hit path. */
async function nodeBlind() {
  const tree = `${out}node-blind/`;
  cpSync(`${root}assembly`, `${tree}assembly`, { recursive: true });
  cpSync(`${root}asconfig.json`, `${tree}asconfig.json`);
  if (!existsSync(`${tree}node_modules`)) symlinkSync(`${root}node_modules`, `${tree}node_modules`);
  const malloc = readFileSync(`${root}assembly/malloc.ts`, "utf8");
  if (!TOPOLOGY_CHECK.test(malloc)) throw new Error("malloc has no topology check to be left out");
  writeFileSync(`${tree}assembly/malloc.ts`, malloc.replace(TOPOLOGY_CHECK, ""));
  const driver = await driverModule({ shared: true, floor: false });
  const heap = await compiled(tree, "assembly/index.ts", "node-blind");
  const modules = { driver, heap, create: `${root}dist/create.wasm`, merged: mergedModule(driver, heap, "node-blind") };
  return { ...NUMAHEAP, id: "node-blind", title: "numaheap, node-blind", role: "rival", nodeBlind: true, modules };
}

async function floors() {
  const heap = await compiled(root, "bench/drivers/floor.ts", "floor");
  return Promise.all(
    FLOORS.map(async (floor) => {
      const driver = await driverModule({ shared: true, floor: floor.lists });
      return { ...floor, modules: { driver, heap, merged: mergedModule(driver, heap, floor.id) } };
    }),
  );
}

async function rival(entry) {
  const heap = fileOf(entry.id);
  if (entry.script) return { ...entry, lacks: [], kind: "rival", modules: { script: heap } };
  const driver = await driverModule({ shared: entry.shared, floor: false });
  const has = WebAssembly.Module.exports(new WebAssembly.Module(readFileSync(heap))).map(({ name }) => name);
  const lacks = ["calloc", "realloc", "aligned_alloc"].filter((name) => !has.includes(name) && entry.region !== "malloc");
  return {
    ...entry,
    lacks,
    kind: "rival",
    modules: { driver, heap, ...(entry.merged && { merged: mergedModule(driver, heap, entry.id) }) },
  };
}

/**
 * All of them, built: { subjects, missing }, where `missing` are the rivals that are not there.
 * @param onProgress told of each before it is built
 */
export async function buildSubjects({ onProgress = () => {} } = {}) {
  mkdirSync(out, { recursive: true });
  onProgress("numaheap");
  const subjects = (await Promise.all([numaheapOf(root), nodeBlind(), floors()])).flat();
  const there = installed();
  for (const entry of there) {
    onProgress(entry.id);
    subjects.push(await rival(entry));
  }
  return { subjects, missing: RIVALS.filter(({ id }) => !there.some((entry) => entry.id === id)) };
}
