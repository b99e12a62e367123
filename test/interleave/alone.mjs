// One thread alone, and its death anywhere: every write of a slow path, and what the reaper makes of it. Few states each, so that they are
// searched to the end.

import { BASE, keyOf } from "./heap.mjs";
import { constants as c, structs } from "./layout.mjs";
import { FIRST_PAGE, allPagesKnown, fill, freeOf, freed, idleSpan, malloc, neglectBatch, nodeInLabel, times } from "./steps.mjs";

const idle = (vcpu) => ({ vcpu, steps: [] });

/** A heap that ends 8 pages before a leaf of the page map does, with `free` free pages in it, and a thread that makes it grow beyond. */
const secondLeaf = (free) => ({
  pages: 126,
  growth: 6,
  prepare(call, machine) {
    const freePages = () => machine.view.getUint32(BASE + structs.Heap.freePages.offset, true);
    call(0, "malloc", 66000); // there are headers now
    for (let pages = 512; pages > 0; pages >>= 1) while (freePages() - free >= pages) call(0, "malloc", pages << c.PAGE_SHIFT);
  },
  threads: [{ vcpu: 0, mortal: true, steps: [malloc(70000)] }],
  expect(machine, field) {
    const older = machine.view.getUint32(BASE + c.ROOT + 4, true) < machine.initialPages * 65536;
    return machine.deaths.length || older === free > 0 ? allPagesKnown(machine, field) : `the leaf is older: ${older}`;
  },
});

/** name -> what heapScenario (heap.mjs) takes, and what it is about. */
export const alone = {
  "alone, the first block of a node": {
    about: "its arena, its central list, a page of headers, a growth, a span",
    nodes: 2,
    growth: 4,
    threads: [{ vcpu: 1, mortal: true, steps: [malloc(512), freeOf(0)] }],
    expect: allPagesKnown,
  },
  "alone, a page of metadata": {
    about: "records fill the metadata up, and the next page lies below the last, and serves all that come then",
    prepare(call, machine) {
      const field = (name) => machine.view.getUint32(BASE + structs.Heap[name].offset, true);
      const isRoom = () => field("metaEnd") - field("metaNext") >= c.THREAD_SIZE;
      const block = call(0, "malloc", 24576); // a short run, which is cut from the low end
      let id = 1;
      const join = () => call(id, "attach", BASE, keyOf(id++), 0, 1);
      // A mutant may never see it filled.
      while (isRoom() && id < 9) join();
      do join();
      while (isRoom() && id < 9);
      call(0, "free", block);
      call(0, "malloc_trim", 0);
    },
    threads: [
      idle(0),
      ...times(8, () => ({ attached: false, steps: [] })),
      { attached: false, mortal: true, steps: [["attach", BASE, keyOf(9), 0, 1], malloc(512), malloc(64)] },
    ],
    expect: ({ deaths }, field) => (deaths.length || field("metadataPages") <= 7 ? null : `${field("metadataPages")} pages of metadata`),
  },
  "alone, the first of the smallest blocks": {
    about: "a header with a long bitmap, and a page of such headers",
    growth: 2,
    threads: [{ vcpu: 0, mortal: true, steps: [malloc(8), freeOf(0)] }],
  },
  "alone, one of three spans": {
    about: "the last block of a span is taken while others of its class stand in the same list",
    prepare(call) {
      const blocks = times(6, () => call(0, "malloc", 4096)).sort((a, b) => a - b);
      blocks.forEach((block, i) => i % 2 || call(0, "free", block));
      call(0, "malloc_trim", 0);
    },
    threads: [{ vcpu: 0, mortal: true, steps: [malloc(4096)] }],
  },
  "alone, the last block of a span": {
    about: "a span that is all inside again is released, by a reaper too",
    prepare(call) {
      const [one, two] = times(2, () => call(0, "malloc", 4096));
      call(0, "free", one);
      return two;
    },
    threads: [{ vcpu: 0, mortal: true, steps: (two) => [freed(two), ["malloc_trim", 0]] }],
    expect: idleSpan,
  },
  "alone, long runs": {
    about: "large blocks are cut from a run of more than 64 pages",
    pages: 10,
    threads: [{ vcpu: 0, mortal: true, steps: [malloc(66000), malloc(66000), freeOf(0)] }],
  },
  "alone, a second leaf": {
    about: "a growth beyond what the first leaf covers, which makes the second of its own pages",
    ...secondLeaf(0),
  },
  "alone, a second leaf elsewhere": {
    about: "the same, and a free page that is older becomes the leaf",
    ...secondLeaf(1),
  },
  "alone, a batch given": {
    about: "a full list gives a batch to the transfer cache, and trim all that is left",
    pages: 8,
    prepare: (call, machine) => fill(call, machine, 0, 8, 32),
    threads: [{ vcpu: 0, mortal: true, steps: (block) => [freed(block), ["malloc_trim", 0]] }],
  },
  "alone, a batch taken": {
    about: "an empty list takes a batch that nobody has wanted from the transfer cache; the program's first word looks like a label",
    pages: 8,
    prepare(call, machine) {
      neglectBatch(call, machine);
      machine.view.setUint32(0, 1, true);
    },
    threads: [idle(0), { vcpu: 0, mortal: true, steps: [malloc(8), ["mallocOnNode", 8, 0]] }],
  },
  "alone, blocks sent": {
    about: "three blocks of another node are freed: two go to its queue, one waits; then all that is cached goes",
    nodes: 2,
    growth: 4,
    prepare: (call) => times(3, () => call(1, "malloc", 8192)),
    threads: [{ vcpu: 0, mortal: true, steps: (blocks) => [...blocks.map(freed), ["malloc_trim", 0]] }, idle(1)],
  },
  "alone, blocks come home": {
    about: "two batches of remote frees wait for a refill",
    nodes: 2,
    growth: 4,
    prepare: (call) => times(4, () => call(1, "malloc", 8192)).forEach((block) => call(0, "free", block)),
    threads: [idle(0), { vcpu: 1, mortal: true, steps: [malloc(8192), malloc(16384)] }],
  },
  "alone, large blocks": {
    about: "made, lengthened, shortened, moved, freed",
    growth: 4,
    threads: [
      {
        vcpu: 0,
        mortal: true,
        steps: [malloc(66000), ([block]) => ["realloc", block, 78000], ([, block]) => ["realloc", block, 67000], malloc(73000), freeOf(3)],
      },
    ],
  },
  "alone, a large block lengthened where it is": {
    about: "into free pages behind it",
    pages: 5,
    prepare(call) {
      const [, low, high] = times(3, () => call(0, "malloc", 66000)).sort((a, b) => a - b);
      call(0, "free", high);
      return low;
    },
    threads: [{ vcpu: 0, mortal: true, steps: (block) => [["realloc", block, 78000], malloc(512), freeOf(0)] }],
  },
  "alone, rebind": {
    about: "spans with blocks, a large block and free pages change their node: all of them or, after a death, none",
    nodes: 3,
    prepare(call) {
      [512, 66000, 4096].forEach((size) => call(0, "malloc", size));
      call(0, "rebind", FIRST_PAGE + 15, 1, 2); // a rebind before, to yet another node
    },
    threads: [{ vcpu: 0, mortal: true, steps: [["rebind", FIRST_PAGE, 15, 1]] }],
    expect(machine) {
      const nodes = machine.prelude.filter(({ call: [name] }) => name === "malloc").map(({ result }) => nodeInLabel(machine, result));
      const whole = nodes.every((node) => node === nodes[0]) && (nodes[0] === 1 || (machine.deaths.length && nodes[0] === 0));
      return whole ? null : `spans are labelled ${nodes}`;
    },
  },
  "alone, topology": {
    about: "a vCPU moves, a distance changes, a node gets a limit and vanishes",
    nodes: 2,
    growth: 2,
    prepare: (call) => call(1, "malloc", 512),
    threads: [
      {
        vcpu: 0,
        mortal: true,
        steps: [["setVcpuNode", 2, 1], ["setDistance", 0, 1, 30], ["setNodeLimit", 1, 8], ["setNodes", 1], malloc(512)],
      },
      idle(1),
    ],
    expect(machine, field) {
      const found = `${machine.view.getUint8(BASE + c.DISTANCES + 1)} to the other of ${field("nodes")} nodes`;
      return machine.deaths.length || found === "30 to the other of 1 nodes" ? null : found;
    },
  },
  "alone, coming and going": {
    about: "attaches, allocates on two nodes, leaves",
    nodes: 2,
    growth: 2,
    threads: [
      {
        attached: false,
        mortal: true,
        steps: [["attach", BASE, keyOf(0), 0, 1], malloc(512), malloc(16384), ([, block]) => freed(block), freeOf(2), ["detach"]],
      },
    ],
  },
};
