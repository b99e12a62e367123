// Topology: which nodes there are, how far apart, which vCPU is on which, which page lies where; and what follows
// from a change. The words are written under topologyLock by whoever handles changes, and read by every thread without a lock.

import {
  Arena,
  Central,
  DISTANCES,
  Heap,
  KIND_LARGE,
  KIND_SMALL,
  MAX_NODES,
  MAX_VCPUS,
  PAGE_OWNED,
  Span,
  Thread,
  VCPU_NODE,
} from "./layout";
import { EBUSY, EINVAL, ENOMEM, NO_HOME, heap, self, setHome, theHeap, thread } from "./instance";
import { RANK_CENTRAL, acquire, acquirePageHeap, acquireTopology, release, releasePageHeap, releaseTopology } from "./lock";
import { endOfPages, flagsOf, nodeOfPage, tagFor } from "./page-map";
import { fileRun, freeRunAt, freeRunCovering, remove } from "./free-run";
import { makeArena } from "./metadata";
import {
  classOfLabel,
  kindOf,
  labelOf,
  loadLabel,
  majority,
  nodeOfLabel,
  placePage,
  setTags,
  spanAt,
  spanStart,
  storeLabel,
} from "./page-heap";
import { OUT_OF_REACH, adopt, centralOf, disown, makeCentral } from "./central";
import { drainVanished, emptyTransferCache, sortOut } from "./thread-cache";
import { cachesHome, homeOf, writeOrder } from "./policy";

/** Pages re-filed under one hold of the page heap's lock. */
const REFILE_PAGES: u32 = 64;
/** Reads of the seqlock before the values are used as they are: its writer may have died. */
const SEQLOCK_READS: i32 = 16;

// ---- readers

/** This thread acts upon the present epoch: its node, its home, its order of nodes, and its cache. */
export function observe(): void {
  const t = thread;
  const record = changetype<Thread>(t);
  const epoch = atomic.load<u32>(heap, offsetof<Heap>("epoch"));
  for (let i = 0; i < SEQLOCK_READS; ++i) {
    const sequence = atomic.load<u32>(heap, offsetof<Heap>("sequence"));
    record.node = atomic.load<u8>(heap + record.vcpu, VCPU_NODE);
    writeOrder(t);
    if ((sequence & 1) == 0 && atomic.load<u32>(heap, offsetof<Heap>("sequence")) == sequence) break;
  }
  record.home = homeOf(record);
  record.epoch = epoch;
  setHome(cachesHome(record) ? tagFor(record.home, 1) : NO_HOME, epoch);
  sortOut(t);
}

// ---- writers

/** Whether the node exists; to an instance that is nobody's thread, none does. */
function isNode(node: u32): bool {
  return self != 0 && node < theHeap().nodes;
}

/** The next epoch; 0 is that of an instance which is nobody's thread. */
function bumpEpoch(): void {
  if (atomic.add<u32>(heap, 1, offsetof<Heap>("epoch")) == -1) atomic.add<u32>(heap, 1, offsetof<Heap>("epoch"));
}

/** Begins to write the tables; false if the lock is out of reach. */
function beginWrite(): bool {
  if (!acquireTopology()) return false;
  atomic.add<u32>(heap, 1, offsetof<Heap>("sequence"));
  return true;
}

/** Ends it: every vCPU is on a node that exists, and all threads are to look. */
export function endWrite(): void {
  const nodes = theHeap().nodes;
  for (let vcpu: u32 = 0; vcpu < MAX_VCPUS; ++vcpu) {
    const node: u32 = atomic.load<u8>(heap + vcpu, VCPU_NODE);
    if (node >= nodes) atomic.store<u8>(heap + vcpu, <u8>(vcpu % nodes), VCPU_NODE);
  }
  atomic.add<u32>(heap, 1, offsetof<Heap>("sequence"));
  bumpEpoch();
}

/** Writes one byte of the tables under the seqlock. */
function writeByte(at: usize, value: u32): i32 {
  if (!beginWrite()) return EBUSY;
  atomic.store<u8>(at, <u8>value);
  endWrite();
  releaseTopology();
  return 0;
}

/** vCPU `vcpu` is on `node` from now on. */
export function setVcpuNode(vcpu: u32, node: u32): i32 {
  if (vcpu >= MAX_VCPUS || !isNode(node)) return EINVAL;
  return writeByte(heap + VCPU_NODE + vcpu, node);
}

/** Distance from node `from` to node `to`: 10 to itself, 11 to 255 to others. */
export function setDistance(from: u32, to: u32, distance: u32): i32 {
  if (self == 0 || from >= MAX_NODES || to >= MAX_NODES || distance > 255 || distance < 10 || (from == to) != (distance == 10))
    return EINVAL;
  return writeByte(heap + DISTANCES + from * MAX_NODES + to, distance);
}

/** Nodes 0 .. count-1 exist from now on. Pages of nodes that vanish stay where they are until they are rebound. */
export function setNodes(count: u32): i32 {
  if (self == 0 || count == 0 || count > MAX_NODES) return EINVAL;
  if (!beginWrite()) return EBUSY;
  atomic.store<u32>(heap, count, offsetof<Heap>("nodes"));
  endWrite();
  releaseTopology();
  drainVanished(thread);
  return 0;
}

/** Node `node` may own at most `pages` pages by growth, 0 = as many as there are. */
export function setNodeLimit(node: u32, pages: u32): i32 {
  if (!isNode(node)) return EINVAL;
  if (!acquirePageHeap()) return EBUSY;
  const arena = makeArena(node);
  if (arena) changetype<Arena>(arena).limitPages = pages;
  releasePageHeap();
  return arena ? 0 : ENOMEM;
}

// ---- rebind

/** Pages [first, first + pages), those of them that are the heap's, lie on `node` from now on. No byte moves. */
export function rebind(first: u32, pages: u32, node: u32): i32 {
  if (!isNode(node) || first + pages < first) return EINVAL;
  if (!acquireTopology()) return EBUSY;
  const h = theHeap();
  // A dead thread's, that could not be finished yet: what comes later wins.
  if (h.rebindPages) finishRebind();
  h.rebindFirst = first;
  h.rebindNode = node;
  atomic.store<u32>(heap, pages, offsetof<Heap>("rebindPages"));
  const error = finishRebind();
  releaseTopology();
  return error;
}

/** Does the rebind that Heap.rebind* describes, all of it: doing it again changes nothing. Under topologyLock. */
export function finishRebind(): i32 {
  const h = theHeap();
  const end = min<u32>(h.rebindFirst + h.rebindPages, endOfPages());
  let error = 0;
  for (let page = h.rebindFirst; page < end && error == 0; page += REFILE_PAGES) {
    error = movePages(page, min<u32>(page + REFILE_PAGES, end), h.rebindNode);
  }
  for (let page = h.rebindFirst < end ? spanStart(h.rebindFirst) : end; page < end && error == 0;) {
    const header = spanAt(page);
    if (header == 0) page += max<u32>(1, freeRunAt(page));
    else if ((page = relabel(header, page)) == 0) error = EBUSY;
  }
  // Cut short by a lock out of reach, it stays to be finished.
  if (error != EBUSY) atomic.store<u32>(heap, 0, offsetof<Heap>("rebindPages"));
  bumpEpoch();
  return error;
}

/** Writes the true node of pages [first, end) and files the free ones under it. */
function movePages(first: u32, end: u32, node: u32): i32 {
  if (!acquirePageHeap()) return EBUSY;
  const h = theHeap();
  const arena = makeArena(node);
  let page = first;
  while (page < end && arena != 0) {
    let stop = page + 1;
    const from = nodeOfPage(page);
    if ((flagsOf(page) & PAGE_OWNED) != 0 && from != node) {
      // A run that began before lies on one node: behind a page that has just been moved there is none, and nothing is to be looked back for.
      const start = freeRunAt(page) != 0 || nodeOfPage(page - 1) == from ? freeRunCovering(page) : 0;
      if (start) {
        const length = freeRunAt(start);
        stop = min<u32>(start + length, end);
        remove(start, length, from);
        if (page > start) fileRun(start, page - start, from);
        if (start + length > stop) fileRun(stop, start + length - stop, from);
      } else {
        h.pagesMovedInUse += 1;
      }
      for (let i = page; i < stop; ++i) placePage(i, node);
      h.pagesMoved += stop - page;
      if (start) fileRun(page, stop - page, node);
    }
    page = stop;
  }
  releasePageHeap();
  return arena ? 0 : ENOMEM;
}

/** Gives the span at `page` the label of the node most of its pages lie on (of several, the first page's). The page after it, 0 if a lock is out of reach. */
function relabel(header: usize, page: u32): u32 {
  const span = changetype<Span>(header);
  const label = loadLabel(header);
  const next = page + max<u32>(1, span.pages);
  // The header is another span's meanwhile: what lies here now was made with the pages' new nodes.
  if (label == 0 || span.start != page) return page + 1;
  const node = majority(page, next);
  if (node == nodeOfLabel(label)) return next;
  const done = kindOf(label) == KIND_LARGE ? relabelLarge(header, page, label, node) : relabelSmall(header, page, label, node);
  return done ? next : 0;
}

function relabelLarge(header: usize, page: u32, label: u32, node: u32): bool {
  if (!acquirePageHeap()) return false;
  if (loadLabel(header) == label && changetype<Span>(header).start == page) {
    storeLabel(header, labelOf(KIND_LARGE, node, 0));
    theHeap().spansRebound += 1;
  }
  releasePageHeap();
  return true;
}

function relabelSmall(header: usize, page: u32, label: u32, node: u32): bool {
  const c = classOfLabel(label);
  const from = centralOf(nodeOfLabel(label), c);
  const to = makeCentral(node, c);
  // Without memory for another list, a span stays on its own.
  if (to <= OUT_OF_REACH) return to == 0;
  const first = nodeOfLabel(label) < node ? from : to;
  const second = first == from ? to : from;
  if (!acquire(first, RANK_CENTRAL)) return false;
  const both = acquire(second, RANK_CENTRAL);
  if (both) {
    // The label cannot change while the lock of its central list is held.
    if (loadLabel(header) == label && changetype<Span>(header).start == page) {
      disown(from, header);
      storeLabel(header, labelOf(KIND_SMALL, node, c));
      setTags(header, labelOf(KIND_SMALL, node, c));
      adopt(to, header);
      theHeap().spansRebound += 1;
    }
    release(second, RANK_CENTRAL);
  }
  release(first, RANK_CENTRAL);
  // Its batches may hold blocks that are no longer of its node.
  if (atomic.load<u32>(from, offsetof<Central>("transferHead"))) emptyTransferCache(thread, from);
  return both;
}
