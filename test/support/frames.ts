// Frame tables for tests: the memory of a small virtual machine, all of it free but for the kernel's own.
import { FrameTable, OWNER_FREE, OWNER_KERNEL, OWNER_NONE } from "../../src/guest/frame-table.js";
import { type VmLayout, vmLayout } from "../../src/hypervisor/vm-layout.js";

const WASM_PAGE = 65536;

export interface Machine {
  readonly memory: WebAssembly.Memory;
  readonly layout: VmLayout;
  readonly table: FrameTable;
}

/** A memory of `frames` frames, a multiple of 8, as a hypervisor hands it over: zero. */
export function bareMemory(frames: number): Machine {
  const pages = (frames * 8192) / WASM_PAGE;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const layout = vmLayout(frames);
  return { memory, layout, table: new FrameTable(memory.buffer as unknown as SharedArrayBuffer, layout) };
}

/** The same with its frames marked, each on the node `nodeOf` says. */
export function bootedMemory(frames: number, nodeOf: (gfn: number) => number): Machine {
  const machine = bareMemory(frames);
  const { table, layout } = machine;
  for (let gfn = 0; gfn < frames; ++gfn) {
    table.setNode(gfn, nodeOf(gfn));
    table.transfer(gfn, OWNER_NONE, gfn < layout.kernelFrames ? OWNER_KERNEL : OWNER_FREE);
  }
  return machine;
}
