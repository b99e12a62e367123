// A thread's end: it says hello, and what the kernel tells it becomes events of its heap. If it was out of reach for so long that the kernel
// has let it go, it says hello again, and is told in one event what it missed.

import * as Comlink from "comlink";
import { HeapError } from "../heap/errors.js";
import type { HeapHandle } from "../heap/handle.js";
import type { NumaHeap } from "../heap/numa-heap.js";
import { type TopologyChange, TopologyChangeEvent } from "../heap/topology-event.js";
import {
  GO_ON_THERE,
  heapChannel,
  type Hello,
  type Leave,
  now,
  openChannel,
  type Standstill,
  STANDING,
  type SubscriberCalls,
  threadChannel,
  VERDICT,
} from "./channel.js";
import { PATIENCE_MS } from "./notifier.js";

export interface SubscribeOptions {
  /** Milliseconds the kernel has for an answer, and after which a thread that was out of reach asks again. Default: 10,000. */
  readonly patience?: number;
  /** What `vm.port(handle)` has made for this thread. Only browsers need it, and only for live migration: by it the other memory comes. */
  readonly port?: MessagePort;
}

/**
 * From now until it is detached the heap of this thread is the target of `topologychange` events. Resolves when the kernel has answered.
 * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT if nobody keeps the heap's topology
 */
export async function subscribe(heap: NumaHeap, handle: HeapHandle, options: SubscribeOptions = {}): Promise<void> {
  const { key } = handle;
  const patience = options.patience ?? PATIENCE_MS;
  const all = openChannel(heapChannel(handle));
  const mine = openChannel(threadChannel(handle, key));
  const say = (message: Hello | Leave): void => all.postMessage(message);
  let welcome = (): void => {};
  const welcomed = new Promise<void>((resolve) => (welcome = resolve));
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    say({ is: "leave", key });
    all.close();
    mine.close();
    options.port?.close();
  };
  const calls: SubscriberCalls = {
    welcome: () => welcome(),
    changed: (change: TopologyChange, sent: number) => {
      if (!open) return;
      heap.dispatchEvent(new TopologyChangeEvent(change));
      // By now the kernel no longer waits for this answer.
      if (open && now() - sent > patience) say({ is: "hello", key, epoch: change.epoch });
    },
    park: (standstill) => standStill(heap, standstill),
  };
  Comlink.expose(calls, mine);
  if (options.port) Comlink.expose(calls, options.port);
  heap.addEventListener("detach", close, { once: true });
  say({ is: "hello", key, epoch: undefined });
  await answered(welcomed, patience).catch((error: unknown) => {
    close();
    throw error;
  });
}

async function answered(welcomed: Promise<void>, patience: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `no kernel keeps the topology of this heap, or it did not answer in ${patience} ms`;
    timer = setTimeout(() => reject(new HeapError("NUMAHEAP_INVALID_ARGUMENT", message)), patience);
  });
  try {
    await Promise.race([welcomed, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A kernel that says nothing for so many milliseconds has died, and the machine with it. */
const LONGEST_STANDSTILL_MS = 300_000;

/** Sleeps between two calls until the machine has arrived on its new host, or stays. Throws where a thread may not sleep, as on a page. */
function standStill(heap: NumaHeap, { memory, words }: Standstill): void {
  // Throws on a page, before anybody counts on it.
  Atomics.wait(words, VERDICT, -1, 0);
  Atomics.add(words, STANDING, 1);
  while (Atomics.load(words, VERDICT) === 0 && Atomics.wait(words, VERDICT, 0, LONGEST_STANDSTILL_MS) !== "timed-out");
  if (Atomics.load(words, VERDICT) === GO_ON_THERE) void heap.moveOver(memory);
}
