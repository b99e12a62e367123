// What heap.wasm and create.wasm export. Pointers come back as signed i32.

export interface HeapExports {
  attach(base: number, key: number, vcpu: number, flags: number): number;
  detach(): number;
  /** Of heap.guest.wasm only. */
  resume?(base: number, key: number, flags: number): number;
  /** Of heap.hardened.wasm only: 64 random bits for its placement. */
  seed?(low: number, high: number): void;
  reap(key: number): number;
  malloc(size: number): number;
  free(ptr: number): void;
  calloc(count: number, size: number): number;
  realloc(ptr: number, size: number): number;
  memalign(alignment: number, size: number): number;
  aligned_alloc(alignment: number, size: number): number;
  posix_memalign(out: number, alignment: number, size: number): number;
  malloc_usable_size(ptr: number): number;
  malloc_trim(pad: number): number;
  mallocOnNode(size: number, node: number): number;
  errno(): number;
  badCall(): number;
  setPolicy(mode: number, mask: number): number;
  setWeight(node: number, weight: number): number;
  setNodes(count: number): number;
  setDistance(from: number, to: number, distance: number): number;
  setVcpuNode(vcpu: number, node: number): number;
  setNodeLimit(node: number, pages: number): number;
  rebind(firstPage: number, pages: number, node: number): number;
  moveThread(vcpu: number): number;
  settle(): void;
  nodeOf(ptr: number): number;
  threadNode(): number;
  threadId(): number;
  epoch(): number;
}

export interface CreateExports {
  create(base: number, end: number, limitPages: number, nodes: number, flags: number): number;
  createInFrames(
    base: number,
    end: number,
    limitPages: number,
    nodes: number,
    frames: number,
    owner: number,
    frameOwners: number,
    frameNodes: number,
    frameTouchers: number,
    vcpuTruth: number,
  ): number;
}

/** Flags of attach and create. */
export const MAY_BLOCK = 1;
export const HEAP_GROWS_ALONE = 1;
/** Limits of a heap. */
export const MAX_NODES = 32;
export const MAX_THREADS = 256;
export const MAX_VCPUS = 256;
/** First words of a heap's head: what says that it is one, and the format, of which this package speaks one. */
export const HEAP_WORDS = ["magic", "abiVersion", "base", "flags"] as const;
export const MAGIC = 0x414d_554e;
export const ABI_VERSION = 2;
/** Bytes of a page of the heap, and of one of WebAssembly. */
export const HEAP_PAGE = 8192;
export const WASM_PAGE = 65536;
/** Most pages of WebAssembly in a memory. */
export const WASM_PAGES = 65536;
