// Central free list of one (node, class): its spans, fullest first, and its transfer cache. All of it under Central.lock.
//
// A block is inside its span (bit clear) or outside (bit set). Fullest first, so that nearly empty spans drain and go
// back to the page heap.

import {
  ARENA_CENTRALS,
  CENTRAL_LISTS,
  CachedBlock,
  Central,
  ClassInfo,
  KIND_SMALL,
  PAGE_SHIFT,
  SPAN_HEADER,
  Span,
  Thread,
} from "./layout";
import { nextRandom, sentinel, theHeap } from "./instance";
import { acquirePageHeap, releasePageHeap } from "./lock";
import { popBatch, pushBatch } from "./batches";
import { classInfo } from "./size-class";
import { addressOf, arenaOf, entryOf, pageOf } from "./page-map";
import { assertSpan } from "./invariants";
import { makeArena, metadata, nextHeader } from "./metadata";
import { classOfLabel, labelOf, loadLabel, makeSpan, nodeOfLabel, releaseSpan, setTags, takePages } from "./page-heap";

const CENTRAL_BYTES: u32 = 64;
/** A transfer cache holds at most 1/2^TRANSFER_SHIFT of what the heap owns, or TRANSFER_BYTES if that is more. */
const TRANSFER_SHIFT: u32 = 5;
const TRANSFER_BYTES: u32 = 256 * 1024;

/** Address of the Central of (node, class) if it exists, else 0. */
export function centralOf(node: u32, c: u32): usize {
  const arena = arenaOf(node);
  return arena ? <usize>atomic.load<u32>(arena + ((<usize>c) << 2), ARENA_CENTRALS) : 0;
}

/** No address of a Central: the lock that making it takes is out of reach. */
export const OUT_OF_REACH: usize = 1;

/** Central of (node, class), made now if need be; 0 if there is no memory for it, or OUT_OF_REACH. */
export function makeCentral(node: u32, c: u32): usize {
  let central = centralOf(node, c);
  if (central) return central;
  if (!acquirePageHeap()) return OUT_OF_REACH;
  const arena = makeArena(node);
  if (arena) {
    central = centralOf(node, c);
    if (!central) {
      central = metadata(CENTRAL_BYTES);
      if (central) {
        changetype<Central>(central).id = (node << 8) | c;
        atomic.store<u32>(arena + ((<usize>c) << 2), <u32>central, ARENA_CENTRALS);
      }
    }
  }
  releasePageHeap();
  return central;
}

/** Label of the spans of a central list. */
export function labelOfCentral(central: usize): u32 {
  return labelOf(KIND_SMALL, 0, 0) | changetype<Central>(central).id;
}

// ---- occupancy lists

function listAt(central: usize, list: u32): usize {
  return central + offsetof<Central>("list0") + (list << 2);
}

/** 1 + the list that a count of free blocks calls for; 0 = none: the span is full. */
function listFor(free: u32): u32 {
  return min<u32>(32 - clz(free), CENTRAL_LISTS);
}

/** Puts the span into list `list` - 1, into none if that is 0. */
function link(central: usize, header: usize, list: u32): void {
  if (list == 0) return;
  const span = changetype<Span>(header);
  const at = listAt(central, list - 1);
  const head = load<u32>(at);
  span.next = head;
  span.previous = 0;
  if (head) changetype<Span>(<usize>head).previous = <u32>header;
  store<u32>(at, <u32>header);
  span.list = list;
}

function unlink(central: usize, header: usize): void {
  const span = changetype<Span>(header);
  if (span.list == 0) return;
  if (span.next) changetype<Span>(<usize>span.next).previous = span.previous;
  if (span.previous) changetype<Span>(<usize>span.previous).next = span.next;
  else store<u32>(listAt(central, span.list - 1), span.next);
  span.list = 0;
}

function recount(central: usize, header: usize, free: u32): void {
  const span = changetype<Span>(header);
  span.free = free;
  if (isDefined(DEBUG_BUILD)) assertSpan(header, classInfo(changetype<Central>(central).id & 0xff));
  const list = listFor(free);
  if (span.list == list) return;
  unlink(central, header);
  link(central, header, list);
}

/** Adds a span that carries this list's label. */
export function adopt(central: usize, header: usize): void {
  link(central, header, listFor(changetype<Span>(header).free));
  changetype<Central>(central).spans += 1;
}

/** Takes a span off the lists, before its label changes. */
export function disown(central: usize, header: usize): void {
  unlink(central, header);
  changetype<Central>(central).spans -= 1;
}

// ---- blocks out

/** The fullest span with a free block, 0 if there is none. */
function fullest(central: usize): usize {
  for (let list: u32 = 0; list < CENTRAL_LISTS; ++list) {
    const header = <usize>load<u32>(listAt(central, list));
    if (header) return header;
  }
  return 0;
}

export function hasFreeBlocks(central: usize): bool {
  return fullest(central) != 0;
}

/** A new span for this list, 0 if its node has no pages. */
function newSpan(central: usize, info: ClassInfo): usize {
  if (!acquirePageHeap()) return 0;
  const label = labelOfCentral(central);
  const page = takePages(nodeOfLabel(label), info.pages, true);
  const header = page ? makeSpan(page, info.pages, label, info.blocks) : 0;
  releasePageHeap();
  if (header) adopt(central, header);
  return header;
}

/**
 * Takes up to `want` blocks out of the spans into the carry of record `t`, linked as a cache list is. The carry names a block before its bit is set.
 */
export function takeBlocks(central: usize, t: usize, want: u32): u32 {
  const info = classInfo(changetype<Central>(central).id & 0xff);
  const record = changetype<Thread>(t);
  record.carryEnd = <u32>sentinel();
  let chain = sentinel();
  let taken: u32 = 0;
  while (taken < want) {
    let header = fullest(central);
    if (!header && taken == 0) header = newSpan(central, info);
    if (!header) break;
    const span = changetype<Span>(header);
    const first = addressOf(span.start);
    const words = (info.blocks + 63) >> 6;
    const had = taken;
    let left = min<u32>(want - taken, span.free);
    for (let word: u32 = 0; left != 0 && word < words; ++word) {
      const at = header + (word << 3);
      let free = ~load<u64>(at, SPAN_HEADER);
      const beyond = <i32>info.blocks - <i32>(word << 6);
      if (beyond < 64) free &= ((<u64>1) << beyond) - 1;
      if (isDefined(HARDENED_BUILD)) free = scatter(free);
      let bits: u64 = 0;
      for (; free != 0 && left != 0; --left) {
        const bit = free & -free;
        const block = first + (<u32>ctz(free) + (word << 6)) * info.size;
        changetype<CachedBlock>(block).next = <u32>chain;
        changetype<CachedBlock>(block).depth = ++taken;
        chain = block;
        bits |= bit;
        free ^= bit;
      }
      if (bits) {
        atomic.store<u32>(t, <u32>chain, offsetof<Thread>("carry"));
        store<u64>(at, load<u64>(at, SPAN_HEADER) | bits, SPAN_HEADER);
      }
    }
    recount(central, header, span.free - (taken - had));
  }
  return taken;
}

/** A random half of the free blocks, if that leaves any: the hardened build makes the next address hard to guess. */
function scatter(free: u64): u64 {
  const some = free & nextRandom();
  return some ? some : free;
}

// ---- blocks back

/** Header of the small span a block lies in. */
export function spanOf(block: usize): usize {
  return entryOf(pageOf(block));
}

/** Index of a block in its span. */
export function indexOf(header: usize, block: usize, info: ClassInfo): u32 {
  return <u32>((<u64>(block - addressOf(changetype<Span>(header).start)) * info.reciprocal) >> 32);
}

/** Clears the block's bit; true if that changed it. */
function clearBit(header: usize, block: usize, info: ClassInfo): bool {
  const index = indexOf(header, block, info);
  const at = header + ((index >> 6) << 3);
  const bits = load<u64>(at, SPAN_HEADER);
  const bit = (<u64>1) << (index & 63);
  store<u64>(at, bits & ~bit, SPAN_HEADER);
  return (bits & bit) != 0;
}

/**
 * Returns the leading blocks of record `t`'s carry that belong to this list, at most `most` of them. Doing it again from the same carry
 * changes nothing, as long as the lock was held throughout: so a reaper finishes it by doing it.
 */
export function returnBlocks(central: usize, t: usize, most: u32): void {
  const record = changetype<Thread>(t);
  const label = labelOfCentral(central);
  const info = classInfo(classOfLabel(label));
  const end = record.carryEnd;
  let block: usize = record.carry;
  let empty: usize = 0;
  let count: u32 = 0;
  while (block != 0 && block != end && count < most) {
    const header = spanOf(block);
    if (loadLabel(header) != label) break;
    const next = load<u32>(block);
    if (clearBit(header, block, info)) {
      const span = changetype<Span>(header);
      if (span.free + 1 < info.blocks) {
        recount(central, header, span.free + 1);
      } else {
        // Released only after the carry has left its blocks behind: other threads may write to them then.
        span.free += 1;
        disown(central, header);
        span.next = <u32>empty;
        empty = header;
      }
    }
    block = next;
    ++count;
  }
  record.returnedBlocks += count;
  atomic.store<u32>(t, block == end ? 0 : <u32>block, offsetof<Thread>("carry"));
  if (empty) releaseSpans(central, empty);
}

function releaseSpans(central: usize, empty: usize): void {
  const locked = acquirePageHeap();
  while (empty) {
    const next = changetype<Span>(empty).next;
    if (locked) releaseSpan(empty);
    else adopt(central, empty); // a later return releases it
    empty = next;
  }
  if (locked) releasePageHeap();
}

/** Releases the spans that are all inside. A death, or a thread that may not sleep, can leave some listed. */
export function releaseIdleSpans(central: usize): void {
  const blocks = classInfo(changetype<Central>(central).id & 0xff).blocks;
  const list = listAt(central, listFor(blocks) - 1);
  let empty: usize = 0;
  for (let at: usize = load<u32>(list); at;) {
    const next: usize = changetype<Span>(at).next;
    if (changetype<Span>(at).free == blocks) {
      disown(central, at);
      changetype<Span>(at).next = <u32>empty;
      empty = at;
    }
    at = next;
  }
  if (empty) releaseSpans(central, empty);
}

// ---- transfer cache

/** Whether one more batch may be kept. */
export function hasTransferRoom(central: usize, info: ClassInfo): bool {
  const bytes = (changetype<Central>(central).transferCount + 1) * info.batch * info.size;
  return bytes <= max<u32>(TRANSFER_BYTES, (theHeap().ownedPages << PAGE_SHIFT) >> TRANSFER_SHIFT);
}

/** Moves record `t`'s carry, a chain of one batch, into the transfer cache. */
export function putBatch(central: usize, t: usize): void {
  pushBatch(central + offsetof<Central>("transferHead"), t);
  changetype<Central>(central).transferCount += 1;
}

/** Moves a batch out of the transfer cache into record `t`'s carry; false if there is none. */
export function takeBatch(central: usize, t: usize): bool {
  if (!popBatch(central + offsetof<Central>("transferHead"), t)) return false;
  const c = changetype<Central>(central);
  c.transferCount -= 1;
  c.transferLow = min<u32>(c.transferLow, c.transferCount);
  return true;
}

// ---- after a death

/** Rebuilds what is not truth: counts, occupancy lists, tags. The page heap is intact. Looks at every span header. */
export function rebuildCentral(central: usize): void {
  const c = changetype<Central>(central);
  const label = labelOfCentral(central);
  const info = classInfo(classOfLabel(label));
  memory.fill(listAt(central, 0), 0, CENTRAL_LISTS * 4);
  c.spans = 0;
  let batches: u32 = 0;
  for (let batch: usize = c.transferHead; batch; batch = load<u32>(batch, 4)) ++batches;
  c.transferCount = batches;
  c.transferLow = 0;
  for (let at = nextHeader(0); at; at = nextHeader(at)) {
    if (loadLabel(at) != label) continue;
    const span = changetype<Span>(at);
    let outside: u32 = 0;
    for (let word: u32 = 0; word < info.blocks; word += 64) outside += <u32>popcnt(load<u64>(at + (word >> 3), SPAN_HEADER));
    span.free = info.blocks - outside;
    span.list = 0;
    adopt(central, at);
    setTags(at, label);
  }
}
