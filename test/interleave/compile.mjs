// AssemblyScript to a binary, in memory, with the options of a target of asconfig.json.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Compiles `entry`, a path from the package's root. `sources` replaces files: path from the root -> text. `named` keeps the names of
 * functions; the code is the same.
 */
export async function compile(entry, { target = "release", sources = {}, named = false } = {}) {
  let binary;
  const read = async (name, baseDir) => {
    const path = name.startsWith("/") ? name.slice(root.length) : name;
    if (path in sources) return sources[path];
    return readFile(name.startsWith("/") ? name : `${baseDir}/${name}`, "utf8").catch(() => null);
  };
  const { error, stderr } = await asc.main(
    [
      entry,
      "--outFile",
      "out.wasm",
      "--baseDir",
      root,
      "--config",
      `${root}asconfig.json`,
      "--target",
      target,
      "--transform",
      `${root}assembly/no-inline.mjs`,
      ...(named ? ["--debug"] : []),
    ],
    { readFile: read, writeFile: (_, contents) => void (binary = contents), listFiles: () => [] },
  );
  if (error) throw new Error(`${entry}: ${error.message}\n${stderr.toString()}`);
  return binary;
}
