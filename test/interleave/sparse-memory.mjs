// The shared memory of a scenario, saved and put back by what differs: 64-byte granules that some explored path has
// written. A granule's content is a small number, 0 = as in the initial image, so that a saved memory is a short vector of
// numbers, saving costs what was written since, and putting back costs what differs.

const SHIFT = 6;
const GRANULE = 1 << SHIFT;

export class SparseMemory {
  /** `memory` is shared; what a scenario may touch lies in its first `bytes` bytes, all of it as it is now. */
  constructor(memory, bytes) {
    this.bytes = bytes;
    this.buffer = Buffer.from(memory.buffer, 0, bytes);
    this.image = Uint8Array.from(this.buffer);
    this.slotOf = new Int32Array(bytes >>> SHIFT).fill(-1);
    /** Per slot: where its granule starts, its contents by number, and their numbers. */
    this.starts = [];
    this.contents = [];
    this.numbers = [];
    /** The memory as it was saved or put back last. */
    this.vector = [];
    this.dirty = [];
    this.isDirty = new Uint8Array(bytes >>> SHIFT);
  }

  /** A store to [address, address + size) is about to be made. */
  touch(address, size) {
    const last = (address + size - 1) >>> SHIFT;
    for (let granule = address >>> SHIFT; granule <= last; ++granule) {
      if (this.isDirty[granule]) continue;
      this.isDirty[granule] = 1;
      this.dirty.push(granule);
    }
  }

  /** The memory's vector now (not a copy). Numbers of granules that are as in the image, at its end, may be left out. */
  save() {
    for (const granule of this.dirty) {
      this.isDirty[granule] = 0;
      const start = granule << SHIFT;
      let slot = this.slotOf[granule];
      if (slot < 0) {
        slot = this.slotOf[granule] = this.starts.push(start) - 1;
        const initial = this.image.slice(start, start + GRANULE);
        this.contents.push([initial]);
        this.numbers.push(new Map([[Buffer.from(initial).latin1Slice(), 0]]));
      }
      const key = this.buffer.latin1Slice(start, start + GRANULE);
      let number = this.numbers[slot].get(key);
      if (number === undefined) {
        number = this.contents[slot].push(Uint8Array.from(this.buffer.subarray(start, start + GRANULE))) - 1;
        this.numbers[slot].set(key, number);
      }
      while (this.vector.length < slot) this.vector.push(0);
      this.vector[slot] = number;
    }
    this.dirty.length = 0;
    return this.vector;
  }

  /** Puts a saved memory back; `numberAt(slot)` for slots below `length`, 0 for all others. */
  restore(length, numberAt) {
    this.save();
    const { vector } = this;
    for (let slot = 0; slot < vector.length; ++slot) {
      const number = slot < length ? numberAt(slot) : 0;
      if (vector[slot] === number) continue;
      this.buffer.set(this.contents[slot][number], this.starts[slot]);
      vector[slot] = number;
    }
    for (let slot = vector.length; slot < length; ++slot) {
      vector.push(numberAt(slot));
      if (vector[slot]) this.buffer.set(this.contents[slot][vector[slot]], this.starts[slot]);
    }
  }

  /** A copy of everything, for a check that writes. */
  copyTo(target) {
    target.set(this.buffer);
  }

  /** Mean bytes of the vector and of all contents kept. */
  get granules() {
    return this.starts.length;
  }
}
