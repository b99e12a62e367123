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

test("so does its example of a host", () => {
  const out = execFileSync(process.execPath, ["host.js"], { cwd: folder, encoding: "utf8" });
  expect(out).toMatch(/changed \[ \{ vcpu: 2, node: 3 \} \] \[\]/);
  expect(out).toMatch(/^node 3$/m);
  expect(out).toMatch(/^1 4 \[ 0, 1, 3, 3 \]$/m);
  expect(out).toMatch(/^\[\]$/m);
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

test("no dependency comes along with the heap; values of topologies need one, and a host two", () => {
  expect(dependencies(join(root, "dist/index.js"))).toEqual([]);
  expect(new Set(dependencies(join(root, "dist/topology/index.js")))).toEqual(new Set(["valibot"]));
  for (const entry of ["index", "hypervisor-worker", "guest-worker"])
    expect(new Set(dependencies(join(root, `dist/host/${entry}.js`)))).toEqual(new Set(["comlink", "valibot"]));
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
    `import { attachHeap, Host, type HypervisorError, linux, type Vm } from "numaheap/host";
     const host: Host = await Host.create({ hypervisor: "kvm", preset: "4-socket-ring" });
     const vm: Vm = await host.boot({ guest: "freebsd", vcpus: 4, memory: 2 ** 26, mode: "first-touch" });
     const hosted: NumaHeap = await vm.createHeap({ maximumBytes: "32MiB" });
     hosted.addEventListener("topologychange", ({ epoch, vcpus }) => { const [first]: { vcpu: number; node: number }[] = [...vcpus]; return [epoch, first]; }, { once: true });
     const task = await vm.guest.newTask({ vcpu: 0 });
     const status: number = await task.calls.set_mempolicy(linux.MPOL_LOCAL, null, 0);
     const nodes: number = await task.libnuma.numa_max_node();
     const code: HypervisorError["code"] = "NUMAHEAP_OVERCOMMIT";
     const attached: NumaHeap = await attachHeap(hosted.handle(1));
     export { attached, code, nodes, status };
     import { HeapError, type HeapHandle, type HeapStats, NumaHeap } from "numaheap";
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
