// Topology: its words, the epoch, what a thread does about a change, and rebind.

import {
  Arena,
  Central,
  DISTANCES,
  Heap,
  KIND_LARGE,
  KIND_SMALL,
  MAX_NODES,
  MAX_VCPUS,
  PAGE_SIZE,
  Span,
  Thread,
  VCPU_NODE,
} from "../../assembly/layout";
import { EBUSY, EINVAL, cacheList, epochSeen, heap, homeTag, lengthOf, nearest, theHeap, theThread, thread } from "../../assembly/instance";
import { MAX_SMALL, classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, nodeOfPage, nodeOfTag, pageOf, tagFor, tagOf } from "../../assembly/page-map";
import { freeRunAt } from "../../assembly/free-run";
import { labelOf, loadLabel, majority, spanAt } from "../../assembly/page-heap";
import { centralOf, spanOf } from "../../assembly/central";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import { finishRebind, observe, rebind, setDistance, setNodeLimit, setNodes, setVcpuNode } from "../../assembly/topology";
import { epoch, moveThread, nodeOf, settle, threadNode } from "../../assembly/control";
import {
  BASE,
  ELSEWHERE,
  END,
  KEY,
  allowBlocking,
  another,
  become,
  check,
  expectEmpty,
  expectOnly,
  expectSound,
  fresh,
  freshGrowing,
  freshSpread,
} from "./rig";

function arena(node: u32): Arena {
  return changetype<Arena>(arenaOf(node));
}
function topologyLock(): usize {
  return heap + offsetof<Heap>("topologyLock");
}
/** All pages of the heap lie on `node` from now on. */
function rebindAll(node: u32): void {
  expect<i32>(rebind(0, pageOf(END), node)).toBe(0);
}

describe("the words of the topology", () => {
  it("refuse what cannot be", () => {
    fresh();
    const before = epoch();
    expect<i32>(setNodes(0)).toBe(EINVAL);
    expect<i32>(setNodes(MAX_NODES + 1)).toBe(EINVAL);
    expect<i32>(setVcpuNode(MAX_VCPUS, 0)).toBe(EINVAL);
    expect<i32>(setVcpuNode(0, 4)).toBe(EINVAL);
    expect<i32>(setDistance(0, 0, 11)).toBe(EINVAL);
    expect<i32>(setDistance(0, 1, 10)).toBe(EINVAL);
    expect<i32>(setDistance(0, 1, 9)).toBe(EINVAL);
    expect<i32>(setDistance(0, 1, 256)).toBe(EINVAL);
    expect<i32>(setDistance(MAX_NODES, 1, 20)).toBe(EINVAL);
    expect<i32>(setNodeLimit(4, 1)).toBe(EINVAL);
    expect<i32>(rebind(0, 1, 4)).toBe(EINVAL);
    expect<i32>(rebind(2, -1, 0)).toBe(EINVAL);
    expect<u32>(epoch()).toBe(before);
    expectSound();
  });

  it("are written under a sequence that is even again, each change an epoch of its own", () => {
    fresh();
    const sequence = theHeap().sequence;
    const before = epoch();
    expect<i32>(setVcpuNode(9, 3)).toBe(0);
    expect<i32>(setDistance(2, 1, 255)).toBe(0);
    expect<i32>(setNodes(5)).toBe(0);
    expect<u8>(load<u8>(heap + 9, VCPU_NODE)).toBe(3);
    expect<u8>(load<u8>(heap + 2 * MAX_NODES + 1, DISTANCES)).toBe(255);
    expect<u32>(theHeap().nodes).toBe(5);
    expect<u32>(theHeap().sequence).toBe(sequence + 6);
    expect<u32>(epoch()).toBe(before + 3);
    expectSound();
  });

  it("never have an epoch of 0, which is nobody's", () => {
    fresh();
    theHeap().epoch = -1;
    observe();
    expect<i32>(setVcpuNode(0, 1)).toBe(0);
    expect<u32>(epoch()).toBe(1);
    settle();
    expect<i32>(threadNode()).toBe(1);
    expectSound();
  });

  it("stay as they are while their lock is out of reach", () => {
    fresh();
    const before = epoch();
    atomic.store<u32>(topologyLock(), ELSEWHERE);
    allowBlocking(false);
    expect<i32>(setVcpuNode(0, 1)).toBe(EBUSY);
    expect<i32>(setDistance(0, 1, 30)).toBe(EBUSY);
    expect<i32>(setNodes(2)).toBe(EBUSY);
    expect<i32>(rebind(0, 100, 1)).toBe(EBUSY);
    atomic.store<u32>(topologyLock(), 0);
    expect<u32>(theHeap().nodes).toBe(4);
    expect<u32>(epoch()).toBe(before);
    expect<u32>(theHeap().sequence & 1).toBe(0);
    expectSound();
  });
});

describe("a thread", () => {
  it("orders nodes by distance from its own, then by number", () => {
    fresh();
    expect<i32>(setDistance(1, 3, 12)).toBe(0);
    expect<i32>(moveThread(1)).toBe(0);
    const order: u32[] = [1, 3, 0, 2];
    for (let i = 0; i < 4; ++i) expect<u32>(nearest(thread, i)).toBe(order[i]);
    expect<i32>(setDistance(1, 2, 11)).toBe(0);
    settle();
    expect<u32>(nearest(thread, 1)).toBe(2);
    expectSound();
  });

  it("sees a change at its next malloc", () => {
    freshSpread();
    free(malloc(100));
    expect<i32>(setVcpuNode(0, 2)).toBe(0);
    expect<i32>(threadNode()).toBe(0); // not yet
    const block = malloc(100);
    expect<i32>(threadNode()).toBe(2);
    expect<u32>(homeTag).toBe(tagFor(2, 1));
    expect<u32>(epochSeen).toBe(epoch());
    expect<i32>(nodeOf(block)).toBe(2);
    expectOnly([block]);
  });

  it("does not wait for a writer that may be dead", () => {
    fresh();
    atomic.store<u32>(topologyLock(), ELSEWHERE);
    theHeap().sequence += 1; // odd: under way
    store<u8>(heap, 3, VCPU_NODE);
    observe();
    expect<u32>(theThread().node).toBe(3);
    theHeap().sequence += 1;
    atomic.store<u32>(topologyLock(), 0);
    expectSound();
  });

  it("frees what it got before a change, wherever that lies now", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 100; ++i) blocks.push(malloc(i * 20));
    for (let node: u32 = 1; node < 4; ++node) {
      rebindAll(node);
      for (let i = 0; i < 30; ++i) free(blocks.pop());
      expectOnly(blocks);
    }
  });
});

describe("nodes that come and go", () => {
  it("vCPUs of a vanished node move to one that is left, and threads with them", () => {
    freshSpread();
    expect<i32>(moveThread(3)).toBe(0);
    const block = malloc(100);
    expect<i32>(nodeOf(block)).toBe(3);
    expect<i32>(setNodes(2)).toBe(0);
    settle();
    expect<i32>(threadNode()).toBe(1);
    expect<u32>(theThread().home).toBe(1);
    for (let i = 0; i < 30; ++i) expect<bool>(nodeOf(malloc(100)) < 2).toBe(true);
    expect<i32>(nodeOf(block)).toBe(3); // its page is where it was
    expectSound();
  });

  it("take what waits for them along: nothing of theirs stays on its way", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 200; ++i) blocks.push(mallocOnNode(500, 3));
    while (blocks.length) free(blocks.pop());
    expect<u32>(arena(3).queueHead).not.toBe(0);
    expect<i32>(setNodes(2)).toBe(0);
    expect<u32>(arena(3).queueHead).toBe(0);
    expectOnly([]);
  });

  it("from 4 to 2 to 4 leave every block where it was, and serve again", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let node: u32 = 0; node < 4; ++node) {
      for (let i = 0; i < 20; ++i) blocks.push(mallocOnNode(i * 50, node));
      blocks.push(mallocOnNode(80_000, node));
    }
    const others: usize[] = [another(KEY + 1, 2), another(KEY + 2, 3), thread];
    for (let round = 0; round < 3; ++round) {
      expect<i32>(setNodes(2)).toBe(0);
      expectOnly(blocks);
      for (let i = 0; i < 3; ++i) {
        become(others[i]);
        observe();
        const block = malloc(100 + round);
        expect<bool>(nodeOf(block) < 2).toBe(true);
        expect<usize>(mallocOnNode(100, 3)).toBe(0);
        blocks.push(block);
      }
      expect<i32>(setNodes(4)).toBe(0);
      for (let vcpu: u32 = 2; vcpu < 4; ++vcpu) expect<i32>(setVcpuNode(vcpu, vcpu)).toBe(0);
      for (let i = 0; i < 3; ++i) {
        become(others[i]);
        settle();
        const block = malloc(3000);
        expect<u32>(nodeOf(block)).toBe(theThread().vcpu);
        blocks.push(block);
      }
      expectOnly(blocks);
    }
    while (blocks.length) free(blocks.pop());
    expectOnly([]);
  });

  it("leave their memory out of reach until it is rebound", () => {
    fresh();
    rebindAll(3);
    expect<i32>(setNodes(2)).toBe(0);
    expect<usize>(malloc(5000)).toBe(0);
    expect<usize>(malloc(90_000)).toBe(0);
    rebindAll(1);
    expect<i32>(nodeOf(malloc(5000))).toBe(1);
    expect<i32>(nodeOf(malloc(90_000))).toBe(1);
    expectSound();
  });
});

describe("the limit of a node", () => {
  it("stops its growth, and lets it go on when it is lifted", () => {
    freshGrowing();
    expect<i32>(setNodeLimit(0, 1)).toBe(0);
    expect<i32>(nodeOf(malloc(1 << 20))).toBe(1);
    expect<i32>(setNodeLimit(0, 0)).toBe(0);
    expect<i32>(nodeOf(malloc(1 << 20))).toBe(0);
    expectSound();
  });

  it("the limit of one node does not starve others of what the heap itself needs", () => {
    freshGrowing();
    expect<i32>(setNodeLimit(0, 1)).toBe(0);
    const blocks: usize[] = [];
    while (true) {
      const block = mallocOnNode(8192 - 64, 0);
      if (!block) break;
      blocks.push(block);
    }
    // Not even for its arena has a second node a page, but by growth.
    const block = mallocOnNode(30_000, 1);
    expect<i32>(nodeOf(block)).toBe(1);
    blocks.push(block);
    expectOnly(blocks);
  });
});

describe("rebind", () => {
  it("moves free, used and metadata pages; spans and counts follow", () => {
    fresh();
    const block = malloc(100);
    const large = malloc(100_000);
    rebindAll(3);
    expect<i32>(nodeOf(BASE)).toBe(3);
    expect<i32>(nodeOf(block)).toBe(3);
    expect<u32>(loadLabel(spanOf(block))).toBe(labelOf(KIND_SMALL, 3, classOf(100)));
    expect<u32>(nodeOfTag(tagOf(block))).toBe(3);
    expect<u32>(loadLabel(spanAt(pageOf(large)))).toBe(labelOf(KIND_LARGE, 3, 0));
    expect<u32>(arena(0).ownedPages).toBe(0);
    expect<u32>(arena(0).freePages).toBe(0);
    expect<u32>(arena(3).freePages).toBe(theHeap().freePages);
    expect<u32>(changetype<Central>(centralOf(0, classOf(100))).spans).toBe(0);
    expect<u32>(changetype<Central>(centralOf(3, classOf(100))).spans).toBe(1);
    expect<u32>(theHeap().spansRebound).toBe(2);
    expect<u32>(theHeap().pagesMoved).toBe(theHeap().ownedPages);
    expect<u32>(theHeap().rebindPages).toBe(0);
    expectOnly([block, large]);
  });

  it("changes nothing the second time but the epoch", () => {
    fresh();
    const block = malloc(100);
    rebindAll(2);
    const moved = theHeap().pagesMoved;
    const spans = theHeap().spansRebound;
    const before = epoch();
    rebindAll(2);
    expect<u32>(theHeap().pagesMoved).toBe(moved);
    expect<u32>(theHeap().spansRebound).toBe(spans);
    expect<u32>(epoch()).not.toBe(before);
    expectOnly([block]);
  });

  it("of pages that are not the heap's is nothing", () => {
    fresh();
    expect<i32>(rebind(0, pageOf(BASE), 1)).toBe(0);
    expect<i32>(rebind(pageOf(END), 1000, 1)).toBe(0);
    expect<i32>(rebind(pageOf(BASE) + 3, 0, 1)).toBe(0);
    expect<u32>(theHeap().pagesMoved).toBe(0);
    expectSound();
  });

  it("goes by the majority of a span's pages, and in a tie by the first", () => {
    fresh();
    const block = malloc(10 * PAGE_SIZE);
    const first = pageOf(block);
    const header = spanAt(first);
    const steps: u32[] = [1, 3, 5, 6, 9];
    for (let i = 0; i < steps.length; ++i) {
      expect<i32>(rebind(first + 1, steps[i], 1)).toBe(0);
      const node: u32 = steps[i] > 5 ? 1 : 0;
      expect<u32>(majority(first, first + 10)).toBe(node);
      expect<u32>(loadLabel(header)).toBe(labelOf(KIND_LARGE, node, 0));
      expectOnly([block]);
    }
    expect<i32>(nodeOf(block)).toBe(0); // its own page
  });

  it("of one page of a small span relabels only what is mostly there", () => {
    fresh(2);
    const info = classInfo(classOf(MAX_SMALL));
    const block = malloc(MAX_SMALL);
    const header = spanOf(block);
    const first = changetype<Span>(header).start;
    for (let i: u32 = 0; i < info.pages; ++i) {
      expect<i32>(rebind(first + i, 1, 1)).toBe(0);
      const count = i + 1;
      const node: u32 = count * 2 >= info.pages ? 1 : 0; // the first page is of node 1 already
      expect<u32>(loadLabel(header)).toBe(labelOf(KIND_SMALL, node, classOf(MAX_SMALL)));
      expectOnly([block]);
    }
  });

  it("makes cached blocks remote, and they leave the cache", () => {
    fresh(2);
    const blocks: usize[] = [];
    for (let i = 0; i < 100; ++i) blocks.push(malloc(200));
    for (let i = 0; i < 50; ++i) free(blocks[i]);
    expect<bool>(lengthOf(cacheList(thread, classOf(200))) > 0).toBe(true);
    rebindAll(1);
    settle();
    expect<u32>(lengthOf(cacheList(thread, classOf(200)))).toBe(0);
    for (let i = 50; i < 100; ++i) expect<u32>(nodeOfTag(tagOf(blocks[i]))).toBe(1);
    expectOnly(blocks.slice(50));
    for (let i = 50; i < 100; ++i) free(blocks[i]);
    expectEmpty();
  });

  it("empties a transfer cache whose spans move", () => {
    fresh(2);
    const blocks: usize[] = [];
    for (let i = 0; i < 30_000; ++i) blocks.push(malloc(64));
    while (blocks.length > 10) free(blocks.pop());
    const central = changetype<Central>(centralOf(0, classOf(64)));
    expect<bool>(central.transferCount > 0).toBe(true);
    rebindAll(1);
    expect<u32>(central.transferCount).toBe(0);
    expectOnly(blocks);
  });

  it("cuts free runs where nodes meet, and joins them where they agree again", () => {
    fresh();
    const first = pageOf(END) - 100;
    for (let i: u32 = 0; i < 50; ++i) {
      expect<i32>(rebind(first + i * 2, 1, 1 + (i & 1))).toBe(0);
      if (i % 10 == 0) expectSound();
    }
    for (let i: u32 = 0; i < 100; ++i) expect<u32>(freeRunAt(first + i)).toBe(1);
    expectSound();
    expect<i32>(rebind(first, 100, 3)).toBe(0);
    expect<u32>(freeRunAt(first)).toBe(100);
    expect<u32>(arena(3).freePages).toBe(100);
    expectSound();
  });

  it("gives the pages of a released span to the nodes they lie on", () => {
    fresh();
    const block = malloc(20 * PAGE_SIZE);
    expect<i32>(rebind(pageOf(block), 5, 1)).toBe(0);
    expect<i32>(rebind(pageOf(block) + 5, 5, 2)).toBe(0);
    expect<i32>(nodeOf(block)).toBe(1);
    expectOnly([block]);
    free(block);
    expect<u32>(arena(1).freePages).toBe(5);
    expect<u32>(arena(2).freePages).toBe(5);
    expectOnly([]);
  });

  it("reaches every span, small and large, that has a page in the range", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 300; ++i) blocks.push(malloc(i * 40));
    for (let i = 0; i < 300; i += 3) free(blocks[i]);
    const live = blocks.filter((_, i) => i % 3 != 0);
    let node: u32 = 0;
    for (let page: u32 = 0; page < pageOf(END); page += 37) {
      expect<i32>(rebind(page, 41, ++node % 4)).toBe(0);
      expectOnly(live);
      for (let i = 0; i < live.length; ++i) {
        const span = changetype<Span>(spanOf(live[i]));
        check((span.label >> 8) % 256 == majority(span.start, span.start + span.pages), "not where most of it lies");
      }
    }
    for (let i = 0; i < live.length; ++i) {
      memory.fill(live[i], 0x11, 8);
      free(live[i]);
    }
    expectOnly([]);
  });

  it("cut short by a lock out of reach stays to be finished", () => {
    fresh();
    const block = malloc(100);
    const central = centralOf(0, classOf(100));
    allowBlocking(false);
    atomic.store<u32>(central, ELSEWHERE);
    expect<i32>(rebind(0, pageOf(END), 1)).toBe(EBUSY);
    expect<u32>(theHeap().rebindPages).toBe(pageOf(END));
    expect<u32>(nodeOfPage(pageOf(block))).toBe(1); // a stale label costs locality, nothing else
    expect<u32>(nodeOfTag(tagOf(block))).toBe(0);
    atomic.store<u32>(central, 0);
    expect<i32>(finishRebind()).toBe(0);
    expect<u32>(theHeap().rebindPages).toBe(0);
    expect<u32>(nodeOfTag(tagOf(block))).toBe(1);
    expectOnly([block]);
  });
});

describe("a rebind without memory for another list", () => {
  it("leaves the span on its own and is done, whether the thread may sleep or not", () => {
    freshSpread();
    const block = malloc(100);
    while (malloc(MAX_SMALL));
    while (malloc(8192));
    theHeap().metaNext = theHeap().metaEnd;
    expect<usize>(centralOf(1, classOf(100))).toBe(0);
    for (let i = 0; i < 2; ++i) {
      allowBlocking(i == 0);
      expect<i32>(rebind(pageOf(block), 1, 1)).toBe(0);
      expect<u32>(theHeap().rebindPages).toBe(0);
      expect<u32>(nodeOfPage(pageOf(block))).toBe(1);
      expect<u32>(nodeOfTag(tagOf(block))).toBe(0);
    }
    expectSound();
  });
});

describe("threads and the epoch", () => {
  it("each acts upon a change when it looks", () => {
    freshSpread();
    const first = another(KEY + 1, 1);
    const second = thread;
    expect<i32>(setVcpuNode(1, 3)).toBe(0);
    expect<u32>(changetype<Thread>(first).epoch).not.toBe(epoch());
    settle();
    expect<u32>(changetype<Thread>(second).home).toBe(3);
    expect<u32>(changetype<Thread>(second).epoch).toBe(epoch());
    expect<u32>(changetype<Thread>(first).epoch).not.toBe(epoch());
    become(first);
    observe();
    expect<u32>(changetype<Thread>(first).epoch).toBe(epoch());
    expectSound();
  });
});
