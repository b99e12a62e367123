// The allocators that numaheap is measured against. `npm.mjs` and `debian.sh` make them; `installed.mjs` says which of them are there.

/**
 * - `threads`: "many" may be used by one thread, too.
 * - `merged`: whether a driver can be merged with it, see merge.mjs.
 * - `region`: where the driver's own memory is. "low": the first 64 MiB, which the allocator leaves alone. "malloc": the module was built by others,
 *   with its data at the bottom; the driver has what malloc gives it.
 * - `alignment`: the largest that aligned_alloc keeps. mimalloc 2.0.9 takes any block whose size is a power of two up to 512 for one that is aligned to
 *   its size, but lets its pages begin 384 bytes late.
 * - `script`: it is JavaScript, which only JavaScript calls.
 * - `package`: what `version` is read from.
 */
export const RIVALS = [
  // The incremental runtime has the same allocator, instruction for instruction.
  { id: "as-minimal", title: "AssemblyScript TLSF", threads: "one", from: "npm", package: "assemblyscript" },
  { id: "as-minimal-lock", title: "AssemblyScript TLSF behind a spin lock", threads: "many", from: "npm", package: "assemblyscript" },
  { id: "emnapi-dlmalloc", title: "emnapi dlmalloc", threads: "one", from: "npm", package: "emnapi" },
  { id: "emnapi-emmalloc", title: "emnapi emmalloc", threads: "one", from: "npm", package: "emnapi" },
  { id: "emnapi-dlmalloc-mt", title: "emnapi dlmalloc, threads", threads: "many", from: "npm", package: "emnapi" },
  { id: "emnapi-emmalloc-mt", title: "emnapi emmalloc, threads", threads: "many", from: "npm", package: "emnapi" },
  {
    id: "wasm-vips-mimalloc",
    title: "wasm-vips' mimalloc",
    threads: "many",
    from: "npm",
    package: "wasm-vips",
    merged: false,
    region: "malloc",
  },
  { id: "thi-ng", title: "@thi.ng/malloc", threads: "one", from: "npm", package: "@thi.ng/malloc", merged: false, script: true },
  { id: "emscripten-dlmalloc", title: "Emscripten dlmalloc", threads: "one", from: "debian", package: "emscripten" },
  { id: "emscripten-emmalloc", title: "Emscripten emmalloc", threads: "one", from: "debian", package: "emscripten" },
  { id: "emscripten-dlmalloc-mt", title: "Emscripten dlmalloc, threads", threads: "many", from: "debian", package: "emscripten" },
  { id: "emscripten-emmalloc-mt", title: "Emscripten emmalloc, threads", threads: "many", from: "debian", package: "emscripten" },
  { id: "mimalloc", title: "mimalloc", threads: "one", from: "debian", package: "mimalloc", alignment: 128 },
  { id: "mimalloc-mt", title: "mimalloc, threads", threads: "many", from: "debian", package: "mimalloc", alignment: 128 },
  { id: "wasi-dlmalloc", title: "wasi-libc dlmalloc", threads: "one", from: "debian", package: "wasi-libc" },
  { id: "rust-dlmalloc", title: "Rust std's dlmalloc", threads: "one", from: "debian", package: "libstd-rust-dev-wasm32" },
].map((rival) => ({ merged: true, region: "low", alignment: 4096, ...rival }));

/** Allocators of native programs, by LD_PRELOAD. */
export const NATIVE = [
  { id: "glibc", title: "glibc", package: "libc6", preload: undefined },
  { id: "jemalloc", title: "jemalloc", package: "libjemalloc2", preload: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2" },
  {
    id: "tcmalloc",
    title: "tcmalloc_minimal",
    package: "libtcmalloc-minimal4",
    preload: "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
  },
  { id: "mimalloc", title: "mimalloc", package: "libmimalloc2.0", preload: "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2" },
];
