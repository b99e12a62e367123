// The cells of the benchmark: what each measures, on how many threads, and how a thread calls the driver for it. Runs in any engine.
//
// Memory below the allocator's first byte is the driver's (bench/drivers/): `at` says where a thread has its own words, its slots and its
// histograms, and where the tables and rings lie that threads share.

const MIB = 2 ** 20;
const SLOTS = 10_000;

/** Where the driver's data lie in its region of 64 MiB, which begins at `base`. */
export function placesOf(base, thread) {
  const own = base + MIB * (1 + thread);
  return { own, slots: own + 256, histograms: own + MIB / 2, table: base + 128 * 1024, ring: base + 512 * 1024, events: base + 16 * MIB };
}
export const REGION_BYTES = 64 * MIB;
/** Blocks that all threads share in e, g and p, for each thread. */
const SHARED = 5000;
const RING_BYTES = 32768;

const nothing = () => {};
/** Random blocks of least to least + range - 1 bytes in `count` slots. */
const random = (count, least, range) => ({
  setUp: (driver, at) => driver.fill(at.own, at.slots, count, least, range),
  run: (driver, at, rounds) => driver.larson(at.own, rounds, at.slots, count, least, range),
  tearDown: (driver, at) => driver.clear(at.slots, count),
});
/** Blocks in slots that begin empty. */
const slotted = (loop, count, ...rest) => ({
  setUp: nothing,
  run: (driver, at, rounds) => driver[loop](at.own, rounds, at.slots, count, ...rest),
  tearDown: (driver, at) => driver.clear(at.slots, count),
});

/** One block in hand. */
const ping = { setUp: nothing, run: (driver, at, rounds) => driver.ping(at.own, rounds), tearDown: nothing };
/** Every other thread frees what the one before it takes. */
const handedOver = {
  chunk: 6400,
  setUp: nothing,
  roles: 2,
  produce: (driver, at, rounds, pair) => driver.produce(at.own, rounds, at.ring + pair * RING_BYTES, 16, 240),
  consume: (driver, at, rounds, pair) => driver.consume(at.own, rounds, at.ring + pair * RING_BYTES),
  tearDown: nothing,
};

/**
 * `threads`: on how many it is measured. `floor`: bare lists can do it. `chunk`: rounds between two looks at the clock. `warmUp`: rounds after
 * which all slots have been used. `parts`: what it is measured with, one after the other. `needs`: what an allocator must have beside malloc and free. `run` answers how often the driver found something wrong.
 * `alone`: numaheap against itself: "nodeBlind", built without nodes in mind and on one node, or "changes", with fewer changes of the topology.
 */
export const CELLS = [
  {
    letter: "a",
    title: "ping-pong: 16 B taken and given back in turns",
    threads: [1, 2, 4],
    floor: true,
    chunk: 20_000,
    ...ping,
  },
  {
    letter: "b",
    title: "batches: 1,000 blocks of 32 B, first in, first out",
    threads: [1, 2, 4],
    floor: true,
    chunk: 20_000,
    setUp: nothing,
    run: (driver, at, rounds) => driver.batch(at.own, rounds, at.slots, 1000, 32),
    tearDown: nothing,
  },
  {
    letter: "c",
    title: "larson: 8 B to 1 KiB at random, 10,000 live",
    threads: [1, 2, 4],
    floor: true,
    chunk: 10_000,
    warmUp: 100_000,
    ...random(SLOTS, 8, 1017),
  },
  {
    letter: "d",
    title: "1 to 64 KiB at random, 1,000 live",
    threads: [1, 2],
    chunk: 2000,
    warmUp: 5000,
    ...random(1000, 1024, 63 * 1024 + 1),
  },
  {
    letter: "e",
    title: "larson over one table: any thread frees what any took",
    threads: [1, 2, 4],
    chunk: 5000,
    warmUp: 50_000,
    setUp: nothing,
    run: (driver, at, rounds, threads) => driver.handOn(at.own, rounds, at.table, SHARED * threads, 8, 1017),
    tearDown: (driver, at, threads) => driver.clearTable(at.table, SHARED * threads),
  },
  {
    letter: "f",
    title: "producer and consumer: 16 to 255 B",
    threads: [2, 4],
    ...handedOver,
  },
  {
    letter: "g",
    title: "mstress: 16 B to 8 KiB, exchanged all to all, threads end and start",
    threads: [1, 2, 4],
    chunk: 5000,
    /** Chunks after which a thread ends and another goes on with its blocks. */
    generation: 10,
    setUp: nothing,
    run: (driver, at, rounds, threads) => driver.mstress(at.own, rounds, at.slots, 1000, at.table, 1000 * threads),
    tearDown: (driver, at, threads) => {
      driver.clearTable(at.slots, 1000);
      driver.clearTable(at.table, 1000 * threads);
    },
  },
  {
    letter: "h",
    title: "cache-scratch: 8 B, each written to 1,000 times",
    unit: "ns/write",
    threads: [1, 2, 4],
    chunk: 50_000,
    /** The first thread takes a block for each of them, next to each other. */
    setUp: (driver, at, threads, thread) => {
      if (thread === 0) driver.fill(at.own, at.table, threads, 8, 1);
    },
    run: (driver, at, rounds, threads, thread) => driver.scratch(at.own, rounds, at.table + 8 * thread),
    tearDown: nothing,
  },
  {
    letter: "i",
    title: "realloc: 8 vectors grow by half, 16 B to 256 KiB",
    unit: "ns/realloc",
    threads: [1, 2],
    chunk: 1000,
    ...slotted("grow", 8),
  },
  {
    letter: "j",
    needs: ["aligned_alloc"],
    title: "aligned to 32, 64 or 128 B, 8 B to 1 KiB, 1,000 live",
    threads: [1, 2],
    chunk: 2000,
    ...slotted("aligned", 1000, 1017),
  },
  { letter: "k", title: "large: 256 KiB to 16 MiB, 8 live", threads: [1, 2], chunk: 50, ...slotted("large", 8) },
  { letter: "l", title: "calloc: 16 B to 8 KiB, 1,000 live", threads: [1, 2], chunk: 2000, ...slotted("zeroed", 1000) },
  {
    letter: "m",
    title: "called from JavaScript: 16 B",
    threads: [1],
    floor: true,
    fromJavaScript: true,
    chunk: 10_000,
  },
  {
    letter: "n",
    needs: ["aligned_alloc"],
    title: "recorded programs: geometric mean over traces",
    unit: "ns/event",
    threads: [1, 2],
    traces: true,
  },
  { letter: "o", title: "cold start: from bytes to the first block", unit: "µs", threads: [1], coldStart: true },
  {
    letter: "p",
    title: "worst malloc and free under e: 99.9th percentile beyond the clock's own",
    unit: "ns",
    threads: [2],
    chunk: 2000,
    timed: true,
    setUp: nothing,
    run: (driver, at, rounds, threads) => driver.handOnTimed(at.own, rounds, at.table, SHARED * threads, 8, 1017, at.histograms),
    tearDown: (driver, at, threads) => driver.clearTable(at.table, SHARED * threads),
  },
  {
    letter: "q",
    title: "cost of the topology check: as a, against numaheap built without it",
    threads: [1],
    alone: "nodeBlind",
    chunk: 20_000,
    ...ping,
  },
  {
    letter: "q",
    title: "cost of a remote free: as f, on two nodes, against one",
    threads: [2],
    alone: "nodeBlind",
    nodes: 2,
    ...handedOver,
  },
  {
    letter: "r",
    title: "c under 1,000 changes of the topology a second, against 10 and none",
    threads: [2],
    alone: "changes",
    parts: [1000, 10, 0],
    nodes: 2,
    chunk: 2000,
    warmUp: 100_000,
    ...random(SLOTS, 8, 1017),
    change: changeTopology,
  },
  { letter: "s", title: "small: 16 to 127 B at random, 5,000 live", threads: [1, 2], floor: true, chunk: 10_000, ...random(5000, 16, 112) },
  {
    letter: "t",
    title: "time over size: batches of 100 blocks of 16 B to 64 KiB, geometric mean",
    threads: [1],
    parts: [16, 64, 256, 1024, 8192, 32768, 65536],
    chunk: 2000,
    setUp: nothing,
    run: (driver, at, rounds, threads, thread, size) => driver.batch(at.own, rounds, at.slots, 100, size),
    tearDown: nothing,
  },
];

/** By letter and number of threads, as in `c2`. */
export const cellOf = (id) => CELLS.find(({ letter, threads }) => id[0] === letter && threads.includes(Number(id.slice(1))));
/** Pages of the heap at random, as many of each order of magnitude, from one to a quarter of them all. */
function somePages(pages) {
  const count = Math.max(1, Math.floor(Math.exp(Math.random() * Math.log(pages / 4))));
  return { first: Math.floor(Math.random() * (pages - count)), count };
}

/** Half of the changes move a vCPU to the other node, half of them pages. */
function changeTopology(stage, i) {
  const node = (i >> 1) & 1;
  if (i & 1) return stage.heap.setVcpuNode((i >> 2) % stage.threads, node);
  const { first, count } = somePages(stage.heapPages);
  return stage.heap.rebind(stage.firstPage + first, count, node);
}

export const unitOf = (cell) => cell.unit ?? "ns/pair";
