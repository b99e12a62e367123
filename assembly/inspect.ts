// The exported ABI of inspect.wasm: statistics, and a walk that checks every invariant layout.ts and README.md state. A module of
// its own over the heap's memory, which it only reads.
//
// What is read while others are inside the heap is a mixture of moments: figures are then near, and the walk finds
// problems that are none. Of a quiescent heap figures are exact, and the walk finds none.

import { HEAP_BYTES, Heap, PAGE_SIZE, Span } from "./layout";
import { bindHeap, heap } from "./instance";
import { addressOf } from "./page-map";
import { checkHead, checkTables, claimStruct, isHeap } from "./inspect-head";
import { blockAt, blocksOf, endPage, firstPage, headersIn, infoOf, isLabel, isSmall, outsideBits } from "./inspect-map";
import { checkHeaders, checkPages } from "./inspect-pages";
import { checkArenas, checkThreads } from "./inspect-lists";
import { Place, Problem, forget, mark, problem, problems } from "./inspect-problem";

export * from "./inspect-stats";

/** Inspects the heap at `base` from now on; false if none of this version stands there. */
export function bind(base: usize): bool {
  if (!isHeap(base)) return false;
  bindHeap(base);
  return true;
}

/** Bad calls of a kind (bad-call.ts), all threads together. */
export function badCalls(kind: u32): u32 {
  return kind - 1 < 7 ? atomic.load<u32>(heap + ((kind - 1) << 2), offsetof<Heap>("badCalls0")) : 0;
}

/** Checks every invariant, with marks cleared before; the number of problems reported. */
export function walk(): u32 {
  forget();
  if (!isHeap(heap)) {
    problem(Problem.NOT_A_HEAP, <u32>heap, 0, 0);
    return problems;
  }
  claimStruct(heap, HEAP_BYTES);
  // The tables are what the rest finds its way by.
  if (!checkTables()) return problems;
  checkHead();
  checkPages();
  checkHeaders();
  checkArenas();
  checkThreads();
  return problems;
}

/** After walk: the program holds a block at `at`. Reports it if that is no block or somebody else's; the number of problems so far. */
export function hold(at: usize): u32 {
  const size = blockAt(at);
  if (!size) problem(Problem.BLOCK_BAD, <u32>at, Place.PROGRAM, 0);
  else if (!mark(at, size)) problem(Problem.BLOCK_TWICE, <u32>at, Place.PROGRAM, 0);
  return problems;
}

/** After walk and hold: reports each block that is outside its span and that nobody has. */
export function unaccounted(): void {
  for (let page = firstPage(); page < endPage(); ++page) {
    const size = headersIn(page);
    if (!size) continue;
    const from = addressOf(page);
    for (let at = from; at + size <= from + PAGE_SIZE; at += size) {
      const span = changetype<Span>(at);
      if (!isLabel(span.label)) continue;
      if (isSmall(at)) reportOutside(at);
      else reportUnmarked(addressOf(span.start));
    }
  }
}

function reportOutside(header: usize): void {
  const size = infoOf(header).size;
  const blocks = blocksOf(header);
  const first = addressOf(changetype<Span>(header).start);
  for (let word: u32 = 0; word << 6 < blocks; ++word) {
    for (let bits = outsideBits(header, word, blocks); bits != 0; bits &= bits - 1) {
      reportUnmarked(first + ((word << 6) + <u32>ctz(bits)) * size);
    }
  }
}

function reportUnmarked(at: usize): void {
  const size = blockAt(at);
  if (size != 0 && mark(at, size)) problem(Problem.UNACCOUNTED, <u32>at, size, 0);
}
