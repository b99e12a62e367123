// Where the drivers keep their queues and buffers: behind the devices' registers, in the platform's frames.

import { queueAt, queueBytes } from "../../hypervisor/kvm/virtqueue.js";
import { ANSWER_BYTES, EVENT_BYTES, REQUEST_BYTES } from "../../hypervisor/kvm/topology-device.js";
import { LIST_ANSWER_BYTES, LIST_HEAD_BYTES } from "../../hypervisor/kvm/virtio-balloon.js";
import type { Segment } from "../../hypervisor/kvm/virtqueue.js";
import { FRAME_BYTES, PLATFORM_FRAME, PLATFORM_FRAMES } from "../../hypervisor/vm-layout.js";

/** Events that may wait for this guest; more are one overflow. */
export const EVENTS = 64;
/** Requests are made one at a time: one to be read, one to be written. */
const REQUEST_QUEUE = 4;
/** Pages of a list that go in one chain. */
export const LIST_PFNS = 2048;
const RANGES_BYTES = 6144;

let next = (PLATFORM_FRAME + 1) * FRAME_BYTES;
const take = (bytes: number): number => {
  const at = next;
  next = (next + bytes + 15) & ~15;
  return at;
};
const queue = (size: number): ReturnType<typeof queueAt> => queueAt(take(queueBytes(size)), size);
const segment = (bytes: number): Segment => ({ at: take(bytes), bytes });

export const EVENT_QUEUE = queue(EVENTS);
export const CONTROL_QUEUE = queue(REQUEST_QUEUE);
export const INFLATE_QUEUE = queue(REQUEST_QUEUE);
export const DEFLATE_QUEUE = queue(REQUEST_QUEUE);
export const EVENT_BUFFERS: readonly Segment[] = Array.from({ length: EVENTS }, () => segment(EVENT_BYTES));
export const REQUEST = segment(REQUEST_BYTES);
export const ANSWER = segment(ANSWER_BYTES + RANGES_BYTES);
export const LIST = segment(LIST_HEAD_BYTES + LIST_PFNS * 4);
export const LIST_ANSWER = segment(LIST_ANSWER_BYTES);

if (next > (PLATFORM_FRAME + PLATFORM_FRAMES) * FRAME_BYTES) throw new Error("the queues do not fit into the platform's frames");
