// Random calls by threads that may not sleep, while somebody else holds random locks: every path on which a lock is out of reach, in
// every order. Whoever holds them may die. The walk is exact after each release.
import { expect, test } from "vitest";
import { constant, type HeapExports, randomFrom, Rig } from "../support/rig.js";

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(process.env["TORTURE_ROUNDS"] ?? 6);
console.log(`held locks: SEED=${seed}`);

const EINVAL = 28;
const EBUSY = 10;
const ENOMEM = 48;
const NODES = 4;
const BURSTS = 40;
const SOUND = { ok: true, problems: [], unaccounted: [] };

interface Block {
  size: number;
  byte: number;
}

class Torture {
  readonly rig: Rig;
  readonly random: (below: number) => number;
  readonly live = new Map<number, Block>();
  readonly threads: { heap: HeapExports; key: number }[] = [];
  /** Who holds the locks. */
  ghost: { heap: HeapExports; key: number };
  private keys = 100;
  private nodes = NODES;
  private locks: number[] = [];
  private out: number;

  constructor(seed: number, build: string) {
    this.random = randomFrom(Math.imul(seed, 0x9e37_79b1) + 1);
    const pages = 2 + this.random(6);
    this.rig = new Rig({ threads: 1, nodes: NODES, pages, maximumPages: pages + 8 + this.random(60), build });
    // What a C program has at the bottom of its memory is nothing to the heap.
    new Uint32Array(this.rig.memory.buffer, 0, 1024).fill(this.random(2) ? 0x0001_0105 : 0);
    for (let i = 0; i < 4; ++i) this.threads.push(this.attach());
    this.ghost = this.attach();
    this.out = this.first.malloc(16);
  }

  get first(): HeapExports {
    return this.rig.threads[0]!;
  }

  attach(): { heap: HeapExports; key: number } {
    const heap = this.rig.instance();
    const key = ++this.keys;
    if (!heap.attach(this.rig.base, key, this.random(8), 0)) throw new Error(`attach: errno ${heap.errno()}`);
    return { heap, key };
  }

  // ---- locks

  hold(): void {
    const { rig, random } = this;
    const share = random(4);
    const take = (at: number): void => {
      if (random(4) <= share) this.locks.push(at);
    };
    take(rig.field("Heap", rig.base, "pageHeapLock"));
    if (random(3) === 0) take(rig.field("Heap", rig.base, "topologyLock"));
    if (random(8) === 0) take(rig.field("Heap", rig.base, "reapLock"));
    for (let node = 0; node < NODES; ++node) {
      if (!rig.arena(node)) continue;
      take(rig.field("Arena", rig.arena(node), "queueLock"));
      for (let c = 0; c < constant("MAX_CLASSES"); ++c) if (rig.central(node, c)) take(rig.central(node, c));
    }
    for (const at of this.locks) rig.set32(at, this.ghost.heap.threadId() << 1);
  }

  release(): void {
    for (const at of this.locks) this.rig.set32(at, 0);
    this.locks = [];
  }

  /** The holder dies, and somebody reaps it. */
  die(): void {
    this.locks = [];
    expect(this.first.reap(this.ghost.key)).toBe(1);
    this.ghost = this.attach();
  }

  // ---- calls

  size(): number {
    const { random } = this;
    const most = [20, 600, 600, 600, 5000, 40_000, 300_000, 3_000_000][random(8)]!;
    return random(random(2) ? most : Math.ceil(most / 8));
  }

  own(ptr: number, size: number): void {
    if (this.live.has(ptr)) throw new Error(`${ptr} twice`);
    const byte = this.random(256);
    new Uint8Array(this.rig.memory.buffer, ptr, size).fill(byte);
    this.live.set(ptr, { size, byte });
  }

  check(ptr: number, size: number, byte: number): void {
    const bytes = new Uint8Array(this.rig.memory.buffer, ptr, size);
    for (let i = 0; i < size; ++i) if (bytes[i] !== byte) throw new Error(`byte ${i} of ${ptr} is ${bytes[i]} instead of ${byte}`);
  }

  failed(heap: HeapExports, allowed = [EBUSY, ENOMEM]): void {
    const error = heap.errno();
    if (!allowed.includes(error)) throw new Error(`errno ${error}`);
  }

  /** A block that is the program's no longer, intact. */
  take(): { ptr: number; size: number; byte: number } | undefined {
    const ptr = [...this.live.keys()][this.random(Math.max(1, this.live.size))];
    if (ptr === undefined) return undefined;
    const block = this.live.get(ptr)!;
    this.check(ptr, block.size, block.byte);
    this.live.delete(ptr);
    return { ptr, ...block };
  }

  free(heap: HeapExports): void {
    const block = this.take();
    if (block) heap.free(block.ptr);
    expect(heap.badCall()).toBe(0);
  }

  allocate(heap: HeapExports): void {
    const { random } = this;
    const size = this.size();
    let alignment = size < 16 ? 8 : 16;
    let ptr: number;
    let zero = false;
    switch (random(6)) {
      case 0:
        ptr = heap.calloc(1, size);
        zero = true;
        break;
      case 1:
        alignment = 1 << random(random(4) ? 14 : 20);
        ptr = heap.memalign(alignment, size);
        break;
      case 2: {
        alignment = 4 << random(13);
        const error = heap.posix_memalign(this.out, alignment, size);
        ptr = error ? 0 : this.rig.u32(this.out);
        if (error) return expect([EBUSY, ENOMEM]).toContain(error);
        break;
      }
      case 3:
        ptr = heap.mallocOnNode(size, random(this.nodes));
        break;
      default:
        ptr = heap.malloc(size);
    }
    ptr >>>= 0;
    if (!ptr) return this.failed(heap);
    if (ptr % alignment) throw new Error(`${ptr} is not aligned to ${alignment}`);
    expect(heap.malloc_usable_size(ptr)).toBeGreaterThanOrEqual(size);
    if (zero) this.check(ptr, size, 0);
    this.own(ptr, size);
  }

  reallocate(heap: HeapExports): void {
    const block = this.take();
    if (!block) return;
    const { ptr, size: old, byte } = block;
    const size = Math.max(1, this.random(3) ? this.size() : old + this.random(50_000));
    const moved = heap.realloc(ptr, size) >>> 0;
    if (!moved) {
      this.live.set(ptr, { size: old, byte });
      return this.failed(heap);
    }
    this.check(moved, Math.min(old, size), byte);
    this.own(moved, size);
  }

  place(heap: HeapExports): void {
    const { random } = this;
    const node = random(this.nodes);
    let error = 0;
    switch (random(10)) {
      case 0:
        error = heap.setPolicy(random(7), random(16));
        break;
      case 1:
        error = heap.setWeight(node, 1 + random(9));
        break;
      case 2:
        error = heap.moveThread(random(8));
        break;
      case 3:
        error = heap.setVcpuNode(random(8), node);
        break;
      case 4:
        error = heap.setDistance(node, (node + 1) % NODES, 11 + random(200));
        break;
      case 5: {
        const count = random(2) ? NODES : 1 + random(NODES);
        error = heap.setNodes(count);
        if (!error) this.nodes = count;
        break;
      }
      case 6:
        error = heap.setNodeLimit(node, random(2) ? 0 : 8 + random(400));
        break;
      default: {
        const first = this.random(this.rig.memory.buffer.byteLength >> 13);
        error = heap.rebind(first, 1 + random(random(2) ? 4 : 300), node);
      }
    }
    if (![0, EBUSY, ENOMEM, EINVAL].includes(error)) throw new Error(`error ${error}`);
  }

  /** Leaves, and comes back as somebody else. */
  comeAndGo(i: number): void {
    if (this.threads[i]!.heap.detach()) return;
    const heap = this.rig.instance();
    const key = ++this.keys;
    const attached = heap.attach(this.rig.base, key, this.random(8), 0);
    if (attached) this.threads[i] = { heap, key };
    else {
      this.failed(heap);
      this.threads.splice(i, 1);
    }
  }

  /** Is killed while nothing of it is running, and reaped as soon as that can be. */
  murder(i: number): void {
    const [{ key }] = this.threads.splice(i, 1) as [Torture["ghost"]];
    const reaper = this.threads[0]?.heap ?? this.first;
    if (reaper.reap(key) === -1) this.unreaped.push(key);
  }
  readonly unreaped: number[] = [];

  step(): void {
    const { random } = this;
    const i = random(this.threads.length);
    const { heap } = this.threads[i]!;
    const r = random(100);
    if (r < 42) this.allocate(heap);
    else if (r < 74) this.free(heap);
    else if (r < 84) this.reallocate(heap);
    else if (r < 94) this.place(heap);
    else if (r < 96) heap.malloc_trim(0);
    else if (r < 98) heap.settle();
    else if (r < 99 && random(2)) this.comeAndGo(i);
    else if (random(2) && this.threads.length > 1) this.murder(i);
  }

  burst(): void {
    const { random } = this;
    // Scavenges are rare; here they are not.
    const { heap: busy } = this.threads[random(this.threads.length)]!;
    this.rig.set32(this.rig.field("Thread", this.rig.thread(busy.threadId() - 1), "ticks"), 500 + random(12));
    if (random(4)) this.hold();
    for (let i = random(60); i >= 0; --i) this.step();
    if (random(8) === 0) this.die();
    else this.release();
    for (let key; (key = this.unreaped.pop()) !== undefined;) expect(this.first.reap(key)).not.toBe(-1);
    while (this.threads.length < 4) {
      const heap = this.rig.instance();
      const key = ++this.keys;
      if (!heap.attach(this.rig.base, key, random(8), 0)) break;
      this.threads.push({ heap, key });
    }
    this.walk();
    if (this.threads.length === 0 || random(10) === 0) this.empty();
  }

  walk(): void {
    // A rebind that was told EBUSY is finished by the next one.
    expect(this.first.rebind(0, 0, 0)).toBe(0);
    expect(this.rig.walk([...this.live.keys(), this.out])).toEqual(SOUND);
    const s = this.rig.inspector.stats();
    expect(
      s.inUseBytes +
        s.threadCacheBytes +
        s.transferCacheBytes +
        s.centralFreeBytes +
        s.remoteBytes +
        s.pageHeapFreeBytes +
        s.metadataBytes +
        s.spanTailBytes,
    ).toBe(s.committedBytes);
  }

  /** Nothing is left: every page is free or metadata. */
  empty(): void {
    while (this.live.size) this.free(this.threads[this.random(this.threads.length)]?.heap ?? this.first);
    for (const { heap } of this.threads) heap.malloc_trim(0);
    this.first.free(this.out);
    this.first.malloc_trim(0);
    expect(this.rig.walk([])).toEqual(SOUND);
    const stats = this.rig.inspector.stats();
    expect(stats.inUseBytes).toBe(0);
    expect(stats.pageHeapFreeBytes + stats.metadataBytes).toBe(stats.committedBytes);
    // All that is free may lie on nodes that have vanished, out of reach.
    expect(this.first.setNodes(NODES)).toBe(0);
    this.nodes = NODES;
    this.out = this.first.malloc(16);
    expect(this.out).not.toBe(0);
  }
}

test.each(["heap", "heap.debug"])("%s: nothing is lost, whichever locks are out of reach", { timeout: 3_600_000 }, (build) => {
  for (let round = 0; round < rounds; ++round) {
    const torture = new Torture(seed + round, build);
    for (let burst = 0; burst < BURSTS; ++burst) {
      try {
        torture.burst();
      } catch (error) {
        throw new Error(`SEED=${seed + round} burst ${burst}: ${String(error)}`, { cause: error });
      }
    }
  }
});
