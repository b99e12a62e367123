// A typed block that is freed at the end of its scope: `using points = heap.alloc(Float64Array, 3)`.

import type { NumaHeap } from "./numa-heap.js";

/** A typed array type over shared memory. */
export interface ViewConstructor<View> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: SharedArrayBuffer, byteOffset: number, length: number): View;
}

export class Allocation<View> implements Disposable {
  #ptr: number;

  constructor(
    private readonly heap: NumaHeap,
    private readonly type: ViewConstructor<View>,
    ptr: number,
    /** Elements. */
    readonly length: number,
  ) {
    this.#ptr = ptr;
  }

  /** Address of the first byte; 0 once freed. */
  get ptr(): number {
    return this.#ptr;
  }

  get byteLength(): number {
    return this.length * this.type.BYTES_PER_ELEMENT;
  }

  /** The elements. Made anew after the memory has grown: do not keep it. */
  get view(): View {
    return this.heap.view(this.type, this.#ptr, this.length);
  }

  /** Frees the block; once is enough. */
  [Symbol.dispose](): void {
    const ptr = this.#ptr;
    this.#ptr = 0;
    if (ptr !== 0) this.heap.free(ptr);
  }
}
