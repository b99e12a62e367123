// The loops of cells.c in a native program, for whichever allocator is preloaded: `native CELL THREADS MILLISECONDS` prints nanoseconds a round.
// What each cell is called with stands in bench/suite/cells.mjs, too.

#include "cells.c"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 10000
#define SHARED 5000
#define MOST_THREADS 64

typedef struct {
  Own own;
  Slot slots[SLOTS];
  int thread;
  double ns;
  double rounds;
  u32 bad;
} Thread;

static Thread threads[MOST_THREADS];
static word *table[SHARED * MOST_THREADS];
static Ring rings[MOST_THREADS / 2];
static int count;
static char cell;
static double length;
static pthread_barrier_t barrier;
static volatile int producing;

static void setUp(Thread *t) {
  if (cell == 'c') fill(&t->own, t->slots, SLOTS, 8, 1017);
  if (cell == 'd') fill(&t->own, t->slots, 1000, 1024, 63 * 1024 + 1);
  if (cell == 's') fill(&t->own, t->slots, 5000, 16, 112);
}

/** Rounds of one chunk: { how many, those that went wrong }. */
static u32 step(Thread *t, u32 *bad) {
  switch (cell) {
    case 'a': *bad += ping(&t->own, 20000); return 20000;
    case 'b': *bad += batch(&t->own, 20000, t->slots, 1000, 32); return 20000;
    case 'c': *bad += larson(&t->own, 10000, t->slots, SLOTS, 8, 1017); return 10000;
    case 'd': *bad += larson(&t->own, 2000, t->slots, 1000, 1024, 63 * 1024 + 1); return 2000;
    case 'e': *bad += handOn(&t->own, 5000, table, SHARED * count, 8, 1017); return 5000;
    case 'f':
      if (t->thread & 1) return consume(&t->own, 6400, rings + t->thread / 2);
      produce(&t->own, 6400, rings + t->thread / 2, 16, 240);
      return 6400;
    case 'h': *bad += scratch(&t->own, 50000, 0); return 50000;
    case 'i': *bad += grow(&t->own, 1000, t->slots); return 1000;
    case 'j': *bad += aligned(&t->own, 2000, t->slots, 1000, 1017); return 2000;
    case 'k': *bad += large(&t->own, 50, t->slots, 8); return 50;
    case 'l': *bad += zeroed(&t->own, 2000, t->slots, 1000); return 2000;
    case 's': *bad += larson(&t->own, 10000, t->slots, 5000, 16, 112); return 10000;
  }
  return 0;
}

static void phase(Thread *t, double ns) {
  t->rounds = 0;
  pthread_barrier_wait(&barrier);
  double start = clock_now();
  if (cell == 'f' && (t->thread & 1)) {
    for (int over = 0; !over;) {
      int more = producing;
      over = step(t, &t->bad) == 0 && !more;
    }
    t->ns = 0;
    return;
  }
  do t->rounds += step(t, &t->bad);
  while (clock_now() - start < ns);
  t->ns = clock_now() - start;
  __atomic_fetch_sub(&producing, 1, __ATOMIC_SEQ_CST);
}

static void *run(void *argument) {
  Thread *t = argument;
  seed(&t->own, t->thread + 1);
  setUp(t);
  phase(t, length / 2);
  if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) producing = count / 2;
  phase(t, length);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 4 || !strchr("abcdefhijkls", argv[1][0])) return fprintf(stderr, "native CELL THREADS MILLISECONDS\n"), 2;
  cell = argv[1][0];
  count = atoi(argv[2]);
  length = atof(argv[3]) * 1e6;
  if (count < 1 || count > MOST_THREADS || length <= 0) return fprintf(stderr, "1 to %d threads\n", MOST_THREADS), 2;
  pthread_barrier_init(&barrier, 0, count);
  producing = count / 2;
  pthread_t ids[MOST_THREADS];
  for (int i = 0; i < count; ++i) {
    threads[i].thread = i;
    pthread_create(ids + i, 0, run, threads + i);
  }
  double rate = 0;
  int working = 0;
  for (int i = 0; i < count; ++i) {
    pthread_join(ids[i], 0);
    if (threads[i].ns > 0) rate += threads[i].rounds / threads[i].ns, ++working;
    if (threads[i].bad) return fprintf(stderr, "%u blocks were not what they should be\n", threads[i].bad), 1;
  }
  printf("%.3f\n", working / rate);
  return 0;
}
