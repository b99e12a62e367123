// Replays a recorded program's allocations: the cells n of the benchmark. Each thread has its events in the order of the program; a block that
// changes threads is waited for.

#include "cells.h"

/** Operations, in the top three bits of an event's first word, above log2 of an alignment (5 bits) and the slot of the block (24 bits). */
enum { MALLOC, CALLOC, ALIGNED, REALLOC, FREE };

typedef struct {
  u32 what;
  u32 size;
} Event;

/** `turn` counts the events of a block that changes threads: an event waits for its turn. */
typedef struct {
  word *block;
  u32 size;
  u32 turn;
} Slot;

/** Before each event of a block that changes threads stands one with this size and the block's slot, the turn in its place. */
#define AWAIT 5
#define PASS 6

/** Programs use what they ask for: a word of each page of 4 KiB, and the last one. */
static inline void touch(char *block, u32 size) {
  for (u32 at = 0; at < size; at += 4096) block[at] = 1;
  if (size) block[size - 1] = 1;
}

/** `over`: a thread has come to its end before that of its events, and no turn may ever come. */
static __attribute__((noinline)) void awaitTurnNoInline(u32 *turn, u32 value, u32 *over) {
  u32 spins = 0;
  for (u32 seen; (seen = __atomic_load_n(turn, __ATOMIC_ACQUIRE)) != value;) {
    if (++spins <= 2000) continue;
    if (__atomic_load_n(over, __ATOMIC_ACQUIRE)) return;
    thread_pause(turn, seen);
  }
}

/** Answers how many blocks were not what they should be, or could not be had. */
EXPORT(replay) u32 replay(const Event *event, const Event *end, Slot *slots) {
  u32 bad = 0;
  u32 *over = &slots->turn; // no block has the first slot
  for (; event < end; ++event) {
    u32 what = event->what;
    u32 size = event->size;
    Slot *slot = slots + (what & 0xffffff);
    switch (what >> 29) {
      case MALLOC:
        slot->block = heap_malloc(size);
        break;
      case CALLOC:
        slot->block = heap_calloc(1, size);
        break;
      case ALIGNED: {
        u32 alignment = 1u << ((what >> 24) & 31);
        slot->block = heap_aligned_alloc(alignment, (size + alignment - 1) & ~(alignment - 1));
        break;
      }
      case REALLOC:
        if (slot->size) bad += ((char *)slot->block)[0] != 1;
        slot->block = heap_realloc(slot->block, size);
        break;
      case FREE:
        if (slot->size) bad += ((char *)slot->block)[0] != 1;
        heap_free(slot->block);
        continue;
      case AWAIT:
        awaitTurnNoInline(&slot->turn, size, over);
        if (__atomic_load_n(&slot->turn, __ATOMIC_RELAXED) != size) return bad;
        continue;
      default:
        __atomic_store_n(&slot->turn, size, __ATOMIC_RELEASE);
        continue;
    }
    slot->size = size;
    if (size && !slot->block) {
      __atomic_store_n(over, 1, __ATOMIC_RELEASE);
      return bad + 1;
    }
    touch((char *)slot->block, size);
  }
  return bad;
}
