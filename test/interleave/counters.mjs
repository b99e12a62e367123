// What the statistics must add up to when nobody has died: each is advanced by one instruction, so none may be missing.

import { constants as c, structs } from "./layout.mjs";

/** Calls that start a thread's counters anew. */
const EXCEPTIONS = new Set(["detach"]);

/** What is wrong with the counters of the heap at `base`; null if nothing is. */
export function wrongCounters(machine, memory, base) {
  const calls = [...machine.prelude.map(({ call }) => call), ...machine.threads.flatMap(({ history }) => history)];
  if (machine.deaths.length || calls.some((call) => call && EXCEPTIONS.has(call[0]))) return null;
  const view = new DataView(memory.buffer);
  const records = structsAt(view, base + c.THREADS, 16, "Thread");
  const arenas = structsAt(view, base + c.ARENAS, 4, "Arena");
  const of = (readers, ...names) => readers.flatMap((read) => names.map(read)).reduce((sum, count) => sum + count, 0);
  const equal = [
    ["fetched", of(arenas, "numaHit", "numaMiss"), of(records, "refilledBlocks", "largeAllocations")],
    ["numaMiss and numaForeign", of(arenas, "numaMiss"), of(arenas, "numaForeign")],
    ["localNode", of(arenas, "localNode"), of(records, "localBlocks")],
    ["records", view.getUint32(base + structs.Heap.records.offset, true), records.length],
  ];
  const wrong = equal.find(([, have, want]) => have !== want);
  return wrong ? `counters: ${wrong[0]} ${wrong[1]}, wanted ${wrong[2]}` : null;
}

/** Sums a counter of the arenas of the heap at `base` over all nodes. */
export function sumOf(memory, base, name) {
  return structsAt(new DataView(memory.buffer), base + c.ARENAS, 4, "Arena").reduce((sum, read) => sum + read(name), 0);
}

/** Readers of the counters, by name, of the structs that a table of `count` addresses leads to. */
function structsAt(view, table, count, struct) {
  const addresses = Array.from({ length: count }, (_, i) => view.getUint32(table + 4 * i, true)).filter(Boolean);
  return addresses.map((address) => (field) => Number(view.getBigUint64(address + structs[struct][field].offset, true)));
}
