// The kernel's page allocator: a binary buddy system for each node over the frame table (Linux: mm/page_alloc.c; FreeBSD: vm/vm_phys.c).
// Two buddies become one block only if both lie on the same node. The published prototype of adaptable vNUMA compared their zones, and
// there all nodes are one zone; so a free block there could span nodes, and went wherever its first frame was.
//
// Departs from both originals in what a list is worth. Heaps claim and release frames without asking the kernel, so a list only remembers
// where to look: what is taken from one is claimed by compare-and-swap in the frame table, and what turns out to be gone is dropped. What
// heaps released is found by looking at the table, a bounded piece at a time (`sync`). Of blocks alike the higher is handed out first, for
// heaps search from below.

import { MAX_NODES } from "../hypervisor/vm-layout.js";
import { type FrameTable, OWNER_FREE } from "./frame-table.js";

/** A block of order o has 2^o frames and begins at a multiple of that. */
export const MAX_ORDER = 10;
const ORDERS = MAX_ORDER + 1;
/** Frames looked at when a node's lists have run dry, before the next node is asked. */
export const SYNC_FRAMES = 4096;

const NONE = -1;

export class FreeLists {
  /** Another one of the same content after a live migration. */
  table: FrameTable;
  readonly #frames: number;
  /** Order of the block a frame is the first of, NONE for all other frames. */
  readonly #order: Int8Array;
  /** 1 + node a frame is filed on, 0 = not filed. */
  readonly #filed: Uint8Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** First block of each list, by node and order. */
  readonly #heads = new Int32Array(MAX_NODES * ORDERS).fill(NONE);
  /** Frames filed on each node. */
  readonly #count = new Int32Array(MAX_NODES);
  /** Where the next look at the table begins. */
  #cursor = 0;

  /** Nothing is filed at first: `sync` finds it. */
  constructor(table: FrameTable) {
    this.table = table;
    this.#frames = table.frames;
    this.#order = new Int8Array(table.frames).fill(NONE);
    this.#filed = new Uint8Array(table.frames);
    this.#next = new Int32Array(table.frames);
    this.#previous = new Int32Array(table.frames);
  }

  /** Frames on the lists of `node`: as many as were free there when they were last looked at. */
  freeOn(node: number): number {
    return this.#count[node]!;
  }

  /** First frames of the blocks of a list, the one that is taken next first. */
  blocks(node: number, order: number): number[] {
    const found: number[] = [];
    for (let head = this.#heads[node * ORDERS + order]!; head !== NONE; head = this.#next[head]!) found.push(head);
    return found;
  }

  /**
   * Claims 2^order adjacent frames for `owner`, all of one node: the first of `nodes` that has them. They may be dirty.
   * @returns the first of them, -1 if none of the nodes has any
   */
  alloc(order: number, nodes: Iterable<number>, owner: number): number {
    const dry: number[] = [];
    for (const node of nodes) {
      let first = this.#take(order, node, owner);
      if (first === NONE && this.sync(SYNC_FRAMES) > 0) first = this.#take(order, node, owner);
      if (first !== NONE) return first;
      dry.push(node);
    }
    // Nobody has any: looks everywhere before it gives up.
    if (this.sync() === 0) return NONE;
    for (const node of dry) {
      const first = this.#take(order, node, owner);
      if (first !== NONE) return first;
    }
    return NONE;
  }

  /**
   * Claims `count` adjacent frames of any nodes, beginning at a multiple of `alignment`: the lowest there are (Linux: alloc_contig_range;
   * FreeBSD: vm_phys_alloc_contig).
   * @returns the first of them, -1 if there are none
   */
  allocLowest(count: number, alignment: number, owner: number): number {
    for (let first = 0; first + count <= this.#frames;) {
      let claimed = 0;
      while (claimed < count && this.table.transfer(first + claimed, OWNER_FREE, owner)) ++claimed;
      if (claimed === count) {
        for (let gfn = first; gfn < first + count; ++gfn) if (this.#filed[gfn] !== 0) this.#drop(gfn);
        return first;
      }
      for (let i = 0; i < claimed; ++i) this.table.transfer(first + i, owner, OWNER_FREE);
      first = Math.floor((first + claimed) / alignment + 1) * alignment;
    }
    return NONE;
  }

  /** Frames of `owner` are free again, written to as far as anybody knows. */
  free(first: number, count: number, owner: number): void {
    for (let gfn = first; gfn < first + count; ++gfn) {
      if (!this.table.transfer(gfn, owner, OWNER_FREE, true)) {
        throw new Error(`frame ${gfn} is freed by ${owner} and is ${this.table.ownerOf(gfn)}'s`);
      }
    }
    this.file(first, count);
  }

  /** Files those of the frames that are free and not filed yet. */
  file(first: number, count: number): void {
    const end = first + count;
    for (let gfn = first; gfn < end;) gfn += this.#isNews(gfn) ? this.#fileFrom(gfn, end) : 1;
  }

  /** Frames lie on `node` now, and the table says so: what is filed of them changes lists. Blocks are cut where the range ends. */
  refile(first: number, count: number, node: number): void {
    const end = first + count;
    for (let gfn = first; gfn < end;) {
      const filed = this.#filed[gfn]!;
      if (filed === 0 || filed === node + 1) {
        ++gfn;
        continue;
      }
      const head = this.#headOf(gfn);
      const blockEnd = head + (1 << this.#order[head]!);
      const until = Math.min(blockEnd, end);
      this.#unlink(head);
      this.#fileRun(head, gfn - head, filed - 1);
      this.#fileRun(until, blockEnd - until, filed - 1);
      this.#fileRun(gfn, until - gfn, node);
      gfn = until;
    }
  }

  /**
   * Looks at `frames` frames from where the last look ended, by default at all there are, for what heaps claimed and released meanwhile.
   * @returns how many frames it filed or dropped
   */
  sync(frames = this.#frames): number {
    let changed = 0;
    for (let left = Math.min(frames, this.#frames); left > 0;) {
      const gfn = this.#cursor;
      let looked = 1;
      if (this.#isNews(gfn)) {
        looked = this.#fileFrom(gfn, Math.min(gfn + left, this.#frames));
        changed += looked;
      } else if (this.#filed[gfn] !== 0 && !this.table.isFree(gfn)) {
        changed += this.#drop(gfn);
      }
      left -= looked;
      this.#cursor = gfn + looked === this.#frames ? 0 : gfn + looked;
    }
    return changed;
  }

  /** What is wrong with the lists, in words. Nobody may claim or release frames meanwhile, nor since the last complete `sync`. */
  check(): string[] {
    const problems: string[] = [];
    const seen = new Uint8Array(this.#frames);
    for (let node = 0; node < MAX_NODES; ++node) {
      let count = 0;
      for (let order = 0; order < ORDERS; ++order) count += this.#checkList(node, order, seen, problems);
      if (count !== this.#count[node]) problems.push(`node ${node} counts ${this.#count[node]} free frames and has ${count}`);
    }
    for (let gfn = 0; gfn < this.#frames; ++gfn) {
      if (this.table.isFree(gfn) !== (seen[gfn] === 1)) {
        problems.push(`frame ${gfn} is ${seen[gfn] === 0 ? "free and not" : `owner ${this.table.ownerOf(gfn)}'s and`} filed`);
      }
      if ((this.#filed[gfn] !== 0) !== (seen[gfn] === 1)) problems.push(`frame ${gfn} is marked wrongly`);
    }
    return problems;
  }

  #checkList(node: number, order: number, seen: Uint8Array, problems: string[]): number {
    let frames = 0;
    let previous = NONE;
    for (let head = this.#heads[node * ORDERS + order]!; head !== NONE; head = this.#next[head]!) {
      const name = `block ${head} of order ${order} on node ${node}`;
      const size = 1 << order;
      if (head % size !== 0 || head + size > this.#frames) problems.push(`${name} is not aligned`);
      if (this.#order[head] !== order) problems.push(`${name} is marked as of order ${this.#order[head]}`);
      if (this.#previous[head] !== previous) problems.push(`${name} is not linked back`);
      for (let gfn = head; gfn < head + size; ++gfn) {
        if (this.table.nodeOf(gfn) !== node) problems.push(`${name} has frame ${gfn} of node ${this.table.nodeOf(gfn)}`);
        if (this.#filed[gfn] !== node + 1) problems.push(`${name} has frame ${gfn} marked as of another list`);
        if (seen[gfn] === 1) return (problems.push(`${name} has frame ${gfn}, which is filed twice`), frames);
        seen[gfn] = 1;
      }
      const buddy = head ^ size;
      if (order < MAX_ORDER && this.#order[buddy] === order && this.#filed[buddy] === node + 1)
        problems.push(`${name} and its buddy are apart`);
      frames += size;
      previous = head;
    }
    return frames;
  }

  // ---- blocks

  /** Claims a block out of the lists of a node. */
  #take(order: number, node: number, owner: number): number {
    for (let from = order; from < ORDERS;) {
      const head = this.#heads[node * ORDERS + from]!;
      if (head === NONE) {
        ++from;
        continue;
      }
      this.#unlink(head);
      const first = head + (1 << from) - (1 << order);
      if (this.#claim(first, 1 << order, owner)) {
        // The halves below it. What is above each of them is taken or smaller: none has a buddy to join.
        for (let half = from - 1, at = head; half >= order; at += 1 << half, --half) this.#link(at, half, node);
        return first;
      }
      this.file(head, 1 << from);
      from = order;
    }
    return NONE;
  }

  /** All or none. */
  #claim(first: number, count: number, owner: number): boolean {
    for (let i = 0; i < count; ++i) {
      if (this.table.transfer(first + i, OWNER_FREE, owner)) continue;
      while (--i >= 0) this.table.transfer(first + i, owner, OWNER_FREE);
      return false;
    }
    return true;
  }

  /** Takes the block of a frame that is not free off its list; what is free of it is filed again. How many frames are not. */
  #drop(gfn: number): number {
    const head = this.#headOf(gfn);
    const size = 1 << this.#order[head]!;
    const node = this.#filed[head]! - 1;
    const before = this.#count[node]!;
    this.#unlink(head);
    this.file(head, size);
    return before - this.#count[node]!;
  }

  #isNews(gfn: number): boolean {
    return this.#filed[gfn] === 0 && this.table.isFree(gfn);
  }

  /** Files as many frames from `first` on as are news and lie on one node; how many. */
  #fileFrom(first: number, end: number): number {
    const node = this.table.nodeOf(first);
    let gfn = first + 1;
    while (gfn < end && this.#isNews(gfn) && this.table.nodeOf(gfn) === node) ++gfn;
    this.#fileRun(first, gfn - first, node);
    return gfn - first;
  }

  /** Files a run in blocks as large as can be. */
  #fileRun(first: number, count: number, node: number): void {
    for (let left = count, gfn = first; left > 0;) {
      const aligned = gfn === 0 ? MAX_ORDER : 31 - Math.clz32(gfn & -gfn);
      const order = Math.min(aligned, 31 - Math.clz32(left), MAX_ORDER);
      this.#insert(gfn, order, node);
      gfn += 1 << order;
      left -= 1 << order;
    }
  }

  /** Files a block, joined with its buddy as long as that is free, whole, and of the same node. */
  #insert(block: number, blockOrder: number, node: number): void {
    let head = block;
    let order = blockOrder;
    for (; order < MAX_ORDER; ++order) {
      const buddy = head ^ (1 << order);
      if (buddy >= this.#frames || this.#order[buddy] !== order || this.#filed[buddy] !== node + 1) break;
      this.#unlink(buddy);
      head = Math.min(head, buddy);
    }
    this.#link(head, order, node);
  }

  #headOf(gfn: number): number {
    for (let order = 0; order < ORDERS; ++order) {
      const head = gfn & -(1 << order);
      if (this.#order[head] === order) return head;
    }
    throw new Error(`frame ${gfn} is filed and in no block`);
  }

  #link(head: number, order: number, node: number): void {
    const list = node * ORDERS + order;
    const next = this.#heads[list]!;
    this.#order[head] = order;
    this.#filed.fill(node + 1, head, head + (1 << order));
    this.#next[head] = next;
    this.#previous[head] = NONE;
    if (next !== NONE) this.#previous[next] = head;
    this.#heads[list] = head;
    this.#count[node]! += 1 << order;
  }

  #unlink(head: number): void {
    const order = this.#order[head]!;
    const node = this.#filed[head]! - 1;
    const next = this.#next[head]!;
    const previous = this.#previous[head]!;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous !== NONE) this.#next[previous] = next;
    else this.#heads[node * ORDERS + order] = next;
    this.#order[head] = NONE;
    this.#filed.fill(0, head, head + (1 << order));
    this.#count[node]! -= 1 << order;
  }
}
