// The driver's side of a virtio device: its registers, and the way to bring it up.

import * as V from "../../hypervisor/kvm/virtio-device.js";
import { DriverQueue, type QueueAddress } from "../../hypervisor/kvm/virtqueue.js";

const word = (at: number): number => at >> 2;
/** Looks at configuration before its writer counts as dead. Each write is a few stores. */
const MOST_LOOKS = 1_000_000;

export class VirtioDriver {
  readonly features: number;
  queues: readonly DriverQueue[] = [];
  readonly #buffer: ArrayBufferLike;
  readonly #registers: Int32Array;
  readonly #config: DataView;
  readonly #addresses: readonly QueueAddress[];
  #status: number;

  constructor(buffer: ArrayBufferLike, base: number, addresses: readonly QueueAddress[]) {
    this.#buffer = buffer;
    this.#registers = new Int32Array(buffer, base, V.AT_CONFIG >> 2);
    this.#config = new DataView(buffer, base + V.AT_CONFIG);
    this.#addresses = addresses;
    this.features = Atomics.load(this.#registers, word(V.AT_FEATURES));
    // Whoever drove the device before has counted its resets there.
    this.#status = Atomics.load(this.#registers, word(V.AT_DRIVER_STATUS));
  }

  get needsReset(): boolean {
    return (Atomics.load(this.#registers, word(V.AT_DEVICE_STATUS)) & V.STATUS_NEEDS_RESET) !== 0;
  }

  /** The device has done what `reset` or `start` asked for. */
  get reached(): boolean {
    return Atomics.load(this.#registers, word(V.AT_DEVICE_STATUS)) === this.#status;
  }

  /** To be followed by the doorbell, as is `start`. */
  reset(): void {
    this.#setStatus(((this.#status & ~(V.STATUS_RESET - 1)) + V.STATUS_RESET) | 0);
  }

  /** Lays out the queues anew: only once the reset is reached does the device leave them alone. */
  start(): void {
    this.queues = this.#addresses.map((address) => new DriverQueue(this.#buffer, address));
    this.#addresses.forEach(({ size, desc, avail, used }, i) => {
      const at = word(V.AT_QUEUES + i * V.QUEUE_REGISTER_BYTES);
      [size, desc, avail, used].forEach((value, j) => Atomics.store(this.#registers, at + j, value));
    });
    Atomics.store(this.#registers, word(V.AT_DRIVER_FEATURES), this.features);
    this.#setStatus(this.#status | V.STATUS_READY);
  }

  /** Why it interrupted; it may again from now on. */
  takeInterrupts(): number {
    return Atomics.exchange(this.#registers, word(V.AT_ISR), 0);
  }

  /** Configuration, all of one generation. */
  read<T>(what: (config: DataView, generation: number) => T): T {
    for (let look = 0; look < MOST_LOOKS; ++look) {
      const generation = Atomics.load(this.#registers, word(V.AT_GENERATION));
      if ((generation & 1) !== 0) continue;
      const value = what(this.#config, generation);
      if (Atomics.load(this.#registers, word(V.AT_GENERATION)) === generation) return value;
    }
    throw new Error("the configuration of a virtio device is being written for ever: the hypervisor has died");
  }

  #setStatus(status: number): void {
    this.#status = status;
    Atomics.store(this.#registers, word(V.AT_DRIVER_STATUS), status);
  }
}
