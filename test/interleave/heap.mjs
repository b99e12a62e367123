// The heap's modules for simulated threads, and what must be true of a heap when everybody has stopped.

import { readFileSync } from "node:fs";
import { cached, compile } from "./compile.mjs";
import { sumOf, wrongCounters } from "./counters.mjs";
import { instrument } from "./instrument.mjs";
import { assemble, disassemble } from "./linear.mjs";
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

const dist = (name) => readFileSync(new URL(`../../dist/${name}.wasm`, import.meta.url));
const anonymous = (lines) => lines.map((line) => line.replace(/\$[^\s)]+/g, "$")).join("\n");

/** Linear text of dist/heap.wasm, with the names of functions, which a release has no more. */
export async function releaseText() {
  const released = disassemble(dist("heap"));
  const { bytes } = await cached("named heap", async () => ({ bytes: await compile("assembly/index.ts") }));
  const named = disassemble(bytes);
  if (anonymous(named) !== anonymous(released)) throw new Error("dist/heap.wasm is not what the sources compile to: run `npm run build`");
  return named;
}

/** The heap's modules; the heap itself from linear text, instrumented. What uses it on at the end is made of `sound` text. */
export function loadHeap(lines, sound = lines) {
  const instrumented = instrument(lines);
  const module = (bytes) => new WebAssembly.Module(bytes);
  return {
    ...instrumented,
    module: module(instrumented.bytes),
    heap: module(assemble(sound)),
    create: module(dist("create")),
    inspect: module(dist("inspect")),
  };
}

/** Key of the thread that `attach`es as number `id`. */
export const keyOf = (id) => 101 + id;

const BUSY = 0xffffffff;
/** Comes when somebody has died, and reaps whoever has, as often as it takes. */
const reaper = (deaths, immortal) => ({
  vcpu: 0,
  dormant: true,
  immortal,
  steps: Array.from({ length: deaths }, (_, i) => ({
    make: (_, machine) => ["reap", keyOf(machine.deaths[i])],
    again: (result) => result === BUSY,
  })),
});

/**
 * A scenario of Machine, with up to `kills` deaths of its mortal threads and their reapers, from one of scenarios.mjs:
 * { pages = 2: Wasm pages of the heap, growth = 0: more that it and others may take, nodes = 1, flags = 0, timeouts, mayFail: allocations may fail,
 * prepare(call, machine)?, threads, expect(machine, field, sum)?: what else is wrong at an end }. `field` reads a word of the Heap, `sum` adds up a counter of
 * the arenas. `prepare` makes calls, call(id, export, ...), before the threads start. `threads` are specs of Thread whose
 * steps may be a function of what `prepare` answered, each also { vcpu, attached = true, flags = 1: those of attach, mortal }.
 */
export function heapScenario(
  built,
  { pages = 2, growth = 0, nodes = 1, flags = 0, timeouts, mayFail, prepare, threads, expect },
  kills = 0,
) {
  const check = new EndCheck(built, { mayFail, flags, expect });
  const outline = threads.map((spec) => ({ ...spec, immortal: !spec.mortal }));
  for (let i = 1; i <= kills; ++i) outline.push(reaper(i, i === kills));
  return {
    memoryPages: 1 + pages + growth,
    initialPages: 1 + pages,
    timeouts,
    threads: outline,
    setup(machine) {
      const limit = (pages + growth) * constants.PAGES_PER_GROWTH;
      instantiate(built.create, machine.memory).create(BASE, BASE + pages * 65536, limit, nodes, flags);
      machine.prelude = [];
      const call = (id, ...step) => {
        const result = machine.call(id, ...step);
        machine.prelude.push({ call: step, result });
        return result;
      };
      outline.forEach(({ attached = true, vcpu, flags: own = constants.THREAD_MAY_BLOCK }, id) => {
        if (attached && !call(id, "attach", BASE, keyOf(id), vcpu, own)) throw new Error(`thread ${id} cannot attach`);
      });
      const state = prepare?.(call, machine);
      threads.forEach(({ steps }, id) => (outline[id].steps = typeof steps === "function" ? steps(state) : steps));
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
    const field = (name) => new Int32Array(memory.buffer)[(BASE + structs.Heap[name].offset) >> 2];
    const lost = field("lostPages");
    if (lost && (this.flags & constants.HEAP_GROWS_ALONE || !machine.deaths.length)) return `${lost} pages are lost`;
    const wrong = wrongCounters(machine, memory, BASE) ?? this.expect?.(machine, field, (name) => sumOf(memory, BASE, name));
    if (wrong) return wrong;
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
