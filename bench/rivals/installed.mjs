// Which rivals are there, and what their modules ask of the memory.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import binaryen from "assemblyscript/binaryen";
import { NATIVE, RIVALS } from "./catalogue.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The file of a rival's module, or script. */
export function fileOf(id) {
  const { script } = RIVALS.find((rival) => rival.id === id);
  return `${root}build/rivals/${id}.${script ? "js" : "wasm"}`;
}

/** The rivals of the catalogue that have been made, with `version`, `size` in bytes, and of the memory `shared`, `initialPages` and `maximumPages`. */
export function installed() {
  return RIVALS.filter(({ id }) => existsSync(fileOf(id))).map((rival) => {
    const bytes = readFileSync(fileOf(rival.id));
    return { ...rival, version: versionOf(rival), size: bytes.length, ...(rival.script ? SCRIPT_MEMORY : memoryOf(bytes)) };
  });
}

/** The native ones that are there, with `version`. */
export function installedNative() {
  return NATIVE.filter(({ preload }) => !preload || existsSync(preload)).map((native) => ({
    ...native,
    version: debianVersion(native.package),
  }));
}

/** A script manages a buffer that it is given. */
const SCRIPT_MEMORY = { shared: false, initialPages: 256, maximumPages: 256 };

function memoryOf(bytes) {
  const module = binaryen.readBinary(bytes);
  const { shared, initial, max } = module.getMemoryInfo();
  module.dispose();
  return { shared, initialPages: initial, maximumPages: max };
}

/** debian.sh leaves a file with the version of what it fetches. */
function versionOf({ from, package: name }) {
  if (from === "npm") return JSON.parse(readFileSync(`${root}node_modules/${name}/package.json`, "utf8")).version;
  const fetched = `${root}build/rivals/${name.split("/").at(-1)}.version`;
  return existsSync(fetched) ? readFileSync(fetched, "utf8").trim() : debianVersion(name);
}

function debianVersion(name) {
  try {
    return execFileSync("dpkg-query", ["--show", "--showformat=${Version}", name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return undefined;
  }
}
