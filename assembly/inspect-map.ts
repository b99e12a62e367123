// Reading a heap that may be corrupt: nothing here follows an address it has not checked, and nothing is written.

import {
  ARENAS,
  ARENA_CENTRALS,
  Arena,
  Central,
  ClassInfo,
  KIND_LARGE,
  KIND_SMALL,
  LEAF_BYTES,
  LEAF_ENTRIES,
  LEAF_FLAGS,
  LEAF_NODES,
  LEAF_PAGES,
  LEAF_SHIFT,
  LEAF_TAGS,
  LONG_HEADER,
  MAX_NODES,
  NO_LEAF,
  PAGE_LIMIT,
  PAGE_LONG_HEADERS,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_SHIFT,
  PAGE_SHORT_HEADERS,
  PAGE_SIZE,
  ROOT,
  SHORT_HEADER,
  SPAN_HEADER,
  Span,
} from "./layout";
import { heap } from "./instance";
import { addressOf, pageOf } from "./page-map";
import { CLASSES, classInfo } from "./size-class";
import { classOfLabel, kindOf, nodeOfLabel } from "./page-heap";

/** The memory holds [at, at + bytes). */
export function inMemory(at: usize, bytes: u32): bool {
  return <u64>at + bytes <= (<u64>memory.size()) << 16;
}

/** First page the heap can own, and the page after the last. */
export function firstPage(): u32 {
  return pageOf(heap);
}
export function endPage(): u32 {
  return min<u32>((<u32>memory.size()) << (16 - PAGE_SHIFT), PAGE_LIMIT);
}

// ---- the page map

/** Leaf of `page`, 0 if it has none (or none that lies in the memory). */
export function leafAt(page: u32): usize {
  const leaf = <usize>load<u32>(heap + ((page >> LEAF_SHIFT) << 2), ROOT);
  return leaf == heap + NO_LEAF || !inMemory(leaf, LEAF_BYTES) ? 0 : leaf;
}
export function flagsAt(page: u32): u32 {
  const leaf = leafAt(page);
  return leaf ? load<u8>(leaf + (page & (LEAF_PAGES - 1)), LEAF_FLAGS) : 0;
}
export function entryAt(page: u32): u32 {
  const leaf = leafAt(page);
  return leaf ? atomic.load<u32>((leaf & ~3) + ((page & (LEAF_PAGES - 1)) << 2), LEAF_ENTRIES) : 0;
}
export function nodeAt(page: u32): u32 {
  const leaf = leafAt(page);
  return leaf ? atomic.load<u8>(leaf + (page & (LEAF_PAGES - 1)), LEAF_NODES) : 0;
}
export function tagOfPage(page: u32): u32 {
  const leaf = leafAt(page);
  return leaf ? load<u16>(leaf + ((page & (LEAF_PAGES - 1)) << 1), LEAF_TAGS) : 0;
}

/** Length of the free run whose first page is `page`, 0 if none is or it leaves the memory. */
export function runAt(page: u32): u32 {
  const entry = entryAt(page);
  if ((entry & 3) != 1) return 0;
  const pages = entry >> 2;
  return pages <= endPage() - page ? pages : 0;
}

// ---- metadata

/** Whether [at, at + bytes) lies within metadata that is not span headers. */
export function inMetadata(at: usize, bytes: u32): bool {
  if ((at & 7) != 0 || !inMemory(at, bytes)) return false;
  const last = pageOf(at + bytes - 1);
  for (let page = pageOf(at); page <= last; ++page) {
    if ((flagsAt(page) & (PAGE_METADATA | PAGE_SHORT_HEADERS | PAGE_LONG_HEADERS)) != PAGE_METADATA) return false;
  }
  return true;
}

/** Size of the span headers in `page`, 0 if there are none. */
export function headersIn(page: u32): u32 {
  const flags = page < endPage() ? flagsAt(page) : 0;
  if ((flags & PAGE_METADATA) == 0) return 0;
  return flags & PAGE_LONG_HEADERS ? LONG_HEADER : flags & PAGE_SHORT_HEADERS ? SHORT_HEADER : 0;
}

/** Whether a span header, in use or not, stands at `at`. */
export function isHeader(at: usize): bool {
  const size = headersIn(pageOf(at));
  const offset = (<u32>at) & (PAGE_SIZE - 1);
  return size != 0 && offset % size == 0 && offset + size <= PAGE_SIZE;
}

/** Arena of `node`, 0 if it has none that can be read. */
export function arenaAt(node: u32): usize {
  if (node >= MAX_NODES) return 0;
  const arena = <usize>atomic.load<u32>(heap + ((<usize>node) << 2), ARENAS);
  return arena != 0 && inMetadata(arena, offsetof<Arena>()) ? arena : 0;
}

/** Central list of (node, class), 0 if there is none that can be read. */
export function centralAt(node: u32, c: u32): usize {
  const arena = arenaAt(node);
  if (!arena) return 0;
  const central = <usize>atomic.load<u32>(arena + ((<usize>c) << 2), ARENA_CENTRALS);
  return central != 0 && inMetadata(central, offsetof<Central>()) ? central : 0;
}

// ---- spans and blocks

/** Whether the label is one that a span in use can have. */
export function isLabel(label: u32): bool {
  const kind = kindOf(label);
  const c = classOfLabel(label);
  if (nodeOfLabel(label) >= MAX_NODES) return false;
  return kind == KIND_SMALL ? c != 0 && c < CLASSES : kind == KIND_LARGE && c == 0;
}

/** Header of the span in use whose first page is `page`, 0 if there is none. */
export function spanStarting(page: u32): usize {
  const header = <usize>entryAt(page);
  if ((header & 3) != 0 || header == 0 || !isHeader(header)) return 0;
  const span = changetype<Span>(header);
  return isLabel(span.label) && span.start == page ? header : 0;
}

export function isSmall(header: usize): bool {
  return kindOf(changetype<Span>(header).label) == KIND_SMALL;
}

export function infoOf(header: usize): ClassInfo {
  return classInfo(classOfLabel(changetype<Span>(header).label));
}

/** Blocks of a small span, as far as its header has bits for them. */
export function blocksOf(header: usize): u32 {
  return min<u32>(infoOf(header).blocks, (headersIn(pageOf(header)) - SPAN_HEADER) << 3);
}

/** 64 bits of the bitmap from block `word` * 64 on, without those beyond `blocks`. */
export function outsideBits(header: usize, word: u32, blocks: u32): u64 {
  const bits = load<u64>(header + (word << 3), SPAN_HEADER);
  const left = blocks - (word << 6);
  return left < 64 ? bits & (((<u64>1) << left) - 1) : bits;
}

/** Blocks of a small span that are outside it. */
export function countOutside(header: usize): u32 {
  const blocks = blocksOf(header);
  let count: u32 = 0;
  for (let word: u32 = 0; word << 6 < blocks; ++word) count += <u32>popcnt(outsideBits(header, word, blocks));
  return count;
}

/** Size of the block outside its span, small or large, that starts at `at`; 0 if none does. */
export function blockAt(at: usize): u32 {
  const page = pageOf(at);
  if ((at & 7) != 0 || page >= endPage() || (flagsAt(page) & (PAGE_OWNED | PAGE_METADATA)) != PAGE_OWNED) return 0;
  const header = <usize>entryAt(page);
  if (header == 0 || (header & 3) != 0 || !isHeader(header)) return 0;
  const span = changetype<Span>(header);
  if (!isLabel(span.label) || page - span.start >= span.pages) return 0;
  if (!isSmall(header)) return at == addressOf(span.start) ? span.pages << PAGE_SHIFT : 0;
  const size = infoOf(header).size;
  const blocks = blocksOf(header);
  const offset = <u32>(at - addressOf(span.start));
  const index = size ? offset / size : blocks;
  if (index >= blocks || index * size != offset) return 0;
  return (outsideBits(header, index >> 6, blocks) >> (index & 63)) & 1 ? size : 0;
}

/** Class of a block that blockAt knows, 0 for a large one. */
export function classOfBlock(at: usize): u32 {
  return classOfLabel(changetype<Span>(<usize>entryAt(pageOf(at))).label);
}
