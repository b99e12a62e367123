// Metadata: zeroed structs out of whole pages, arenas, and span headers that are used again.

import {
  ARENA_SIZE,
  Arena,
  LONG_BITS,
  LONG_HEADER,
  MAX_NODES,
  PAGE_LONG_HEADERS,
  PAGE_METADATA,
  PAGE_OWNED,
  PAGE_SHORT_HEADERS,
  PAGE_SIZE,
  SHORT_BITS,
  SHORT_HEADER,
  Span,
} from "../../assembly/layout";
import { theHeap } from "../../assembly/instance";
import { arenaOf, entryOf, flagsOf, nodeOfPage, pageOf } from "../../assembly/page-map";
import { MAX_SMALL } from "../../assembly/size-class";
import { takeRun } from "../../assembly/free-run";
import { isLongHeader, makeArena, metadata, nextHeader, poolHeader, takeHeader } from "../../assembly/metadata";
import { malloc } from "../../assembly/malloc";
import { rebind, setNodeLimit } from "../../assembly/topology";
import { BASE, END, check, expectSound, fresh, freshGrowing } from "./rig";

function isZero(at: usize, bytes: u32): bool {
  for (let i: u32 = 0; i < bytes; i += 4) if (load<u32>(at + i)) return false;
  return true;
}

describe("metadata", () => {
  it("is zero, aligned to cache lines and handed out once", () => {
    fresh();
    let end: usize = 0;
    for (let i = 0; i < 300; ++i) {
      const bytes: u32 = 64 * (1 + (i % 20));
      const at = metadata(bytes);
      check(at != 0 && (at & 63) == 0, "not aligned");
      check(isZero(at, bytes), "not zero");
      check(at >= end || pageOf(at) != pageOf(end - 1), "handed out before");
      check((flagsOf(pageOf(at)) & PAGE_METADATA) != 0 && (flagsOf(pageOf(at + bytes - 1)) & PAGE_METADATA) != 0, "not metadata");
      memory.fill(at, 0xff, bytes);
      end = at + bytes;
    }
    expectSound();
  });

  it("comes in pages, from node 0 as long as that has any", () => {
    fresh();
    expect<i32>(rebind(pageOf(END) - 64, 64, 2)).toBe(0);
    const pages = theHeap().metadataPages;
    const free = theHeap().freePages;
    for (let i: u32 = 1; i <= 3; ++i) {
      expect<u32>(nodeOfPage(pageOf(metadata(PAGE_SIZE)))).toBe(0);
      expect<u32>(theHeap().metadataPages).toBe(pages + i);
      expect<u32>(theHeap().freePages).toBe(free - i);
    }
    while (takeRun(0, 1));
    expect<u32>(nodeOfPage(pageOf(metadata(PAGE_SIZE)))).toBe(2);
  });

  it("grows the memory when no page is free; no node's limit stands against it", () => {
    freshGrowing();
    expect<usize>(makeArena(1)).not.toBe(0);
    expect<i32>(setNodeLimit(0, 1)).toBe(0);
    while (takeRun(0, 1));
    const at = metadata(PAGE_SIZE);
    expect<usize>(at).not.toBe(0);
    expect<u32>(nodeOfPage(pageOf(at))).toBe(0);
  });

  it("is refused when there is no memory, and nothing has changed", () => {
    fresh();
    while (takeRun(0, 1));
    const next = theHeap().metaNext;
    const pages = theHeap().metadataPages;
    expect<usize>(metadata(PAGE_SIZE)).toBe(0);
    expect<usize>(takeHeader(1)).toBe(0);
    expect<usize>(takeHeader(LONG_BITS)).toBe(0);
    expect<u32>(theHeap().metaNext).toBe(next);
    expect<u32>(theHeap().metadataPages).toBe(pages);
  });
});

describe("arenas", () => {
  it("are made once, on the first use of their node", () => {
    fresh();
    for (let node: u32 = 0; node < MAX_NODES; ++node) {
      const arena = makeArena(node);
      expect<u32>(changetype<Arena>(arena).node).toBe(node);
      expect<usize>(arenaOf(node)).toBe(arena);
      expect<usize>(makeArena(node)).toBe(arena);
      if (node != 0) check(isZero(arena + 4, ARENA_SIZE - 4), "not empty");
    }
    expectSound();
  });

  it("that there is no memory for are not made", () => {
    fresh();
    while (takeRun(0, 1));
    let node: u32 = 1;
    while (makeArena(node)) ++node; // the metadata page under way has room for some
    expect<bool>(node < MAX_NODES).toBe(true);
    expect<usize>(arenaOf(node)).toBe(0);
  });
});

describe("span headers", () => {
  it("are short for up to 256 blocks and long for more, from pages of their own", () => {
    fresh();
    const short = takeHeader(SHORT_BITS);
    const long = takeHeader(SHORT_BITS + 1);
    expect<bool>(isLongHeader(short)).toBe(false);
    expect<bool>(isLongHeader(long)).toBe(true);
    expect<u32>(flagsOf(pageOf(short)) & (PAGE_OWNED | PAGE_SHORT_HEADERS)).toBe(PAGE_OWNED | PAGE_SHORT_HEADERS);
    expect<u32>(flagsOf(pageOf(long)) & (PAGE_OWNED | PAGE_LONG_HEADERS)).toBe(PAGE_OWNED | PAGE_LONG_HEADERS);
    expect<u32>(((<u32>short) & (PAGE_SIZE - 1)) % SHORT_HEADER).toBe(0);
    expect<u32>(((<u32>long) & (PAGE_SIZE - 1)) % LONG_HEADER).toBe(0);
    poolHeader(short, false);
    poolHeader(long, true);
    expectSound();
  });

  it("are zero however they were left, and used again before a page is taken", () => {
    fresh();
    for (let i = 0; i < 2; ++i) {
      const long = i == 1;
      const blocks = long ? LONG_BITS : 0;
      const header = takeHeader(blocks);
      const pages = theHeap().metadataPages;
      memory.fill(header + offsetof<Span>("start"), 0xff, (long ? LONG_HEADER : SHORT_HEADER) - 4);
      poolHeader(header, long);
      const again = takeHeader(blocks);
      expect<usize>(again).toBe(header);
      expect<bool>(isZero(again, long ? LONG_HEADER : SHORT_HEADER)).toBe(true);
      expect<u32>(theHeap().metadataPages).toBe(pages);
      poolHeader(again, long);
    }
    expectSound();
  });

  it("fill their pages before another is taken", () => {
    fresh();
    const before = theHeap().metadataPages;
    const headers: usize[] = [];
    for (let i: u32 = 0; i < PAGE_SIZE / SHORT_HEADER; ++i) headers.push(takeHeader(1));
    expect<u32>(theHeap().metadataPages).toBe(before + 1);
    for (let i: u32 = 0; i < PAGE_SIZE / LONG_HEADER; ++i) headers.push(takeHeader(LONG_BITS));
    expect<u32>(theHeap().metadataPages).toBe(before + 2);
    for (let i = 0; i < headers.length; ++i) poolHeader(headers[i], isLongHeader(headers[i]));
    expectSound();
  });

  it("are all found, one after the other, in use or not", () => {
    fresh();
    expect<usize>(nextHeader(0)).toBe(0);
    const blocks: usize[] = [malloc(8)]; // a long one
    for (let i = 0; i < 200; ++i) blocks.push(malloc(i & 1 ? 70_000 : MAX_SMALL)); // and more than a page of short ones
    const seen = new Set<usize>();
    let inUse = 0;
    for (let at = nextHeader(0); at; at = nextHeader(at)) {
      check(!seen.has(at), "found twice");
      seen.add(at);
      inUse += <i32>(changetype<Span>(at).label != 0);
    }
    const spans = new Set<u32>();
    for (let i = 0; i < blocks.length; ++i) if (blocks[i]) spans.add(entryOf(pageOf(blocks[i])));
    expect<i32>(inUse).toBe(spans.size);
    let room: u32 = 0;
    for (let page = pageOf(BASE); page < pageOf(END); ++page) {
      if (flagsOf(page) & PAGE_SHORT_HEADERS) room += PAGE_SIZE / SHORT_HEADER;
      if (flagsOf(page) & PAGE_LONG_HEADERS) room += PAGE_SIZE / LONG_HEADER;
    }
    expect<i32>(seen.size).toBe(room);
    expectSound();
  });
});
