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
 * Milliseconds until hello is said again to who has not answered. Browsers let a message on a channel overtake the opening of that channel in
 * another thread: of a kernel that has just opened it, Chromium lost 5 first hellos in 300 on a busy machine.
 */
const HELLO_AGAIN_MS = 100;

/** A heap of this thread, or one that it is about to attach to. */
interface Subscription {
  readonly name: string;
  readonly key: number;
  /** The machine has moved while this thread stood still. */
  readonly moved: (memory: WebAssembly.Memory) => void;
}

/** Those of this thread. */
const here = new Set<Subscription>();

/**
 * Asks the kernel to tell this thread of changes, before it attaches: whoever has been answered stands still when its machine does. Resolves,
 * when the kernel has answered, with what makes a heap the target of `topologychange` events until it is detached, and what ends it.
 * @param moved called while there is no heap yet
 * @throws {HeapError} NUMAHEAP_INVALID_ARGUMENT if nobody keeps the heap's topology
 */
export async function subscribe(
  handle: HeapHandle,
  moved: (memory: WebAssembly.Memory) => void,
  options: SubscribeOptions = {},
): Promise<{ attached(heap: NumaHeap): void; close(): void }> {
  const { key, name } = handle;
  const patience = options.patience ?? PATIENCE_MS;
  const all = openChannel(heapChannel(handle));
  const mine = openChannel(threadChannel(handle, key));
  const say = (message: Hello | Leave): void => all.postMessage(message);
  let welcome = (): void => {};
  const welcomed = new Promise<void>((resolve) => (welcome = resolve));
  let heap: NumaHeap | undefined;
  let open = true;
  const subscription: Subscription = { name, key, moved: (memory) => (heap ? void heap.moveOver(memory) : moved(memory)) };
  const close = (): void => {
    if (!open) return;
    open = false;
    here.delete(subscription);
    say({ is: "leave", key });
    all.close();
    mine.close();
    options.port?.close();
  };
  const calls: SubscriberCalls = {
    welcome: (memory) => {
      if (memory && !heap) moved(memory);
      welcome();
    },
    changed: (change: TopologyChange, sent: number) => {
      if (!open) return;
      heap?.dispatchEvent(new TopologyChangeEvent(change));
      // By now the kernel no longer waits for this answer.
      if (open && now() - sent > patience) say({ is: "hello", key, epoch: change.epoch });
    },
    park: (standstill) => standStill(standstill),
  };
  Comlink.expose(calls, mine);
  if (options.port) Comlink.expose(calls, options.port);
  here.add(subscription);
  const hello = (): void => say({ is: "hello", key, epoch: undefined });
  hello();
  const again = setInterval(hello, HELLO_AGAIN_MS);
  try {
    await answered(welcomed, patience);
  } catch (error) {
    close();
    throw error;
  } finally {
    clearInterval(again);
  }
  return {
    attached: (made) => {
      heap = made;
      made.addEventListener("detach", close, { once: true });
    },
    close,
  };
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

/** The last standstill this thread was part of: it may be asked once for each of its heaps. */
let last = "";

/** Sleeps between two calls until the machine has arrived on its new host, or stays. Throws where a thread may not sleep, as on a page. */
function standStill({ id, memory, words, asked }: Standstill): void {
  if (id === last) return;
  // Throws on a page, before anybody counts on it.
  Atomics.wait(words, VERDICT, -1, 0);
  last = id;
  const concerned = [...here].filter(({ name, key }) => asked.some((heap) => heap.name === name && heap.keys.includes(key)));
  Atomics.add(words, STANDING, concerned.length);
  while (Atomics.load(words, VERDICT) === 0 && Atomics.wait(words, VERDICT, 0, LONGEST_STANDSTILL_MS) !== "timed-out");
  if (Atomics.load(words, VERDICT) === GO_ON_THERE) for (const { moved } of concerned) moved(memory);
}
