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

/** { length, limit } of the cache list for `size` of the thread in slot `slot`. */
function cacheOf(machine, slot, size) {
  const word = (at) => machine.view.getUint32(at, true);
  const byte = (at) => machine.view.getUint8(at);
  const number = size <= 1024 ? byte(BASE + ((size + 7) >> 3) + c.SIZE_TO_CLASS) : byte(BASE + ((size + 127) >> 7) + c.SIZE_TO_CLASS + 129);
  const list = word(BASE + c.THREADS + 4 * slot) + c.THREAD_CACHE + 16 * number;
  const head = word(list + structs.CacheList.head.offset);
  return { length: word(head + structs.CachedBlock.depth.offset), limit: word(list + structs.CacheList.limit.offset) };
}

/** Thread `id`'s list for `size` is as long as it may be, at least a batch; returns a block it holds beside. */
export function fill(call, machine, id, size, batch) {
  const blocks = times(3 * batch, () => call(id, "malloc", size));
  for (let list = cacheOf(machine, id, size); list.limit < batch || list.length < list.limit; list = cacheOf(machine, id, size)) {
    if (blocks.length < 2) throw new Error("a call of the setup does not fill the list");
    call(id, "free", blocks.pop());
  }
  return blocks.pop();
}

/** Thread `id`'s list for `size` is empty and may be refilled with a whole batch. */
export function drain(call, machine, id, size, batch) {
  for (let i = 0; i < 8 * batch && !(cacheOf(machine, id, size).length === 0 && cacheOf(machine, id, size).limit >= batch); ++i)
    call(id, "malloc", size);
}
