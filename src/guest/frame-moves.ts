// Which frames changed node while a batch of changes was handled, however often each of them did.

import type { FrameTable } from "./frame-table.js";
import type { FrameRange } from "./platform.js";

const UNMOVED = -1;

export class FrameMoves {
  /** Node of each frame before it moved first. */
  readonly #before: Int8Array;
  #from: number;
  #to = 0;

  constructor(frames: number) {
    this.#before = new Int8Array(frames).fill(UNMOVED);
    this.#from = frames;
  }

  note(gfn: number, before: number): void {
    if (this.#before[gfn] === UNMOVED) this.#before[gfn] = before;
    this.#from = Math.min(this.#from, gfn);
    this.#to = Math.max(this.#to, gfn + 1);
  }

  /** Maximal ranges of what lies elsewhere than before, on one node each, ascending. From here on nothing has moved. */
  take(table: FrameTable): FrameRange[] {
    const ranges: FrameRange[] = [];
    let last: { first: number; count: number; node: number } | undefined;
    for (let gfn = this.#from; gfn < this.#to; ++gfn) {
      const node = table.nodeOf(gfn);
      const before = this.#before[gfn]!;
      if (before === UNMOVED || before === node) continue;
      if (last?.node === node && last.first + last.count === gfn) ++last.count;
      else ranges.push((last = { first: gfn, count: 1, node }));
    }
    this.#before.fill(UNMOVED, this.#from, this.#to);
    this.#from = this.#before.length;
    this.#to = 0;
    return ranges;
  }
}
