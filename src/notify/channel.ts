// The channels between a heap's threads and the kernel that keeps its topology, by names that follow from the heap's handle: so a thread
// needs no more than the handle. On the heap's channel threads ask to be told, and say that they leave; each thread then has one of its own,
// on which the kernel calls it through Comlink.
//
//   thread                            kernel
//   Hello, on the heap's channel ->
//                                  <- welcome, on the thread's channel, and from then on changed and park
//   Leave, on the heap's channel  ->

import type { HeapHandle } from "../heap/handle.js";
import type { TopologyChange } from "../heap/topology-event.js";

/** A thread wants to be told. */
export interface Hello {
  readonly is: "hello";
  readonly key: number;
  /** Epoch it knows, undefined = it has just come: if that is not the last one, it is told at once. */
  readonly epoch: number | undefined;
}

export interface Leave {
  readonly is: "leave";
  readonly key: number;
}

/** A machine is to stand still: threads wait on words of a SharedArrayBuffer that are the same for all. */
export interface Standstill {
  readonly id: string;
  /** The memory they will go on over. */
  readonly memory: WebAssembly.Memory;
  readonly words: Int32Array;
  /** Who is asked: heaps by the names of their handles, and threads by their keys. A thread may be several of them. */
  readonly asked: readonly { readonly name: string; readonly keys: readonly number[] }[];
}

/** Words of a standstill: how many keys' threads stand still, and what they wait for. */
export const STANDING = 0;
export const VERDICT = 1;
export const GO_ON_HERE = 1;
export const GO_ON_THERE = 2;

/** Lets whoever waits go on: over the other memory, or as it was. */
export function tellVerdict(words: Int32Array, moved: boolean): void {
  Atomics.store(words, VERDICT, moved ? GO_ON_THERE : GO_ON_HERE);
  Atomics.notify(words, VERDICT);
}

/** What the kernel calls in a thread. */
export interface SubscriberCalls {
  /** @param memory where the heap is, if its machine has ever moved */
  welcome(memory: WebAssembly.Memory | undefined): void;
  changed(change: TopologyChange, sent: number): void;
  /** Answers when the thread goes on. */
  park(standstill: Standstill): void;
}

const PREFIX = "numaheap-topology";

export const heapChannel = ({ name }: Pick<HeapHandle, "name">): string => `${PREFIX}-${name}`;
export const threadChannel = ({ name }: Pick<HeapHandle, "name">, key: number): string => `${PREFIX}-${name}-${key}`;

/** Whether this is Node, whose channels carry memories, too. */
export const inNode = "process" in globalThis && !("window" in globalThis) && !("WorkerGlobalScope" in globalThis);

/** Opens a channel that keeps no process alive. */
export function openChannel(name: string): BroadcastChannel {
  const channel = new BroadcastChannel(name);
  (channel as { unref?: () => void }).unref?.();
  return channel;
}

/** Milliseconds since the epoch, comparable across threads. */
export const now = (): number => performance.timeOrigin + performance.now();
