// What the replayer keeps in shared memory below the heap. Plain integers, so that the allocator's language and
// TypeScript import the one file: offsets in bytes, sizes in bytes. All words are u32 unless their comment says more.

/** Control: one for the whole replay. */
export const CONTROL_HEAP = 0; // address of the heap's head
export const CONTROL_WORKERS = 4;
export const CONTROL_FLAGS = 8;
/** Atomic: not 0 = everybody stops at the next event; who is told to run again goes on from there. */
export const CONTROL_STOP = 12;
export const CONTROL_OBJECTS = 16; // address of the object table
export const CONTROL_OBJECT_COUNT = 20;
/** Time the trace is run; part of the pattern, so that a block of an earlier round never passes for one of this. */
export const CONTROL_ROUND = 24;
/**
 * On a virtual machine, addresses of what is really so, a byte each: node of a vCPU; 1 + node of a frame, 0 = not placed yet; 1 + node it
 * was first touched from, which counts for a frame not placed yet (0 = the heap's map does). 0 = the heap's topology page is the truth.
 */
export const CONTROL_VCPU_TRUTH = 28;
export const CONTROL_FRAME_TRUTH = 32;
export const CONTROL_TOUCHERS = 36;
/** Atomic i64: requested bytes that are live. */
export const CONTROL_LIVE = 40;
/** Most events a worker may be ahead of the slowest. */
export const CONTROL_WINDOW = 56;
/** Atomic: workers asleep because they are too far ahead, and the word they sleep on. */
export const CONTROL_SLEEPERS = 48;
export const CONTROL_TICK = 52;
export const CONTROL_BYTES = 128;

export const FLAG_VERIFY = 1;
export const FLAG_LATENCY = 2;

/** Worker record: written by its worker only; it outlives the worker, and its replacement goes on from it. */
/** Atomic: index of the event it is about to run, as told to others; DONE behind its last. */
export const WORKER_PROGRESS = 0;
/** The journal: event of its stream in hand, how far that event has come, bytes a realloc kept. */
export const WORKER_POSITION = 4;
export const WORKER_PHASE = 8;
export const WORKER_KEPT = 12;
export const WORKER_STREAM = 16; // address of its events
export const WORKER_COUNT = 20; // how many
export const WORKER_VCPU = 24;
export const WORKER_HISTOGRAMS = 28; // address of two histograms (malloc, control), 0 = none
export const WORKER_PEAK = 40; // i64: most bytes it has seen live
export const WORKER_LOCAL = 48; // allocations on the worker's own node, and on others
export const WORKER_REMOTE = 52;
export const WORKER_REMOTE_FREES = 56;
export const WORKER_SKIPPED = 60; // events skipped because their object was abandoned
export const WORKER_FAILURES = 64; // how many; the first FAILURE_SLOTS are written down
export const WORKER_FAILURE_SLOTS = 128;
export const FAILURE_SLOTS = 16;
/** Failure: kind, event, address, detail. */
export const FAILURE_BYTES = 16;
export const WORKER_BYTES = 384;
export const DONE = 0x7fffffff;

/** Phases of an event. Up to CALL nothing has happened; after a death in CALL nobody knows whether the call took effect. */
export const PHASE_READY = 0;
export const PHASE_CALL = 1;
/** The result is in the object table; its bytes are being checked and filled. */
export const PHASE_FILL = 2;
/** All is done but to let the object's next event begin. */
export const PHASE_HAND_OVER = 3;

/** Object: one for every object id. */
export const OBJECT_ADDRESS = 0;
export const OBJECT_SIZE = 4;
/** Atomic: the last event that was handed over, as index + 1; top bit: somebody sleeps on it. */
export const OBJECT_SEQUENCE = 8;
export const OBJECT_STATE = 12;
export const OBJECT_BYTES = 16;
export const STATE_LIVE = 1;
/** Its call failed or died: later events skip it. */
export const STATE_ABANDONED = 2;

/** Event: operation in bits 0-2, EVENT_HANDS_OVER, log2 of the alignment in bits 8-12. */
export const EVENT_OP = 0;
export const EVENT_OBJECT = 4;
export const EVENT_SIZE = 8;
/** Index in the trace. */
export const EVENT_INDEX = 12;
/** OBJECT_SEQUENCE to wait for; 0 = the object's events before this one are this worker's own. */
export const EVENT_AFTER = 16;
export const EVENT_BYTES = 20;
/** The object's next event is another worker's. */
export const EVENT_HANDS_OVER = 8;
export const EVENT_ALIGNMENT_SHIFT = 8;

export const FAILURE_NO_MEMORY = 1;
export const FAILURE_MISALIGNED = 2;
export const FAILURE_OUTSIDE = 3;
export const FAILURE_NOT_ZERO = 4;
export const FAILURE_DAMAGED_AT_FREE = 5;
export const FAILURE_DAMAGED_AT_REALLOC = 6;
export const FAILURE_LOST_BY_REALLOC = 7;
export const FAILURE_DAMAGED_AT_END = 8;

/** Histogram of durations in ns: 16 buckets an octave, u32 each; behind them the longest one (f64). */
export const HISTOGRAM_BUCKETS = 512;
export const HISTOGRAM_MAX = 2048;
export const HISTOGRAM_BYTES = 2056;
