// A virtqueue: the split ring of virtio 1.x (section 2.7), in the guest's memory. The driver's side offers chains of buffers, the device's
// side takes and returns them.
//
//   descriptor table   16 bytes each: u64 address, u32 length, u16 flags, u16 next
//   available ring     u16 flags, u16 idx, u16 ring[size]                 written by the driver
//   used ring          u16 flags, u16 idx, {u32 id, u32 length}[size]     written by the device
//
// The device trusts none of it. Each descriptor is read once and checked as read, so that a guest that changes it meanwhile changes
// nothing; a chain has at most as many descriptors as the queue, so that a loop ends. Neither indirect descriptors nor event indices are
// offered, nor is notification suppressed: a device that has looked at a queue once for each buffer it can hold has seen all of it.

import { HypervisorError } from "../errors.js";

export const MAX_QUEUE_SIZE = 256;
const F_NEXT = 1;
const F_WRITE = 2;
const DESC_BYTES = 16;
const USED_BYTES = 8;

/** Where a queue lies, as its driver set it. */
export interface QueueAddress {
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

export interface Segment {
  readonly at: number;
  readonly bytes: number;
}

/** A chain of buffers: what the device reads, then what it writes. */
export interface Chain {
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
}

/** Bytes a queue of `size` takes from an address aligned to 16. */
export const queueBytes = (size: number): number => size * DESC_BYTES + align4(4 + size * 2) + 4 + size * USED_BYTES;
const align4 = (bytes: number): number => (bytes + 3) & ~3;

/** The parts of a queue of `size` that begins at `at`. */
export function queueAt(at: number, size: number): QueueAddress {
  const avail = at + size * DESC_BYTES;
  return { size, desc: at, avail, used: avail + align4(4 + size * 2) };
}

const broken = (what: string): HypervisorError => new HypervisorError("NUMAHEAP_DEVICE_NEEDS_RESET", `virtqueue: ${what}`);

/** The words of a ring, on either side. */
class Rings {
  readonly desc: DataView;
  readonly availIdx: Uint16Array;
  readonly avail: Uint16Array;
  readonly usedIdx: Uint16Array;
  readonly used: Uint32Array;

  constructor(
    buffer: ArrayBufferLike,
    readonly size: number,
    address: QueueAddress,
  ) {
    this.desc = new DataView(buffer, address.desc, size * DESC_BYTES);
    this.availIdx = new Uint16Array(buffer, address.avail + 2, 1);
    this.avail = new Uint16Array(buffer, address.avail + 4, size);
    this.usedIdx = new Uint16Array(buffer, address.used + 2, 1);
    this.used = new Uint32Array(buffer, address.used + 4, size * 2);
  }
}

/** The device's side. Everything it throws is the guest's fault, and leaves the queue as it was. */
export class DeviceQueue {
  readonly #rings: Rings;
  readonly #limit: number;
  /** Available entries taken, and used entries given, mod 2^16. Its own: what stands in the memory is not asked. */
  #taken = 0;
  #given = 0;

  /** @throws {HypervisorError} NUMAHEAP_DEVICE_NEEDS_RESET */
  constructor(buffer: ArrayBufferLike, { size, desc, avail, used }: QueueAddress) {
    if (size === 0 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0)
      throw broken(`size ${size} is no power of two up to ${MAX_QUEUE_SIZE}`);
    this.#limit = buffer.byteLength;
    const part = (what: string, at: number, bytes: number, alignment: number): void => {
      if (at % alignment !== 0 || at + bytes > this.#limit)
        throw broken(`${what} at ${at} is outside the memory or not aligned to ${alignment}`);
    };
    part("descriptor table", desc, size * DESC_BYTES, 16);
    part("available ring", avail, 4 + size * 2, 2);
    part("used ring", used, 4 + size * USED_BYTES, 4);
    this.#rings = new Rings(buffer, size, { size, desc, avail, used });
  }

  get size(): number {
    return this.#rings.size;
  }

  /**
   * The next chain the driver offers, undefined if there is none. It is taken by `push`; until then the next pop answers the same.
   * @throws {HypervisorError} NUMAHEAP_DEVICE_NEEDS_RESET
   */
  pop(): Chain | undefined {
    const { size, avail, availIdx } = this.#rings;
    const offered = (Atomics.load(availIdx, 0) - this.#taken) & 0xffff;
    if (offered === 0) return undefined;
    if (offered > size) throw broken(`${offered} chains are offered on a queue of ${size}`);
    return this.#chain(Atomics.load(avail, this.#taken % size));
  }

  #chain(head: number): Chain {
    const { size, desc } = this.#rings;
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    let index = head;
    for (let length = 0; ; ++length) {
      if (length === size) throw broken(`the chain from descriptor ${head} is longer than the queue`);
      if (index >= size) throw broken(`descriptor ${index} of a queue of ${size}`);
      const at = desc.getUint32(index * DESC_BYTES, true) + desc.getUint32(index * DESC_BYTES + 4, true) * 2 ** 32;
      const bytes = desc.getUint32(index * DESC_BYTES + 8, true);
      const flags = desc.getUint16(index * DESC_BYTES + 12, true);
      const next = desc.getUint16(index * DESC_BYTES + 14, true);
      if ((flags & ~(F_NEXT | F_WRITE)) !== 0) throw broken(`descriptor ${index} has flags ${flags}`);
      if (at + bytes > this.#limit) throw broken(`descriptor ${index} points to ${bytes} bytes at ${at}, outside the memory`);
      if ((flags & F_WRITE) !== 0) writable.push({ at, bytes });
      else if (writable.length > 0) throw broken(`descriptor ${index} is to be read, behind one that is to be written`);
      else readable.push({ at, bytes });
      if ((flags & F_NEXT) === 0) return { head, readable, writable };
      index = next;
    }
  }

  /** Returns a chain, of which `written` bytes were written. */
  push({ head }: Chain, written: number): void {
    const { size, used, usedIdx } = this.#rings;
    const slot = (this.#given % size) * 2;
    Atomics.store(used, slot, head);
    Atomics.store(used, slot + 1, written);
    this.#taken = (this.#taken + 1) & 0xffff;
    this.#given = (this.#given + 1) & 0xffff;
    Atomics.store(usedIdx, 0, this.#given);
  }
}

/** The driver's side. */
export class DriverQueue {
  readonly #rings: Rings;
  /** Descriptors nobody uses. */
  readonly #free: number[];
  /** Descriptors of each chain on its way, by head. */
  readonly #chains = new Map<number, number[]>();
  #offered = 0;
  #seen = 0;

  constructor(buffer: ArrayBufferLike, address: QueueAddress) {
    this.#rings = new Rings(buffer, address.size, address);
    this.#free = Array.from({ length: address.size }, (_, i) => address.size - 1 - i);
    for (const idx of [this.#rings.availIdx, this.#rings.usedIdx]) Atomics.store(idx, 0, 0);
  }

  /** Offers a chain; its head names it. There must be room: a driver knows how much it has out. */
  offer(readable: readonly Segment[], writable: readonly Segment[]): number {
    const { size, avail, availIdx, desc } = this.#rings;
    const segments = [...readable, ...writable];
    const chain = this.#free.splice(this.#free.length - segments.length).reverse();
    segments.forEach(({ at, bytes }, i) => {
      const base = chain[i]! * DESC_BYTES;
      desc.setUint32(base, at, true);
      desc.setUint32(base + 4, 0, true);
      desc.setUint32(base + 8, bytes, true);
      desc.setUint16(base + 12, (i < readable.length ? 0 : F_WRITE) | (i + 1 < chain.length ? F_NEXT : 0), true);
      desc.setUint16(base + 14, chain[i + 1] ?? 0, true);
    });
    this.#chains.set(chain[0]!, chain);
    Atomics.store(avail, this.#offered % size, chain[0]!);
    this.#offered = (this.#offered + 1) & 0xffff;
    Atomics.store(availIdx, 0, this.#offered);
    return chain[0]!;
  }

  /** The next chain the device has returned, by its head; undefined if there is none. */
  take(): number | undefined {
    const { size, used, usedIdx } = this.#rings;
    if (Atomics.load(usedIdx, 0) === this.#seen) return undefined;
    const head = Atomics.load(used, (this.#seen % size) * 2);
    this.#seen = (this.#seen + 1) & 0xffff;
    this.#free.push(...this.#chains.get(head)!.reverse());
    this.#chains.delete(head);
    return head;
  }
}
