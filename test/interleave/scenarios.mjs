// The heap's scenarios: small on purpose, each about one hand-over or one lock, so that every order of its steps can be explored.
//
// Each thread is a list of calls on its own instance; `mortal` ones may die where deaths are explored, and then a reaper comes.
// `size` 16384 costs a remote free so much that it is handed over at once; blocks of 4096 in a heap of 16 pages are beyond what a
// cache may hold, so that each free goes to its span; a batch of 8-byte blocks fits the transfer cache of any heap.

import { alone } from "./alone.mjs";
import { BASE, keyOf } from "./heap.mjs";
import { constants as c, structs } from "./layout.mjs";
import {
  FIRST_PAGE,
  allPagesKnown,
  isUpToDate,
  drain,
  fill,
  freeOf,
  freed,
  malloc,
  mallocAndFree,
  misplaced,
  neglectBatch,
  pageOf,
  received,
  times,
} from "./steps.mjs";

/** Reaps thread `id`, as often as it takes. */
const reap = (id) => ({ make: ["reap", keyOf(id)], again: (result) => result === 0xffffffff });
/** Thread `id` has died with a lock of the Heap, and somebody may wait for it. */
const hold = ({ view }, lock, id) => view.setUint32(BASE + structs.Heap[lock].offset, ((id + 1) << 1) | 1, true);

/** Node 1 has `count` blocks out; two of them, a batch, are freed on node 0, and node 1 wants one. */
const goHome = (count, size) => ({
  nodes: 2,
  pages: 4,
  growth: 4,
  prepare(call) {
    const [one, two] = times(count, () => call(1, "malloc", size));
    call(0, "free", one);
    return two;
  },
  threads: [
    { vcpu: 0, mortal: true, steps: (two) => [freed(two)] },
    { vcpu: 1, mortal: true, steps: [malloc(size)] },
  ],
});

/** name -> what heapScenario (heap.mjs) takes, and what it is about. */
export const scenarios = {
  ...alone,
  lock: {
    about: "three threads want one central lock: spinning, sleeping, waking",
    prepare: (call) => times(3, (id) => call(id, "malloc", 512)),
    threads: times(3, (i) => ({ vcpu: 0, mortal: i === 0, steps: [malloc(512)] })),
  },
  "lock, sleeps that end by themselves": {
    about: "the same, and a timed wait may run out at any time",
    timeouts: true,
    prepare: (call) => times(2, (id) => call(id, "malloc", 512)),
    threads: times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [malloc(512)] })),
  },
  "lock, a thread that may not sleep": {
    about: "one of three may not sleep: it gives up and fails, or finds the lock free",
    mayFail: true,
    prepare: (call) => times(3, (id) => call(id, "malloc", 512)),
    threads: times(3, (i) => ({ vcpu: 0, flags: i ? 1 : 0, mortal: i === 1, steps: [malloc(512)] })),
  },
  "first use of a class": {
    about: "two threads make the same central list, its headers and its first span",
    threads: times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: mallocAndFree(512) })),
  },
  "transfer cache": {
    about: "one thread hands a batch on while another takes one, a third wants blocks too",
    pages: 8,
    prepare(call, machine) {
      drain(call, machine, 1, 8, 32);
      drain(call, machine, 2, 8, 32);
      return fill(call, machine, 0, 8, 32);
    },
    threads: [
      { vcpu: 0, mortal: true, steps: (block) => [freed(block)] },
      { vcpu: 0, mortal: true, steps: [malloc(8)] },
      { vcpu: 0, steps: [malloc(8)] },
    ],
  },
  "transfer cache, a batch that nobody wanted": {
    about: "one thread returns it to its span, unless another takes it first",
    pages: 8,
    prepare: neglectBatch,
    threads: [
      { vcpu: 0, mortal: true, steps: [malloc(3072)] },
      { vcpu: 0, mortal: true, steps: [malloc(8)] },
    ],
  },
  "central list": {
    about: "spans made for one thread, emptied and released by another",
    prepare: (call) => times(2, () => call(1, "malloc", 4096)),
    threads: [
      { vcpu: 0, mortal: true, steps: [malloc(4096)] },
      { vcpu: 0, mortal: true, steps: ([one, two]) => [freed(one), freed(two)] },
    ],
  },
  "central list, the last block": {
    about: "two threads give the two last blocks of a span back, a third wants one",
    prepare: (call) => times(2, (i) => call(i, "malloc", 4096)),
    threads: [
      ...times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: (blocks) => [freed(blocks[i])] })),
      { vcpu: 0, steps: [malloc(4096)] },
    ],
  },
  "remote queue": {
    about: "two blocks freed on another node go home while their node refills",
    ...goHome(2, 8192),
  },
  "remote queue, two senders": {
    about: "two threads of node 0 send blocks to node 1, where one refills",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => times(3, () => call(1, "malloc", 16384)),
    threads: [
      { vcpu: 0, mortal: true, steps: (blocks) => [freed(blocks[0])] },
      { vcpu: 1, steps: [malloc(16384)] },
      { vcpu: 2, steps: (blocks) => [freed(blocks[1])] },
    ],
  },
  "remote queue, blocks of one span": {
    about: "two of the three blocks of a span go home, and one of them is given out again at once",
    ...goHome(3, 10240),
  },
  "remote queue, two receivers": {
    about: "two threads of node 1 refill while two batches wait there",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => times(2, () => call(1, "malloc", 16384)).forEach((block) => call(0, "free", block)),
    threads: [
      { vcpu: 0, steps: [] },
      { vcpu: 1, mortal: true, steps: [malloc(16384)] },
      { vcpu: 3, steps: [malloc(16384)] },
    ],
  },
  "page source": {
    about: "two threads grow the memory at once",
    growth: 4,
    prepare: (call) => call(0, "malloc", 97000),
    threads: times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [malloc(70000)] })),
    expect: allPagesKnown,
  },
  "page source, others grow too": {
    about: "the memory is grown by somebody else between the looks and the growth of a thread",
    growth: 6,
    prepare: (call) => call(0, "malloc", 97000),
    threads: [
      { vcpu: 0, mortal: true, steps: [malloc(70000)] },
      {
        attached: false,
        steps: [
          ["foreignGrow", 1],
          ["foreignGrow", 1],
        ],
      },
    ],
  },
  "page source, growing alone": {
    about: "a heap that grows alone loses no page with a thread that dies while it grows",
    flags: c.HEAP_GROWS_ALONE,
    growth: 4,
    prepare: (call) => call(0, "malloc", 97000),
    threads: [
      { vcpu: 0, mortal: true, steps: [malloc(70000)] },
      { vcpu: 0, steps: [malloc(70000)] },
    ],
    expect: allPagesKnown,
  },
  "page source, exhausted": {
    about: "two threads want the last pages, and one of them must fail",
    mayFail: true,
    prepare: (call) => call(0, "malloc", 16384),
    threads: times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [malloc(70000)] })),
  },
  "page heap": {
    about: "large blocks beside each other freed and taken at once; there may be room for a third or not yet",
    pages: 3,
    mayFail: true,
    prepare: (call) => [call(0, "malloc", 66000), call(0, "malloc", 66000)],
    threads: [
      { vcpu: 0, mortal: true, steps: ([one]) => [freed(one)] },
      { vcpu: 0, steps: ([, two]) => [freed(two)] },
      { vcpu: 0, mortal: true, steps: [malloc(66000)] },
    ],
  },
  "a limit for a node": {
    about: "one thread limits a node while another takes the first block there: both make its arena",
    nodes: 2,
    pages: 4,
    growth: 4,
    threads: [
      { vcpu: 0, mortal: true, steps: [["setNodeLimit", 1, 100]] },
      { vcpu: 1, mortal: true, steps: [malloc(512)] },
    ],
  },
  "large blocks on a node": {
    about: "two threads want pages of the same node, one of them not its own",
    nodes: 2,
    pages: 4,
    growth: 2,
    prepare: (call) => [call(0, "malloc", 66000), call(1, "malloc", 66000)],
    threads: [
      { vcpu: 0, mortal: true, steps: [["mallocOnNode", 66000, 1]] },
      { vcpu: 1, mortal: true, steps: ([, block]) => [malloc(66000), freed(block)] },
    ],
  },
  "frees put off": {
    about: "a thread that may not sleep frees large blocks while another has the page heap: it keeps them until it trims",
    pages: 3,
    growth: 4,
    prepare: (call) => times(2, () => call(0, "malloc", 66000)),
    threads: [
      { vcpu: 0, flags: 0, mortal: true, steps: ([one, two]) => [freed(one), freed(two), ["malloc_trim", 0]] },
      { vcpu: 0, steps: [malloc(66000)] },
    ],
  },
  "realloc in place": {
    about: "a block grows into the pages another thread wants",
    growth: 4,
    prepare: (call) => call(0, "malloc", 66000),
    threads: [
      { vcpu: 0, mortal: true, steps: (block) => [["realloc", block, 78000], ([moved]) => ["realloc", moved, 67000]] },
      { vcpu: 0, steps: [malloc(66000)] },
    ],
  },
  trim: {
    about: "everything cached goes back while others allocate",
    prepare(call) {
      const block = call(0, "malloc", 512);
      call(0, "free", block);
    },
    threads: [
      { vcpu: 0, mortal: true, steps: [["malloc_trim", 0]] },
      { vcpu: 0, mortal: true, steps: mallocAndFree(512) },
    ],
  },
  "topology page": {
    about: "two handlers write the page of topology, a thread observes it",
    nodes: 2,
    threads: [
      { vcpu: 0, mortal: true, steps: [["setVcpuNode", 2, 1]] },
      { vcpu: 0, steps: [["setDistance", 0, 1, 30]] },
      { vcpu: 2, steps: [["settle"]] },
    ],
    expect: (machine) => isUpToDate(machine, 2),
  },
  "topology page, one handler": {
    about: "a vCPU moves while its thread observes it",
    nodes: 2,
    threads: [
      { vcpu: 0, mortal: true, steps: [["setVcpuNode", 2, 1]] },
      { vcpu: 2, steps: [["settle"]] },
    ],
    expect: (machine) => isUpToDate(machine, 1),
  },
  "nodes vanish": {
    about: "a node vanishes while a thread on it allocates: others adopt what it had",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => [call(1, "malloc", 16384), call(1, "malloc", 512)],
    threads: [
      { vcpu: 0, mortal: true, steps: ([block]) => [freed(block), ["setNodes", 1]] },
      { vcpu: 1, mortal: true, steps: [malloc(512)] },
    ],
  },
  "rebind against malloc": {
    about: "a span changes its node while a thread takes blocks from it",
    nodes: 2,
    prepare: (call) => call(1, "malloc", 4096),
    threads: [
      { vcpu: 0, mortal: true, steps: (block) => [["rebind", pageOf(block), 1, 1]] },
      { vcpu: 2, mortal: true, steps: [malloc(4096)] },
    ],
  },
  "rebind against free": {
    about: "a span changes its node while a block of it is freed by a thread of the old one",
    nodes: 2,
    prepare: (call) => [call(1, "malloc", 4096), call(1, "malloc", 4096)],
    threads: [
      { vcpu: 0, mortal: true, steps: ([block]) => [["rebind", pageOf(block), 1, 1]] },
      { vcpu: 2, mortal: true, steps: ([block]) => [freed(block)] },
    ],
  },
  "rebind against a hit": {
    about: "a span changes its node while blocks of it are cached: hits of malloc and free read the tag as they please",
    nodes: 2,
    prepare(call) {
      const blocks = times(4, () => call(1, "malloc", 64));
      blocks.slice(1).forEach((block) => call(1, "free", block));
      return blocks[0];
    },
    threads: [
      { vcpu: 0, mortal: true, steps: (block) => [["rebind", pageOf(block), 1, 1]] },
      { vcpu: 2, mortal: true, steps: (block) => [freed(block), malloc(64)] },
    ],
  },
  "rebind against a large free": {
    about: "a large block changes its node while it is freed, and its header may serve another",
    nodes: 2,
    prepare: (call) => call(0, "malloc", 66000),
    threads: [
      { vcpu: 0, mortal: true, steps: (block) => [["rebind", pageOf(block), 9, 1]] },
      { vcpu: 0, mortal: true, steps: (block) => [freed(block), malloc(66000)] },
    ],
    expect: (machine) => (machine.deaths.length ? null : misplaced(machine, machine.threads[1].results[1])),
  },
  "rebind of free pages": {
    about: "free pages change their node while a large block is cut from them",
    nodes: 2,
    threads: [
      { vcpu: 0, mortal: true, steps: [["rebind", FIRST_PAGE + 8, 4, 1]] },
      { vcpu: 0, mortal: true, steps: [malloc(66000)] },
    ],
  },
  adoption: {
    about: "a span is adopted by another node's list while both nodes allocate from theirs",
    nodes: 2,
    prepare: (call) => [call(1, "malloc", 4096), call(2, "malloc", 4096)],
    threads: [
      { vcpu: 0, mortal: true, steps: ([block]) => [["rebind", pageOf(block), 1, 1]] },
      { vcpu: 2, steps: [malloc(4096)] },
      { vcpu: 1, steps: [malloc(4096)] },
    ],
  },
  attach: {
    about: "two threads attach at once, and allocate",
    threads: times(2, (i) => ({ attached: false, vcpu: 0, mortal: i === 0, steps: [["attach", BASE, keyOf(i), 0, 1], malloc(512)] })),
  },
  detach: {
    about: "a thread leaves with a full cache, another comes, a third allocates",
    prepare(call) {
      times(3, () => call(0, "malloc", 512)).forEach((block) => call(0, "free", block));
    },
    threads: [
      { vcpu: 0, mortal: true, steps: [["detach"]] },
      { vcpu: 0, attached: false, steps: [["attach", BASE, keyOf(1), 0, 1]] },
      { vcpu: 0, steps: [malloc(512)] },
    ],
  },
  reaping: {
    about: "two threads reap the same dead one",
    prepare(call) {
      times(3, () => call(0, "malloc", 512)).forEach((block) => call(0, "free", block));
    },
    threads: [{ vcpu: 0, steps: [] }, ...times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [reap(0)] }))],
    expect: ({ deaths }, field) => (deaths.length || field("reaped") === 1 ? null : `reaped ${field("reaped")} times`),
  },
  "reaping, of a dead reaper": {
    about: "two threads take over from one that died while it reaped",
    prepare: (_, machine) => hold(machine, "reapLock", 0),
    threads: [{ vcpu: 0, steps: [] }, ...times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [reap(0)] }))],
    expect: ({ deaths }, field) => (deaths.length || field("reaped") === 1 ? null : `reaped ${field("reaped")} times`),
  },
  "reaping, of two with a lock": {
    about: "the lock that the reaper wants is another dead thread's: it is to ask again after that one",
    prepare: (_, machine) => hold(machine, "pageHeapLock", 1),
    threads: [
      { vcpu: 0, steps: [] },
      { vcpu: 0, steps: [] },
      { vcpu: 0, steps: [["reap", keyOf(0)], ["reap", keyOf(1)], reap(0)] },
    ],
  },
  "reaping, then going on": {
    about: "who has reaped waits for locks again",
    prepare: (call) => times(2, (i) => call(i + 1, "malloc", 512)),
    threads: [
      { vcpu: 0, steps: [] },
      { vcpu: 0, mortal: true, steps: [reap(0), malloc(512)] },
      { vcpu: 0, steps: [malloc(512)] },
    ],
  },
  "a block on a node": {
    about: "one thread wants a block on a given node, which another allocates from",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => times(2, (id) => call(id, "malloc", 512)),
    threads: [
      { vcpu: 0, mortal: true, steps: [["mallocOnNode", 512, 1]] },
      { vcpu: 1, mortal: true, steps: [malloc(512)] },
    ],
  },
  interleaving: {
    about: "two threads interleave their blocks over two nodes",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => times(2, (id) => call(id, "setPolicy", 3, 3)),
    threads: times(2, (id) => ({ vcpu: id, mortal: id === 0, steps: [malloc(8192), malloc(8192)] })),
    expect: ({ deaths }, _, sum) =>
      deaths.length || sum("interleaveHit") === sum("numaHit") ? null : "interleaved blocks are not counted",
  },
  "a full node": {
    about: "two threads of a node without pages allocate from another",
    nodes: 3,
    pages: 3,
    prepare(call) {
      [0, 1].forEach((id) => call(id, "setNodeLimit", 2, 1));
    },
    threads: times(2, (i) => ({ vcpu: 2, mortal: i === 0, steps: [malloc(8192)] })),
  },
  "bad calls": {
    about: "two threads ask for the size of what is no block",
    threads: times(2, (i) => ({ vcpu: 0, mortal: i === 0, steps: [["malloc_usable_size", 8]] })),
    expect: ({ deaths }, field) => (deaths.length || field("badCalls0") === 2 ? null : `${field("badCalls0")} bad calls counted`),
  },
  "producer and consumer": {
    about: "a block passes from one thread to another, on another node",
    nodes: 2,
    pages: 4,
    prepare: (call) => call(0, "malloc", 16384),
    threads: [
      { vcpu: 0, mortal: true, steps: [malloc(16384), malloc(16384)] },
      {
        vcpu: 1,
        mortal: true,
        steps: [received(0, 0)],
      },
    ],
  },
};

/** Larger mixes, for random schedules. */
export const mixes = {
  "everything at once": {
    about: "four threads on two nodes allocate, free each other's blocks, rebind, move, trim and detach",
    nodes: 2,
    pages: 4,
    growth: 4,
    prepare: (call) => times(6, (i) => call(i % 3, "malloc", [512, 16384, 4096, 66000, 64, 8192][i])),
    threads: [
      {
        vcpu: 0,
        mortal: true,
        steps: (blocks) => [malloc(512), freed(blocks[1]), malloc(16384), freeOf(0), ["malloc_trim", 0], malloc(73000), freeOf(2)],
      },
      {
        vcpu: 1,
        mortal: true,
        steps: (blocks) => [malloc(4096), freed(blocks[3]), malloc(64), freeOf(0), ["realloc", blocks[4], 9000], malloc(66000)],
      },
      {
        vcpu: 2,
        mortal: true,
        steps: (blocks) => [freed(blocks[0]), malloc(16384), freed(blocks[5]), freeOf(1), malloc(8192), ["detach"]],
      },
      {
        vcpu: 0,
        steps: (blocks) => [
          ["rebind", FIRST_PAGE, 32, 1],
          ["setVcpuNode", 2, 1],
          ["rebind", pageOf(blocks[2]), 8, 0],
          ["setDistance", 0, 1, 40],
          ["rebind", FIRST_PAGE + 8, 12, 1],
        ],
      },
    ],
  },
  "messages between nodes": {
    about: "two producers and two consumers pass blocks in a ring",
    nodes: 2,
    pages: 4,
    growth: 4,
    threads: times(4, (i) => ({
      vcpu: i,
      mortal: i < 2,
      steps: times(4, (n) => [malloc(16384), received((i + 1) % 4, 2 * n)]).flat(),
    })),
  },
};
