// What the devices here have in common (virtio 1.x, section 2.1 and 4.2): status, queues, interrupt status, configuration space. The
// registers stand in a frame of the guest's memory that both sides see.
//
//   +0    u32 device id          device      +16  u32 device status      device: the driver's word, NEEDS_RESET added
//   +4    u32 features           device      +20  u32 interrupt status   device sets, driver takes
//   +8    u32 driver features    driver      +24  u32 generation         device: odd while configuration is being written
//   +12   u32 driver status      driver      +32  queues, 16 bytes each: u32 size, descriptors, available, used       driver
//   +96   configuration space                device
//
// Departures from virtio-mmio. Registers are memory, so writing one traps nowhere: the driver rings a doorbell afterwards. Its status word
// carries a count of resets above the eight bits of virtio; any new word is acted upon as a reset followed by that status, and the driver
// waits for the device to say the same word before it touches the rings.

import { HypervisorError } from "../errors.js";
import { type Chain, DeviceQueue, type Segment } from "./virtqueue.js";

export const STATUS_DRIVER_OK = 4;
/** All a driver sets: ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK. */
export const STATUS_READY = 1 | 2 | 8 | STATUS_DRIVER_OK;
export const STATUS_NEEDS_RESET = 64;
/** A driver's status counts its resets in steps of this. */
export const STATUS_RESET = 256;

export const ISR_QUEUE = 1;
export const ISR_CONFIG = 2;

export const AT_DEVICE_ID = 0;
export const AT_FEATURES = 4;
export const AT_DRIVER_FEATURES = 8;
export const AT_DRIVER_STATUS = 12;
export const AT_DEVICE_STATUS = 16;
export const AT_ISR = 20;
export const AT_GENERATION = 24;
export const AT_QUEUES = 32;
export const QUEUE_REGISTER_BYTES = 16;
export const AT_CONFIG = 96;

const word = (at: number): number => at >> 2;

export const bytesOf = (segments: readonly Segment[]): number => segments.reduce((sum, { bytes }) => sum + bytes, 0);

export abstract class VirtioDevice {
  protected readonly bytes: Uint8Array;
  protected readonly registers: Int32Array;
  readonly #buffer: ArrayBufferLike;
  readonly #queueCount: number;
  readonly #interrupt: () => void;
  #queues: DeviceQueue[] = [];
  /** The driver's status as acted upon. */
  #status = 0;
  #error: HypervisorError | undefined;
  #generation = 0;

  /** @param base address of its registers */
  constructor(buffer: ArrayBufferLike, base: number, id: number, features: number, queues: number, interrupt: () => void) {
    this.#buffer = buffer;
    this.#queueCount = queues;
    this.#interrupt = interrupt;
    this.bytes = new Uint8Array(buffer);
    this.registers = new Int32Array(buffer, base, 1024);
    for (let at = 0; at < AT_CONFIG; at += 4) Atomics.store(this.registers, word(at), 0);
    Atomics.store(this.registers, word(AT_DEVICE_ID), id);
    Atomics.store(this.registers, word(AT_FEATURES), features);
  }

  /** Why it wants to be reset. */
  get error(): HypervisorError | undefined {
    return this.#error;
  }

  get ready(): boolean {
    return this.#queues.length > 0 && !this.#error;
  }

  /** The driver rang. Whatever it did wrong ends here. */
  notified(): void {
    this.guard(() => {
      const status = Atomics.load(this.registers, word(AT_DRIVER_STATUS));
      if (status !== this.#status) this.#restart(status);
      if (this.ready) this.serve();
    });
  }

  /** Looks at the queues. */
  protected abstract serve(): void;

  /** The driver is there, or has begun anew. */
  protected restarted(): void {}

  protected queue(index: number): DeviceQueue | undefined {
    return this.#queues[index];
  }

  /** Runs what a guest may have made impossible; the device is dead from then on, until it is reset. */
  protected guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof HypervisorError) || error.code !== "NUMAHEAP_DEVICE_NEEDS_RESET") throw error;
      this.#error = error;
      Atomics.or(this.registers, word(AT_DEVICE_STATUS), STATUS_NEEDS_RESET);
      this.raise(ISR_CONFIG);
    }
  }

  /** Interrupts the guest, unless it still has to look at the last interrupt. */
  protected raise(why: number): void {
    if (Atomics.or(this.registers, word(AT_ISR), why) === 0) this.#interrupt();
  }

  /** Writes configuration under an odd generation, so that a driver that reads meanwhile can tell. */
  protected configure(write: () => void): void {
    Atomics.store(this.registers, word(AT_GENERATION), ++this.#generation);
    write();
    Atomics.store(this.registers, word(AT_GENERATION), ++this.#generation);
  }

  protected get generation(): number {
    return this.#generation;
  }

  /** For each chain of a queue, at most as many as fit into it: `run` answers how much it wrote. */
  protected each(index: number, run: (chain: Chain) => number): void {
    const queue = this.#queues[index]!;
    let served = 0;
    for (let chain = queue.pop(); chain && served < queue.size; chain = queue.pop(), ++served) queue.push(chain, run(chain));
    if (served > 0) this.raise(ISR_QUEUE);
  }

  /** Writes an answer into what the driver offered for it; it fits. */
  protected write(segments: readonly Segment[], answer: Uint8Array): void {
    let done = 0;
    for (const { at, bytes } of segments) {
      const part = answer.subarray(done, done + bytes);
      this.bytes.set(part, at);
      done += part.length;
    }
  }

  /** What a driver wrote, copied: it may change the original. */
  protected read(segments: readonly Segment[]): Uint8Array<ArrayBuffer> {
    const copy = new Uint8Array(bytesOf(segments));
    let at = 0;
    for (const segment of segments) {
      copy.set(this.bytes.subarray(segment.at, segment.at + segment.bytes), at);
      at += segment.bytes;
    }
    return copy;
  }

  protected static broken(what: string): HypervisorError {
    return new HypervisorError("NUMAHEAP_DEVICE_NEEDS_RESET", what);
  }

  #restart(status: number): void {
    this.#status = status;
    this.#error = undefined;
    this.#queues = [];
    Atomics.store(this.registers, word(AT_DEVICE_STATUS), status & ~STATUS_NEEDS_RESET);
    this.raise(ISR_CONFIG);
    if ((status & STATUS_DRIVER_OK) === 0) return;
    const queues: DeviceQueue[] = [];
    for (let i = 0; i < this.#queueCount; ++i) {
      const [size, desc, avail, used] = [0, 4, 8, 12].map(
        (at) => Atomics.load(this.registers, word(AT_QUEUES + i * QUEUE_REGISTER_BYTES + at)) >>> 0,
      );
      queues.push(new DeviceQueue(this.#buffer, { size: size!, desc: desc!, avail: avail!, used: used! }));
    }
    this.#queues = queues;
    this.restarted();
  }
}
