// The C family: what it promises of every size and alignment, and what is left of the heap afterwards.

import { Central, Heap, KIND_SMALL, PAGE_SIZE, SPAN_HEADER, Arena } from "../../assembly/layout";
import { EBUSY, EINVAL, ENOMEM, cacheList, heap, lengthOf, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import { labelOf } from "../../assembly/page-heap";
import { centralOf, hasFreeBlocks, takeBlocks } from "../../assembly/central";
import {
  aligned_alloc,
  calloc,
  free,
  malloc,
  mallocOnNode,
  malloc_trim,
  malloc_usable_size,
  memalign,
  posix_memalign,
  realloc,
} from "../../assembly/malloc";
import { errno, nodeOf } from "../../assembly/control";
import { takeBadCall, MISALIGNED } from "../../assembly/bad-call";
import { ELSEWHERE, allowBlocking, check, expectEmpty, expectOnly, expectSound, fresh, freshGrowing, freshSpread } from "./rig";
import { arenaOf } from "../../assembly/page-map";

describe("malloc", () => {
  it("serves every size around every class, aligned and disjoint", () => {
    fresh();
    const blocks: usize[] = [];
    for (let size: usize = 0; size <= 2048; ++size) {
      const block = malloc(size);
      if (block & (size >= 16 ? 15 : 7)) expect<usize>(block).toBe(0, "misaligned");
      if (malloc_usable_size(block) < size) expect<usize>(size).toBe(0, "too small");
      memory.fill(block, <u8>size, size);
      blocks.push(block);
    }
    expectOnly(blocks);
    for (let i = 0; i < blocks.length; ++i) {
      for (let at: i32 = 0; at < i; ++at) if (load<u8>(blocks[i] + at) != <u8>i) expect<i32>(i).toBe(-1, "overwritten");
      free(blocks[i]);
    }
    expectOnly([]);
  });

  it("gives different blocks for size 0", () => {
    fresh();
    const a = malloc(0);
    const b = malloc(0);
    expect<usize>(a).not.toBe(0);
    expect<usize>(a).not.toBe(b);
    free(0);
    expectOnly([a, b]);
  });

  it("refuses what cannot be", () => {
    fresh();
    const sizes: usize[] = [0xffff_ffff, 0xffff_fff0, 0xffff_0001, 0x8000_0000, 5 << 20];
    for (let i = 0; i < sizes.length; ++i) {
      expect<usize>(malloc(sizes[i])).toBe(0);
      expect<i32>(errno()).toBe(ENOMEM);
      expect<usize>(calloc(1, sizes[i])).toBe(0);
      expect<usize>(memalign(64, sizes[i])).toBe(0);
    }
    expect<usize>(calloc(0x1_0001, 0x1_0000)).toBe(0);
    expect<usize>(calloc(0xffff_ffff, 0xffff_ffff)).toBe(0);
    expectOnly([]);
  });

  it("hands out all there is, and all of it again", () => {
    fresh();
    const blocks: usize[] = [];
    for (let round = 0; round < 3; ++round) {
      const before = blocks.length;
      for (let block = malloc(1000); block != 0; block = malloc(1000)) blocks.push(block);
      expect<i32>(errno()).toBe(ENOMEM);
      expect<bool>(blocks.length > 3500).toBe(true);
      expectOnly(blocks);
      while (blocks.length > before) free(blocks.pop());
      expectOnly(blocks);
    }
    malloc_trim(0);
    expect<u32>(theHeap().freePages + theHeap().metadataPages).toBe(theHeap().ownedPages);
  });
});

describe("realloc", () => {
  it("keeps the bytes from any size to any other", () => {
    fresh();
    const sizes: usize[] = [1, 8, 24, 100, 1000, 5000, MAX_SMALL, MAX_SMALL + 1, 70_000, 300_000];
    for (let i = 0; i < sizes.length; ++i) {
      for (let j = 0; j < sizes.length; ++j) {
        const block = malloc(sizes[i]);
        for (let at: usize = 0; at < sizes[i]; ++at) store<u8>(block + at, <u8>(at * 7));
        const moved = realloc(block, sizes[j]);
        expect<usize>(moved).not.toBe(0);
        for (let at: usize = 0; at < min(sizes[i], sizes[j]); ++at) {
          if (load<u8>(moved + at) != <u8>(at * 7)) expect<usize>(at).toBe(-1, "not kept");
        }
        expectOnly([moved]);
        free(moved);
      }
    }
  });

  it("takes 0 for nothing, on either side", () => {
    fresh();
    const block = realloc(0, 100);
    expect<usize>(block).not.toBe(0);
    expect<usize>(realloc(block, 0)).toBe(0);
    expectOnly([]);
  });

  it("leaves the block as it was when there is no memory", () => {
    fresh();
    const block = malloc(1000);
    memory.fill(block, 0x33, 1000);
    expect<usize>(realloc(block, 5 << 20)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<u8>(load<u8>(block + 999)).toBe(0x33);
    expectOnly([block]);
  });

  it("refuses what is no block", () => {
    fresh();
    expect<usize>(realloc(8, 100)).toBe(0);
    expect<i32>(errno()).toBe(EINVAL);
    expect<i32>(takeBadCall()).not.toBe(0);
    expectOnly([]);
  });
});

describe("aligned blocks", () => {
  it("are aligned as asked, small and large", () => {
    fresh();
    const blocks: usize[] = [];
    for (let alignment: usize = 1; alignment <= 1 << 16; alignment <<= 1) {
      for (let size: usize = 1; size <= 40_000; size = size * 3 + 1) {
        const block = alignment & 1 ? memalign(alignment, size) : aligned_alloc(alignment, size);
        expect<usize>(block).not.toBe(0);
        expect<usize>(block & (alignment - 1)).toBe(0);
        expect<bool>(malloc_usable_size(block) >= size).toBe(true);
        blocks.push(block);
        if (blocks.length > 20) free(blocks.shift());
      }
    }
    expectOnly(blocks);
  });

  it("are refused for what is no power of two", () => {
    fresh();
    const wrong: usize[] = [0, 3, 24, 0x8000_0001];
    for (let i = 0; i < wrong.length; ++i) {
      expect<usize>(memalign(wrong[i], 64)).toBe(0);
      expect<i32>(errno()).toBe(EINVAL);
    }
    const out = malloc(16);
    store<u32>(out, 77);
    expect<i32>(posix_memalign(out, 2, 64)).toBe(EINVAL);
    expect<i32>(posix_memalign(out, 64, 5 << 20)).toBe(ENOMEM);
    expect<u32>(load<u32>(out)).toBe(77);
    expect<i32>(posix_memalign(out, 256, 64)).toBe(0);
    expect<u32>(load<u32>(out) & 255).toBe(0);
    expectOnly([out, load<u32>(out)]);
  });

  it("give the pages around them back", () => {
    fresh();
    const free0 = theHeap().freePages;
    const block = memalign(1 << 18, 100_000);
    expect<u32>(free0 - theHeap().freePages <= 14).toBeTruthy();
    free(block);
    expect<u32>(theHeap().freePages >= free0 - 1).toBeTruthy();
    expect<usize>(block & (PAGE_SIZE - 1)).toBe(0);
    expectSound();
  });
});

describe("the hit paths", () => {
  it("touch nothing but a list of the thread", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 100; ++i) blocks.push(malloc(100));
    for (let i = 0; i < 30; ++i) free(blocks.pop());
    const list = cacheList(thread, classOf(100));
    const length = lengthOf(list);
    const refills = theThread().refills;
    const ticks = theThread().ticks;
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE); // no lock is asked for
    atomic.store<u32>(centralOf(0, classOf(100)), ELSEWHERE);
    for (let i = 0; i < 1000; ++i) {
      const block = malloc(100);
      check(lengthOf(list) == length - 1, "not off the list");
      free(block);
      check(lengthOf(list) == length, "not onto the list");
    }
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    atomic.store<u32>(centralOf(0, classOf(100)), 0);
    expect<u64>(theThread().refills).toBe(refills);
    expect<u32>(theThread().ticks).toBe(ticks);
    expectOnly(blocks);
  });
});

describe("a thread that may not sleep", () => {
  it("gets a cached block of a larger class while locks are out of reach, then EBUSY", () => {
    fresh();
    for (let i = 0; i < 10; ++i) free(malloc(120)); // one block of 128 is cached
    const larger = lengthOf(cacheList(thread, classOf(120)));
    expect<bool>(larger > 0).toBe(true);
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    const blocks: usize[] = [];
    for (let i: u32 = 0; i < larger; ++i) {
      const block = malloc(60);
      expect<usize>(malloc_usable_size(block)).toBe(classInfo(classOf(120)).size);
      blocks.push(block);
    }
    expect<usize>(malloc(60)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expect<usize>(malloc_usable_size(malloc(60))).toBe(classInfo(classOf(60)).size);
    expectSound();
  });
});

describe("realloc in place", () => {
  it("lengthens most large blocks that grow by turns", () => {
    freshGrowing();
    const blocks: usize[] = [0, 0, 0, 0];
    for (let again = 0; again < 3; ++again) {
      let moved = 0;
      for (let size: usize = 100_000; size < 400_000; size += size >> 1) {
        for (let i = 0; i < 4; ++i) {
          const block = realloc(blocks[i], size);
          check(block != 0, "no memory");
          moved += i32(block != blocks[i]);
          blocks[i] = block;
        }
      }
      // Four are new each time, of sixteen; in the first rounds there is no room yet.
      if (again == 2) expect<bool>(moved <= 10).toBe(true);
      for (let i = 0; i < 4; ++i) free(blocks[i]);
      blocks.fill(0);
    }
    expectEmpty();
  });

  it("leaves room for a block as large as there was, wherever others grow", () => {
    fresh(1);
    const large: usize = 5 << 19;
    free(malloc(large));
    const vector = realloc(malloc(40_000), 100_000);
    const again = malloc(large);
    check(again != 0, "the longest run was cut");
    expectOnly([vector, again]);
  });

  it("lets one block grow to most of the heap", () => {
    fresh(1);
    let block = malloc(70_000);
    let size: usize = 70_000;
    while (true) {
      const larger = realloc(block, size + (size >> 2));
      if (!larger) break;
      block = larger;
      size += size >> 2;
    }
    expect<bool>(size > 5 << 19).toBe(true);
    expectOnly([block]);
  });

  it("is where the block stays at least half used, or is small", () => {
    fresh();
    const block = malloc(1024);
    expect<usize>(realloc(block, 1000)).toBe(block);
    expect<usize>(realloc(block, 513)).toBe(block);
    expect<usize>(realloc(block, 1024)).toBe(block);
    const moved = realloc(block, 512);
    expect<usize>(moved).not.toBe(block);
    expect<usize>(malloc_usable_size(moved)).toBe(512);
    const small = malloc(64);
    expect<usize>(realloc(small, 1)).toBe(small);
    expectOnly([moved, small]);
  });
});

describe("mallocOnNode", () => {
  it("gives a block of that node, counted, and gives the rest of a batch back", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let node: u32 = 0; node < 4; ++node) {
      for (let size: usize = 1; size <= 100_000; size = size * 7 + 1) {
        const block = mallocOnNode(size, node);
        expect<i32>(nodeOf(block)).toBe(node);
        expect<bool>(malloc_usable_size(block) >= size).toBe(true);
        blocks.push(block);
        expect<u32>(theThread().carry).toBe(0);
      }
    }
    expectOnly(blocks);
    for (let i = 0; i < blocks.length; ++i) free(blocks[i]);
    for (let i = 0; i < 4000; ++i) blocks[i % blocks.length] = malloc(64);
    expectSound();
  });
});

describe("malloc_trim", () => {
  it("gives all that is cached back, and says whether that freed pages", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 4000; ++i) blocks.push(malloc(64));
    for (let node: u32 = 1; node < 4; ++node) for (let i = 0; i < 70; ++i) blocks.push(mallocOnNode(300, node));
    for (let i = 0; i < blocks.length; ++i) free(blocks[i]);
    expect<i32>(malloc_trim(0)).toBe(1);
    expect<i32>(malloc_trim(0)).toBe(0);
    expectEmpty();
  });
});

describe("a thread that may not sleep", () => {
  it("gets no misaligned block out of its reserve", () => {
    fresh();
    const blocks: usize[] = [malloc(80), malloc(80), malloc(80)];
    for (let i = 0; i < 3; ++i) if (blocks[i] & 63) free(blocks[i]);
    check((load<u32>(cacheList(thread, classOf(80))) & 63) != 0, "aligned");
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    expect<usize>(memalign(64, 64)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    expect<usize>(malloc(64)).not.toBe(0);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expectSound();
  });
});

describe("a batch out of the transfer cache", () => {
  it("ends, whatever stands at the bottom of the memory", () => {
    fresh(1);
    const c = classOf(64);
    const blocks: usize[] = [];
    for (let i = 0; i < 30_000; ++i) blocks.push(malloc(64));
    while (blocks.length) free(blocks.pop());
    const central = centralOf(0, c);
    expect<u32>(changetype<Central>(central).transferHead).not.toBe(0);
    // All that is inside the spans, so that a batch is to be had only.
    while (hasFreeBlocks(central)) {
      takeBlocks(central, thread, 1);
      blocks.push(<usize>theThread().carry);
      theThread().carry = 0;
    }
    // What a C program has there; it looks like a span with all its blocks outside.
    store<u32>(0, labelOf(KIND_SMALL, 0, c));
    memory.fill(SPAN_HEADER, 0xff, 512);
    blocks.push(mallocOnNode(64, 0));
    let untouched = true;
    for (let at: usize = 0; at < 512; at += 8) if (load<u64>(at, SPAN_HEADER) != -1) untouched = false;
    memory.fill(0, 0, SPAN_HEADER + 512);
    expect<bool>(untouched).toBe(true);
    while (blocks.length) free(blocks.pop());
    expectOnly([]);
  });
});

describe("memory that cannot be had", () => {
  it("a thread that may not sleep is told ENOMEM when there is no memory, EBUSY when a lock is out of reach", () => {
    fresh(1);
    allowBlocking(false);
    const blocks: usize[] = [];
    for (let block = malloc(30_000); block != 0; block = malloc(30_000)) blocks.push(block);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<usize>(malloc(100_000)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    expect<usize>(mallocOnNode(100_000, 0)).toBe(0);
    expect<i32>(errno()).toBe(ENOMEM);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    expect<usize>(malloc(100_000)).toBe(0);
    expect<i32>(errno()).toBe(EBUSY);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expectOnly(blocks);
  });

  it("what it had cached of other sizes serves a thread that may not sleep, too, before it is told there is no memory", () => {
    fresh(1);
    const blocks: usize[] = [];
    for (let block = malloc(1000); block != 0; block = malloc(1000)) blocks.push(block);
    allowBlocking(false);
    for (let i = 0; i < 60; ++i) free(blocks.pop());
    expect<usize>(malloc(30_000)).not.toBe(0);
  });
});

describe("a pointer within a block", () => {
  it("a misaligned pointer has no usable size, and is not resized", () => {
    fresh();
    const block = malloc(100);
    expect<usize>(malloc_usable_size(block + 4)).toBe(0);
    expect<i32>(takeBadCall()).toBe(MISALIGNED);
    expect<usize>(realloc(block + 4, 104)).toBe(0);
    expect<i32>(takeBadCall()).toBe(MISALIGNED);
    expectOnly([block]);
  });
});

describe("what is counted", () => {
  it("mallocOnNode is counted like any other allocation", () => {
    freshSpread();
    const t = theThread();
    const refilled = t.refilledBlocks;
    const small = mallocOnNode(100, 2);
    expect<u64>(t.refilledBlocks - refilled).toBe(1);
    const arena = changetype<Arena>(arenaOf(2));
    const hits = arena.numaHit;
    const large = mallocOnNode(100_000, 2);
    expect<u64>(t.largeAllocations).toBe(1);
    expect<u64>(arena.numaHit - hits).toBe(1);
    expectOnly([small, large]);
  });
});
