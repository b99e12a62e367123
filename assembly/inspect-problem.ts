// What the walk can find wrong, and how it tells its host. The host knows the problems by the order of the names here
// (src/heap/problems.ts says what each means and what its three numbers are).

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
  QUEUE_COUNT,
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

/** Where a block outside its span was found: the second number of BLOCK_* problems. */
export enum Place {
  CACHE,
  REMOTE_LIST,
  DEFERRED,
  CARRY,
  TRANSFER_CACHE,
  REMOTE_QUEUE,
  PROGRAM,
}

/** Marks an address (a multiple of 8) that `size` bytes begin at: 1 the first time in a walk, 0 if it was marked before. */
// @ts-ignore: decorator
@external("inspect", "mark")
export declare function mark(at: usize, size: u32): i32;

// @ts-ignore: decorator
@external("inspect", "problem")
declare function tell(code: u32, a: u32, b: u32, c: u32): void;

/** Problems of this walk. */
export let problems: u32 = 0;

export function forget(): void {
  problems = 0;
}

export function problem(code: Problem, a: u32, b: u32, c: u32): void {
  ++problems;
  tell(code, a, b, c);
}

/** Reports unless `counted` is what the heap has `recorded`. */
export function expectEqual(code: Problem, where: u32, counted: u32, recorded: u32): void {
  if (counted != recorded) problem(code, where, counted, recorded);
}
