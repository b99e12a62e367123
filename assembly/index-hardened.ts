// The exported ABI of the hardened build: as index.ts, with the malloc family of hardened.ts.

export { seed } from "./instance";
export { attach, detach, reap } from "./reap";
export { rebind, setDistance, setNodeLimit, setNodes, setVcpuNode } from "./topology";
export { epoch, errno, moveThread, nodeOf, setPolicy, setWeight, settle, threadId, threadNode } from "./control";
export { takeBadCall as badCall } from "./bad-call";
export { malloc_trim } from "./malloc";
export { aligned_alloc, calloc, free, malloc, mallocOnNode, malloc_usable_size, memalign, posix_memalign, realloc } from "./hardened";
