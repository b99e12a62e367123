// One thread alone, and its death anywhere: every write of a slow path, and what the reaper makes of it. Few states each, so that they are
// searched to the end.

import { BASE, keyOf } from "./heap.mjs";
import { constants as c, structs } from "./layout.mjs";
import { FIRST_PAGE, allPagesKnown, drain, fill, freeOf, freed, malloc, nodeInLabel, times } from "./steps.mjs";

const idle = (vcpu) => ({ vcpu, steps: [] });

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
    about: "records fill the metadata up, and the next page lies below the last",
    prepare(call, machine) {
      const field = (name) => machine.view.getUint32(BASE + structs.Heap[name].offset, true);
      const isRoom = () => field("metaEnd") - field("metaNext") >= c.THREAD_SIZE;
      const block = call(0, "malloc", 33000);
      let id = 1;
      const join = () => call(id, "attach", BASE, keyOf(id++), 0, 1);
      // A mutant may never see it filled.
      while (isRoom() && id < 9) join();
      do join();
      while (isRoom() && id < 9);
      call(0, "free", block);
    },
    threads: [
      idle(0),
      ...times(8, () => ({ attached: false, steps: [] })),
      { attached: false, mortal: true, steps: [["attach", BASE, keyOf(9), 0, 1], malloc(512), malloc(64)] },
    ],
  },
  "alone, a batch given": {
    about: "a full list gives a batch to the transfer cache, and trim all that is left",
    pages: 8,
    prepare: (call, machine) => fill(call, machine, 0, 8, 32),
    threads: [{ vcpu: 0, mortal: true, steps: (block) => [freed(block), ["malloc_trim", 0]] }],
  },
  "alone, a batch taken": {
    about: "an empty list takes a batch from the transfer cache; the program's first word looks like a label",
    pages: 8,
    prepare(call, machine) {
      drain(call, machine, 1, 8, 32);
      call(0, "free", fill(call, machine, 0, 8, 32));
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
        steps: [malloc(33000), ([block]) => ["realloc", block, 45000], ([, block]) => ["realloc", block, 34000], malloc(40000), freeOf(3)],
      },
    ],
  },
  "alone, rebind": {
    about: "spans with blocks, a large block and free pages change their node: all of them or, after a death, none",
    nodes: 2,
    prepare: (call) => [512, 33000, 4096].forEach((size) => call(0, "malloc", size)),
    threads: [{ vcpu: 0, mortal: true, steps: [["rebind", FIRST_PAGE, 15, 1]] }],
    expect(machine) {
      const nodes = machine.prelude.filter(({ call: [name] }) => name === "malloc").map(({ result }) => nodeInLabel(machine, result));
      const whole = nodes.every((node) => node === nodes[0]) && (machine.deaths.length || nodes[0] === 1);
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
    expect(machine) {
      const distance = machine.view.getUint8(BASE + c.DISTANCES + 1);
      return machine.deaths.length || distance === 30 ? null : `the distance is ${distance}`;
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
