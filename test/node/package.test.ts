// The package as a stranger has it: installed in a folder, with the README in hand.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "numaheap-"));
mkdirSync(join(folder, "node_modules"));
symlinkSync(root, join(folder, "node_modules", "numaheap"), "dir");
writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));

test("the example of the README runs as it stands", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  for (const [, code, name] of readme.matchAll(/```js\n(\/\/ (\S+\.js)\n[^]*?)```/g)) writeFileSync(join(folder, name!), code!);
  const out = execFileSync(process.execPath, ["main.js"], { cwd: folder, encoding: "utf8" });
  expect(out).toMatch(/\{ ok: true, problems: \[\], unaccounted: \[\] \}\s*$/);
});

/** Names of the packages that the module at `path`, or one it imports, imports. */
function dependencies(path: string, seen = new Set<string>()): string[] {
  if (seen.has(path)) return [];
  seen.add(path);
  const names = [...readFileSync(path, "utf8").matchAll(/^(?:import|export)\s(?:[^"']*?\sfrom\s)?["']([^"']+)["']/gm)].map(
    ([, name]) => name!,
  );
  return names.flatMap((name) => (name.startsWith(".") ? dependencies(join(dirname(path), name), seen) : [name]));
}

test("no dependency comes along with the heap; the values of topologies need one", () => {
  expect(dependencies(join(root, "dist/index.js"))).toEqual([]);
  expect(new Set(dependencies(join(root, "dist/topology/index.js")))).toEqual(new Set(["valibot"]));
});

test("every file the package names is there", () => {
  const { bin, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    bin: Record<string, string>;
    exports: Record<string, string | Record<string, string>>;
  };
  const named = [...Object.values(bin), ...Object.values(exports).flatMap((to) => (typeof to === "string" ? to : Object.values(to)))];
  for (const path of named) expect(readFileSync(join(root, path)).length, path).toBeGreaterThan(0);
  expect(readFileSync(join(root, bin["numaheap"]!), "utf8")).toMatch(/^#!/);
});

test.each(["NodeNext", "Bundler"] as const)("types serve a strict project that resolves by %s, declarations checked", (resolution) => {
  const path = join(folder, "types.ts");
  writeFileSync(
    path,
    `import { HeapError, type HeapHandle, type HeapStats, NumaHeap } from "numaheap";
     const heap: NumaHeap = await NumaHeap.create({ nodes: 2 });
     const stats: HeapStats = heap.stats();
     const handle: HeapHandle = heap.handle();
     const words: BigInt64Array = heap.alloc(BigInt64Array, 2).view;
     try { heap.free(8); } catch (error) { if (error instanceof HeapError && error.code === "NUMAHEAP_INVALID_FREE") throw error; }
     export { handle, stats, words };`,
  );
  const program = ts.createProgram([path], {
    strict: true,
    noEmit: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: resolution === "NodeNext" ? ts.ModuleKind.NodeNext : ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind[resolution],
  });
  expect(ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
});
