// What scenarios are made of: calls, and the states of a cache that calls bring about.

import { BASE } from "./heap.mjs";
import { constants as c, structs } from "./layout.mjs";

export const FIRST_PAGE = BASE >> c.PAGE_SHIFT;
export const pageOf = (address) => address >>> c.PAGE_SHIFT;
export const freed = (block) => ["free", block];
/** Frees what step `i` of the same thread returned. */
export const freeOf = (i) => (results) => (results[i] ? freed(results[i]) : null);
export const malloc = (size) => ["malloc", size];
export const mallocAndFree = (size) => [malloc(size), freeOf(0)];
/** Frees what thread `id` returned from its step `i`, once it has; nothing if it died before. */
export const received = (id, i) => ({
  when: ({ threads, deaths }) => threads[id].next > i || deaths.includes(id),
  make: (_, { threads }) => (threads[id].next > i ? freed(threads[id].results[i]) : null),
});
export const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));

/** For the end of a scenario in which nobody else grows the memory: all of it is the heap's, or known to be lost. */
export function allPagesKnown(machine, field) {
  const pages = (machine.pages * 65536 - BASE) >> c.PAGE_SHIFT;
  const known = field("ownedPages") + field("lostPages");
  return known === pages ? null : `${known} of ${pages} pages are known`;
}

/** For the end of a scenario: who has seen the present epoch, and may not have died in the midst of that, is where its vCPU is. */
export function isUpToDate(machine, id) {
  const record = machine.view.getUint32(BASE + c.THREADS + 4 * id, true);
  const field = (name) => machine.view.getUint32(record + structs.Thread[name].offset, true);
  const node = machine.view.getUint8(BASE + c.VCPU_NODE + field("vcpu"));
  const seen = field("epoch") === machine.view.getUint32(BASE + structs.Heap.epoch.offset, true);
  return seen && field("node") !== node ? `thread ${id} is on node ${field("node")}, its vCPU on ${node}` : null;
}

/** Node in the label of the span that `block` lies in. */
export function nodeInLabel(machine, block) {
  const word = (at) => machine.view.getUint32(at, true);
  const header = word(word(BASE + c.ROOT) + c.LEAF_ENTRIES + 4 * pageOf(block));
  return (word(header) >> 8) & 0xff;
}

/** What is wrong with where the label of the large block says it lies: on the node that most of its pages are of. */
export function misplaced(machine, block) {
  const word = (at) => machine.view.getUint32(at, true);
  const leaf = word(BASE + c.ROOT);
  const pages = word(word(leaf + c.LEAF_ENTRIES + 4 * pageOf(block)) + structs.Span.pages.offset);
  const nodes = times(pages, (i) => machine.view.getUint8(leaf + c.LEAF_NODES + pageOf(block) + i));
  const label = nodeInLabel(machine, block);
  return 2 * nodes.filter((node) => node === label).length > pages
    ? null
    : `pages of block ${block} lie on nodes ${nodes}, its label says ${label}`;
}

/** For the end of a scenario in which no lock was out of reach: names a small span that has no block outside. */
export function idleSpan(machine) {
  const word = (at) => machine.view.getUint32(at, true);
  const entries = word(BASE + c.ROOT) + c.LEAF_ENTRIES;
  const { blocks } = structs.ClassInfo;
  for (let page = FIRST_PAGE; page < (machine.pages * 65536) >> c.PAGE_SHIFT; ++page) {
    const header = word(entries + 4 * page);
    if (header === 0 || header & 1 || word(header) >> 16 !== c.KIND_SMALL) continue;
    const info = BASE + c.CLASS_INFO + 16 * (word(header) & 0xff);
    if (word(header + structs.Span.free.offset) === word(info + blocks.offset)) return `the span at page ${page} is idle`;
  }
  return null;
}

/** Class of a size. */
function classOf(machine, size) {
  const byte = (at) => machine.view.getUint8(at);
  return size <= 1024 ? byte(BASE + ((size + 7) >> 3) + c.SIZE_TO_CLASS) : byte(BASE + ((size + 127) >> 7) + c.SIZE_TO_CLASS + 129);
}

/** { length, limit } of the cache list for `size` of the thread in slot `slot`. */
function cacheOf(machine, slot, size) {
  const word = (at) => machine.view.getUint32(at, true);
  const list = word(BASE + c.THREADS + 4 * slot) + c.THREAD_CACHE + 16 * classOf(machine, size);
  const head = word(list + structs.CacheList.head.offset);
  return { length: word(head + structs.CachedBlock.depth.offset), limit: word(list + structs.CacheList.limit.offset) };
}

/** Thread `id`'s list for `size` holds two batches and may not grow, since others have used the budget up; returns a block it holds beside. */
export function fill(call, machine, id, size, batch) {
  const blocks = times(2 * batch, () => call(id, "malloc", size));
  for (let other = 2048; other >= 16; other >>= 1) {
    // From refill to refill, as long as they raise the limit.
    for (let limit = -1; cacheOf(machine, id, other).limit > limit;) {
      limit = cacheOf(machine, id, other).limit;
      times(cacheOf(machine, id, other).length + 1, () => call(id, "malloc", other));
    }
  }
  blocks.push(...times(4 * batch, () => call(id, "malloc", size)));
  while (cacheOf(machine, id, size).length < cacheOf(machine, id, size).limit && blocks.length > 1) call(id, "free", blocks.pop());
  return blocks.pop();
}

/** Thread `id`'s list for `size` is empty and may be refilled with a whole batch. */
export function drain(call, machine, id, size, batch) {
  for (let i = 0; i < 16 * batch && !(cacheOf(machine, id, size).length === 0 && cacheOf(machine, id, size).limit >= 2 * batch); ++i)
    call(id, "malloc", size);
}

/**
 * Thread 0 has given a batch of blocks of 8 bytes to the transfer cache, where nobody has wanted it, and will see to that in its next slow path;
 * thread 1 may take it.
 */
export function neglectBatch(call, machine) {
  const size = 8;
  const word = (at) => machine.view.getUint32(at, true);
  drain(call, machine, 1, size, 32);
  call(0, "free", fill(call, machine, 0, size, 32));
  const central = word(word(BASE + c.ARENAS) + c.ARENA_CENTRALS + 4 * classOf(machine, size));
  const count = word(central + structs.Central.transferCount.offset);
  if (count === 0) throw new Error("the transfer cache is empty");
  machine.view.setUint32(central + structs.Central.transferLow.offset, count, true);
  machine.view.setUint32(word(BASE + c.THREADS) + structs.Thread.ticks.offset, 511, true);
}
