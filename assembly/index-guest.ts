// The exported ABI of the build for heaps under a guest kernel: pages are frames of a virtual machine, and threads can move to another.

export { attach, detach, reap, resume } from "./reap";
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
