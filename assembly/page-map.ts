// Page map: what is known about a page, in two levels. Memory that is not the heap's has a leaf of zeros, so
// that a lookup needs no bound and a wild pointer finds tag 0.

import {
  ARENAS,
  Arena,
  LEAF_ENTRIES,
  LEAF_FLAGS,
  LEAF_NODES,
  LEAF_PAGES,
  LEAF_SHIFT,
  LEAF_TAGS,
  NO_LEAF,
  PAGES_PER_GROWTH,
  PAGE_LIMIT,
  PAGE_SHIFT,
  ROOT,
} from "./layout";
import { heap } from "./instance";

const TAG_NODE: u32 = 11;
const TAG_CLASS: u32 = 4;

// Entry of a page (u32):
//   0            nothing starts or ends here
//   n << 2 | 1   first page of a free run of n pages (and the last, if n is 1)
//   n << 2 | 3   last page of a free run of n > 1 pages
//   else         address of the Span: first and last page of every span, every page of a small one

// @ts-ignore: decorator
@inline
export function pageOf(address: usize): u32 {
  return <u32>(address >> PAGE_SHIFT);
}

// @ts-ignore: decorator
@inline
export function addressOf(page: u32): usize {
  return (<usize>page) << PAGE_SHIFT;
}

/** A page beyond which the heap owns nothing. */
export function endOfPages(): u32 {
  return min<u32>(<u32>memory.size() * PAGES_PER_GROWTH, PAGE_LIMIT);
}

/** Leaf of `page`; the leaf of zeros where the heap owns nothing. */
// @ts-ignore: decorator
@inline
export function leafOf(page: u32): usize {
  return load<u32>(heap + ((page >> LEAF_SHIFT) << 2), ROOT);
}

/** The address tagOf answers from, for the page of `address`. */
// @ts-ignore: decorator
@inline
export function tagAt(address: usize): usize {
  // (address >> 23 << 2) and (page & 1023) << 1, in one shift each
  const leaf = <usize>load<u32>(heap + ((address >> (PAGE_SHIFT + LEAF_SHIFT)) << 2), ROOT);
  return leaf + ((address >> (PAGE_SHIFT - 1)) & (<usize>((LEAF_PAGES - 1) << 1)));
}

/**
 * Tag of the pages of a small span: node << 11 | class << 4, so that for the home node's pages the class is already the offset of
 * its cache list. No class is 0, so a tag of 0 is none.
 */
// @ts-ignore: decorator
@inline
export function tagFor(node: u32, c: u32): u32 {
  return (node << TAG_NODE) | (c << TAG_CLASS);
}
// @ts-ignore: decorator
@inline
export function nodeOfTag(tag: u32): u32 {
  return tag >> TAG_NODE;
}
// @ts-ignore: decorator
@inline
export function classOfTag(tag: u32): u32 {
  return (tag & ((1 << TAG_NODE) - 1)) >> TAG_CLASS;
}

/** Tag of the small span at `address`, else 0. */
// @ts-ignore: decorator
@inline
export function tagOf(address: usize): u32 {
  return load<u16>(tagAt(address), LEAF_TAGS);
}

// @ts-ignore: decorator
@inline
export function setTag(page: u32, tag: u32): void {
  store<u16>(tagAt(addressOf(page)), <u16>tag, LEAF_TAGS);
}

export function isOwnedLeaf(leaf: usize): bool {
  return leaf != heap + NO_LEAF;
}

export function entryOf(page: u32): u32 {
  const leaf = leafOf(page);
  if (!isOwnedLeaf(leaf)) return 0;
  return load<u32>(leaf + ((page & (LEAF_PAGES - 1)) << 2), LEAF_ENTRIES);
}

export function setEntry(page: u32, entry: u32): void {
  store<u32>(leafOf(page) + ((page & (LEAF_PAGES - 1)) << 2), entry, LEAF_ENTRIES);
}

export function flagsOf(page: u32): u32 {
  const leaf = leafOf(page);
  if (!isOwnedLeaf(leaf)) return 0;
  return load<u8>(leaf + (page & (LEAF_PAGES - 1)), LEAF_FLAGS);
}

/** Address of the flags of a page that the heap owns. */
export function flagsAt(page: u32): usize {
  return leafOf(page) + LEAF_FLAGS + (page & (LEAF_PAGES - 1));
}

export function setFlags(page: u32, flags: u32): void {
  store<u8>(leafOf(page) + (page & (LEAF_PAGES - 1)), <u8>flags, LEAF_FLAGS);
}

/** True node of a page the heap owns. */
export function nodeOfPage(page: u32): u32 {
  return atomic.load<u8>(leafOf(page) + (page & (LEAF_PAGES - 1)), LEAF_NODES);
}

export function setNodeOfPage(page: u32, node: u32): void {
  atomic.store<u8>(leafOf(page) + (page & (LEAF_PAGES - 1)), <u8>node, LEAF_NODES);
}

/** Address of the Arena of `node`, 0 if it has none yet. */
export function arenaOf(node: u32): usize {
  return atomic.load<u32>(heap + ((<usize>node) << 2), ARENAS);
}

/** Whether the node of `arena` may own `pages` (at least one) more; a limit of 0, which is none, becomes the largest by the subtraction. */
export function hasRoom(arena: usize, pages: u32): bool {
  const a = changetype<Arena>(arena);
  return a.ownedPages + pages - 1 <= a.limitPages - 1;
}
