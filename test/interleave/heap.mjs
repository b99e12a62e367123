// The heap's modules for simulated threads, and what must be true of a heap when everybody has stopped.

import { readFileSync } from "node:fs";
import { compile } from "./compile.mjs";
import { instrument } from "./instrument.mjs";
import { constants, nameIn, structs } from "./layout.mjs";
import { unclaimed } from "./ledger.mjs";

/** Where the heap of a scenario begins. */
export const BASE = 65536;

const problemNames = /enum Problem \{([\s\S]*?)\n\}/
  .exec(readFileSync(new URL("../../src/heap/problem-codes.ts", import.meta.url), "utf8"))[1]
  .replace(/\/\/.*$/gm, "")
  .split(",")
  .map((name) => name.trim())
  .filter(Boolean);

/** Compiles and instruments the heap. `sources` replaces files of it, `edit` the linear text of its release binary. */
export async function loadHeap({ sources, target = "release", edit = (binary) => binary } = {}) {
  const named = await compile("assembly/index.ts", { sources, target, named: true });
  return { ...instrument(edit(named)), ...(await tools()), heap: new WebAssembly.Module(named) };
}

let loaded;
async function tools() {
  loaded ??= {
    create: new WebAssembly.Module(await compile("assembly/create.ts")),
    inspect: new WebAssembly.Module(await compile("assembly/inspect.ts")),
  };
  return loaded;
}

/** Key of the thread that `attach`es as number `id`. */
export const keyOf = (id) => 101 + id;

/**
 * A scenario of Machine over a heap of `pages` Wasm pages that may grow by `growth` more (of which others may take some).
 * `threads`: specs of Thread, each also { attached: false } if it attaches itself, { vcpu }. `prepare(call, machine)` runs before
 * they start; `call(id, export, ...)` is a call by thread `id`. `expect(machine, heap)` adds a check of its own, `heap` a view of
 * the memory at the end.
 */
export function heapScenario(
  built,
  { pages = 2, growth = 0, nodes = 1, flags = 0, threads, prepare, expect, mayFail = false, lossless = false, timeouts },
) {
  const check = new EndCheck(built, { mayFail, lossless, expect, flags });
  return {
    memoryPages: 1 + pages + growth,
    initialPages: 1 + pages,
    timeouts,
    threads,
    setup(machine) {
      const limit = (pages + growth) * constants.PAGES_PER_GROWTH;
      instantiate(built.create, machine.memory).create(BASE, BASE + pages * 65536, limit, nodes, flags);
      machine.prelude = [];
      const call = (id, ...step) => {
        const result = machine.call(id, ...step);
        machine.prelude.push({ call: step, result });
        return result;
      };
      threads.forEach(({ attached = true, vcpu }, id) => {
        if (attached && !call(id, "attach", BASE, keyOf(id), vcpu ?? id, constants.THREAD_MAY_BLOCK))
          throw new Error(`thread ${id} cannot attach`);
      });
      prepare?.(call, machine);
    },
    check: (machine) => check.run(machine),
    nameOf: (address, machine) => nameIn(BASE, machine.words, address),
  };
}

function instantiate(module, memory, inspect) {
  return new WebAssembly.Instance(module, { env: { memory }, inspect }).exports;
}

/** The walk and what follows from it, on a copy of the memory. */
export class EndCheck {
  constructor(built, options) {
    Object.assign(this, { built, ...options });
    this.memories = new Map();
  }

  /** What is wrong with the heap now that nobody is inside it; null if nothing is. */
  run(machine) {
    const memory = this.memoryOf(machine.pages);
    new Uint8Array(memory.buffer).set(new Uint8Array(machine.memory.buffer, 0, machine.pages * 65536));
    return this.judge(machine, memory);
  }

  memoryOf(pages) {
    let memory = this.memories.get(pages);
    if (!memory || memory.buffer.byteLength !== pages * 65536) {
      memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
      this.memories.set(pages, memory);
    }
    return memory;
  }

  judge(machine, memory) {
    const ledger = unclaimed(machine, this);
    if (ledger.wrong) return ledger.wrong;
    const walk = this.walk(memory, ledger);
    if (walk.wrong) return walk.wrong;
    const words = new Int32Array(memory.buffer);
    const lost = words[(BASE + structs.Heap.lostPages.offset) >> 2];
    if (lost && (this.flags & constants.HEAP_GROWS_ALONE || !machine.deaths.length)) return `${lost} pages are lost`;
    const own = this.expect?.(machine, { words, memory });
    if (own) return own;
    return this.emptyOut(machine, memory, ledger, walk.missing);
  }

  walk(memory, ledger) {
    const found = [];
    const marks = new Set();
    const inspect = instantiate(this.built.inspect, memory, {
      mark: (at) => (marks.has(at) ? 0 : (marks.add(at), 1)),
      problem: (code, a, b, c) => void found.push({ name: problemNames[code], a: a >>> 0, b: b >>> 0, c: c >>> 0 }),
    });
    inspect.bind(BASE);
    inspect.walk();
    for (const block of ledger.live) inspect.hold(block);
    inspect.unaccounted();
    const missing = found.filter(({ name }) => name === "UNACCOUNTED");
    const others = found.filter(({ name }) => name !== "UNACCOUNTED");
    const excess = missing.filter(({ a }) => !ledger.inFlight.includes(a)).length - ledger.mayLose;
    if (others.length || excess > 0) {
      return {
        wrong: `walk: ${[...others, ...(excess > 0 ? missing : [])]
          .slice(0, 4)
          .map(({ name, a, b, c }) => `${name} ${a} ${b} ${c}`)
          .join("; ")}`,
      };
    }
    return { missing };
  }

  /** Everything goes on working, and all that is given back comes together again. */
  emptyOut(machine, memory, ledger, missing) {
    const heap = instantiate(this.built.heap, memory);
    if (!heap.attach(BASE, 7, 0, constants.THREAD_MAY_BLOCK)) return `nobody can attach any more: errno ${heap.errno()}`;
    const blocks = [24, 600, 5000, 20000].map((size) => heap.malloc(size) >>> 0);
    for (const block of [...blocks, ...ledger.live]) if (block) heap.free(block);
    for (const { id, status } of machine.threads) if (heap.reap(keyOf(id)) === -1) return `thread ${id} (${status}) cannot be reaped`;
    heap.malloc_trim(0);
    if (heap.detach() !== 0) return "cannot detach";
    const walk = this.walk(memory, { live: [], inFlight: ledger.inFlight, mayLose: ledger.mayLose });
    if (walk.wrong) return `after everything was freed: ${walk.wrong}`;
    const field = (name) => new Int32Array(memory.buffer)[(BASE + structs.Heap[name].offset) >> 2];
    const used = field("ownedPages") - field("freePages") - field("metadataPages");
    if (used > 0 && missing.length === 0) return `${used} pages stay in use after everything was freed`;
    return null;
  }
}
