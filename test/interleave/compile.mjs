// AssemblyScript to a binary, in memory, with the options of a target of asconfig.json.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { shrink } from "../../assembly/shrink.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Compiles `entry`, a path from the package's root, as assembly/build.mjs does for a release, but keeps the names of functions.
 * `sources` replaces files: path from the root -> text.
 */
export async function compile(entry, sources = {}) {
  const { default: asc } = await import("assemblyscript/asc");
  const read = async (name, baseDir) => {
    const path = name.startsWith("/") ? name.slice(root.length) : name;
    if (path in sources) return sources[path];
    return readFile(name.startsWith("/") ? name : `${baseDir}/${name}`, "utf8").catch(() => null);
  };
  const flags = ["--config", `${root}asconfig.json`, "--target", "release", "--transform", `${root}assembly/no-inline.mjs`, "--debug"];
  let binary;
  const { error, stderr } = await asc.main([entry, "--outFile", "out.wasm", "--baseDir", root, ...flags], {
    readFile: read,
    writeFile: (_, contents) => void (binary = contents),
    listFiles: () => [],
  });
  if (error) throw new Error(`${entry}: ${error.message}\n${stderr.toString()}`);
  // By another instance of the optimizer: the compiler leaves its own settings behind.
  const { default: binaryen } = await import(`${import.meta.resolve("binaryen")}?second-turn`);
  return shrink(binaryen, binary, { named: true });
}

/**
 * What `make` answers, { bytes, ...what JSON can hold }, kept from an earlier run if the allocator's sources, these tools and `about` are
 * the same.
 */
export async function cached(about, make) {
  const hash = createHash("sha256").update(about);
  for (const directory of ["assembly/", "src/heap/", "test/interleave/"]) {
    for (const name of readdirSync(root + directory).filter((name) => /\.(ts|mjs)$/.test(name)))
      hash.update(name).update(readFileSync(root + directory + name));
  }
  hash.update(readFileSync(`${root}asconfig.json`)).update(readFileSync(`${root}package.json`));
  const stem = `${root}node_modules/.cache/interleave/${hash.digest("hex").slice(0, 24)}`;
  if (existsSync(`${stem}.json`)) return { ...JSON.parse(readFileSync(`${stem}.json`, "utf8")), bytes: readFileSync(`${stem}.wasm`) };
  const { bytes, ...rest } = await make();
  mkdirSync(`${root}node_modules/.cache/interleave`, { recursive: true });
  writeFileSync(`${stem}.wasm`, bytes);
  writeFileSync(`${stem}.json`, JSON.stringify(rest));
  return { bytes, ...rest };
}
