// Cold start: from an allocator's bytes to its first block, as a page has it that has just been loaded. Runs in a worker of any engine.
import { memoryOf, Stage } from "./stage.mjs";

/**
 * @param bytes of the allocator's modules: `heap`, and `create` for numaheap
 * @returns { ms, wrong }
 */
export function coldStart(subject, bytes) {
  // Not the allocator's doing: making a memory may wait until the engine has collected former ones.
  const memory = memoryOf(subject);
  const start = performance.now();
  const modules = Object.fromEntries(Object.entries(bytes).map(([role, code]) => [role, new WebAssembly.Module(code)]));
  const stage = new Stage(subject, modules, { memory, thread: 0, threads: 1, first: true, base: 0 });
  const block = subject.lists ? stage.heap.take(1) : stage.heap.malloc(16);
  const ms = performance.now() - start;
  stage.end();
  return { ms, wrong: block === 0 ? 1 : 0 };
}
