// What the walk can find wrong. Only enums, so that the allocator's language and TypeScript share the one file; problems.ts says
// what each means and what its numbers are.

export enum Problem {
  // the head
  NOT_A_HEAP,
  TABLE,
  DISTANCE,
  VCPU_NODE,
  LEAF,
  SENTINEL,
  LOCK_HELD,
  UNDER_WAY,
  TOTAL,
  METADATA_RANGE,
  METADATA_STRUCT,
  // pages, free runs, spans
  PAGE_FLAGS,
  PAGE_NODE,
  PAGE_ENTRY,
  PAGE_TAG,
  PAGE_ADRIFT,
  PAGE_USED_UNTOUCHED,
  PAGE_NOT_ZERO,
  RUN_RANGE,
  RUN_NODE,
  RUN_SPLIT,
  SPAN_ENTRY,
  SPAN_RANGE,
  SPAN_LABEL,
  SPAN_BITS,
  SPAN_FREE,
  SPAN_LIST,
  SPAN_UNMAPPED,
  POOL_LINK,
  POOL_COUNT,
  // arenas and what they own
  NODE_TOTAL,
  BIN_RUN,
  BIN_LINK,
  BIN_BIT,
  BIN_COUNT,
  CENTRAL_ID,
  CENTRAL_SPANS,
  LIST_SPAN,
  LIST_LINK,
  LIST_COUNT,
  TRANSFER_COUNT,
  BATCH_LENGTH,
  // threads
  SLOT,
  SLOT_KEY,
  THREAD_FIELD,
  THREAD_NOT_EMPTY,
  CACHE_DEPTH,
  REMOTE_COST,
  CAPACITY,
  // blocks outside their spans
  BLOCK_BAD,
  BLOCK_CLASS,
  BLOCK_TWICE,
  UNACCOUNTED,
}

/** Where a block outside its span was found. */
export enum Place {
  CACHE,
  REMOTE_LIST,
  DEFERRED,
  CARRY,
  TRANSFER_CACHE,
  REMOTE_QUEUE,
  PROGRAM,
}

/** A word of the head, of an arena or of a thread's record that is wrong. */
export enum Word {
  OWNED_PAGES,
  FREE_PAGES,
  METADATA_PAGES,
  LIMIT_PAGES,
  RECORDS,
  GROWTH,
  REBIND,
  SEQUENCE,
  ID,
  NODE,
  HOME,
  VCPU,
  WAITING,
  HELD,
}
