// A heap within a virtual machine, in a thread of the application: attached, told of topology changes, and able to go on on another host.

import type { HeapHandle } from "../heap/handle.js";
import { NumaHeap } from "../heap/numa-heap.js";
import type { AttachOptions } from "../heap/options.js";
import { subscribe, type SubscribeOptions } from "../notify/subscription.js";

/** Heaps of this thread and what they were attached by. */
const here = new Map<NumaHeap, HeapHandle>();

/** Heaps of this thread, with the keys they know it by: those of these names. */
export const heapsHere = (names: { has(name: string): boolean }): [NumaHeap, HeapHandle][] =>
  [...here].filter(([, { name }]) => names.has(name));

export interface AttachHeapOptions extends AttachOptions, SubscribeOptions {}

/**
 * Attaches this thread to the heap of a handle, which serves for one thread. The heap is the target of `topologychange` events; while its
 * machine moves to another host this thread sleeps between two calls.
 * @throws {HeapError} as NumaHeap.attach does; NUMAHEAP_INVALID_ARGUMENT for a heap that is in no virtual machine, or in one that has ended
 */
export async function attachHeap(handle: HeapHandle, options: AttachHeapOptions = {}): Promise<NumaHeap> {
  const heap = await NumaHeap.attach(handle, options);
  try {
    await subscribe(heap, handle, options);
  } catch (error) {
    heap.detach();
    throw error;
  }
  here.set(heap, handle);
  heap.addEventListener("detach", () => here.delete(heap), { once: true });
  return heap;
}
