// What a rival's module needs to run in a thread, on any engine: its imports, and the calls that begin and end a thread.
//
// Each thread has an instance. The first thread's startThread comes before any other's instantiation; the others may start at the same time. Threads
// are numbered from 0, each number is used once, and at most 64 numbers in a row run at once.

const PAGE = 65536;

/** The imports of rival `id`, also of a module it is merged into; `ownExports` gives the instance's exports once there is one. */
export function importsOf(id, memory, ownExports) {
  if (id === "wasm-vips-mimalloc") return vips.imports(memory, ownExports);
  // mimalloc asks for the time when it puts off giving back pages, and would write warnings.
  const unread = { fd_write: () => 0, fd_close: () => 0, fd_seek: () => 0 };
  return { env: { memory, emscripten_get_now: () => performance.now() }, wasi_snapshot_preview1: unread };
}

/** Makes the instance with these exports the thread `thread` of all the `threads` there will ever be (at most 192). Nothing of it may be called before. */
export function startThread(id, exports, { memory, thread = 0, threads = 1 } = {}) {
  if (id === "wasm-vips-mimalloc") return vips.start(exports, memory, thread, threads);
  exports.thread_start?.(thread);
  if (!thread) (exports._initialize ?? exports.__wasm_call_ctors)?.();
}

/** What a thread does last. It may not use the instance any more. */
export function endThread(id, exports) {
  if (id === "wasm-vips-mimalloc") return vips.end(exports);
  exports.thread_done?.();
}

/** C's five functions of an instance, for a driver that is not merged with it but imports them; one that the rival lacks throws. */
export function heapOf(exports) {
  const lacking = () => {
    throw new Error("the allocator has no such function");
  };
  const { malloc, free, calloc = lacking, realloc = lacking, aligned_alloc = exports.emscripten_builtin_memalign ?? lacking } = exports;
  return { malloc, free, calloc, realloc, aligned_alloc };
}

/** A whole Emscripten program of which only the allocator runs: the steps that its own JavaScript takes for a thread, and nothing behind its imports. */
const vips = {
  /** Addresses of the threads' descriptors: Emscripten leaves the first KiB of the memory alone. */
  threads: 256,

  imports(memory, ownExports) {
    const known = {
      memory,
      emscripten_resize_heap(size) {
        const missing = Math.ceil((size >>> 0) / PAGE) - memory.grow(0);
        try {
          if (missing > 0) memory.grow(missing);
          return 1;
        } catch {
          return 0;
        }
      },
      _emscripten_init_main_thread_js(descriptor) {
        ownExports()._emscripten_thread_init(descriptor, 0, 1, 1, 65536, 0);
        ownExports()._emscripten_tls_init();
      },
      emscripten_get_heap_max: () => 2 ** 31,
      emscripten_get_now: () => performance.now(),
    };
    const functions = new Proxy(known, { get: (_, name) => known[name] ?? (() => 0) });
    const globals = new Proxy({}, { get: () => new WebAssembly.Global({ value: "i32", mutable: true }, 0) });
    return { env: functions, wasi_snapshot_preview1: functions, "GOT.func": globals, "GOT.mem": globals };
  },

  start(exports, memory, thread, threads) {
    const words = new Uint32Array(memory.buffer);
    if (!thread) {
      exports.__wasm_call_ctors();
      for (let other = 1; other < threads; ++other) exports.pthread_create(this.threads + 4 * other, 0, 0, 0);
      return;
    }
    const descriptor = words[(this.threads >> 2) + thread];
    const [top, size] = words.subarray((descriptor + 48) >> 2);
    exports.emscripten_stack_set_limits(top, top - size);
    exports._emscripten_stack_restore(top);
    exports._emscripten_thread_init(descriptor, 0, 0, 1, 0, 0);
    exports._emscripten_tls_init();
  },

  end(exports) {
    try {
      exports._emscripten_thread_exit(0);
    } catch {
      // It does not expect to return from the import that ends the worker.
    }
  },
};
