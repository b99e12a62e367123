// AssemblyScript to a release binary, in memory, with the options of the heap's own build.

import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Compiles `entry` (a path from the package's root). `sources` replaces files: path from the root -> text. */
export async function compile(entry, { sources = {}, debug = false } = {}) {
  const { readFile } = await import("node:fs/promises");
  let binary;
  const flags = [
    entry, "--outFile", "out.wasm", "--config", "none", "--baseDir", root, "--transform", `${root}assembly/no-inline.mjs`,
    "-O3", "--converge", "--noAssert", "--runtime", "stub", "--importMemory", "--sharedMemory", "--noExportMemory",
    "--initialMemory", "1", "--maximumMemory", "65536", "--enable", "threads", "--enable", "simd", "--uncheckedBehavior", "always", "--use", "abort=",
  ];
  if (debug) flags.push("--debug");
  const { error, stderr } = await asc.main(flags, {
    readFile: async (name, baseDir) => {
      if (name in sources) return sources[name];
      try {
        return await readFile(name.startsWith("/") ? name : `${baseDir}/${name}`, "utf8");
      } catch {
        return null;
      }
    },
    writeFile: (_, contents) => void (binary = contents),
    listFiles: () => [],
  });
  if (error) throw new Error(`${error.message}\n${stderr.toString()}`);
  return binary;
}
