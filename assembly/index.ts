// The exported ABI, nothing else. Pointers and sizes are u32; errors are errno values as WASI numbers them.

export { attach, detach, reap } from "./reap";
export { rebind, setDistance, setNodeLimit, setNodes, setVcpuNode } from "./topology";
export { epoch, errno, moveThread, nodeOf, setPolicy, setWeight, settle, threadId, threadNode } from "./control";
export { takeBadCall as badCall } from "./bad-call";
export {
  aligned_alloc,
  calloc,
  free,
  malloc,
  mallocOnNode,
  malloc_trim,
  malloc_usable_size,
  memalign,
  posix_memalign,
  realloc,
} from "./malloc";
