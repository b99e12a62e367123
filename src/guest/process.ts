// A process of the guest: an address space and threads (Linux: mm/mmap.c, mm/memory.c; FreeBSD: vm/vm_map.c, vm/vm_fault.c).
//
// Anonymous memory is populated page by page, by the first thread that touches it, as the policy in force says; the kernel can move such a
// page to another frame, with what is in it. Memory of a heap is mapped where it lies: the address is the frame, so such a page can change
// its node only under the guest's feet, and the kernel can no more than advise. The linear memory's 4 GiB are the heaps'; anonymous memory
// lies above.
//
// Departs from both originals: a page is a frame of 8 KiB; there is no zero page, so reading populates too; nothing is shared but heaps,
// and nothing is ever swapped out.

import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { GuestError, whole } from "./errors.js";
import type { FreeLists } from "./free-lists.js";
import { OWNER_PROCESS } from "./frame-table.js";

export const PAGE_BYTES = FRAME_BYTES;
/** First page of anonymous memory. */
const FIRST_PAGE = 2 ** 32 / PAGE_BYTES;
/** No user address is as high: the lower half of 48 bits. */
export const ADDRESS_END = 2 ** 47;
const END_PAGE = ADDRESS_END / PAGE_BYTES;

export const pageOf = (address: number): number => Math.floor(address / PAGE_BYTES);

/** Adjacent pages that are mapped alike. */
export interface Mapping<P> {
  /** Pages [first, end), by number. */
  readonly first: number;
  readonly end: number;
  /** Owner of the frames where this is a heap's memory. */
  readonly heap: number | undefined;
  /** What the guest's system keeps of it: Linux a policy, FreeBSD an object. */
  readonly policy: P;
}

/** Whom a process belongs to, as far as that decides anything here. */
export interface Credentials {
  readonly uid: number;
  /** CAP_SYS_NICE; root has it. */
  readonly sysNice?: boolean;
}

export class GuestThread {
  constructor(
    readonly process: Process,
    readonly tid: number,
    /** vCPU it runs on. */
    public vcpu: number,
  ) {}
}

/** What a process needs of its kernel. */
export interface ProcessHost<T extends GuestThread, P> {
  readonly vcpus: number;
  readonly memory: WebAssembly.Memory;
  readonly lists: FreeLists;
  newThread(process: Process<T, P>, vcpu: number): T;
  /** What a new mapping begins with, whose first page this is. */
  newMappingPolicy(first: number): P;
  /** Claims a frame for a page. -1: there is none where the policy allows one. */
  placePage(thread: T, mapping: Mapping<P>, page: number): number;
  /** Makes a claimed frame a page: zero, and touched by the vCPU. */
  prepare(gfn: number, vcpu: number): void;
  /** The vCPU has claimed a frame that was wanted on node `wanted`, and copies a page to it. */
  moved(gfn: number, wanted: number, vcpu: number): void;
  /** Has heaps give free frames back; whether any did. */
  trimHeaps(): boolean;
  ended(process: Process<T, P>): void;
}

export class Process<T extends GuestThread = GuestThread, P = unknown> {
  readonly pid: number;
  readonly credentials: Credentials;
  readonly threads: T[] = [];
  readonly #host: ProcessHost<T, P>;
  /** Ascending, disjoint. */
  #mappings: Mapping<P>[] = [];
  /** Frame of each anonymous page that is populated. */
  readonly #pages = new Map<number, number>();
  #next = FIRST_PAGE + 1;

  constructor(host: ProcessHost<T, P>, pid: number, credentials: Credentials) {
    this.#host = host;
    this.pid = pid;
    this.credentials = credentials;
  }

  /** @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT */
  newThread(vcpu: number): T {
    const thread = this.#host.newThread(this, whole(vcpu, 0, this.#host.vcpus - 1, "vcpu"));
    this.threads.push(thread);
    return thread;
  }

  // ---- mappings

  /** Most bytes that can still be mapped at once. */
  get unmapped(): number {
    return Math.max(0, END_PAGE - this.#next) * PAGE_BYTES;
  }

  /**
   * Maps `bytes` of anonymous memory, a page of nothing behind them. The policy is the system's to give.
   * @returns its address
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT
   */
  mmap(bytes: number): number {
    const pages = Math.ceil(whole(bytes, 1, ADDRESS_END, "bytes") / PAGE_BYTES);
    const first = this.#next;
    whole(first + pages, 0, END_PAGE, "the end of the mapping");
    this.#next = first + pages + 1;
    this.#mappings.push({ first, end: first + pages, heap: undefined, policy: this.#host.newMappingPolicy(first) });
    return first * PAGE_BYTES;
  }

  /**
   * Maps a heap's memory where it lies: pages of [base, end) are present as far as their frames are `owner`'s.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT if it overlaps another heap's
   */
  mapHeap(owner: number, base: number, end: number): void {
    const [first, last] = [whole(base, 0, 2 ** 32, "base") / PAGE_BYTES, whole(end, base, 2 ** 32, "end") / PAGE_BYTES];
    const taken = this.mappingsIn(first, last).length > 0;
    if (taken || first % 1 !== 0 || last % 1 !== 0 || first === last) {
      throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `a heap cannot be mapped at [${base}, ${end})`);
    }
    this.#put([{ first, end: last, heap: owner, policy: this.#host.newMappingPolicy(first) }]);
  }

  /** Pages [first, end) are mapped no more; what is populated of them is free. */
  unmap(first: number, end: number): void {
    this.isolate(first, end);
    for (const page of this.#anonymous(first, end)) {
      const gfn = this.#pages.get(page)!;
      this.#pages.delete(page);
      this.#host.lists.free(gfn, 1, OWNER_PROCESS);
    }
    this.#mappings = this.#mappings.filter((mapping) => mapping.end <= first || mapping.first >= end);
  }

  mappingAt(page: number): Mapping<P> | undefined {
    return this.#mappings.find(({ first, end }) => first <= page && page < end);
  }

  /** Mappings that have pages of [first, end), ascending. */
  mappingsIn(first: number, end: number): Mapping<P>[] {
    return this.#mappings.filter((mapping) => mapping.first < end && first < mapping.end);
  }

  /** The same, after those that reach beyond have been split there. */
  isolate(first: number, end: number): Mapping<P>[] {
    for (const at of [first, end]) {
      const across = this.#mappings.find((mapping) => mapping.first < at && at < mapping.end);
      if (across)
        this.#put(
          [
            { ...across, end: at },
            { ...across, first: at },
          ],
          across,
        );
    }
    return this.mappingsIn(first, end);
  }

  /** Gives mappings another policy: as `change` says, which gets the old one. */
  changePolicies(mappings: readonly Mapping<P>[], change: (policy: P) => P): void {
    const chosen = new Set(mappings);
    this.#mappings = this.#mappings.map((mapping) => (chosen.has(mapping) ? { ...mapping, policy: change(mapping.policy) } : mapping));
  }

  get mappings(): readonly Mapping<P>[] {
    return this.#mappings;
  }

  #put(added: readonly Mapping<P>[], instead?: Mapping<P>): void {
    this.#mappings = [...this.#mappings.filter((mapping) => mapping !== instead), ...added].sort((a, b) => a.first - b.first);
  }

  // ---- pages

  /**
   * A thread touches a byte, whose page is populated if it was not.
   * @returns the frame
   * @throws {GuestError} NUMAHEAP_SEGMENTATION_FAULT, NUMAHEAP_OUT_OF_MEMORY
   */
  touch(thread: T, address: number): number {
    const page = pageOf(address);
    const present = this.#pages.get(page);
    if (present !== undefined) return present;
    const mapping = this.mappingAt(page);
    const gfn = mapping?.heap === undefined ? -1 : this.frameOf(page);
    if (!mapping || (mapping.heap !== undefined && gfn < 0)) {
      throw new GuestError("NUMAHEAP_SEGMENTATION_FAULT", `process ${this.pid} has nothing at 0x${address.toString(16)}`);
    }
    return gfn < 0 ? this.#populate(thread, mapping, page) : gfn;
  }

  #populate(thread: T, mapping: Mapping<P>, page: number): number {
    let gfn = this.#host.placePage(thread, mapping, page);
    if (gfn < 0 && this.#host.trimHeaps()) gfn = this.#host.placePage(thread, mapping, page);
    if (gfn < 0) {
      const where = `page 0x${(page * PAGE_BYTES).toString(16)} of process ${this.pid}`;
      throw new GuestError("NUMAHEAP_OUT_OF_MEMORY", `no frame is left for ${where} where its policy allows one`);
    }
    this.#host.prepare(gfn, thread.vcpu);
    this.#pages.set(page, gfn);
    return gfn;
  }

  /** Frame of a page, -1 if it is not populated, or not mapped. */
  frameOf(page: number): number {
    const gfn = this.#pages.get(page);
    if (gfn !== undefined) return gfn;
    const heap = this.mappingAt(page)?.heap;
    return heap !== undefined && this.#host.lists.table.ownerOf(page) === heap ? page : -1;
  }

  /** Node of a page, -1 if it is not populated, or not mapped. */
  nodeOf(page: number): number {
    const gfn = this.frameOf(page);
    return gfn < 0 ? -1 : this.#host.lists.table.nodeOf(gfn);
  }

  /** Pages of [first, end) that are populated, ascending. */
  populated(first: number, end: number): number[] {
    const found: number[] = [];
    for (const mapping of this.mappingsIn(first, end)) {
      if (mapping.heap === undefined) continue;
      for (let page = Math.max(first, mapping.first); page < Math.min(end, mapping.end); ++page)
        if (this.frameOf(page) >= 0) found.push(page);
    }
    // Heaps lie below all anonymous memory.
    return found.concat(this.#anonymous(first, end));
  }

  /** Anonymous pages of [first, end) that are populated, ascending. A range may have far more pages than there are frames. */
  #anonymous(first: number, end: number): number[] {
    if (end - first > this.#pages.size) return [...this.#pages.keys()].filter((page) => page >= first && page < end).sort((a, b) => a - b);
    return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i).filter((page) => this.#pages.has(page));
  }

  /** Frames of all anonymous pages. */
  frames(): Iterable<number> {
    return this.#pages.values();
  }

  /** A vCPU moves an anonymous page, with what is in it, to a frame of the first of `nodes` that has one. False: none of them has. */
  migratePage(page: number, nodes: readonly number[], vcpu: number): boolean {
    const from = this.#pages.get(page);
    if (from === undefined) return false;
    const { lists, memory } = this.#host;
    const to = lists.alloc(0, nodes, OWNER_PROCESS);
    if (to < 0) return false;
    this.#host.moved(to, nodes[0]!, vcpu);
    new Uint8Array(memory.buffer).copyWithin(to * FRAME_BYTES, from * FRAME_BYTES, (from + 1) * FRAME_BYTES);
    this.#pages.set(page, to);
    lists.free(from, 1, OWNER_PROCESS);
    return true;
  }

  /** Bytes at an address, as a thread reads them. */
  read(thread: T, address: number, bytes: number): Uint8Array {
    const read = new Uint8Array(bytes);
    this.#each(thread, address, bytes, (at, offset, count) => read.set(new Uint8Array(this.#host.memory.buffer, at, count), offset));
    return read;
  }

  write(thread: T, address: number, data: Uint8Array): void {
    this.#each(thread, address, data.length, (at, offset, count) =>
      new Uint8Array(this.#host.memory.buffer, at, count).set(data.subarray(offset, offset + count)),
    );
  }

  /** Calls with each piece within one page: its address in the linear memory, its place in the whole, and its length. */
  #each(thread: T, address: number, bytes: number, call: (at: number, offset: number, count: number) => void): void {
    for (let offset = 0; offset < bytes;) {
      const within = (address + offset) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - within, bytes - offset);
      call(this.touch(thread, address + offset) * FRAME_BYTES + within, offset, count);
      offset += count;
    }
  }

  exit(): void {
    this.unmap(0, END_PAGE);
    this.#host.ended(this);
    this.threads.length = 0;
  }
}
