// Which pages a storm moves.

/** What the choice is made from. Pages are of the heap's, counted from address 0. */
export interface Pages {
  /** First page of the heap, and how many it has claimed. */
  readonly base: number;
  readonly committed: number;
  /** A page of some block in use. */
  usedPage(): number;
  /** How many of a range are in spans in use. */
  inUse(first: number, pages: number): number;
}

/** Places looked at for a range of one length. */
const TRIES = 4;

/**
 * A range of 1 page to a quarter of what is committed, log-uniform, at least half of it in spans in use. Where the heap is too empty for one
 * so long, half the length is tried, and so on: a single page of a live block always will do.
 */
export function drawRange(heap: Pages, random: () => number): { first: number; pages: number } {
  const { base, committed } = heap;
  const longest = Math.max(1, Math.floor(committed / 4));
  for (let pages = Math.min(longest, Math.floor(Math.exp(random() * Math.log(longest + 1)))); ; pages = Math.floor(pages / 2)) {
    for (let tries = 0; tries < TRIES; ++tries) {
      const near = heap.usedPage() - Math.floor(random() * pages);
      const first = Math.min(Math.max(base, near), base + committed - pages);
      if (pages === 1 || heap.inUse(first, pages) * 2 >= pages) return { first, pages };
    }
  }
}
