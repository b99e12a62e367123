// The package as a stranger has it: packed, installed in a folder, with the README in hand.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { commands } from "@yowasp/clang";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "numaheap-"));
const home = join(folder, "node_modules", "numaheap");

interface Manifest {
  bin: Record<string, string>;
  exports: Record<string, string | Record<string, string>>;
  dependencies: Record<string, string>;
}

/** Packs dist as it is, installs it with its dependencies, and answers with the names of its files. */
function install(): { files: string[]; manifest: Manifest } {
  const out = execFileSync("npm", ["pack", root, "--json", "--ignore-scripts"], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [packed] = JSON.parse(out) as [{ filename: string; files: { path: string }[] }];
  mkdirSync(home, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, packed.filename), "-C", home, "--strip-components", "1"]);
  const manifest = JSON.parse(readFileSync(join(home, "package.json"), "utf8")) as Manifest;
  for (const name of Object.keys(manifest.dependencies)) symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  return { files: packed.files.map(({ path }) => path), manifest };
}

const { files, manifest } = install();
const textOf = (path: string): string => readFileSync(join(home, path), "utf8");
const run = (...args: string[]): string =>
  execFileSync(process.execPath, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

describe("the README", () => {
  const blocks = [...textOf("README.md").matchAll(/```js\n(?:\/\/ (\S+\.js)\n)?([^]*?)```/g)].map(([, name, code], i) => ({
    name: name ?? `block-${i}.js`,
    code: code!,
  }));
  for (const { name, code } of blocks) writeFileSync(join(folder, name), code);

  test("has the code that is run here", () =>
    expect(blocks.map(({ name }) => name)).toEqual(["main.js", "worker.js", "embed.js", "block-3.js", "block-4.js", "host.js", "app.js"]));

  test("its first example runs as it stands", () => {
    expect(run("main.js")).toMatch(/\{ ok: true, problems: \[\], unaccounted: \[\] \}\s*$/);
  });

  test("its C program runs over the heap, on two threads", async () => {
    const [, code] = /```c\n([^]*?)```/.exec(textOf("README.md"))!;
    const [, command] = /```sh\nclang ([^]*?)```/.exec(textOf("README.md"))!;
    const words = command!.split(/[\s\\]+/).filter(Boolean);
    const built = await commands.clang(words, { "work.c": code! }, { fetchProgress: () => {} });
    writeFileSync(join(folder, "work.wasm"), built!["work.wasm"] as Uint8Array);
    expect(run("embed.js")).toMatch(/^calls 1\ncalls 2\n\{ ok: true, problems: \[\], unaccounted: \[\] \}\s*$/);
  });

  test.each(blocks.filter(({ name }) => name.startsWith("block")))("$name runs as it stands", ({ name }) => void run(name));

  test("its example of a host runs as it stands", () => {
    const out = run("host.js");
    expect(out).toMatch(/changed \[ \{ vcpu: 2, node: 3 \} \] \[\]/);
    expect(out).toMatch(/^node 3$/m);
    expect(out).toMatch(/^1 4 \[ 0, 1, 3, 3 \]$/m);
    expect(out).toMatch(/^\[\]$/m);
  });

  test("the trace it writes can be replayed", () => {
    expect(run(join(home, manifest.bin["numaheap"]!), "replay", "mine.trace.gz")).toMatch(/heap walk ok/);
  });

  test("its scenario can be played", () => {
    const [, json] = /```json\n([^]*?)```/.exec(textOf("README.md"))!;
    writeFileSync(join(folder, "two-sockets.json"), json!);
    const out = run(join(home, manifest.bin["numaheap"]!), "scenario", "two-sockets.json", "--json");
    const { events } = JSON.parse(json!) as { events: object[] };
    expect(JSON.parse(out)).toMatchObject({ scenario: "two-sockets", ok: true, events: events.map(() => ({ error: null })) });
  });

  test("names only files of the package as such", () => {
    const named = [...textOf("README.md").matchAll(/node_modules\/numaheap\/([\w./-]*\w)/g)].map(([, path]) => path!);
    expect(named.length).toBeGreaterThan(0);
    for (const path of named) expect(files, path).toContain(path);
  });
});

/** Modules that the one at `path` imports, as it writes them. */
const importsOf = (path: string): string[] =>
  [...readFileSync(path, "utf8").matchAll(/^(?:import|export|\} from)\s?(?:[^"';]*?\sfrom\s)?["']([^"']+)["']/gm)].map(([, name]) => name!);

/** Names of the packages that the module at `path`, or one it imports, imports. */
function dependencies(path: string, seen = new Set<string>()): string[] {
  if (seen.has(path)) return [];
  seen.add(path);
  return importsOf(path).flatMap((name) => (name.startsWith(".") ? dependencies(join(dirname(path), name), seen) : [name]));
}

test("no dependency comes along with the heap; values of topologies need one, a host two, traces Node", () => {
  expect(dependencies(join(home, "dist/index.js"))).toEqual([]);
  expect(new Set(dependencies(join(home, "dist/topology/index.js")))).toEqual(new Set(["valibot"]));
  for (const entry of ["index", "hypervisor-worker", "guest-worker"])
    expect(new Set(dependencies(join(home, `dist/host/${entry}.js`)))).toEqual(new Set(["comlink", "valibot"]));
  expect(dependencies(join(home, "dist/trace/index.js")).filter((name) => !name.startsWith("node:"))).toEqual([]);
});

describe("every file the package names is in it:", () => {
  test("entries", () => {
    const named = [
      ...Object.values(manifest.bin),
      ...Object.values(manifest.exports).flatMap((to) => (typeof to === "string" ? to : Object.values(to))),
    ];
    for (const path of named) expect(readFileSync(join(home, path)).length, path).toBeGreaterThan(0);
    expect(textOf(manifest.bin["numaheap"]!)).toMatch(/^#!/);
  });

  test("links of its documents", () => {
    const documents = files.filter((path) => path.endsWith(".md"));
    expect(documents).toContain("README.md");
    for (const path of documents) {
      for (const [, to] of textOf(path).matchAll(/\]\((?!https?:|#)([^)#]+)/g))
        expect(files, `${path} links to ${to}`).toContain(join(dirname(path), to!));
    }
  });

  test("imports of its sources and modules", () => {
    const sources = files.filter((path) => /\.(ts|js|mjs)$/.test(path));
    expect(sources).toContain("assembly/index.ts");
    for (const path of sources) {
      for (const name of importsOf(join(home, path)).filter((name) => name.startsWith("."))) {
        const to = relative(home, join(home, dirname(path), name));
        const found = path.endsWith(".d.ts") ? [to.replace(/\.js$/, ".d.ts")] : [to, `${to}.ts`];
        expect(
          found.some((file) => existsSync(join(home, file))),
          `${path} imports ${name}`,
        ).toBe(true);
      }
    }
  });
});

/** What the compiler says of a program of this code in a project of these options. */
function complaints(code: string, options: ts.CompilerOptions): string[] {
  const path = join(folder, "types.ts");
  writeFileSync(path, code);
  const strict: ts.CompilerOptions = { strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false };
  const program = ts.createProgram([path], { target: ts.ScriptTarget.ES2022, ...strict, ...options });
  return ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText, file }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
}

const NODE_NEXT = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext };
const BUNDLER = { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
const ES_ONLY = { lib: ["lib.es2022.d.ts"] };
const WITH_NODE = { types: ["node"], typeRoots: [join(root, "node_modules/@types")] };

test.each([
  ["NodeNext", { ...NODE_NEXT, types: [] }, true],
  ["Bundler, and Node's types", { ...BUNDLER, ...WITH_NODE }, true],
  ["no library but ES2022's", { ...NODE_NEXT, ...ES_ONLY, types: [] }, false],
  ["no library but ES2022's, and Node's types", { ...NODE_NEXT, ...ES_ONLY, ...WITH_NODE }, false],
])("types serve a strict project, declarations checked: %s", (_, options, hasWebAssembly) => {
  const code = `
    import { HeapError, type HeapHandle, type HeapStats, NumaHeap, type WasmMemory } from "numaheap";
    import { type Topology, presets, topologyToAcpi } from "numaheap/topology";
    import { MALLOC, readTrace, type Trace, type TraceEvent, writeTrace } from "numaheap/trace";
    const heap: NumaHeap = await NumaHeap.create({ nodes: 2 });
    const stats: HeapStats = heap.stats();
    const handle: HeapHandle = heap.handle();
    const memory: WasmMemory = heap.memory;
    const bytes: number = memory.buffer.byteLength + memory.grow(0);
    const words: BigInt64Array = heap.alloc(BigInt64Array, 2).view;
    try { heap.free(8); } catch (error) { if (error instanceof HeapError && error.code === "NUMAHEAP_INVALID_FREE") throw error; }
    const topology: Topology = presets["2-socket"].topology;
    const srat: Uint8Array = topologyToAcpi(topology).srat;
    const events: TraceEvent[] = [{ op: MALLOC, thread: 0, size: 1 }];
    await writeTrace("one.trace.gz", events, "one");
    const trace: Trace = await readTrace("one.trace.gz");
    export { bytes, handle, srat, stats, trace, words };`;
  const ofThePlatform = `
    import { attachHeap, Host, type HypervisorError, linux, type Vm } from "numaheap/host";
    const host: Host = await Host.create({ hypervisor: "kvm", preset: "4-socket-ring" });
    const vm: Vm = await host.boot({ guest: "freebsd", vcpus: 4, memory: 2 ** 26, mode: "first-touch" });
    const hosted: NumaHeap = await vm.createHeap({ maximumBytes: "32MiB" });
    hosted.addEventListener("topologychange", ({ epoch, vcpus }) => { const [first]: { vcpu: number; node: number }[] = [...vcpus]; return [epoch, first]; }, { once: true });
    const task = await vm.guest.newTask({ vcpu: 0 });
    const status: number = await task.calls.set_mempolicy(linux.MPOL_LOCAL, null, 0);
    const nodes: number = await task.libnuma.numa_max_node();
    const refused: HypervisorError["code"] = "NUMAHEAP_OVERCOMMIT";
    const attached: NumaHeap = await attachHeap(hosted.handle(1));
    export { attached, nodes, refused, status };
    const given = new WebAssembly.Memory({ initial: 1, maximum: 9, shared: true });
    const same: WebAssembly.Memory = (await NumaHeap.create({ memory: given })).memory;
    const module: WebAssembly.Module = handle.modules.heap;
    export { module, same };`;
  expect(complaints(hasWebAssembly ? code + ofThePlatform : code, options)).toEqual([]);
});
