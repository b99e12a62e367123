// The slow paths, each as what goes before and the calls in which the victim dies.

import { BASE } from "./stage.mjs";

const many = (n, call) => Array.from({ length: n }, (_, i) => call(i));
const ALL_PAGES = 24 * 8;
const FIRST_PAGE = BASE / 8192;

/** name -> { attached = true, isGuest = false, before(stage): state, calls(victim, state, stage) } */
export const paths = {
  "refill, first of its class": { calls: (a) => a.malloc(64) },
  "refill from spans": {
    before: ({ victim: a }) => {
      const blocks = many(40, () => a.malloc(256));
      blocks.forEach((ptr, i) => i % 2 && a.free(ptr));
      a.call("malloc_trim", 0);
    },
    calls: (a) => many(30, () => a.malloc(256)),
  },
  "refill from the transfer cache": {
    before: ({ victim: a }) => {
      const blocks = many(200, () => a.malloc(16));
      blocks.forEach((ptr) => a.free(ptr));
    },
    calls: (a) => many(150, () => a.malloc(16)),
  },
  "overflow and flush": {
    before: ({ victim: a }) => many(120, (i) => a.malloc(i % 2 ? 16 : 900)),
    calls: (a, blocks) => blocks.forEach((ptr) => a.free(ptr)),
  },
  "remote hand-over": {
    before: ({ victim: a }) => many(80, () => a.take("mallocOnNode", 100, 1)),
    calls: (a, blocks) => blocks.forEach((ptr) => a.free(ptr)),
  },
  "drain of a remote queue": {
    before: ({ victim: a, survivor: b }) => {
      const blocks = many(140, () => a.malloc(100));
      blocks.forEach((ptr) => b.free(ptr));
    },
    calls: (a) => many(60, () => a.malloc(200)),
  },
  "a block on a given node": { calls: (a) => many(3, () => a.take("mallocOnNode", 3000, 1)) },
  "span made and released": {
    calls: (a) => {
      const blocks = many(6, () => a.malloc(8192));
      blocks.forEach((ptr) => a.free(ptr));
      a.call("malloc_trim", 0);
    },
  },
  "large malloc and free": {
    calls: (a) => {
      const blocks = many(3, () => a.malloc(73_000));
      a.free(blocks[1]);
      a.free(blocks[0]);
      a.free(blocks[2]);
    },
  },
  "large calloc": {
    before: ({ victim: a }) => a.free(a.malloc(93_000)),
    calls: (a) => a.take("calloc", 2, 30_000),
  },
  "large realloc: longer, shorter, moved": {
    before: ({ victim: a }) => [a.malloc(83_000), a.malloc(73_000)],
    calls: (a, [, ptr]) => {
      let p = a.realloc(ptr, 93_000);
      p = a.realloc(p, 67_000);
      a.malloc(73_000);
      p = a.realloc(p, 120_000);
      a.realloc(p, 100);
    },
  },
  "small realloc": {
    before: ({ victim: a }) => a.malloc(100),
    calls: (a, ptr) => a.realloc(a.realloc(ptr, 3000), 40),
  },
  "aligned beyond a page": { calls: (a) => a.take("memalign", 32768, 73_000) },
  "growth of the memory": { calls: (a) => many(2, () => a.malloc(300_000)) },
  "interleaved large block": {
    before: ({ victim: a }) => a.call("setPolicy", 3, 3),
    calls: (a) => a.malloc(100_000),
  },
  trim: {
    before: ({ victim: a, survivor: b }) => {
      const blocks = many(150, (i) => a.malloc(i * 7));
      blocks.forEach((ptr, i) => (i % 3 ? a : b).free(ptr));
    },
    calls: (a) => a.call("malloc_trim", 0),
  },
  "rebind of everything": {
    before: ({ victim: a, survivor: b }) => {
      const blocks = many(60, (i) => (i % 2 ? a : b).malloc(i * 50));
      many(3, () => a.malloc(73_000));
      blocks.forEach((ptr, i) => i % 3 === 0 && a.free(ptr));
    },
    calls: (a) => a.call("rebind", FIRST_PAGE, ALL_PAGES, 1),
  },
  "rebind of a few pages of spans and runs": {
    before: ({ victim: a }) => {
      many(10, () => a.malloc(5000));
      a.malloc(93_000);
    },
    calls: (a) => {
      a.call("rebind", FIRST_PAGE + 8, 9, 1);
      a.call("rebind", FIRST_PAGE + 12, 30, 0);
    },
  },
  "vCPU moved, cache sorted out": {
    before: ({ victim: a }) => {
      const blocks = many(60, (i) => a.malloc(i * 11));
      blocks.forEach((ptr) => a.free(ptr));
    },
    calls: (a) => {
      a.call("setVcpuNode", 0, 1);
      a.call("settle");
      a.malloc(100);
    },
  },
  "nodes and distances": {
    before: ({ victim: a }) => many(5, () => a.take("mallocOnNode", 500, 1)),
    calls: (a) => {
      a.call("setDistance", 0, 1, 30);
      a.call("setNodes", 1);
      a.call("setNodes", 2);
    },
  },
  "policy that empties the cache": {
    before: ({ victim: a }) => many(50, (i) => a.malloc(i * 9)).forEach((ptr) => a.free(ptr)),
    calls: (a) => a.call("setPolicy", 2, 2),
  },
  attach: { attached: false, calls: (a) => a.attach() },
  detach: {
    before: ({ victim: a }) => {
      const blocks = many(90, (i) => (i % 4 ? a.malloc(i * 13) : a.take("mallocOnNode", i * 13, 1)));
      blocks.forEach((ptr, i) => i % 5 && a.free(ptr));
    },
    calls: (a) => a.call("detach"),
  },
  "reap of another": {
    before: ({ victim: a, survivor: b }) => {
      const blocks = many(60, (i) => b.malloc(i * 17));
      blocks.forEach((ptr, i) => i % 2 && b.free(ptr));
      const foreign = many(10, () => a.malloc(80));
      foreign.forEach((ptr) => b.free(ptr));
    },
    // The survivor is taken for dead; somebody else takes its place.
    calls: (a, _, stage) => {
      const dead = stage.survivor.key;
      stage.replaceSurvivor();
      a.call("reap", dead);
    },
    alsoDead: [13],
  },
  "frames claimed": { isGuest: true, calls: (a) => many(2, () => a.malloc(83_000)) },
  "frames claimed on a node that has few together": {
    isGuest: true,
    before: ({ victim: a }) => a.call("rebind", FIRST_PAGE, ALL_PAGES, 0),
    calls: (a) => many(3, () => a.take("mallocOnNode", 3000, 1)),
  },
  "frames claimed on whichever nodes, where no node has as many together": { isGuest: true, calls: (a) => a.malloc(150_000) },
  "frames released": {
    isGuest: true,
    before: ({ victim: a }) => many(4, () => a.malloc(100_000)).forEach((ptr) => a.free(ptr)),
    calls: (a) => a.call("malloc_trim", 0),
  },
  "frames released, but for a few, and claimed again": {
    isGuest: true,
    before: ({ victim: a }) => {
      const blocks = many(4, () => a.malloc(93_000));
      a.free(blocks[1]);
      a.free(blocks[3]);
    },
    calls: (a) => {
      a.call("malloc_trim", 30_000);
      a.take("calloc", 100_000, 1);
    },
  },
};
