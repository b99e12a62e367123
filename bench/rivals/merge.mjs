// One module of a driver and the allocator it drives, as a program has that is linked with its malloc: calls between the two are plain calls,
// the memory is one, and the optimizer sees both.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import binaryen from "assemblyscript/binaryen";

const root = fileURLToPath(new URL("../..", import.meta.url));
const tool = `${dirname(createRequire(import.meta.resolve("assemblyscript/binaryen")).resolve("binaryen"))}/bin/wasm-merge`;

/**
 * What the driver takes from the rival goes by names of its own while they are merged, for wasm-merge drops an export whose name both have before it
 * looks who imports it.
 */
const LINK = "link:";

/** Two imports of one memory would become two memories, so the driver takes the rival's. */
const MEMORY = `${LINK}memory`;

/**
 * `driver` and `rival` in one module. What the driver imports from `rivalName` is the rival's; a function that the rival lacks traps when it is called.
 * The memory is imported as `env.memory`, with the rival's limits. Exports of both remain, the driver's where both have a name.
 */
export function merged(driver, rival, { driverName = "driver", rivalName = "heap" } = {}) {
  mkdirSync(`${root}build/rivals`, { recursive: true });
  const folder = mkdtempSync(`${root}build/rivals/merge-`);
  try {
    const functions = functionsFrom(rivalName, driver);
    const offered = new Set(WebAssembly.Module.exports(new WebAssembly.Module(rival)).map(({ name }) => name));
    writeFileSync(
      `${folder}/driver.wasm`,
      edit(driver, (module) => take(module, rivalName, functions, offered)),
    );
    writeFileSync(
      `${folder}/rival.wasm`,
      edit(rival, (module) => offer(module, functions, offered)),
    );
    const modules = [`${folder}/driver.wasm`, driverName, `${folder}/rival.wasm`, rivalName];
    execFileSync(process.execPath, [tool, ...modules, "-o", `${folder}/merged.wasm`, "--skip-export-conflicts", "--all-features", "-g"]);
    return edit(readFileSync(`${folder}/merged.wasm`), (module) => {
      for (const { base } of functions) if (offered.has(base)) module.removeExport(LINK + base);
      module.removeExport(MEMORY);
      optimize(module);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The functions that a module imports from `from`. */
function functionsFrom(from, bytes) {
  const module = binaryen.readBinary(bytes);
  const all = Array.from({ length: module.getNumFunctions() }, (_, i) => binaryen.getFunctionInfo(module.getFunctionByIndex(i)));
  module.dispose();
  return all.filter((info) => info.module === from);
}

/** The module after `change`, with the names of its functions. */
function edit(bytes, change) {
  const module = binaryen.readBinary(bytes);
  module.setFeatures(binaryen.Features.All);
  change(module);
  binaryen.setDebugInfo(true);
  const changed = module.emitBinary();
  module.dispose();
  return changed;
}

/** The rival's side of the link. */
function offer(module, functions, offered) {
  module.addMemoryExport(nameOfMemory(module), MEMORY);
  for (const { base } of functions) {
    if (offered.has(base)) module.addFunctionExport(binaryen.getExportInfo(module.getExport(base)).value, LINK + base);
  }
}

/** The driver's side of the link. */
function take(module, rivalName, functions, offered) {
  module.addMemoryImport(nameOfMemory(module), rivalName, MEMORY, module.getMemoryInfo().shared);
  for (const { name, base, params, results } of functions) {
    module.removeFunction(name);
    if (offered.has(base)) module.addFunctionImport(name, rivalName, LINK + base, params, results);
    else module.addFunction(name, params, results, [], module.unreachable());
  }
}

/** What binaryen calls the memory, which only its text tells. */
function nameOfMemory(module) {
  return module.emitText().match(/\(memory \$(\S+) /)[1];
}

/**
 * For speed, but with waits out of line: Node 20's baseline compiler corrupts the locals around an inlined one. numaheap's slow paths say by their names
 * that they are to stay out of the fast ones.
 */
function optimize(module) {
  binaryen.setPassArgument("no-inline", "*NoInline");
  module.runPasses(["no-inline"]);
  const functions = module
    .emitText()
    .split(/\n \(func \$/)
    .slice(1);
  for (const text of functions) {
    if (!text.includes("memory.atomic.wait")) continue;
    binaryen.setPassArgument("no-inline", text.match(/^[^\s)]+/)[0]);
    module.runPasses(["no-inline"]);
  }
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(0);
  module.optimize();
}
