// The walk's problems in words.

import { Place, Problem, Word } from "./problem-codes.js";

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Ranks of the lock order, outermost first. */
const LOCKS = ["reap", "topology", "central", "remote queue", "page heap"] as const;

const PLACES: Record<Place, string> = {
  [Place.CACHE]: "the cache",
  [Place.REMOTE_LIST]: "a remote list",
  [Place.DEFERRED]: "the deferred frees",
  [Place.CARRY]: "the carry",
  [Place.TRANSFER_CACHE]: "the transfer cache",
  [Place.REMOTE_QUEUE]: "the remote queue",
  [Place.PROGRAM]: "the program",
};

const WORDS: Record<Word, string> = {
  [Word.OWNED_PAGES]: "ownedPages",
  [Word.FREE_PAGES]: "freePages",
  [Word.METADATA_PAGES]: "metadataPages",
  [Word.LIMIT_PAGES]: "limitPages",
  [Word.RECORDS]: "thread records",
  [Word.GROWTH]: "a growth",
  [Word.REBIND]: "a rebind",
  [Word.SEQUENCE]: "a write to the topology",
  [Word.ID]: "id",
  [Word.NODE]: "node",
  [Word.HOME]: "home",
  [Word.VCPU]: "vcpu",
  [Word.WAITING]: "waiting",
  [Word.HELD]: "held",
};

/** "the cache of slot 3", "the transfer cache of node 1, class 4". */
function placed(place: number, whose: number): string {
  const name = PLACES[place as Place];
  switch (place) {
    case Place.PROGRAM:
      return name;
    case Place.REMOTE_QUEUE:
      return `${name} of node ${whose}`;
    case Place.TRANSFER_CACHE:
      return `${name} of ${list(whose)}`;
    default:
      return `${name} of slot ${whose}`;
  }
}

const list = (id: number): string => `node ${id >>> 8}, class ${id & 0xff}`;

type Say = (a: number, b: number, c: number) => string;

const SAY: Record<Problem, Say> = {
  [Problem.NOT_A_HEAP]: (a) => `no heap of this version stands at ${hex(a)}`,
  [Problem.TABLE]: (a, b, c) => `${a ? "the description of class" : "the class"} ${b} ${a ? "" : `of size ${c} `}is wrong`,
  [Problem.DISTANCE]: (a, b, c) => `the distance from node ${a} to node ${b} is ${c}`,
  [Problem.VCPU_NODE]: (a, b) => `vCPU ${a} is on node ${b}, which does not exist`,
  [Problem.LEAF]: (a, b, c) => `leaf ${a} of the page map, ${hex(b)}, ${c ? "is not in metadata" : "is no address of one"}`,
  [Problem.SENTINEL]: (a, b) => `the leaf of zeros holds ${hex(b)} at ${a}`,
  [Problem.LOCK_HELD]: (a, b, c) => `the ${LOCKS[a]} lock at ${hex(b)} is held by thread ${c >>> 1}`,
  [Problem.UNDER_WAY]: (a, b) => `${WORDS[a as Word]} is under way (${b})`,
  [Problem.TOTAL]: (a, b, c) => `${WORDS[a as Word]} is ${c}, counted ${b}`,
  [Problem.METADATA_RANGE]: (a, b) => `metadata would be handed out from [${hex(a)}, ${hex(b)})`,
  [Problem.METADATA_STRUCT]: (a, b, c) => `the ${b} bytes of metadata at ${hex(a)} ${c ? "are not in metadata" : "overlap others"}`,
  [Problem.PAGE_FLAGS]: (a, b) => `page ${a} has the flags ${hex(b)}`,
  [Problem.PAGE_NODE]: (a, b) => `page ${a} lies on node ${b}, which has no arena`,
  [Problem.PAGE_ENTRY]: (a, b, c) => `page ${a} has the entry ${hex(b)} instead of ${hex(c)}`,
  [Problem.PAGE_TAG]: (a, b, c) => `page ${a} has the tag ${hex(b)} instead of ${hex(c)}`,
  [Problem.PAGE_ADRIFT]: (a) => `page ${a} is neither metadata nor in a free run nor in a span`,
  [Problem.PAGE_USED_UNTOUCHED]: (a) => `page ${a} is in use and not marked as touched`,
  [Problem.PAGE_NOT_ZERO]: (a, b) => `page ${a} is not marked as touched and not zero at ${b}`,
  [Problem.RUN_RANGE]: (a, b, c) => `the free run of ${b} pages from ${a} is not whole (${hex(c)})`,
  [Problem.RUN_NODE]: (a, b, c) => `page ${a} of node ${b} is in a free run of node ${c}`,
  [Problem.RUN_SPLIT]: (a) => `the free runs that meet at page ${a} are of one node`,
  [Problem.SPAN_ENTRY]: (a, b) => `page ${a} has the entry ${hex(b)}, which is not that of a span starting there`,
  [Problem.SPAN_RANGE]: (a, b, c) =>
    `the span of header ${hex(a)}, ${c} pages from ${b}, is not all the heap's, or not the size its class calls for`,
  [Problem.SPAN_LABEL]: (a, b) => `the header ${hex(a)} has the label ${hex(b)}`,
  [Problem.SPAN_BITS]: (a, b, c) => `the bitmap of header ${hex(a)} has ${b} bits set, ${c} of them of blocks`,
  [Problem.SPAN_FREE]: (a, b, c) => `the span of header ${hex(a)} counts ${c} free blocks and has ${b}`,
  [Problem.SPAN_LIST]: (a, b, c) => `the span of header ${hex(a)} names list ${c} instead of ${b}`,
  [Problem.SPAN_UNMAPPED]: (a, b, c) => `the header ${hex(a)} with label ${hex(b)} is not what the page map has for page ${c}`,
  [Problem.POOL_LINK]: (a, b) => `the pool of free headers of ${b} bytes holds ${hex(a)}`,
  [Problem.POOL_COUNT]: (a, b, c) => `the pool of free headers of ${a} bytes holds ${c} of ${b}`,
  [Problem.NODE_TOTAL]: (a, b, c) => `${WORDS[(a & 0xffff) as Word]} of node ${a >>> 16} is ${c}, counted ${b}`,
  [Problem.BIN_RUN]: (a, b, c) => `bin ${b} of node ${a} holds ${hex(c)}, which is no free run for it`,
  [Problem.BIN_LINK]: (a, b, c) => `in bin ${b} of node ${a}, the run at ${hex(c)} links back to another`,
  [Problem.BIN_BIT]: (a, b, c) => `the bit of bin ${b} of node ${a} is ${c}`,
  [Problem.BIN_COUNT]: (a, b, c) => `the bins of node ${a} hold ${c} of ${b} free runs`,
  [Problem.CENTRAL_ID]: (a, b, c) => `the central list at ${hex(a)} is that of ${list(c)} instead of ${list(b)}`,
  [Problem.CENTRAL_SPANS]: (a, b, c) => `the central list of ${list(a)} counts ${c} spans and has ${b}`,
  [Problem.LIST_SPAN]: (a, b, c) => `occupancy list ${b} of ${list(a)} holds ${hex(c)}, which does not belong there`,
  [Problem.LIST_LINK]: (a, b, c) => `in occupancy list ${b} of ${list(a)}, the header ${hex(c)} links back to another`,
  [Problem.LIST_COUNT]: (_, b, c) => `the occupancy lists hold ${c} of ${b} spans with free blocks`,
  [Problem.TRANSFER_COUNT]: (a, b, c) => `the transfer cache of ${list(a)} counts ${c} batches and has ${b}`,
  [Problem.BATCH_LENGTH]: (a, b, c) => `the batch at ${hex(a)} has ${b} blocks instead of ${c}`,
  [Problem.SLOT]: (a, b) => `slot ${a} is in state ${b}`,
  [Problem.SLOT_KEY]: (a, b, c) => `slot ${a} has the key ${c}${a === b ? "" : `, as slot ${b} has`}`,
  [Problem.THREAD_FIELD]: (a, b, c) => `${WORDS[(a & 0xffff) as Word]} of the thread in slot ${a >>> 16} is ${c} (${b})`,
  [Problem.THREAD_NOT_EMPTY]: (a, b, c) => `${hex(c)} is left in ${PLACES[b as Place]} of slot ${a}, which nobody has`,
  [Problem.CACHE_DEPTH]: (a, b, c) => `the cached block ${hex(a)} has depth ${c} instead of ${b}`,
  [Problem.REMOTE_COST]: (a, b, c) => `the remote list from ${hex(a)} on costs ${b} and says ${c}`,
  [Problem.CAPACITY]: (a, b, c) => `the capacity of the cache in slot ${a} is ${c}, counted ${b}`,
  [Problem.BLOCK_BAD]: (a, b, c) => `${hex(a)} in ${placed(b, c)} is no block that is outside its span`,
  [Problem.BLOCK_CLASS]: (a, b, c) => `the block ${hex(a)} in ${PLACES[b as Place]} is of class ${c}`,
  [Problem.BLOCK_TWICE]: (a, b, c) => `the block ${hex(a)} in ${placed(b, c)} was found elsewhere before`,
  [Problem.UNACCOUNTED]: (a, b) => `nobody has the block ${hex(a)} of ${b} bytes`,
};

/** One problem of a walk, in words. Pages count in 8 KiB from address 0. */
export function sayProblem(code: number, a: number, b: number, c: number): string {
  return SAY[code as Problem](a, b, c);
}
