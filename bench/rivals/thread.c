// Linked with every allocator for several threads: where a thread has its stack and its thread-local storage. Each thread is an instance of its
// own, and they all begin with the stack of the first.

enum { THREADS = 64, BLOCK = 16384, DESCRIPTOR = 512 };

_Alignas(64) static char blocks[THREADS][BLOCK];

void __wasm_init_tls(void *);
__asm__(".globaltype __stack_pointer, i32");

#ifdef __EMSCRIPTEN__
// What pthread_self() is, so that a mutex can wait; all of it is zero in a thread that nobody cancels.
_Alignas(64) static char descriptors[THREADS][DESCRIPTOR];

void __set_thread_state(void *descriptor, int is_main, int is_runtime, int can_wait);
#endif

// Called in the thread, before anything else. It has no frame, since it moves the stack.
__attribute__((export_name("thread_start"))) void thread_start(unsigned thread) {
  char *block = blocks[thread % THREADS];
  __asm__ volatile("local.get %0\n\tglobal.set __stack_pointer" : : "r"(block + BLOCK));
  __wasm_init_tls(block);
#ifdef __EMSCRIPTEN__
  __set_thread_state(descriptors[thread % THREADS], 0, 0, 1);
#endif
}
