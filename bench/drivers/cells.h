// What the loops of cells.c stand on: the allocator's functions by the names of C, in WebAssembly or natively.

#pragma once

#include <stddef.h>

typedef unsigned int u32;
/** What is written to blocks. */
typedef u32 word;

#ifdef __wasm__

#define EXPORT(name) __attribute__((export_name(#name)))
#define FROM(module, name) __attribute__((import_module(module), import_name(name)))

FROM("heap", "malloc") void *heap_malloc(size_t size);
FROM("heap", "free") void heap_free(void *block);
FROM("heap", "calloc") void *heap_calloc(size_t count, size_t size);
FROM("heap", "realloc") void *heap_realloc(void *block, size_t size);
FROM("heap", "aligned_alloc") void *heap_aligned_alloc(size_t alignment, size_t size);
FROM("heap", "take") void *floor_take(u32 sizeClass);
FROM("heap", "give") void floor_give(void *block, u32 sizeClass);
/** Nanoseconds. */
FROM("clock", "now") double clock_now(void);

/** Sleeps until the word changes, 0.1 ms at most. */
static inline void thread_pause(u32 *at, u32 value) {
#ifdef __wasm_atomics__
  __builtin_wasm_memory_atomic_wait32((int *)at, (int)value, 100000);
#endif
}

#else

#include <sched.h>
#include <stdlib.h>
#include <time.h>

#define EXPORT(name)
#define heap_malloc malloc
#define heap_free free
#define heap_calloc calloc
#define heap_realloc realloc
#define heap_aligned_alloc aligned_alloc

static inline double clock_now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1e9 + at.tv_nsec;
}
static inline void thread_pause(u32 *at, u32 value) { sched_yield(); }

#endif
