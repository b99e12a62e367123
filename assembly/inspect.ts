// The exported ABI of inspect.wasm: statistics, and a walk that checks every invariant layout.ts and README.md state. A module of
// its own over the heap's memory, which it only reads.
//
// What is read while others are inside the heap is a mixture of moments: figures are then near, and the walk finds
// problems that are none. Of a quiescent heap figures are exact, and the walk finds none.

import { MAX_NODES, MAX_THREADS, PAGE_SHIFT, PAGE_SIZE, Span } from "./layout";
import { bindHeap, heap } from "./instance";
import { addressOf, pageOf } from "./page-map";
import { checkHead, checkTables, claimStruct, isHeap } from "./inspect-head";
import { blockAt, countOutside, endPage, firstPage, headersIn, infoOf, isLabel, isSmall, outsideBits } from "./inspect-map";
import { checkHeaders, checkPages } from "./inspect-pages";
import { checkArenas, checkThreads } from "./inspect-lists";
import { Place, Problem, forget, mark, problem, problems } from "./inspect-problem";
import { HEAP_BYTES } from "./layout";

export {
  badCalls, centralFreeBytes, committedBytes, inUseBytes, inUseBlocks, metadataBytes, pageHeapFreeBytes, remoteBytes, reservedBytes, spanTailBytes,
  threadCacheBytes, transferCacheBytes,
} from "./inspect-stats";
