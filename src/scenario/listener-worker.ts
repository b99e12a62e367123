// A thread of the application that does nothing but listen: attached to the heap, it passes on what it is told of topology changes, and when.

import { parentPort, workerData } from "node:worker_threads";
import type { HeapHandle } from "../heap/handle.js";
import { attachHeap } from "../host/attach.js";
import { wallClock } from "../hypervisor/connection.js";
import type { Notification } from "./listeners.js";

/** What it posts: that it listens, what it heard, that it has detached. */
export type ListenerMessage = "ready" | "detached" | Notification;

const port = parentPort!;
const say = (message: ListenerMessage): void => port.postMessage(message);
const heap = await attachHeap(workerData as HeapHandle);
heap.addEventListener("topologychange", ({ epoch, vcpus, ranges }) =>
  say({ time: wallClock(), epoch, vcpus: vcpus.length, ranges: ranges.length }),
);
port.once("message", () => {
  heap.detach();
  say("detached");
});
say("ready");
