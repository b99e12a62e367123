// The page heap: spans out of free runs and back, cut, lengthened, and rebuilt from what is truth.

import {
  Arena,
  HEAP_GROWS_ALONE,
  Heap,
  KIND_LARGE,
  KIND_SMALL,
  MAX_NODES,
  PAGE_FRESH,
  PAGE_OWNED,
  PAGE_TOUCHED,
  Span,
} from "../../assembly/layout";
import { heap, theHeap } from "../../assembly/instance";
import { RANK_PAGE_HEAP, acquire, release } from "../../assembly/lock";
import { CLASSES, MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import {
  addressOf,
  arenaOf,
  endOfPages,
  entryOf,
  flagsOf,
  nodeOfPage,
  pageOf,
  setEntry,
  setFlags,
  setTag,
  tagFor,
  tagOf,
} from "../../assembly/page-map";
import { fileFree, freeRunAt, takeRun } from "../../assembly/free-run";
import { makeArena } from "../../assembly/metadata";
import {
  classOfLabel,
  cutSpan,
  extendSpan,
  kindOf,
  labelOf,
  loadLabel,
  majority,
  makeSpan,
  nodeOfLabel,
  placePage,
  rebuildPageHeap,
  releaseSpan,
  spanAt,
  spanStart,
  takeMixedPages,
  takePages,
} from "../../assembly/page-heap";
import { free, malloc } from "../../assembly/malloc";
import { END, check, expectEmpty, expectOnly, expectSound, fresh, freshGrowing, freshSpread, makeHeaders } from "./rig";

const LARGE: u32 = KIND_LARGE << 16;

function largeSpanOf(pages: u32): usize {
  return makeSpan(takePages(0, pages, true), pages, LARGE, 0);
}

describe("labels", () => {
  it("keep kind, node and class apart, and are never 0", () => {
    for (let kind = KIND_SMALL; kind <= KIND_LARGE; ++kind) {
      for (let node: u32 = 0; node < MAX_NODES; ++node) {
        for (let c: u32 = 0; c < CLASSES; ++c) {
          const label = labelOf(kind, node, c);
          check(label != 0 && kindOf(label) == kind && nodeOfLabel(label) == node && classOfLabel(label) == c, "not as made");
        }
      }
    }
  });
});

describe("spans", () => {
  it("large, are known by their first and last page", () => {
    fresh();
    makeHeaders();
    const before = theHeap().freePages;
    const header = largeSpanOf(5);
    const start = changetype<Span>(header).start;
    expect<u32>(theHeap().freePages).toBe(before - 5);
    expect<usize>(spanAt(start)).toBe(header);
    expect<u32>(entryOf(start + 4)).toBe(<u32>header);
    for (let page = start; page < start + 5; ++page) {
      // Links of the free run stood in the first one.
      expect<u32>(flagsOf(page)).toBe(PAGE_OWNED | PAGE_TOUCHED | (page > start ? PAGE_FRESH : 0));
      expect<u32>(tagOf(addressOf(page))).toBe(0);
      expect<u32>(spanStart(page)).toBe(start);
      if (page > start) expect<usize>(spanAt(page)).toBe(0);
    }
    expectOnly([addressOf(start)]);
    releaseSpan(header);
    expect<usize>(spanAt(start)).toBe(0);
    expect<u32>(theHeap().freePages).toBe(before);
    expectSound();
  });

  it("small, are known and tagged on every page", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; c += 5) {
      const info = classInfo(c);
      const block = malloc(info.size); // makes the central list that the walk asks for
      const header = <usize>entryOf(pageOf(block));
      const start = changetype<Span>(header).start;
      expect<u32>(changetype<Span>(header).pages).toBe(info.pages);
      for (let page = start; page < start + info.pages; ++page) {
        check(entryOf(page) == <u32>header, "another entry");
        check(tagOf(addressOf(page)) == tagFor(0, c), "another tag");
      }
      free(block);
    }
    expectEmpty();
  });

  it("released give each page back to the node it lies on", () => {
    fresh();
    makeHeaders();
    expect<usize>(makeArena(1)).not.toBe(0);
    const header = largeSpanOf(6);
    const start = changetype<Span>(header).start;
    placePage(start + 1, 1);
    placePage(start + 2, 1);
    expect<u32>(changetype<Arena>(arenaOf(1)).ownedPages).toBe(2);
    releaseSpan(header);
    expect<u32>(changetype<Arena>(arenaOf(1)).freePages).toBe(2);
    expect<u32>(freeRunAt(start + 1)).toBe(2);
    expect<u32>(loadLabel(header)).toBe(0);
    expectSound();
  });

  it("that there is no header for leave their pages free", () => {
    fresh();
    const page = takeRun(0, 3);
    while (takeRun(0, 1));
    expect<usize>(makeSpan(page, 3, LARGE, 0)).toBe(0);
    expect<u32>(freeRunAt(page)).toBe(3);
    expect<u32>(theHeap().freePages).toBe(3);
  });

  it("are found from any page in them, and free runs as well", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 12; ++i) blocks.push(malloc(i & 1 ? 60_000 : MAX_SMALL));
    for (let i = 0; i < 12; ++i) {
      const first = pageOf(blocks[i]);
      const header = <usize>entryOf(first);
      const span = changetype<Span>(header);
      for (let page = span.start; page < span.start + span.pages; ++page) check(spanStart(page) == span.start, "another span");
    }
    expectOnly(blocks);
  });
});

describe("a large span", () => {
  it("is cut, and what was cut off joins what is free behind it", () => {
    fresh();
    makeHeaders();
    const header = largeSpanOf(10);
    const start = changetype<Span>(header).start;
    const before = theHeap().freePages;
    cutSpan(header, 4);
    expect<u32>(changetype<Span>(header).pages).toBe(4);
    expect<u32>(entryOf(start + 3)).toBe(<u32>header);
    expect<u32>(freeRunAt(start + 4)).toBe(before + 6);
    expectOnly([addressOf(start)]);
    cutSpan(header, 1);
    expect<u32>(entryOf(start)).toBe(<u32>header);
    expectOnly([addressOf(start)]);
  });

  it("is lengthened into the free pages behind it, by as many as it needs", () => {
    fresh();
    makeHeaders();
    const header = largeSpanOf(2);
    const start = changetype<Span>(header).start;
    const before = theHeap().freePages;
    expect<bool>(extendSpan(header, 7)).toBe(true);
    expect<u32>(changetype<Span>(header).pages).toBe(7);
    expect<u32>(theHeap().freePages).toBe(before - 5);
    expectOnly([addressOf(start)]);
    expect<bool>(extendSpan(header, 7 + theHeap().freePages)).toBe(true); // all there is
    expect<bool>(extendSpan(header, changetype<Span>(header).pages + 1)).toBe(false);
    expectOnly([addressOf(start)]);
  });

  it("is not lengthened over a span, nor over pages of another node", () => {
    fresh();
    makeHeaders();
    const header = largeSpanOf(2);
    const start = changetype<Span>(header).start;
    const next = largeSpanOf(1);
    expect<bool>(extendSpan(header, 3)).toBe(false);
    expectOnly([addressOf(start), addressOf(start + 2)]);
    expect<usize>(makeArena(1)).not.toBe(0);
    placePage(start + 2, 1);
    releaseSpan(next);
    expect<bool>(extendSpan(header, 3)).toBe(false);
    expect<u32>(changetype<Span>(header).pages).toBe(2);
    expectOnly([addressOf(start)]);
  });

  it("at the end of the memory is lengthened by growing it", () => {
    freshGrowing();
    const block = malloc(1 << 20);
    const header = spanAt(pageOf(block));
    const pages = changetype<Span>(header).pages;
    const more = endOfPages() - changetype<Span>(header).start + 20;
    expect<bool>(extendSpan(header, more)).toBe(true);
    expect<bool>(more > pages).toBe(true);
    expect<usize>(changetype<Span>(header).start).toBe(pageOf(block));
    expectOnly([block]);
  });
});

describe("pages", () => {
  it("belong to the node of most of them, in a tie to that of the first", () => {
    fresh();
    expect<usize>(makeArena(1)).not.toBe(0);
    expect<usize>(makeArena(2)).not.toBe(0);
    const page = takePages(0, 6, false);
    expect<u32>(majority(page, page + 6)).toBe(0);
    placePage(page + 1, 2);
    placePage(page + 2, 2);
    expect<u32>(majority(page, page + 4)).toBe(0); // 0 2 2 0
    expect<u32>(majority(page + 1, page + 5)).toBe(2); // 2 2 0 0
    expect<u32>(majority(page, page + 3)).toBe(2);
    placePage(page + 3, 1);
    placePage(page + 4, 1);
    expect<u32>(majority(page, page + 6)).toBe(0); // 0 2 2 1 1 0: two each
    placePage(page + 5, 1);
    expect<u32>(majority(page, page + 6)).toBe(1);
    expect<u32>(majority(page, page + 1)).toBe(0);
    fileFree(page, 6);
    expectSound();
  });

  it("are counted where they lie", () => {
    fresh();
    expect<usize>(makeArena(3)).not.toBe(0);
    const owned = changetype<Arena>(arenaOf(0)).ownedPages;
    const page = takePages(0, 2, false);
    placePage(page, 3);
    expect<u32>(nodeOfPage(page)).toBe(3);
    expect<u32>(changetype<Arena>(arenaOf(0)).ownedPages).toBe(owned - 1);
    expect<u32>(changetype<Arena>(arenaOf(3)).ownedPages).toBe(1);
    fileFree(page, 2);
    expectSound();
  });

  it("of a node are grown only where that is asked for", () => {
    freshGrowing();
    const size = memory.size();
    expect<u32>(takePages(1, 1, false)).toBe(0);
    expect<i32>(memory.size()).toBe(size);
    const page = takePages(1, 9, true);
    expect<u32>(nodeOfPage(page)).toBe(1);
    expect<bool>(memory.size() > size).toBe(true);
    fileFree(page, 9);
    expectSound();
  });

  it("of a span are fresh if nobody has touched them, wherever it begins and ends", () => {
    fresh();
    makeHeaders();
    const ROOM: u32 = 60;
    const run = takePages(0, ROOM, false);
    for (let pages: u32 = 1; pages < 40; ++pages) {
      const start = run + 1 + (pages % 9);
      for (let i = run; i < run + ROOM; ++i) setFlags(i, (i * 7 + pages) % 3 == 0 ? PAGE_OWNED | PAGE_TOUCHED : PAGE_OWNED);
      const span = makeSpan(start, pages, LARGE, 0);
      for (let i = run; i < run + ROOM; ++i) {
        const used: u32 = (i * 7 + pages) % 3 == 0 ? PAGE_OWNED | PAGE_TOUCHED : PAGE_OWNED;
        const isIn = i >= start && i < start + pages;
        const wanted: u32 = !isIn || used != PAGE_OWNED ? used : PAGE_OWNED | PAGE_TOUCHED | PAGE_FRESH;
        check(flagsOf(i) == wanted, "other flags");
      }
      releaseSpan(span);
      takePages(0, pages, false);
    }
  });

  it("where most of the heap was one block are left to one as large, if there is more to be had", () => {
    freshGrowing();
    releaseSpan(largeSpanOf(1000));
    const owned = theHeap().ownedPages;
    for (let i = 0; i < 40; ++i) check(largeSpanOf(2) != 0, "no span");
    expect<bool>(theHeap().ownedPages > owned).toBe(true);
    expect<bool>(theHeap().ownedPages - owned < 300).toBe(true); // by what was wanted, not by a giant
    const grown = theHeap().ownedPages;
    check(largeSpanOf(1000) != 0, "no giant");
    expect<u32>(theHeap().ownedPages).toBe(grown);
    expectSound();
  });

  it("are taken from that run all the same where the memory cannot grow", () => {
    fresh();
    const pages = theHeap().freePages - 20;
    releaseSpan(largeSpanOf(pages));
    const owned = theHeap().ownedPages;
    for (let i = 0; i < 40; ++i) expect<bool>(largeSpanOf(2) != 0).toBe(true);
    expect<u32>(theHeap().ownedPages).toBe(owned);
    expectSound();
  });

  it("of several nodes are taken together, of those of a mask", () => {
    freshSpread();
    const all = theHeap().freePages;
    expect<u32>(takeMixedPages(all + 1, 0b1111)).toBe(0);
    expect<u32>(takeMixedPages(193, 0b1110)).toBe(0);
    const page = takeMixedPages(192, 0b1110);
    expect<u32>(page).toBe(pageOf(END) - 192);
    fileFree(page, 192);
    const every = takeMixedPages(all, 0b1111);
    expect<u32>(every).not.toBe(0);
    expect<u32>(theHeap().freePages).toBe(0);
    fileFree(every, all);
    expectSound();
  });
});

// ---- after a death

function rebuild(): void {
  const lock = heap + offsetof<Heap>("pageHeapLock");
  expect<bool>(acquire(lock, RANK_PAGE_HEAP)).toBe(true);
  rebuildPageHeap();
  release(lock, RANK_PAGE_HEAP);
}

describe("rebuilding", () => {
  it("restores lists and counts, whatever they were", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 60; ++i) blocks.push(malloc(i * 700));
    for (let i = 0; i < 60; i += 2) free(blocks[i]);
    const live = blocks.filter((_, i) => (i & 1) == 1);
    const h = theHeap();
    const freePages = h.freePages;
    const owned = h.ownedPages;
    const metadataPages = h.metadataPages;
    h.freePages = 12345;
    h.ownedPages = 1;
    h.metadataPages = 0;
    h.records = 9;
    h.shortHeaders = 0;
    h.longHeaders = 0;
    for (let node: u32 = 0; node < 4; ++node) {
      changetype<Arena>(arenaOf(node)).nonempty0 = 0xdead;
      changetype<Arena>(arenaOf(node)).freePages = 3;
      changetype<Arena>(arenaOf(node)).ownedPages = 4;
    }
    rebuild();
    expect<u32>(h.freePages).toBe(freePages);
    expect<u32>(h.ownedPages).toBe(owned);
    expect<u32>(h.metadataPages).toBe(metadataPages);
    expect<u32>(h.records).toBe(1);
    expectOnly(live);
    for (let i = 0; i < live.length; ++i) free(live[i]);
    expectEmpty();
  });

  it("changes nothing of what is sound, and can be done again", () => {
    freshGrowing(1 << 16, HEAP_GROWS_ALONE);
    const blocks: usize[] = [];
    for (let i = 0; i < 30; ++i) blocks.push(malloc(i * 5000));
    const freePages = theHeap().freePages;
    for (let i = 0; i < 3; ++i) {
      rebuild();
      expect<u32>(theHeap().freePages).toBe(freePages);
      expectOnly(blocks);
    }
  });

  it("takes a span that was not committed for free pages", () => {
    fresh();
    makeHeaders();
    const before = theHeap().freePages;
    const header = largeSpanOf(4);
    const start = changetype<Span>(header).start;
    // As a death between taking the pages and the store of the label leaves it, tags and all.
    changetype<Span>(header).label = 0;
    for (let i: u32 = 0; i < 4; ++i) setTag(start + i, tagFor(0, 5));
    rebuild();
    expect<u32>(theHeap().freePages).toBe(before);
    expect<u32>(tagOf(addressOf(start))).toBe(0);
    expectSound();
  });

  it("restores the page map of a committed span", () => {
    fresh();
    const block = malloc(MAX_SMALL);
    const large = malloc(100_000);
    const header = <usize>entryOf(pageOf(block));
    const span = changetype<Span>(header);
    for (let page = span.start + 1; page < span.start + span.pages; ++page) setEntry(page, 0);
    setEntry(pageOf(large) + changetype<Span>(spanAt(pageOf(large))).pages - 1, 0);
    rebuild();
    expectOnly([block, large]);
    expect<u32>(classOfLabel(loadLabel(header))).toBe(classOf(MAX_SMALL));
  });
});
