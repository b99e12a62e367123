// Reaping: what is done about the locks, lists and carries of the dead.

import {
  Arena,
  Central,
  Heap,
  SLOTS,
  SLOT_ATTACHED,
  SLOT_DEAD,
  SLOT_FREE,
  SPAN_HEADER,
  Span,
  THREAD_SIZE,
  Thread,
} from "../../assembly/layout";
import { cacheList, heap, lengthOf, mayBlock, remoteList, sentinel, theHeap, theThread, thread } from "../../assembly/instance";
import { RANK_CENTRAL, acquire, release } from "../../assembly/lock";
import { classInfo, classOf } from "../../assembly/size-class";
import { arenaOf, pageOf } from "../../assembly/page-map";
import { spanAt } from "../../assembly/page-heap";
import { centralOf, makeCentral, putBatch, spanOf, takeBlocks } from "../../assembly/central";
import { handOver } from "../../assembly/remote";
import { attach, detach, reap } from "../../assembly/reap";
import { free, malloc, mallocOnNode } from "../../assembly/malloc";
import { nodeOf } from "../../assembly/control";
import {
  BASE,
  ELSEWHERE,
  END,
  KEY,
  allowBlocking,
  another,
  check,
  expectEmpty,
  expectOnly,
  expectSound,
  fresh,
  freshSpread,
  stateOf,
  slotWord,
} from "./rig";

const SURVIVOR: u32 = KEY + 1;

function pageHeapLock(): usize {
  return heap + offsetof<Heap>("pageHeapLock");
}
/** The lock word of a thread. */
function wordOf(record: usize): u32 {
  return changetype<Thread>(record).id << 1;
}

/** Goes on as a thread that survives; the record of the one that dies. */
function die(): usize {
  return another(SURVIVOR, 0);
}

/** Takes `count` blocks of the size into the carry, and leaves them there. */
function carry(size: usize, count: u32): usize {
  const central = makeCentral(0, classOf(size));
  check(takeBlocks(central, thread, count) == count, "fewer");
  return central;
}

describe("reaping", () => {
  it("answers 0 for nobody's key, and for one's own", () => {
    fresh();
    expect<i32>(reap(12345)).toBe(0);
    expect<i32>(reap(KEY)).toBe(0);
    expect<u32>(stateOf(0)).toBe(SLOT_ATTACHED);
    expectSound();
  });

  it("returns all that the dead had cached, kept for others, and put off", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let i = 0; i < 200; ++i) blocks.push(malloc(i * 20));
    for (let i = 0; i < 100; ++i) free(blocks.pop());
    const remote = mallocOnNode(500, 2);
    free(remote);
    const large = malloc(70_000);
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    free(large);
    atomic.store<u32>(pageHeapLock(), 0);
    carry(300, 7);
    const dead = die();
    expect<i32>(reap(KEY)).toBe(1);
    expect<i32>(reap(KEY)).toBe(0);
    expect<u32>(stateOf(0)).toBe(SLOT_FREE);
    expect<u32>(theHeap().reaped).toBe(1);
    expect<u32>(changetype<Thread>(dead).carry).toBe(0);
    expect<u32>(load<u32>(remoteList(dead, 2))).toBe(0);
    expectOnly(blocks); // and only what the program held is left
    for (let i = 0; i < blocks.length; ++i) free(blocks[i]);
    expectEmpty();
  });

  it("leaves the slot to the next thread, in another generation", () => {
    fresh();
    const before = (<u32>slotWord(0)) >> 8;
    die();
    expect<i32>(reap(KEY)).toBe(1);
    expect<i32>(detach()).toBe(0);
    const id = attach(BASE, KEY + 2, 0, 1);
    expect<u32>(id & 0xffff).toBe(1);
    expect<u32>(id >> 16).toBe((before + 1) & 0xffff);
    expectSound();
  });

  it("does away with all who died, whichever is asked for", () => {
    fresh();
    const dead: usize[] = [];
    for (let i: u32 = 0; i < 4; ++i) {
      for (let n = 0; n < 50; ++n) free(malloc(64 + i * 100));
      dead.push(another(20 + i, i));
    }
    // As a reaper that died left them: confirmed, and not buried.
    for (let i: u32 = 0; i < 3; ++i) store<u64>(heap + (i << 3), (slotWord(i) & ~0xff) | SLOT_DEAD, SLOTS);
    expect<i32>(reap(22)).toBe(1);
    for (let i: u32 = 0; i < 4; ++i) {
      expect<u32>(stateOf(i)).toBe(SLOT_FREE);
      for (let n: u32 = 0; n < 4; ++n) check(lengthOf(cacheList(dead[i], classOf(64 + n * 100))) == 0, "not empty");
    }
    expect<u32>(theHeap().reaped).toBe(4);
    expectOnly([]);
  });

  it("asks to be asked again while a lock is out of reach, and never sleeps", () => {
    fresh();
    carry(64, 5);
    const dead = die();
    const central = centralOf(0, classOf(64));
    atomic.store<u32>(central, ELSEWHERE); // somebody alive, as far as anybody knows
    expect<i32>(reap(KEY)).toBe(-1);
    expect<u32>(stateOf(0)).toBe(SLOT_DEAD);
    expect<bool>(mayBlock).toBe(true);
    atomic.store<u32>(central, 0);
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(changetype<Thread>(dead).carry).toBe(0);
    expectOnly([]);

    fresh();
    die();
    atomic.store<u32>(heap + offsetof<Heap>("reapLock"), ELSEWHERE);
    expect<i32>(reap(KEY)).toBe(-1);
    expect<u32>(stateOf(0)).toBe(SLOT_ATTACHED); // the other one would bury it, and has not seen to its locks
    atomic.store<u32>(heap + offsetof<Heap>("reapLock"), 0);
    expect<i32>(reap(KEY)).toBe(1);
    expectOnly([]);
  });
});

describe("a thread that died in its attach", () => {
  it("had nothing, whatever stands at the bottom of the memory", () => {
    fresh();
    const dead = die();
    memory.fill(dead, 0, THREAD_SIZE); // death before the lists were made
    store<u64>(0, 0x1_0000_1234);
    expect<i32>(reap(KEY)).toBe(1);
    store<u64>(0, 0);
    expectOnly([]);
  });
});

describe("the locks of the dead", () => {
  it("are taken over, all of them, and free again", () => {
    freshSpread();
    const blocks: usize[] = [];
    for (let node: u32 = 0; node < 4; ++node) blocks.push(mallocOnNode(100, node));
    const dead = die();
    const locks: usize[] = [pageHeapLock(), heap + offsetof<Heap>("topologyLock"), heap + offsetof<Heap>("reapLock")];
    for (let node: u32 = 0; node < 4; ++node) {
      locks.push(arenaOf(node) + offsetof<Arena>("queueLock"));
      locks.push(centralOf(node, classOf(100)));
    }
    for (let i = 0; i < locks.length; ++i) atomic.store<u32>(locks[i], wordOf(dead) | (i & 1));
    expect<i32>(reap(KEY)).toBe(1);
    for (let i = 0; i < locks.length; ++i) expect<u32>(atomic.load<u32>(locks[i])).toBe(0);
    expectOnly(blocks);
  });

  it("bring the page heap's lists with them, which are rebuilt", () => {
    fresh();
    const block = malloc(100_000);
    const free0 = theHeap().freePages;
    const dead = die();
    const free1 = theHeap().freePages;
    theHeap().freePages = 7; // in the middle of something
    changetype<Arena>(arenaOf(0)).nonempty0 = -1;
    atomic.store<u32>(pageHeapLock(), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(theHeap().freePages).toBe(free1);
    expect<bool>(free1 <= free0).toBe(true);
    expectOnly([block]);
  });

  it("bring a central list's counts with them, which are rebuilt", () => {
    fresh();
    const block = malloc(100);
    const dead = die();
    const central = centralOf(0, classOf(100));
    changetype<Central>(central).spans = 9;
    changetype<Span>(spanOf(block)).free = 1;
    atomic.store<u32>(central, wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expectOnly([block]);
  });

  it("that others hold are left to them", () => {
    fresh();
    carry(64, 1);
    die();
    atomic.store<u32>(centralOf(0, classOf(64)), 0);
    const central = makeCentral(0, classOf(2000));
    atomic.store<u32>(central, ELSEWHERE);
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(atomic.load<u32>(central)).toBe(ELSEWHERE);
    atomic.store<u32>(central, 0);
    expectOnly([]);
  });
});

describe("the topology of the dead", () => {
  it("half written, is finished", () => {
    fresh();
    const dead = die();
    atomic.store<u32>(heap + offsetof<Heap>("topologyLock"), wordOf(dead));
    theHeap().sequence += 1;
    theHeap().nodes = 2;
    const epoch = theHeap().epoch;
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(theHeap().sequence & 1).toBe(0);
    expect<u32>(theHeap().epoch).not.toBe(epoch);
    expectSound(); // every vCPU is on a node that exists
  });

  it("half rebound, is rebound", () => {
    fresh();
    const block = malloc(100);
    const dead = die();
    atomic.store<u32>(heap + offsetof<Heap>("topologyLock"), wordOf(dead));
    theHeap().rebindFirst = 0;
    theHeap().rebindPages = pageOf(END);
    theHeap().rebindNode = 3;
    expect<i32>(reap(KEY)).toBe(1);
    expect<i32>(nodeOf(block)).toBe(3);
    expect<u32>(theHeap().rebindPages).toBe(0);
    expectOnly([block]);
  });
});

// ---- hand-overs cut off: the dead thread's carry names the chain, and where it is decides

describe("the carry of the dead", () => {
  it("is void while it heads the list that it was to leave", () => {
    fresh();
    for (let i = 0; i < 20; ++i) free(malloc(64));
    const head = load<u32>(cacheList(thread, classOf(64)));
    theThread().carryEnd = load<u32>(head);
    theThread().carry = head;
    die();
    expect<i32>(reap(KEY)).toBe(1);
    expectEmpty();
  });

  it("is returned when it has left its list and arrived nowhere", () => {
    fresh();
    carry(64, 9);
    die();
    expect<i32>(reap(KEY)).toBe(1);
    expectEmpty();
  });

  it("is void once it heads a transfer cache", () => {
    fresh();
    const c = classOf(64);
    const central = carry(64, classInfo(c).batch);
    let last = <usize>theThread().carry;
    while (load<u32>(last) != <u32>sentinel()) last = load<u32>(last);
    store<u32>(last, 0);
    const batch = theThread().carry;
    putBatch(central, thread);
    theThread().carry = batch; // death before it was cleared, under the lock
    const dead = die();
    atomic.store<u32>(central, wordOf(dead));
    changetype<Central>(central).transferCount = 0;
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(changetype<Central>(central).transferHead).toBe(batch);
    expect<u32>(changetype<Central>(central).transferCount).toBe(1);
    expectEmpty();
  });

  it("is void once it heads a remote queue", () => {
    freshSpread();
    const block = mallocOnNode(100, 2);
    free(block);
    expect<bool>(handOver(thread, 2)).toBe(true);
    theThread().carry = <u32>block;
    theThread().carryEnd = 0;
    const dead = die();
    atomic.store<u32>(arenaOf(2) + offsetof<Arena>("queueLock"), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(changetype<Arena>(arenaOf(2)).queueHead).toBe(<u32>block);
    expectEmpty();
  });

  it("half returned to its spans, is returned: bits cleared twice count once", () => {
    fresh();
    const central = carry(64, 9);
    const before = theThread().carry;
    const end = theThread().carryEnd;
    expect<bool>(acquire(central, RANK_CENTRAL)).toBe(true);
    // Death between the clearing of bits and the carry's step: the carry still names them.
    const header = spanOf(before);
    const bits = load<u64>(header, SPAN_HEADER);
    store<u64>(header, bits & (bits - 1), SPAN_HEADER);
    release(central, RANK_CENTRAL);
    theThread().carryEnd = end;
    const dead = die();
    atomic.store<u32>(central, wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expectEmpty();
  });

  it("returned to the last bit, has its span released", () => {
    fresh();
    const central = carry(64, 9);
    memory.fill(spanOf(theThread().carry) + SPAN_HEADER, 0, 8); // the bits of all nine
    const dead = die();
    atomic.store<u32>(central, wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(changetype<Central>(central).spans).toBe(0);
    expectEmpty();
  });

  it("that names a large block finishes its free", () => {
    fresh();
    const block = malloc(100_000);
    theThread().carry = <u32>block;
    theThread().carryEnd = 0;
    const dead = die();
    atomic.store<u32>(pageHeapLock(), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<usize>(spanAt(pageOf(block))).toBe(0);
    expectEmpty();
  });

  it("that names a large block whose free was put off and not begun is void", () => {
    fresh();
    const blocks: usize[] = [];
    for (let i = 0; i < 4; ++i) blocks.push(malloc(100_000));
    free(blocks[1]);
    allowBlocking(false);
    atomic.store<u32>(pageHeapLock(), ELSEWHERE);
    free(blocks[2]);
    free(blocks[0]);
    atomic.store<u32>(pageHeapLock(), 0);
    theThread().carry = <u32>blocks[0];
    const dead = die();
    atomic.store<u32>(pageHeapLock(), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(theHeap().badCalls1).toBe(0);
    expectOnly([blocks[3]]);
  });

  it("that names a large block already free is void", () => {
    fresh();
    const block = malloc(100_000);
    free(block);
    theThread().carry = <u32>block;
    const dead = die();
    atomic.store<u32>(pageHeapLock(), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expectEmpty();
  });
});

describe("a change of the topology cut off by a death", () => {
  it("is seen by all, even if all but the epoch was written", () => {
    fresh();
    const dead = die();
    const before = theHeap().epoch;
    atomic.store<u32>(heap + offsetof<Heap>("topologyLock"), wordOf(dead));
    expect<i32>(reap(KEY)).toBe(1);
    expect<u32>(theHeap().epoch).not.toBe(before);
    expectOnly([]);
  });
});
