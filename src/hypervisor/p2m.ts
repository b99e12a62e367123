// The p2m of a virtual machine: which machine frame each guest frame is backed by. An entry that is backed by none says why. One setter,
// and whoever listens to it hears of every change.

/** The guest gave the frame back. */
export const BALLOONED = -1;
/** Never touched, and who touches it first says where it will lie. */
export const UNPLACED = -2;
const FIRST_NODE = -3;

/** Not touched yet; to be backed on `node` when it is. */
export const onDemand = (node: number): number => FIRST_NODE - node;
export const isBacked = (entry: number): boolean => entry >= 0;
/** Node an entry waits for, -1 = none. */
export const homeOf = (entry: number): number => (entry <= FIRST_NODE ? FIRST_NODE - entry : -1);

export class P2m {
  readonly frames: number;
  readonly #entries: Int32Array;
  readonly #changed: (gfn: number, from: number, to: number) => void;
  #backed = 0;
  #ballooned: number;

  /** All frames are in the balloon at first. */
  constructor(frames: number, changed: (gfn: number, from: number, to: number) => void) {
    this.frames = frames;
    this.#entries = new Int32Array(frames).fill(BALLOONED);
    this.#ballooned = frames;
    this.#changed = changed;
  }

  get(gfn: number): number {
    return this.#entries[gfn]!;
  }

  set(gfn: number, entry: number): void {
    const from = this.#entries[gfn]!;
    this.#entries[gfn] = entry;
    this.#backed += Number(isBacked(entry)) - Number(isBacked(from));
    this.#ballooned += Number(entry === BALLOONED) - Number(from === BALLOONED);
    this.#changed(gfn, from, entry);
  }

  /** Frames that a machine frame is behind. */
  get backed(): number {
    return this.#backed;
  }

  get ballooned(): number {
    return this.#ballooned;
  }

  /** Frames neither backed nor given back. */
  get waiting(): number {
    return this.frames - this.#backed - this.#ballooned;
  }
}
