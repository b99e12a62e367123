// The compiled modules, from the files beside the package: read in Node, fetched in browsers.

import type { WasmModule } from "./wasm.js";

/** Compiled modules; they can be posted to other threads. */
export interface HeapModules {
  readonly heap: WasmModule;
  readonly inspect: WasmModule;
}

/** Which build of the allocator: `hardened` finds interior, double and late frees and overflows; `debug` asserts invariants and the lock order. */
export type HeapBuild = "release" | "hardened" | "debug";
export const BUILDS: readonly HeapBuild[] = ["release", "hardened", "debug"];

type ModuleName = HeapBuild | "guest" | "create" | "inspect";

const FILES: Record<ModuleName, URL> = {
  release: new URL("../heap.wasm", import.meta.url),
  hardened: new URL("../heap.hardened.wasm", import.meta.url),
  debug: new URL("../heap.debug.wasm", import.meta.url),
  guest: new URL("../heap.guest.wasm", import.meta.url),
  create: new URL("../create.wasm", import.meta.url),
  inspect: new URL("../inspect.wasm", import.meta.url),
};

/** First bytes of every module. */
const WASM_MAGIC = 0x6d73_6100;

const compiled = new Map<string, Promise<WasmModule>>();

/** Compiles one module, once. */
export function loadModule(name: ModuleName): Promise<WasmModule> {
  let module = compiled.get(name);
  if (!module) {
    module = bytesOf(FILES[name]).then((bytes) => WebAssembly.compile(bytes));
    compiled.set(name, module);
    module.catch(() => compiled.delete(name));
  }
  return module;
}

async function bytesOf(url: URL): Promise<BufferSource> {
  if (url.protocol === "file:") {
    const { readFile } = process.getBuiltinModule("node:fs/promises");
    return readFile(url);
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.href}: ${response.status} ${response.statusText}`);
  const bytes = await response.arrayBuffer();
  // A development server answers with its page for a path it does not know.
  if (bytes.byteLength < 4 || new DataView(bytes).getUint32(0, true) !== WASM_MAGIC) {
    throw new Error(
      `${url.href} is no WebAssembly module: does a bundler keep numaheap's files apart? For Vite: optimizeDeps: { exclude: ["numaheap"] }`,
    );
  }
  return bytes;
}
