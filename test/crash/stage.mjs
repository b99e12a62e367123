// One case: a small heap, a thread that is to die, its reaper, and a survivor, all in this JavaScript thread; and the ledger of what
// the program holds.

import { readFileSync } from "node:fs";
import { inspect } from "../../dist/heap/inspect.js";
import { crashBuild } from "./instrument.mjs";

const moduleOf = (name) => new WebAssembly.Module(readFileSync(new URL(`../../dist/${name}.wasm`, import.meta.url)));
const modules = { crash: crashBuild(), guest: crashBuild("heap.guest"), create: moduleOf("create"), inspect: moduleOf("inspect") };

export const BASE = 65536;
const WASM_PAGE = 65536;
const PAGES = 6; // of WebAssembly, that the heap begins with
const LIMIT = 24; // and may grow to
const GROWS_ALONE = 1;
const HEAP_PAGE = 8192;
/** Under a guest kernel: frames of the machine, its tables below the heap, and what the heap is in the owner bytes. */
const FRAMES = ((1 + LIMIT) * WASM_PAGE) / HEAP_PAGE;
const [OWNERS, NODES, TOUCHERS, VCPUS] = [8192, 8704, 9216, 9728];
const OWNER_FREE = 1;
const OWNER_HEAP = 8;

/** A thread of the heap whose calls are entered in the ledger. */
class Actor {
  constructor(stage, key, vcpu) {
    this.stage = stage;
    this.key = key;
    this.raw = new WebAssembly.Instance(stage.isGuest ? modules.guest : modules.crash, { env: { memory: stage.memory } }).exports;
    this.vcpu = vcpu;
    /** Blocks a death in the present call may leave unaccounted for. */
    this.inFlight = { blocks: [], extra: 0 };
  }

  attach() {
    this.inFlight = { blocks: [], extra: 0 };
    if (this.raw.attach(BASE, this.key, this.vcpu, 0) === 0) throw new Error(`cannot attach: errno ${this.raw.errno()}`);
  }

  /** A call that returns a block. */
  take(name, ...args) {
    this.inFlight = { blocks: [], extra: 1 };
    const ptr = this.raw[name](...args) >>> 0;
    if (ptr) this.stage.live.add(ptr);
    this.inFlight = { blocks: [], extra: 0 };
    return ptr;
  }

  malloc(size) {
    return this.take("malloc", size);
  }

  free(ptr) {
    this.stage.live.delete(ptr);
    this.inFlight = { blocks: [ptr], extra: 0 };
    this.raw.free(ptr);
    this.inFlight = { blocks: [], extra: 0 };
  }

  realloc(ptr, size) {
    this.stage.live.delete(ptr);
    this.inFlight = { blocks: [ptr], extra: 1 };
    const moved = this.raw.realloc(ptr, size) >>> 0;
    this.stage.live.add(moved || ptr);
    this.inFlight = { blocks: [], extra: 0 };
    return moved;
  }

  /** Any other call: nothing may be lost in it. */
  call(name, ...args) {
    this.inFlight = { blocks: [], extra: 0 };
    return this.raw[name](...args);
  }

  /** Dies at the k-th step from now, 0 = never. */
  arm(k) {
    this.raw.countdown.value = k;
  }
}

export class Stage {
  /** With a heap of its own memory, or (`isGuest`) one whose pages are frames of a virtual machine. */
  constructor(isGuest = false) {
    this.isGuest = isGuest;
    this.memory = new WebAssembly.Memory({ initial: 1 + (isGuest ? LIMIT : PAGES), maximum: 1 + LIMIT, shared: true });
    this.live = new Set();
    const creator = new WebAssembly.Instance(modules.create, { env: { memory: this.memory } }).exports;
    const end = BASE + PAGES * WASM_PAGE;
    const error = isGuest
      ? (this.ownFrames(end), creator.createInFrames(BASE, end, LIMIT * 8, 2, FRAMES, OWNER_HEAP, OWNERS, NODES, TOUCHERS, VCPUS))
      : creator.create(BASE, end, LIMIT * 8, 2, GROWS_ALONE);
    if (error !== 0) throw new Error("the heap cannot be made");
    this.inspector = inspect(this.memory, BASE, modules.inspect);
    this.victim = new Actor(this, 11, 0);
    this.reaper = new Actor(this, 12, 0);
    this.survivor = new Actor(this, 13, 1);
    this.reaper.attach();
    this.survivor.attach();
  }

  /** The kernel's part: frames up to `end` are the heap's, the others free, every eleventh of them on node 1 and every seventh dirty. */
  ownFrames(end) {
    this.owners = new Uint8Array(this.memory.buffer, OWNERS, FRAMES);
    for (let frame = BASE / HEAP_PAGE; frame < FRAMES; ++frame) {
      this.owners[frame] = frame < end / HEAP_PAGE ? OWNER_HEAP << 1 : (OWNER_FREE << 1) | (frame % 7 === 0);
      if (frame >= end / HEAP_PAGE && frame % 11 === 0) new Uint8Array(this.memory.buffer, NODES, FRAMES)[frame] = 1;
    }
  }

  /** Frames that are the heap's by their owner bytes, less pages it has. */
  strayFrames() {
    const claimed = this.owners.reduce((sum, owner) => sum + (owner >> 1 === OWNER_HEAP), 0);
    return claimed - this.inspector.stats().committedBytes / HEAP_PAGE;
  }

  /** Whoever goes on from here is another thread: the survivor so far is to die. */
  replaceSurvivor() {
    this.survivor = new Actor(this, 14, 1);
    this.survivor.attach();
  }

  /** What is wrong with the heap after the victim's death, null if nothing. */
  audit(inFlight) {
    const { problems, unaccounted } = this.inspector.walk({ live: this.live });
    if (problems.length) return problems.slice(0, 3).join("; ");
    const strange = unaccounted.filter(({ ptr }) => !inFlight.blocks.includes(ptr));
    if (strange.length > inFlight.extra) return `lost: ${strange.map(({ ptr, size }) => `${size} bytes at ${ptr}`).join(", ")}`;
    // What the call in flight took with it is known now: the program holds it from here on.
    for (const { ptr } of unaccounted) this.live.add(ptr);
    if (this.inspector.stats().lostBytes > 0) return "a growth of a heap that grows alone is lost";
    if (this.isGuest && this.strayFrames() !== 0) return `${this.strayFrames()} frames are the heap's and no pages of it`;
    return null;
  }

  /** The survivor goes on allocating and frees everything; null if all is well. */
  goOn() {
    const { survivor, live } = this;
    const mine = [];
    for (let i = 0; i < 60; ++i) {
      const ptr = survivor.malloc((i * 577) % 9000);
      if (!ptr) return `no memory for the survivor: errno ${survivor.raw.errno()}`;
      mine.push(ptr);
    }
    const large = survivor.malloc(83_000);
    if (large) mine.push(large);
    const { problems, unaccounted } = this.inspector.walk({ live });
    if (problems.length || unaccounted.length) return `after going on: ${problems[0] ?? `${unaccounted.length} blocks lost`}`;
    for (const ptr of [...live]) survivor.free(ptr);
    survivor.call("malloc_trim", 0);
    const end = this.inspector.walk({ live: [] });
    if (end.problems.length || end.unaccounted.length)
      return `after freeing all: ${end.problems[0] ?? `${end.unaccounted.length} blocks lost`}`;
    return survivor.raw.badCall() ? "a good pointer was refused" : null;
  }
}
