// A heap within a virtual machine, in a thread of the application: attached, told of topology changes, and able to go on on another host.

import { checkShape, type HeapHandle } from "../heap/handle.js";
import { NumaHeap } from "../heap/numa-heap.js";
import type { AttachOptions } from "../heap/options.js";
import { subscribe, type SubscribeOptions } from "../notify/subscription.js";
import type { Gate } from "./gate.js";

/** Heaps of this thread and what they were attached by. */
const here = new Map<NumaHeap, HeapHandle>();

/** Heaps of this thread, with the keys they know it by: those of these names. */
export const heapsHere = (names: { has(name: string): boolean }): [NumaHeap, HeapHandle][] =>
  [...here].filter(([, { name }]) => names.has(name));

/** Machines that this thread may have to move, by the names of their heaps: where they are, and what keeps attaching apart from a move. */
export const machines = new Map<string, { readonly gate: Gate; readonly memory: WebAssembly.Memory }>();

export interface AttachHeapOptions extends AttachOptions, SubscribeOptions {}

/**
 * Attaches this thread to the heap of a handle, which serves for one thread. The heap is the target of `topologychange` events; while its
 * machine moves to another host this thread sleeps between two calls.
 * @throws {HeapError} as NumaHeap.attach does; NUMAHEAP_INVALID_ARGUMENT for a heap that is in no virtual machine, or in one that has ended
 */
export async function attachHeap(handle: HeapHandle, options: AttachHeapOptions = {}): Promise<NumaHeap> {
  checkShape(handle);
  const machine = machines.get(handle.name);
  if (!machine) return attachNow(handle, options);
  return machine.gate.pass(() => attachNow({ ...handle, memory: machine.memory }, options));
}

/** The same for who knows that the machine does not move. */
export async function attachNow(handle: HeapHandle, options: AttachHeapOptions): Promise<NumaHeap> {
  if (Atomics.load(new Int32Array(handle.claimed), 0) !== 0) return NumaHeap.attach(handle, options); // which says what is wrong
  // The kernel knows of this thread before the heap does, so that it is in no heap of a machine that has gone.
  let place = handle;
  const subscription = await subscribe(handle, (memory) => (place = { ...handle, memory }), options);
  try {
    const heap = await attachAt(() => place, options);
    subscription.attached(heap);
    here.set(heap, handle);
    heap.addEventListener("detach", () => here.delete(heap), { once: true });
    return heap;
  } catch (error) {
    subscription.close();
    throw error;
  }
}

/** Where the machine is; it may move while this looks. */
async function attachAt(place: () => HeapHandle, options: AttachOptions): Promise<NumaHeap> {
  for (;;) {
    const at = place();
    try {
      return await NumaHeap.attach(at, options);
    } catch (error) {
      if (place() === at) throw error;
    }
  }
}
