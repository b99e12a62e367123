// The page map: what is known of every page, and that nothing is of those which are not the heap's.

import {
  LEAF_PAGES,
  LEAF_SHIFT,
  MAX_CLASSES,
  MAX_NODES,
  NO_LEAF,
  PAGE_LIMIT,
  PAGE_OWNED,
  PAGE_SHIFT,
  PAGE_SIZE,
} from "../../assembly/layout";
import { heap, nextRandom } from "../../assembly/instance";
import { CLASSES, MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import {
  addressOf,
  arenaOf,
  classOfTag,
  entryOf,
  flagsOf,
  isOwnedLeaf,
  leafOf,
  nodeOfPage,
  nodeOfTag,
  pageOf,
  setEntry,
  setFlags,
  setNodeOfPage,
  setTag,
  tagAt,
  tagFor,
  tagOf,
} from "../../assembly/page-map";
import { spanOf } from "../../assembly/central";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import { BASE, END, check, expectOnly, expectSound, fresh, freshGrowing, freshSpread } from "./rig";

describe("pages", () => {
  it("are numbers of 8 KiB, up to the last one below 4 GiB", () => {
    expect<u32>(pageOf(0)).toBe(0);
    expect<u32>(pageOf(PAGE_SIZE - 1)).toBe(0);
    expect<u32>(pageOf(PAGE_SIZE)).toBe(1);
    expect<u32>(pageOf(0xffff_ffff)).toBe(PAGE_LIMIT);
    for (let page: u32 = 1; page != 0 && page <= PAGE_LIMIT; page = page * 2 + 1) expect<u32>(pageOf(addressOf(page))).toBe(page);
  });

  it("have arenas only on nodes that have been used", () => {
    fresh();
    expect<usize>(arenaOf(0)).not.toBe(0);
    for (let node: u32 = 1; node < MAX_NODES; ++node) expect<usize>(arenaOf(node)).toBe(0);
  });
});

describe("tags", () => {
  it("keep node and class apart, fit 16 bits and are 0 for nobody", () => {
    for (let node: u32 = 0; node < MAX_NODES; ++node) {
      for (let c: u32 = 1; c < MAX_CLASSES; ++c) {
        const tag = tagFor(node, c);
        check(nodeOfTag(tag) == node && classOfTag(tag) == c, "another node or class");
        check(tag != 0 && tag < 0x10000, "no tag");
      }
    }
  });

  it("are 0 wherever an address of 4 GiB leads that is not a small span's", () => {
    fresh();
    const large = malloc(100_000);
    for (let page: u32 = 0; page <= PAGE_LIMIT; ++page) check(tagOf(addressOf(page) + (page & (PAGE_SIZE - 1))) == 0, "a tag");
    expect<u32>(tagOf(0xffff_ffff)).toBe(0);
    expect<u32>(tagOf(BASE)).toBe(0);
    expectOnly([large]);
  });

  it("are on every page of a small span of any class, and gone with it", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      const block = malloc(info.size);
      for (let at = block; at < block + info.size; at += 8) check(tagOf(at) == tagFor(0, c), "another tag");
      check(entryOf(pageOf(block)) == <u32>spanOf(block), "another entry");
      free(block);
    }
    expectOnly([]);
  });

  it("name the node of the span", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let node: u32 = 0; node < 4; ++node) {
      const block = mallocOnNode(MAX_SMALL, node);
      expect<u32>(tagOf(block)).toBe(tagFor(node, classOf(MAX_SMALL)));
      blocks.push(block);
    }
    expectOnly(blocks);
  });

  it("are found in the leaf of the page", () => {
    fresh();
    for (let i = 0; i < 1000; ++i) {
      const address = <usize>nextRandom();
      check(tagAt(address) == leafOf(pageOf(address)) + (pageOf(address) & (LEAF_PAGES - 1)) * 2, "elsewhere");
    }
  });
});

describe("leaves", () => {
  it("are the heap's where it owns pages, and one of zeros elsewhere", () => {
    fresh();
    for (let i: u32 = 0; i < (PAGE_LIMIT >> LEAF_SHIFT) + 1; ++i) {
      const leaf = leafOf(i << LEAF_SHIFT);
      const owned = i <= pageOf(END - 1) >> LEAF_SHIFT;
      check(isOwnedLeaf(leaf) == owned, "a leaf that should not be");
      if (!owned) check(leaf == heap + NO_LEAF, "not the leaf of zeros");
    }
    expectSound();
  });

  it("come as the memory grows", () => {
    freshGrowing();
    const beyond = (pageOf((<usize>memory.size()) << 16) | (LEAF_PAGES - 1)) + 1;
    expect<bool>(isOwnedLeaf(leafOf(beyond))).toBe(false);
    const block = malloc((LEAF_PAGES + 1) << PAGE_SHIFT);
    expect<bool>(isOwnedLeaf(leafOf(beyond))).toBe(true);
    expect<u32>(flagsOf(pageOf(block) + LEAF_PAGES) & PAGE_OWNED).toBe(PAGE_OWNED);
    expectOnly([block]);
  });

  it("hold tag, entry, node and flags of each page apart", () => {
    fresh();
    const first = pageOf(END) - 64; // free pages of one run, whose own words come back in the end
    const entry = entryOf(first + 63);
    for (let i: u32 = 0; i < 64; ++i) {
      setTag(first + i, i + 1);
      setEntry(first + i, 0x1_0000 + i);
      setNodeOfPage(first + i, i & 31);
      setFlags(first + i, 0x80 | i);
    }
    for (let i: u32 = 0; i < 64; ++i) {
      check(tagOf(addressOf(first + i)) == i + 1, "tag");
      check(entryOf(first + i) == 0x1_0000 + i, "entry");
      check(nodeOfPage(first + i) == (i & 31), "node");
      check(flagsOf(first + i) == (0x80 | i), "flags");
    }
    for (let i: u32 = 0; i < 64; ++i) {
      setTag(first + i, 0);
      setEntry(first + i, i == 63 ? entry : 0);
      setNodeOfPage(first + i, 0);
      setFlags(first + i, PAGE_OWNED);
    }
    expectSound();
  });

  it("know nothing of pages that are not the heap's", () => {
    fresh();
    for (let i = 0; i < 1000; ++i) {
      const page = (<u32>nextRandom()) & PAGE_LIMIT;
      if (page >= pageOf(BASE) && page < pageOf(END)) continue;
      check(entryOf(page) == 0 && flagsOf(page) == 0, "something");
    }
  });
});
