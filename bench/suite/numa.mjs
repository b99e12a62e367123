// What following the topology is worth to one thread, and what moving memory costs: shares of local allocations and frees while its vCPU changes
// nodes, told to the heap and not, and the time of a rebind. Runs in a worker of any engine.

/** Blocks held, allocations made, and how many of them between two changes of the vCPU's node. */
const SLOTS = 2000;
const ALLOCATIONS = 100_000;
const STAY = 10_000;
const SIZES = 1024;
/** Times the whole heap goes to the other node and back. */
const REBINDS = 8;

/** A heap of two nodes that is told where the vCPU is, or has what it was told at first: { allocations, frees }, shares that were local in truth. */
function localShares(stage, told) {
  const { malloc, free, nodeOf, setVcpuNode } = stage.heap;
  const blocks = new Array(SLOTS).fill(0);
  let seed = 1;
  const below = (range) => (((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) * range) / 2 ** 32) >>> 0; // Numerical Recipes' generator
  let node = 0;
  let [allocations, frees, freed] = [0, 0, 0];
  for (let i = 0; i < ALLOCATIONS; ++i) {
    if (i % STAY === 0) {
      node ^= 1;
      if (told) setVcpuNode(0, node);
    }
    const slot = below(SLOTS);
    if (blocks[slot]) {
      ++freed;
      if (nodeOf(blocks[slot]) === node) ++frees;
      free(blocks[slot]);
    }
    blocks[slot] = malloc(16 + below(SIZES));
    if (nodeOf(blocks[slot]) === node) ++allocations;
  }
  for (const block of blocks) free(block);
  return { allocations: allocations / ALLOCATIONS, frees: frees / freed };
}

/** Nanoseconds a span in use, of all pages going from one node to the other. */
function rebindTime(stage) {
  const { heap, memory, modules, firstPage, heapPages } = stage;
  const blocks = Array.from({ length: 20_000 }, (_, i) => heap.malloc(16 + ((i * 37) & 1023)));
  const inspect = new WebAssembly.Instance(modules.inspect, { env: { memory }, inspect: { mark() {}, problem() {} } }).exports;
  inspect.bind(firstPage * 8192);
  const moved = () => (inspect.heapStats(), inspect.spansRebound.value);
  const before = moved();
  const start = performance.now();
  for (let i = 0; i < REBINDS; ++i) if (heap.rebind(firstPage, heapPages, (i & 1) ^ 1) !== 0) throw new Error("rebind failed");
  const ms = performance.now() - start;
  const spans = moved() - before;
  for (const block of blocks) heap.free(block);
  return (ms * 1e6) / spans;
}

/** @param open makes a stage of two nodes */
export function numa(open) {
  const staged = (use) => {
    const stage = open();
    const value = use(stage);
    stage.end();
    return value;
  };
  return {
    told: staged((stage) => localShares(stage, true)),
    untold: staged((stage) => localShares(stage, false)),
    rebindNsPerSpan: staged(rebindTime),
    wrong: 0,
  };
}
