// A virtio device that tells the actual topology, since KVM's host moves pages and vCPUs behind the guest's back. There is none in virtio;
// this one is made as those are, on virtio-device.ts.
//
//   feature 0      the topology is told: without it there are no events and no ranges to be read
//   queue 0        events: the driver offers buffers, the device puts one change into each; returning the buffer acknowledges it
//   queue 1        control: a request to be read, and room for its answer
//   configuration  +0 u32 nodes, vcpus, frames   +16 u8 vcpu_node[256]   +272 u8 distance[32 x 32], row by row
//
// Events come one by one, in order. A change that finds no buffer is dropped, and all after it, until there is a buffer again: that is
// filled with "overflow", upon which the driver reads everything anew; so no change is lost, and a driver that is slow costs nothing.
// Every change raises the generation. An event has the generation it made, configuration and ranges that of when they were read: what
// an event tells that is no newer is known already. Ranges that are read in several requests are those of the first.

import type { FrameRange, PlacementPolicy, PlatformChange, VirtualTopology } from "../../guest/platform.js";
import { EINVAL, ENOSYS, EOPNOTSUPP, errnoOf } from "../errors.js";
import { PLACEMENT_POLICIES } from "../modes.js";
import { FRAME_BYTES, MAX_NODES, PLATFORM_FRAME } from "../vm-layout.js";
import { AT_CONFIG, bytesOf, ISR_QUEUE, VirtioDevice } from "./virtio-device.js";
import type { Chain } from "./virtqueue.js";

export const TOPOLOGY_DEVICE_ID = 0x6e75;
export const TOPOLOGY_REGISTERS = PLATFORM_FRAME * FRAME_BYTES;
export const F_ACTUAL = 1;

export const EVENT_QUEUE = 0;
export const CONTROL_QUEUE = 1;

export const CONFIG_NODES = 0;
export const CONFIG_VCPUS = 4;
export const CONFIG_FRAMES = 8;
export const CONFIG_VCPU_NODE = 16;
export const CONFIG_DISTANCE = 272;

/** An event: u32 kind, vCPU or first frame, count, node; f64 when it was raised; u32 generation, 0. */
export const EVENT_BYTES = 32;
export const EVENT_VCPU = 1;
export const EVENT_FRAMES = 2;
export const EVENT_OVERFLOW = 3;

/** A request: u32 command and three arguments. Its answer: u32 errno, value, next, count; then ranges of u32 first, count, node each. */
export const REQUEST_BYTES = 16;
export const ANSWER_BYTES = 16;
export const RANGE_BYTES = 12;
/** Answered at once: all that was told before has been told when the answer comes. */
export const NOTHING = 0;
/** `count` ranges, as many as fit, from that of this index on: 0 for those of now. value = their generation, next = the next index, 0 = none. */
export const READ_RANGES = 1;
/** first, count, node. */
export const ADVISE = 2;
/** Index of PLACEMENT_POLICIES. */
export const SET_PLACEMENT = 3;

/** What a guest may ask for through the control queue. */
export interface TopologyRequests {
  topology(): VirtualTopology;
  advise(first: number, count: number, node: number): number;
  setPlacement(policy: PlacementPolicy): void;
}

export class TopologyDevice extends VirtioDevice {
  readonly #config: DataView;
  readonly #told: boolean;
  readonly #requests: TopologyRequests;
  readonly #frames: number;
  readonly #now: () => number;
  /** When the first change was made that found no buffer; 0 = none is missing. */
  #overflowed = 0;
  /** Ranges that are being read, and the generation they were read at. */
  #reading: { readonly ranges: readonly FrameRange[]; readonly generation: number } = { ranges: [], generation: 0 };

  constructor(
    buffer: ArrayBufferLike,
    shape: { readonly vcpus: number; readonly frames: number; readonly distances: readonly (readonly number[])[] },
    told: boolean,
    requests: TopologyRequests,
    interrupt: () => void,
    now: () => number,
  ) {
    super(buffer, TOPOLOGY_REGISTERS, TOPOLOGY_DEVICE_ID, told ? F_ACTUAL : 0, 2, interrupt);
    this.#config = new DataView(buffer, TOPOLOGY_REGISTERS + AT_CONFIG);
    this.#told = told;
    this.#requests = requests;
    this.#frames = shape.frames;
    this.#now = now;
    this.configure(() => {
      // A guest that is not told sees one node.
      const distances = told ? shape.distances : [[10]];
      this.#config.setUint32(CONFIG_NODES, distances.length, true);
      this.#config.setUint32(CONFIG_VCPUS, shape.vcpus, true);
      this.#config.setUint32(CONFIG_FRAMES, shape.frames, true);
      for (let vcpu = 0; vcpu < shape.vcpus; ++vcpu) this.#config.setUint8(CONFIG_VCPU_NODE + vcpu, 0);
      distances.forEach((row, from) =>
        row.forEach((distance, to) => this.#config.setUint8(CONFIG_DISTANCE + from * MAX_NODES + to, distance)),
      );
    });
  }

  announce(changes: readonly PlatformChange[]): void {
    for (const change of changes) {
      this.configure(() => {
        if (change.kind === "vcpu") this.#config.setUint8(CONFIG_VCPU_NODE + change.vcpu, change.node);
      });
      this.guard(() => {
        if (change.kind === "vcpu") this.#event(EVENT_VCPU, change.vcpu, 1, change.node);
        else if (change.kind === "frames") this.#event(EVENT_FRAMES, change.first, change.count, change.node);
      });
    }
  }

  protected override restarted(): void {
    // A driver that begins anew reads everything.
    this.#overflowed = 0;
  }

  protected override serve(): void {
    if (this.#overflowed !== 0 && this.#put(EVENT_OVERFLOW, 0, 0, 0, this.#overflowed)) this.#overflowed = 0;
    this.each(CONTROL_QUEUE, (chain) => this.#control(chain));
  }

  #event(kind: number, first: number, count: number, node: number): void {
    const now = this.#now();
    if (this.#overflowed === 0 && this.#put(kind, first, count, node, now)) return;
    this.#overflowed ||= now;
  }

  /** False: the driver offers no buffer. */
  #put(kind: number, first: number, count: number, node: number, raised: number): boolean {
    const queue = this.ready ? this.queue(EVENT_QUEUE)! : undefined;
    const chain = queue?.pop();
    if (!queue || !chain) return false;
    if (chain.readable.length > 0 || bytesOf(chain.writable) < EVENT_BYTES)
      throw VirtioDevice.broken("a buffer for events must have room for one, and nothing to be read");
    const event = new DataView(new ArrayBuffer(EVENT_BYTES));
    [kind, first, count, node].forEach((value, i) => event.setUint32(i * 4, value, true));
    event.setFloat64(16, raised, true);
    event.setUint32(24, this.generation, true);
    this.write(chain.writable, new Uint8Array(event.buffer));
    queue.push(chain, EVENT_BYTES);
    this.raise(ISR_QUEUE);
    return true;
  }

  #control({ readable, writable }: Chain): number {
    const room = bytesOf(writable);
    if (bytesOf(readable) !== REQUEST_BYTES || room < ANSWER_BYTES) {
      throw VirtioDevice.broken(`a request has ${REQUEST_BYTES} bytes and room for an answer of ${ANSWER_BYTES} at least`);
    }
    const request = new DataView(this.read(readable).buffer);
    const [command, ...args] = [0, 4, 8, 12].map((at) => request.getUint32(at, true));
    const answer = this.#answer(command!, args, Math.min(room, ANSWER_BYTES + this.#frames * RANGE_BYTES));
    this.write(writable, answer);
    return answer.length;
  }

  #answer(command: number, [a, b, c]: readonly number[], room: number): Uint8Array {
    try {
      if (command === NOTHING) return answerOf(0);
      if (command === READ_RANGES) return this.#told ? this.#ranges(a!, room) : answerOf(EOPNOTSUPP);
      if (command === ADVISE) return answerOf(0, this.#requests.advise(a!, b!, c!));
      if (command !== SET_PLACEMENT) return answerOf(ENOSYS);
      this.#requests.setPlacement(PLACEMENT_POLICIES[a!]!);
      return answerOf(0);
    } catch (error) {
      return answerOf(errnoOf(error));
    }
  }

  #ranges(from: number, room: number): Uint8Array {
    if (from === 0) {
      // What is touched and not backed yet is backed by this, which raises the generation.
      const { ranges } = this.#requests.topology();
      this.#reading = { ranges, generation: this.generation };
    }
    const { ranges, generation } = this.#reading;
    if (from > ranges.length) return answerOf(EINVAL);
    const fit = ranges.slice(from, from + Math.floor((room - ANSWER_BYTES) / RANGE_BYTES));
    const next = from + fit.length;
    const bytes = new Uint8Array(ANSWER_BYTES + fit.length * RANGE_BYTES);
    bytes.set(answerOf(0, generation, next < ranges.length ? next : 0, fit.length));
    const view = new DataView(bytes.buffer, ANSWER_BYTES);
    fit.forEach(({ first, count, node }, i) =>
      [first, count, node].forEach((value, j) => view.setUint32(i * RANGE_BYTES + j * 4, value, true)),
    );
    return bytes;
  }
}

function answerOf(errno: number, value = 0, next = 0, count = 0): Uint8Array {
  const answer = new DataView(new ArrayBuffer(ANSWER_BYTES));
  [errno, value, next, count].forEach((field, i) => answer.setUint32(i * 4, field, true));
  return new Uint8Array(answer.buffer);
}
