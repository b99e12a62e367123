// The layers of the allocator, on real shared memory. The heap lies below as-pect's own data (16 MiB).
import { Arena, Central, Heap, KIND_LARGE, KIND_SMALL, MAX_CLASSES, PAGE_SIZE, Span, Thread } from "../../assembly/layout";
import {
  bindThread,
  cacheList,
  heap,
  lengthOf,
  nearest,
  remoteList,
  self,
  sentinel,
  theHeap,
  theThread,
  thread,
} from "../../assembly/instance";
import { RANK_PAGE_HEAP, acquire, release } from "../../assembly/lock";
import { CLASSES, MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, classOfTag, nodeOfTag, pageOf, tagFor, tagOf } from "../../assembly/page-map";
import { fileFree, findMixed, freeRunAt, freeRunCovering, freeRunEndingAt, takeRun } from "../../assembly/free-run";
import { metadata, takeHeader } from "../../assembly/metadata";
import {
  labelOf,
  loadLabel,
  majority,
  makeSpan,
  placePage,
  rebuildPageHeap,
  releaseSpan,
  spanAt,
  takePages,
} from "../../assembly/page-heap";
import { indexOf, makeCentral, putBatch, rebuildCentral, spanOf, takeBatch, takeBlocks } from "../../assembly/central";
import { flushCache, returnCarry } from "../../assembly/thread-cache";
import { handOver, takeRemote } from "../../assembly/remote";
import { largeSpan } from "../../assembly/large";
import { create } from "../../assembly/create";
import { attach, detach, reap } from "../../assembly/reap";
import { calloc, free, malloc, malloc_trim, malloc_usable_size, mallocOnNode, memalign, realloc } from "../../assembly/malloc";
import { rebind, setDistance, setNodes, setVcpuNode } from "../../assembly/topology";
import { POLICY_BIND, POLICY_INTERLEAVE } from "../../assembly/policy";
import { errno, moveThread, nodeOf, setPolicy } from "../../assembly/control";
import { takeBadCall } from "../../assembly/bad-call";

const BASE: usize = 65536;
const END: usize = 4 << 20;

/** A fresh heap over 4 MiB that cannot grow, with this instance as its thread. */
function fresh(nodes: u32 = 4): void {
  if (self) bindThread(0, 0, false);
  memory.fill(BASE, 0xa5, END - BASE);
  expect<i32>(create(BASE, END, pageOf(END - BASE), nodes, 0)).toBe(0);
  expect<u32>(attach(BASE, 7, 0, 1)).not.toBe(0);
}

describe("lock", () => {
  it("names its holder and is free again", () => {
    fresh();
    const lock = heap + offsetof<Heap>("pageHeapLock");
    expect<bool>(acquire(lock, RANK_PAGE_HEAP)).toBe(true);
    expect<u32>(atomic.load<u32>(lock)).toBe(self << 1);
    release(lock, RANK_PAGE_HEAP);
    expect<u32>(atomic.load<u32>(lock)).toBe(0);
  });

  it("is given up after bounded spinning by a thread that may not sleep", () => {
    fresh();
    const lock = heap + offsetof<Heap>("pageHeapLock");
    atomic.store<u32>(lock, 99 << 1);
    bindThread(thread, self, false);
    expect<bool>(acquire(lock, RANK_PAGE_HEAP)).toBe(false);
    expect<u32>(atomic.load<u32>(lock)).toBe(99 << 1);
  });
});

describe("size classes", () => {
  it("serve every size with the smallest class that holds it", () => {
    fresh();
    for (let size: u32 = 1; size <= MAX_SMALL; size += 8) {
      const c = classOf(size);
      expect<bool>(classInfo(c).size >= size).toBe(true);
      if (c > 1) expect<bool>(classInfo(c - 1).size < size).toBe(true);
    }
    expect<bool>(CLASSES < MAX_CLASSES).toBe(true);
  });

  it("find the index of a block by its reciprocal", () => {
    fresh();
    for (let c: u32 = 1; c < CLASSES; ++c) {
      const info = classInfo(c);
      for (let i: u32 = 0; i < info.blocks; ++i) {
        expect<u32>(<u32>((<u64>(i * info.size) * info.reciprocal) >> 32)).toBe(i);
      }
    }
  });
});

describe("page map", () => {
  it("has tag 0 for whatever is not the heap's", () => {
    fresh();
    expect<u32>(tagOf(0)).toBe(0);
    expect<u32>(tagOf(0xffff_fff0)).toBe(0);
    expect<u32>(tagOf(BASE)).toBe(0);
  });

  it("keeps node and class of a tag apart", () => {
    for (let node: u32 = 0; node < 32; ++node) {
      const tag = tagFor(node, CLASSES - 1);
      expect<u32>(nodeOfTag(tag)).toBe(node);
      expect<u32>(classOfTag(tag)).toBe(CLASSES - 1);
    }
  });

  it("tags the pages of small spans", () => {
    fresh();
    const block = malloc(100);
    expect<u32>(tagOf(block)).toBe(tagFor(0, classOf(100)));
  });
});

describe("free runs", () => {
  it("are cut, and joined again", () => {
    fresh();
    const before = theHeap().freePages;
    const a = takeRun(0, 3);
    const b = takeRun(0, 5);
    expect<u32>(b).toBe(a + 3);
    expect<u32>(theHeap().freePages).toBe(before - 8);
    fileFree(a, 3);
    expect<u32>(freeRunAt(a)).toBe(3);
    expect<u32>(freeRunEndingAt(a + 2)).toBe(3);
    fileFree(b, 5);
    expect<u32>(freeRunCovering(b)).toBe(a);
    expect<u32>(theHeap().freePages).toBe(before);
  });

  it("fit best: the shortest run that will do", () => {
    fresh();
    const a = takeRun(0, 10);
    const guard = takeRun(0, 1);
    const b = takeRun(0, 4);
    takeRun(0, 1);
    fileFree(a, 10);
    fileFree(b, 4);
    expect<u32>(takeRun(0, 4)).toBe(b);
    expect<u32>(takeRun(0, 9)).toBe(a);
    expect<u32>(guard).toBe(a + 10);
  });

  it("never join across nodes, but can be found across them", () => {
    fresh();
    const all = pageOf(END);
    const page = takePages(0, 4, false);
    expect<usize>(takePages(1, 1, false)).toBe(0);
    placePage(page + 2, 1);
    fileFree(page, 4);
    expect<u32>(freeRunAt(page + 2)).toBe(1);
    expect<u32>(freeRunEndingAt(page + 1)).toBe(2);
    expect<u32>(findMixed(page, all, 4, 3)).toBe(page);
    expect<u32>(findMixed(page, page + 4, 4, 1)).toBe(0);
  });
});

describe("metadata", () => {
  it("is zero and aligned", () => {
    fresh();
    const at = metadata(128);
    expect<usize>(at & 63).toBe(0);
    for (let i: usize = 0; i < 128; i += 8) expect<u64>(load<u64>(at + i)).toBe(0);
  });

  it("has headers for short and for long bitmaps", () => {
    fresh();
    const short = takeHeader(256);
    const long = takeHeader(1024);
    expect<u32>(pageOf(short)).not.toBe(pageOf(long));
  });
});

describe("page heap", () => {
  it("makes a span and takes it back", () => {
    fresh();
    const before = theHeap().freePages;
    const page = takePages(0, 3, false);
    const header = makeSpan(page, 3, labelOf(KIND_LARGE, 0, 0), 0);
    expect<usize>(spanAt(page)).toBe(header);
    expect<usize>(spanAt(page + 1)).toBe(0);
    releaseSpan(header);
    expect<usize>(spanAt(page)).toBe(0);
    expect<u32>(theHeap().freePages).toBe(before - 1); // a page of headers
  });

  it("knows the node of most pages, the first page's in a tie", () => {
    fresh();
    const page = takePages(0, 4, false);
    takePages(2, 1, false);
    placePage(page + 1, 2);
    expect<u32>(majority(page, page + 4)).toBe(0);
    placePage(page + 2, 2);
    expect<u32>(majority(page, page + 4)).toBe(0);
    placePage(page + 3, 2);
    expect<u32>(majority(page, page + 4)).toBe(2);
  });

  it("is rebuilt from labels and flags", () => {
    fresh();
    const block = malloc(100);
    const large = malloc(100_000);
    const freePages = theHeap().freePages;
    const owned = theHeap().ownedPages;
    // What a death may leave: lists and counts that mean nothing.
    theHeap().freePages = 12345;
    changetype<Arena>(arenaOf(0)).nonempty0 = 0xdead;
    theHeap().shortHeaders = 0;
    rebuildPageHeap();
    expect<u32>(theHeap().freePages).toBe(freePages);
    expect<u32>(theHeap().ownedPages).toBe(owned);
    free(large);
    free(block);
    expect<usize>(malloc(100_000)).toBe(large);
  });
});

describe("central list", () => {
  it("gives and takes blocks, fullest span first", () => {
    fresh();
    const c = classOf(4096); // two blocks a span
    const central = makeCentral(0, c);
    // No more than are there: a second span is made for the next call only.
    expect<u32>(takeBlocks(central, thread, 3)).toBe(2);
    expect<u32>(changetype<Central>(central).spans).toBe(1);
    expect<u32>(changetype<Central>(central).list0).toBe(0);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<u32>(changetype<Central>(central).spans).toBe(0);
  });

  it("is rebuilt from bitmaps", () => {
    fresh();
    const c = classOf(64);
    const central = makeCentral(0, c);
    takeBlocks(central, thread, 5);
    const block = <usize>theThread().carry;
    const header = spanOf(block);
    const inside = changetype<Span>(header).free;
    changetype<Span>(header).free = 1;
    changetype<Central>(central).list0 = 0;
    changetype<Central>(central).spans = 77;
    rebuildCentral(central);
    expect<u32>(changetype<Span>(header).free).toBe(inside);
    expect<u32>(changetype<Central>(central).spans).toBe(1);
    expect<u32>(indexOf(header, block, classInfo(c))).toBe(4);
    expect<bool>(returnCarry(thread)).toBe(true);
  });

  it("keeps batches in its transfer cache", () => {
    fresh();
    const c = classOf(64);
    const central = makeCentral(0, c);
    const batch = classInfo(c).batch;
    expect<u32>(takeBlocks(central, thread, batch)).toBe(batch);
    const first = theThread().carry;
    // A batch ends at 0.
    let last = <usize>first;
    while (load<u32>(last) != <u32>sentinel()) last = load<u32>(last);
    store<u32>(last, 0);
    putBatch(central, thread);
    expect<u32>(theThread().carry).toBe(0);
    expect<u32>(changetype<Central>(central).transferCount).toBe(1);
    expect<bool>(takeBatch(central, thread)).toBe(true);
    expect<u32>(theThread().carry).toBe(first);
    expect<bool>(takeBatch(central, thread)).toBe(false);
    expect<bool>(returnCarry(thread)).toBe(true);
  });
});

describe("thread cache", () => {
  it("is a stack that knows its depth", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 40; ++i) blocks.push(malloc(48));
    const list = cacheList(thread, classOf(48));
    const before = lengthOf(list);
    free(blocks[0]);
    expect<u32>(lengthOf(list)).toBe(before + 1);
    expect<usize>(malloc(48)).toBe(blocks[0]);
  });

  it("hands blocks of another node to its queue, and takes them from there", () => {
    fresh();
    rebind(pageOf(END) - 64, 64, 2);
    const block = mallocOnNode(1000, 2);
    expect<i32>(nodeOf(block)).toBe(2);
    free(block);
    expect<u32>(load<u32>(remoteList(thread, 2))).toBe(<u32>block);
    expect<bool>(handOver(thread, 2)).toBe(true);
    expect<u32>(changetype<Arena>(arenaOf(2)).queueHead).toBe(<u32>block);
    expect<bool>(takeRemote(thread, 2)).toBe(true);
    expect<u32>(theThread().carry).toBe(<u32>block);
    expect<bool>(returnCarry(thread)).toBe(true);
    expect<u32>(tagOf(block)).toBe(0);
  });

  it("keeps a carry whose lock is out of reach, whatever else goes on", () => {
    fresh();
    rebind(pageOf(END) - 64, 64, 2);
    const remote: usize[] = [];
    for (let i = 0; i < 80; ++i) remote.push(mallocOnNode(100, 2));
    const large = malloc(100_000);
    const central = makeCentral(0, classOf(64));
    expect<u32>(takeBlocks(central, thread, 5)).toBe(5);
    const carry = theThread().carry;
    atomic.store<u32>(central, 99 << 1);
    bindThread(thread, self, false);
    for (let i = 0; i < 80; ++i) free(remote[i]);
    const lock = heap + offsetof<Heap>("pageHeapLock");
    atomic.store<u32>(lock, 99 << 1);
    free(large); // put off
    atomic.store<u32>(lock, 0);
    for (let i = 0; i < 2000; ++i) free(malloc(200_000));
    for (let i = 0; i < 2000; ++i) free(malloc(i));
    expect<u32>(theThread().carry).toBe(carry);
    atomic.store<u32>(central, 0);
    expect<i32>(detach()).toBe(0);
  });

  it("can be emptied", () => {
    fresh();
    const free0 = theHeap().freePages;
    const blocks: usize[] = [];
    for (let i = 0; i < 200; ++i) blocks.push(malloc(i * 10));
    for (let i = 0; i < 200; ++i) free(blocks[i]);
    expect<bool>(flushCache(thread)).toBe(true);
    malloc_trim(0);
    expect<u32>(theHeap().freePages + theHeap().metadataPages).toBe(theHeap().ownedPages);
    expect<bool>(free0 > theHeap().freePages).toBe(true); // metadata stays
  });
});

describe("large blocks", () => {
  it("grow and shrink in place", () => {
    fresh();
    malloc(50_000); // the page of headers it needs lies before the next block
    const block = malloc(100_000);
    expect<usize>(realloc(block, 200_000)).toBe(block);
    expect<usize>(malloc_usable_size(block)).toBe(25 * PAGE_SIZE);
    expect<usize>(realloc(block, 50_000)).toBe(block);
    expect<usize>(malloc_usable_size(block)).toBe(7 * PAGE_SIZE);
    expect<usize>(largeSpan(block + 1)).toBe(0);
    free(block);
  });

  it("are aligned to more than a page", () => {
    fresh();
    expect<usize>(memalign(65536, 100_000) & 65535).toBe(0);
    expect<usize>(memalign(3, 8)).toBe(0);
    expect<i32>(errno()).toBe(28);
  });

  it("are zeroed by calloc where they were used before", () => {
    fresh();
    const block = malloc(100_000);
    memory.fill(block, 1, 100_000);
    free(block);
    const zeroed = calloc(10, 10_000);
    for (let i: usize = 0; i < 100_000; i += 8) expect<u64>(load<u64>(zeroed + i)).toBe(0);
  });
});

describe("bad calls", () => {
  it("are named", () => {
    fresh();
    free(8);
    expect<i32>(takeBadCall()).toBe(1);
    const block = malloc(10);
    free(block + 1);
    expect<i32>(takeBadCall()).toBe(4);
    const large = malloc(100_000);
    free(large + PAGE_SIZE);
    expect<i32>(takeBadCall()).toBe(3);
    free(large);
    free(large);
    expect<i32>(takeBadCall()).toBe(2);
    expect<i32>(takeBadCall()).toBe(0);
  });
});

describe("policy", () => {
  it("binds strictly, and interleaves", () => {
    fresh();
    expect<i32>(setPolicy(POLICY_BIND, 4)).toBe(0);
    for (let i = 0; i < 100; ++i) {
      const block = malloc(100);
      // Nodes 1 to 3 own nothing here, and the memory cannot grow.
      expect<usize>(block).toBe(0);
    }
    rebind(pageOf(BASE), pageOf(END - BASE), 2);
    expect<i32>(nodeOf(malloc(100))).toBe(2);
    expect<i32>(setPolicy(POLICY_BIND, 0)).toBe(28);
    expect<i32>(setPolicy(POLICY_INTERLEAVE, 15)).toBe(0);
  });
});

describe("topology", () => {
  it("orders nodes by distance, the nearest first", () => {
    fresh();
    expect<i32>(setDistance(1, 3, 12)).toBe(0);
    expect<i32>(setDistance(1, 0, 15)).toBe(0);
    expect<i32>(setDistance(1, 1, 20)).toBe(28);
    expect<i32>(moveThread(1)).toBe(0);
    expect<u32>(nearest(thread, 0)).toBe(1);
    expect<u32>(nearest(thread, 1)).toBe(3);
    expect<u32>(nearest(thread, 2)).toBe(0);
  });

  it("moves pages and relabels the spans on them", () => {
    fresh();
    const block = malloc(100);
    const large = malloc(50_000);
    expect<i32>(rebind(pageOf(BASE), pageOf(END - BASE), 3)).toBe(0);
    expect<i32>(nodeOf(block)).toBe(3);
    expect<u32>(loadLabel(spanOf(block))).toBe(labelOf(KIND_SMALL, 3, classOf(100)));
    expect<u32>(loadLabel(spanAt(pageOf(large)))).toBe(labelOf(KIND_LARGE, 3, 0));
    expect<u32>(changetype<Arena>(arenaOf(0)).ownedPages).toBe(0);
    expect<u32>(theHeap().rebindPages).toBe(0);
    expect<i32>(setVcpuNode(0, 3)).toBe(0);
    malloc(100);
    expect<u32>(theThread().home).toBe(3);
    expect<i32>(rebind(0, 1, 9)).toBe(28);
    // What lies on a node that is gone is out of reach until it is rebound.
    expect<i32>(setNodes(2)).toBe(0);
    expect<usize>(malloc(5000)).toBe(0);
    expect<i32>(rebind(pageOf(BASE), pageOf(END - BASE), 1)).toBe(0);
    expect<i32>(nodeOf(malloc(5000))).toBe(1);
  });
});

describe("attach, detach, reap", () => {
  it("a detached instance gets nothing, and its slot is used again", () => {
    fresh();
    malloc(100);
    expect<i32>(detach()).toBe(0);
    expect<usize>(malloc(100)).toBe(0);
    expect<u32>(theHeap().records).toBe(1);
    expect<u32>(attach(BASE, 8, 256, 1)).toBe(0);
    expect<u32>(attach(BASE, 8, 0, 1) & 0xffff).toBe(1);
    expect<u32>(theHeap().records).toBe(1);
    expect<u32>(attach(BASE, 9, 0, 1)).toBe(0);
  });

  it("a dead thread's cache goes back and its locks are taken over", () => {
    fresh();
    const victim = thread;
    const block = malloc(100);
    free(block);
    const lock = heap + offsetof<Heap>("pageHeapLock");
    acquire(lock, RANK_PAGE_HEAP);
    // Another instance would attach now; one global state stands for both.
    bindThread(0, 0, false);
    expect<bool>(lengthOf(cacheList(victim, classOf(100))) > 0).toBe(true);
    atomic.store<u32>(lock, 0);
    expect<u32>(attach(BASE, 8, 1, 1)).not.toBe(0);
    atomic.store<u32>(lock, changetype<Thread>(victim).id << 1);
    expect<i32>(reap(7)).toBe(1);
    expect<u32>(lengthOf(cacheList(victim, classOf(100)))).toBe(0);
    expect<u32>(atomic.load<u32>(lock)).toBe(0);
    expect<i32>(reap(7)).toBe(0);
    expect<u32>(theHeap().records).toBe(2);
  });
});
