// WebAssembly's own types as the public interface names them: the platform's where the project has them (by the DOM library or newer
// @types/node), and what a heap needs of them where it has not. So the declarations hold in every project.

/** A WebAssembly.Memory. */
export type WasmMemory = typeof globalThis extends { WebAssembly: { Memory: { prototype: infer Memory } } }
  ? Memory
  : { readonly buffer: ArrayBufferLike; grow(pages: number): number };

/** A compiled WebAssembly.Module. */
export type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer Module } } } ? Module : object;
