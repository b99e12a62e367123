// The loops of the benchmark, one a cell: the same for every allocator, in WebAssembly (cells of bench/suite/cells.mjs) and natively (native.c).
//
// With -DFLOOR blocks come from bare free lists that are told the class of every block, on malloc and on free; what else the loops do is the
// same, so both variants keep the size of each block. A loop does not end with the count of rounds it was given but says how often what it
// found in a block was not what it had put there: 0, or something is broken. Nothing here is static, so that no instance wipes another's data.

#include "cells.h"

#define NOINLINE __attribute__((noinline))

#ifdef FLOOR
// Classes of 16 bytes: room enough for what the floor is measured with.
#define TAKE(size) floor_take(((size) + 15) >> 4)
#define GIVE(block, size) floor_give(block, ((size) + 15) >> 4)
#else
#define TAKE(size) heap_malloc(size)
#define GIVE(block, size) heap_free(block)
#endif

/** A block in hand. */
typedef struct {
  word *block;
  size_t size;
} Slot;

/** What one thread has to itself: the first words of its region. */
typedef struct {
  u32 random;
  u32 cursor;
} Own;

static inline u32 next(u32 *random) {
  u32 x = *random;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *random = x;
}

/** A number below `range`, without a division. */
static inline u32 below(u32 random, u32 range) { return (u32)(((unsigned long long)random * range) >> 32); }

/** What is written to a block's first word. */
static inline word mark(void *block, size_t size) { return (word)(size_t)block ^ (word)size; }

EXPORT(seed) void seed(Own *own, u32 value) {
  own->random = value * 2654435761u | 1;
  own->cursor = 0;
}

// ---- a: one block, again and again

EXPORT(ping) u32 ping(Own *own, u32 rounds) {
  u32 bad = 0;
  for (u32 i = 0; i < rounds; ++i) {
    word *block = TAKE(16);
    *(volatile word *)block = i;
    bad += *(volatile word *)block != i;
    GIVE(block, 16);
  }
  return bad;
}

// ---- b: `width` blocks taken, then given back in the same order

EXPORT(batch) u32 batch(Own *own, u32 rounds, Slot *slots, u32 width, size_t size) {
  u32 bad = 0;
  for (u32 i = 0; i < rounds; i += width) {
    for (u32 k = 0; k < width; ++k) {
      word *block = TAKE(size);
      *block = mark(block, k);
      slots[k].block = block;
    }
    for (u32 k = 0; k < width; ++k) {
      word *block = slots[k].block;
      bad += *block != mark(block, k);
      GIVE(block, size);
    }
  }
  return bad;
}

// ---- c, d, s: a random one of `slots` blocks is replaced by one of another size

EXPORT(fill) void fill(Own *own, Slot *slots, u32 count, size_t least, u32 range) {
  u32 random = own->random;
  for (u32 k = 0; k < count; ++k) {
    size_t size = least + below(next(&random), range);
    word *block = TAKE(size);
    *block = mark(block, size);
    slots[k] = (Slot){block, size};
  }
  own->random = random;
}

EXPORT(clear) void clear(Slot *slots, u32 count) {
  for (u32 k = 0; k < count; ++k) {
    if (slots[k].block) GIVE(slots[k].block, slots[k].size);
    slots[k].block = 0;
  }
}

EXPORT(larson) u32 larson(Own *own, u32 rounds, Slot *slots, u32 count, size_t least, u32 range) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    Slot *slot = slots + below(next(&random), count);
    bad += *slot->block != mark(slot->block, slot->size);
    GIVE(slot->block, slot->size);
    size_t size = least + below(random * 2654435761u, range);
    word *block = TAKE(size);
    *block = mark(block, size);
    *slot = (Slot){block, size};
  }
  own->random = random;
  return bad;
}

#ifndef FLOOR

// ---- e: larson over one table of all threads, so that most blocks are freed by another thread than took them

EXPORT(handOn) u32 handOn(Own *own, u32 rounds, word **table, u32 count, size_t least, u32 range) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    word **slot = table + below(next(&random), count);
    size_t size = least + below(random * 2654435761u, range);
    word *block = heap_malloc(size);
    *block = mark(block, 0);
    word *old = __atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL);
    if (!old) continue;
    bad += *old != mark(old, 0);
    heap_free(old);
  }
  own->random = random;
  return bad;
}

/** Of a table of bare pointers. */
EXPORT(clearTable) void clearTable(word **table, u32 count) {
  for (u32 k = 0; k < count; ++k) {
    word *old = __atomic_exchange_n(table + k, (word *)0, __ATOMIC_ACQ_REL);
    if (old) heap_free(old);
  }
}

// ---- p: the same, each call timed

/** A bucket of a histogram: 16 to each power of two of nanoseconds. */
static inline u32 bucket(double ns) {
  u32 n = ns < 1 ? 1 : ns > 4e9 ? 4000000000u : (u32)ns;
  u32 log = 31 - __builtin_clz(n);
  u32 part = log >= 4 ? (n >> (log - 4)) & 15 : (n << (4 - log)) & 15;
  return log * 16 + part;
}

/** `histograms` has three of 512 words each: of malloc, of free, and of nothing at all, between the same two readings of the clock. */
EXPORT(handOnTimed)
u32 handOnTimed(Own *own, u32 rounds, word **table, u32 count, size_t least, u32 range, u32 *histograms) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    word **slot = table + below(next(&random), count);
    size_t size = least + below(random * 2654435761u, range);
    double start = clock_now();
    word *block = heap_malloc(size);
    double end = clock_now();
    ++histograms[bucket(end - start)];
    *block = mark(block, 0);
    word *old = __atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL);
    if (old) {
      bad += *old != mark(old, 0);
      start = clock_now();
      heap_free(old);
      end = clock_now();
      ++histograms[512 + bucket(end - start)];
    }
    start = clock_now();
    end = clock_now();
    ++histograms[1024 + bucket(end - start)];
  }
  own->random = random;
  return bad;
}

// ---- f: one thread takes, another gives back

#define RING 4096
/** Blocks handed on at a time: a queue that moves with each block is a measure of the queue. */
#define BATCH 64

/** Ends in lines of their own; positions never wrap at RING, but by their type. */
typedef struct {
  u32 head;
  u32 pad0[31];
  u32 tail;
  u32 pad1[31];
  word *blocks[RING];
} Ring;

#define SPINS 2000

/** The word, once it is another. Whoever waits for long sleeps a little, `pauses` times at most: there may be fewer processors than threads. */
static NOINLINE u32 awaitOtherNoInline(u32 *at, u32 value, u32 pauses) {
  for (u32 spins = 0;;) {
    u32 seen = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (seen != value) return seen;
    if (++spins <= SPINS) continue;
    if (pauses-- == 0) return value;
    thread_pause(at, value);
  }
}

EXPORT(produce) u32 produce(Own *own, u32 rounds, Ring *ring, size_t least, u32 range) {
  u32 random = own->random;
  u32 head = ring->head;
  u32 tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  for (u32 i = 0; i < rounds; i += BATCH) {
    while (RING - (head - tail) < BATCH) tail = awaitOtherNoInline(&ring->tail, tail, 1000);
    for (u32 k = 0; k < BATCH; ++k) {
      word *block = heap_malloc(least + below(next(&random), range));
      *block = mark(block, 0);
      ring->blocks[head++ % RING] = block;
    }
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
  }
  own->random = random;
  return 0;
}

/** Consumes until `rounds` blocks came, or none for a while. Answers how many came; what is wrong is counted in own->cursor. */
EXPORT(consume) u32 consume(Own *own, u32 rounds, Ring *ring) {
  u32 tail = ring->tail;
  u32 i = 0;
  while (i < rounds) {
    u32 head = awaitOtherNoInline(&ring->head, tail, 20);
    if (head == tail) return i;
    for (u32 k = 0; k < BATCH; ++k) {
      word *block = ring->blocks[tail++ % RING];
      own->cursor += *block != mark(block, 0);
      heap_free(block);
    }
    __atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
    i += BATCH;
  }
  return i;
}

// ---- g: all-to-all: own blocks of skewed sizes, one in eight exchanged for somebody else's

EXPORT(mstress) u32 mstress(Own *own, u32 rounds, word **slots, u32 count, word **table, u32 shared) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    word **slot = slots + below(next(&random), count);
    if ((random & 7) == 0) {
      *slot = __atomic_exchange_n(table + below(random * 2654435761u, shared), *slot, __ATOMIC_ACQ_REL);
      continue;
    }
    if (*slot) {
      bad += **slot != mark(*slot, 0);
      heap_free(*slot);
    }
    // 16 bytes to 8 KiB, half of them below 32, a quarter below 64, ...
    size_t size = (16u << __builtin_ctz((random >> 8) | 256)) + below(random * 2654435761u, 16);
    word *block = heap_malloc(size);
    *block = mark(block, 0);
    *slot = block;
  }
  own->random = random;
  return bad;
}

// ---- h: cache-scratch and cache-thrash: whose lines are a thread's small blocks on?

/** Each thread first gives back a block that another thread took, then takes blocks of 8 bytes and writes to each 1,000 times. */
EXPORT(scratch) u32 scratch(Own *own, u32 rounds, word **given) {
  u32 bad = 0;
  if (given && *given) {
    heap_free(*given);
    *given = 0;
  }
  for (u32 i = 0; i < rounds; i += 1000) {
    volatile word *block = heap_malloc(8);
    *block = 0;
    for (u32 k = 0; k < 1000; ++k) *block = *block + 1;
    bad += *block != 1000;
    heap_free((void *)block);
  }
  return bad;
}

// ---- i: eight vectors that grow in turns, each by half of what it has, from 16 bytes to 256 KiB

#define VECTORS 8

EXPORT(grow) u32 grow(Own *own, u32 rounds, Slot *slots) {
  u32 bad = 0;
  for (u32 i = 0; i < rounds; ++i) {
    Slot *slot = slots + own->cursor++ % VECTORS;
    if (slot->block && slot->size > 256 * 1024) {
      heap_free(slot->block);
      *slot = (Slot){0, 0};
    }
    size_t old = slot->size;
    size_t size = old ? (old + (old >> 1) + 15) & ~(size_t)15 : 16;
    word *block = heap_realloc(slot->block, size);
    if (old) bad += *block != (word)old || block[old / sizeof(word) - 1] != (word)old;
    *block = (word)size;
    block[size / sizeof(word) - 1] = (word)size;
    *slot = (Slot){block, size};
  }
  return bad;
}

/** Gives the slot's block back, if it has one; whether that was not what it should be. */
static inline u32 empty(Slot *slot) {
  if (!slot->block) return 0;
  u32 bad = *slot->block != mark(slot->block, slot->size);
  heap_free(slot->block);
  return bad;
}

// ---- j: aligned to 32, 64 or 128 bytes

EXPORT(aligned) u32 aligned(Own *own, u32 rounds, Slot *slots, u32 count, u32 range) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    Slot *slot = slots + below(next(&random), count);
    bad += empty(slot);
    size_t alignment = (size_t)32 << below(random * 40503u, 3);
    // A multiple of the alignment, as C11 had it.
    size_t size = (8 + below(random * 2654435761u, range) + alignment - 1) & ~(alignment - 1);
    word *block = heap_aligned_alloc(alignment, size);
    bad += ((size_t)block & (alignment - 1)) != 0;
    *block = mark(block, size);
    *slot = (Slot){block, size};
  }
  own->random = random;
  return bad;
}

// ---- k: large blocks, as many of each power of two

EXPORT(large) u32 large(Own *own, u32 rounds, Slot *slots, u32 count) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    Slot *slot = slots + below(next(&random), count);
    bad += empty(slot);
    size_t size = ((size_t)262144 << below(random * 2654435761u, 6)) + below(random * 40503u, 262144);
    word *block = heap_malloc(size);
    *block = mark(block, size);
    block[size / sizeof(word) - 1] = 1;
    *slot = (Slot){block, size};
  }
  own->random = random;
  return bad;
}

// ---- l: calloc of 16 bytes to 16 KiB

EXPORT(zeroed) u32 zeroed(Own *own, u32 rounds, Slot *slots, u32 count) {
  u32 bad = 0;
  u32 random = own->random;
  for (u32 i = 0; i < rounds; ++i) {
    Slot *slot = slots + below(next(&random), count);
    bad += empty(slot);
    size_t size = (16u << below(random * 2654435761u, 10)) + below(random * 40503u, 16);
    word *block = heap_calloc(1, size);
    word *last = block + size / sizeof(word) - 1;
    bad += (*block | *last) != 0;
    *last = 1;
    *block = mark(block, size);
    *slot = (Slot){block, size};
  }
  own->random = random;
  return bad;
}

#endif
