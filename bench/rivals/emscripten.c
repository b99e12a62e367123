// What Emscripten leaves to JavaScript, in C, so that an allocator needs little of it.

#include <stddef.h>
#include <time.h>

double emscripten_get_now(void);

// Grows by what is asked. A thread may be told late of another one's growth, but memory.grow always knows the size.
int emscripten_resize_heap(size_t bytes) {
  size_t pages = (bytes + 65535) / 65536;
  size_t present = __builtin_wasm_memory_grow(0, 0);
  return pages <= present || __builtin_wasm_memory_grow(0, pages - present) != (size_t)-1;
}

void *emscripten_memcpy_big(void *to, const void *from, size_t bytes) {
  return __builtin_memcpy(to, from, bytes);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  double now = emscripten_get_now();
  time->tv_sec = (time_t)(now / 1e3);
  time->tv_nsec = (long)((now - time->tv_sec * 1e3) * 1e6);
  return 0;
}

int __clock_gettime(clockid_t, struct timespec *) __attribute__((alias("clock_gettime")));

// An allocator asks the environment for its options, and has none.
char **environ = 0;

char *getenv(const char *name) {
  return 0;
}

void abort(void) {
  __builtin_trap();
}

// thread_start has done it.
void __emscripten_init_main_thread_js(void *thread) {}

// The end of a program that has crashed.
void emscripten_unwind_to_js_event_loop(void) {
  __builtin_trap();
}
