// Central lists: fullest span first, bitmaps that tell inside from outside, the transfer cache, and what is rebuilt after a death.

import {
  Arena,
  CENTRAL_LISTS,
  CachedBlock,
  Central,
  Heap,
  KIND_SMALL,
  PAGE_SHIFT,
  PAGE_SIZE,
  SPAN_HEADER,
  Span,
} from "../../assembly/layout";
import { heap, sentinel, theHeap, theThread, thread } from "../../assembly/instance";
import { RANK_CENTRAL, acquire, release } from "../../assembly/lock";
import { CLASSES, classInfo, classOf } from "../../assembly/size-class";
import { addressOf, arenaOf, pageOf, setTag, tagFor, tagOf } from "../../assembly/page-map";
import { labelOf, loadLabel } from "../../assembly/page-heap";
import {
  OUT_OF_REACH,
  centralOf,
  hasFreeBlocks,
  hasTransferRoom,
  indexOf,
  labelOfCentral,
  makeCentral,
  putBatch,
  rebuildCentral,
  releaseIdleSpans,
  returnBlocks,
  spanOf,
  takeBatch,
  takeBlocks,
} from "../../assembly/central";
import { returnCarry } from "../../assembly/thread-cache";
import { ELSEWHERE, allowBlocking, check, expectEmpty, expectOnly, expectSound, fresh, freshSpread } from "./rig";

/** Takes `want` blocks under the list's lock; how many came. They are in the carry. */
function take(central: usize, want: u32): u32 {
  check(acquire(central, RANK_CENTRAL), "lock");
  const count = takeBlocks(central, thread, want);
  release(central, RANK_CENTRAL);
  return count;
}

/** Takes blocks until `count` are in hand, as the program would have them. */
function takeAll(central: usize, count: i32): usize[] {
  const blocks: usize[] = [];
  while (blocks.length < count) {
    if (take(central, count - blocks.length) == 0) break;
    for (let at: usize = theThread().carry; at != sentinel(); at = load<u32>(at)) blocks.push(at);
    theThread().carry = 0;
  }
  return blocks;
}

/** Gives one block back. */
function give(block: usize): void {
  store<u32>(block, 0);
  theThread().carryEnd = 0;
  theThread().carry = <u32>block;
  check(returnCarry(thread), "not returned");
}

function spansOf(central: usize): u32 {
  return changetype<Central>(central).spans;
}

/** Whether the block is outside its span. */
function isOutside(block: usize, c: u32): bool {
  const header = spanOf(block);
  const index = indexOf(header, block, classInfo(c));
  return ((load<u64>(header + ((index >> 6) << 3), SPAN_HEADER) >> (index & 63)) & 1) != 0;
}

describe("a central list", () => {
  it("is made once for each node and class", () => {
    freshSpread();
    expect<usize>(centralOf(2, 5)).toBe(0);
    const central = makeCentral(2, 5);
    expect<usize>(makeCentral(2, 5)).toBe(central);
    expect<usize>(centralOf(2, 5)).toBe(central);
    expect<u32>(labelOfCentral(central)).toBe(labelOf(KIND_SMALL, 2, 5));
    expect<usize>(makeCentral(2, 6)).not.toBe(central);
    expect<usize>(makeCentral(1, 5)).not.toBe(central);
    expect<bool>(hasFreeBlocks(central)).toBe(false);
    expectSound();
  });

  it("is not made while the page heap's lock is out of reach", () => {
    fresh();
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    expect<usize>(makeCentral(0, 5)).toBe(OUT_OF_REACH);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expect<bool>(makeCentral(0, 5) > OUT_OF_REACH).toBe(true);
    expectSound();
  });
});

describe("blocks of a central list", () => {
  it("come linked as a cache list is, each at a multiple of the size in its span", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      const central = makeCentral(0, c);
      const want = min<u32>(info.blocks, 64);
      check(take(central, want) == want, "fewer than there are");
      let depth = want;
      for (let at: usize = theThread().carry; at != sentinel(); at = load<u32>(at)) {
        check(changetype<CachedBlock>(at).depth == depth--, "another depth");
        const header = spanOf(at);
        const index = indexOf(header, at, info);
        check(index < info.blocks, "beyond the span");
        check(addressOf(changetype<Span>(header).start) + index * info.size == at, "not at its place");
        check(isOutside(at, c), "still inside");
      }
      check(depth == 0, "a shorter chain");
      expectSound();
      check(returnCarry(thread), "not returned");
    }
    expectEmpty();
  });

  it("come from the spans there are before a new one is made, and only then", () => {
    fresh();
    const c = classOf(4096);
    const each = classInfo(c).blocks;
    const central = makeCentral(0, c);
    expect<u32>(take(central, each + 1)).toBe(each);
    expect<u32>(spansOf(central)).toBe(1);
    expect<bool>(hasFreeBlocks(central)).toBe(false);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<u32>(spansOf(central)).toBe(0);
    expectEmpty();
  });

  it("come from the fullest span first", () => {
    fresh();
    const c = classOf(1024);
    const each = <i32>classInfo(c).blocks;
    const central = makeCentral(0, c);
    const blocks = takeAll(central, each * 3);
    expect<u32>(spansOf(central)).toBe(3);
    // One free in the second span, two in the third, four in the first.
    const kept: usize[] = [];
    const left: i32[] = [4, 1, 2];
    for (let i = 0; i < blocks.length; ++i) {
      const span = i / each;
      const more = left[span] > 0;
      if (more) {
        left[span] -= 1;
        give(blocks[i]);
      } else kept.push(blocks[i]);
    }
    expectOnly(kept);
    const order: i32[] = [1, 2, 2, 0, 0, 0, 0];
    for (let i = 0; i < order.length; ++i) {
      const block = takeAll(central, 1)[0];
      expect<usize>(spanOf(block)).toBe(spanOf(blocks[order[i] * each + each - 1]));
      kept.push(block);
    }
    expectOnly(kept);
    for (let i = 0; i < kept.length; ++i) give(kept[i]);
    expectEmpty();
  });

  it("stop where the node has no more pages", () => {
    fresh();
    const central = makeCentral(0, classOf(8192));
    const blocks = takeAll(central, 1000);
    expect<u32>(theHeap().freePages).toBe(0);
    expect<u32>(take(central, 1)).toBe(0);
    expect<u32>(theThread().carry).toBe(0);
    expectOnly(blocks);
    expect<u32>(take(makeCentral(1, 1), 1)).toBe(0);
  });

  it("make their span a free run again when all are inside, and not before", () => {
    fresh();
    const c = classOf(512);
    const central = makeCentral(0, c);
    const blocks = takeAll(central, classInfo(c).blocks);
    const free = theHeap().freePages;
    while (blocks.length > 1) {
      give(blocks.pop());
      check(spansOf(central) == 1 && theHeap().freePages == free, "released too early");
      expectOnly(blocks);
    }
    const last = blocks[0];
    give(last);
    expect<u32>(spansOf(central)).toBe(0);
    expect<u32>(tagOf(last)).toBe(0);
    expect<u32>(theHeap().freePages).toBe(free + classInfo(c).pages);
    expectSound();
  });

  it("go back only so many at a time, and only those of the list", () => {
    freshSpread();
    const c = classOf(64);
    const here = makeCentral(0, c);
    const there = makeCentral(1, c);
    const a = takeAll(here, 3);
    const b = takeAll(there, 1);
    store<u32>(a[0], <u32>a[1]);
    store<u32>(a[1], <u32>b[0]);
    store<u32>(b[0], <u32>a[2]);
    store<u32>(a[2], 0);
    theThread().carry = <u32>a[0];
    theThread().carryEnd = 0;
    returnBlocks(here, thread, 1);
    expect<u32>(theThread().carry).toBe(<u32>a[1]);
    returnBlocks(here, thread, 64);
    expect<u32>(theThread().carry).toBe(<u32>b[0]); // the other list's
    returnBlocks(here, thread, 64);
    expect<u32>(theThread().carry).toBe(<u32>b[0]);
    returnBlocks(there, thread, 64);
    returnBlocks(here, thread, 64);
    expect<u32>(theThread().carry).toBe(0);
    expectOnly([]);
  });

  it("that go back twice count once", () => {
    fresh();
    const c = classOf(256);
    const central = makeCentral(0, c);
    const blocks = takeAll(central, 4);
    store<u32>(blocks[0], <u32>blocks[1]);
    store<u32>(blocks[1], 0);
    for (let i = 0; i < 2; ++i) {
      theThread().carry = <u32>blocks[0];
      theThread().carryEnd = 0;
      returnBlocks(central, thread, 64);
      expect<u32>(changetype<Span>(spanOf(blocks[2])).free).toBe(classInfo(c).blocks - 2);
    }
    expectOnly(blocks.slice(2));
  });

  it("whose span cannot be released yet leave it listed, whole", () => {
    fresh();
    const c = classOf(2048);
    const central = makeCentral(0, c);
    const block = takeAll(central, 1)[0];
    allowBlocking(false);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), ELSEWHERE);
    give(block);
    atomic.store<u32>(heap + offsetof<Heap>("pageHeapLock"), 0);
    expect<u32>(spansOf(central)).toBe(1);
    expectOnly([]);
    releaseIdleSpans(central);
    expect<u32>(spansOf(central)).toBe(0);
    expectEmpty();
  });
});

// ---- the transfer cache

/** A batch in the carry, ended at 0. */
function batchOf(central: usize, c: u32): usize {
  check(take(central, classInfo(c).batch) == classInfo(c).batch, "less than a batch");
  let last = <usize>theThread().carry;
  while (load<u32>(last) != <u32>sentinel()) last = load<u32>(last);
  store<u32>(last, 0);
  return theThread().carry;
}

describe("a transfer cache", () => {
  it("is a stack of batches", () => {
    fresh();
    const c = classOf(64);
    const central = makeCentral(0, c);
    expect<bool>(takeBatch(central, thread)).toBe(false);
    const batches: usize[] = [];
    for (let i = 0; i < 3; ++i) {
      batches.push(batchOf(central, c));
      putBatch(central, thread);
      expect<u32>(theThread().carry).toBe(0);
      expect<u32>(changetype<Central>(central).transferCount).toBe(i + 1);
      expectOnly([]);
    }
    for (let i = 2; i >= 0; --i) {
      expect<bool>(takeBatch(central, thread)).toBe(true);
      expect<u32>(theThread().carry).toBe(<u32>batches[i]);
      expectOnly([]);
      expect<bool>(returnCarry(thread)).toBe(true);
    }
    expect<bool>(takeBatch(central, thread)).toBe(false);
    expectEmpty();
  });

  it("holds at most 1/32 of the heap, or 256 KiB", () => {
    fresh();
    const owned = theHeap().ownedPages;
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      const central = makeCentral(0, c);
      const bytes: u32 = info.batch * info.size;
      const most: u32 = (256 * 1024) / bytes;
      for (let count = most - 1; count < most + 2; ++count) {
        changetype<Central>(central).transferCount = count;
        const room = hasTransferRoom(central, info);
        check(room == (count + 1) * bytes <= max<u32>(256 * 1024, owned << (PAGE_SHIFT - 5)), "too much, or too little");
      }
      changetype<Central>(central).transferCount = most + 1;
      theHeap().ownedPages = ((most + 2) * bytes * 32) / PAGE_SIZE + 1;
      check(hasTransferRoom(central, info), "no room in a large heap");
      theHeap().ownedPages = owned;
      changetype<Central>(central).transferCount = 0;
    }
    expectSound();
  });
});

// ---- after a death

describe("a rebuilt list", () => {
  it("is what the bitmaps say", () => {
    fresh();
    const c = classOf(64);
    const central = makeCentral(0, c);
    const blocks = takeAll(central, classInfo(c).blocks * 2);
    const kept: usize[] = [];
    for (let i = 0; i < blocks.length; ++i) {
      if (i % 3 == 0) give(blocks[i]);
      else kept.push(blocks[i]);
    }
    const header = spanOf(kept[0]);
    const inside = changetype<Span>(header).free;
    changetype<Span>(header).free = 1;
    changetype<Span>(header).list = CENTRAL_LISTS;
    changetype<Central>(central).list0 = 0x1234;
    changetype<Central>(central).list7 = <u32>header;
    changetype<Central>(central).spans = 77;
    changetype<Central>(central).transferCount = 5;
    setTag(pageOf(kept[0]), 0);
    rebuildCentral(central);
    expect<u32>(changetype<Span>(header).free).toBe(inside);
    expect<u32>(spansOf(central)).toBe(2);
    expect<u32>(tagOf(kept[0])).toBe(tagFor(0, c));
    expectOnly(kept);
    for (let i = 0; i < kept.length; ++i) give(kept[i]);
    expectEmpty();
  });

  it("counts the batches of its transfer cache", () => {
    fresh();
    const c = classOf(128);
    const central = makeCentral(0, c);
    for (let i = 0; i < 3; ++i) {
      batchOf(central, c);
      putBatch(central, thread);
    }
    changetype<Central>(central).transferCount = 0;
    rebuildCentral(central);
    expect<u32>(changetype<Central>(central).transferCount).toBe(3);
    expectOnly([]);
    expect<u32>(changetype<Arena>(arenaOf(0)).node).toBe(0);
  });

  it("leaves the spans of others alone", () => {
    freshSpread();
    const c = classOf(64);
    const blocks = takeAll(makeCentral(0, c), 1);
    const other = takeAll(makeCentral(1, c), 1)[0];
    const larger = takeAll(makeCentral(0, c + 1), 1)[0];
    rebuildCentral(makeCentral(0, c));
    expect<u32>(loadLabel(spanOf(other))).toBe(labelOf(KIND_SMALL, 1, c));
    expectOnly([blocks[0], other, larger]);
  });
});
