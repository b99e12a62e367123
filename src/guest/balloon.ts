// The balloon: frames the guest does without (Linux: drivers/xen/balloon.c, drivers/virtio/virtio_balloon.c). It works towards the target in
// pieces, and goes on later where it is short: of free frames while it inflates, of what the hypervisor can give while it deflates.
//
// Departs from both drivers in where it takes frames from: they allocate wherever the driver happens to run. Here each frame comes from
// the node with most free ones at that moment, so that what is left is spread as evenly as can be.

import type { ActualTopology } from "./actual-topology.js";
import type { FreeLists } from "./free-lists.js";
import { OWNER_BALLOON, OWNER_FREE } from "./frame-table.js";
import type { Platform } from "./platform.js";
import { Retry } from "./retry.js";

/** Frames of one request: as many as virtio-balloon and Xen's driver name in one, in 4 KiB pages 256. */
export const BALLOON_CHUNK = 128;

/** What the balloon needs of the guest around it. */
export interface BalloonHost {
  readonly platform: Pick<Platform, "inflate" | "deflate">;
  readonly lists: FreeLists;
  readonly topology: ActualTopology;
  /** Has heaps give free frames back; whether any did. */
  trim(): boolean;
  /** The guest has other frames than before. */
  framesChanged(): void;
  /** The platform did not do what it was asked for; the balloon tries again later. */
  refused(error: unknown): void;
}

export class Balloon {
  readonly #host: BalloonHost;
  /** Frames there are, in the balloon or not. */
  readonly #frames: number;
  /** What is in the balloon, the last that went in last. */
  readonly #gfns: number[] = [];
  #target: number;
  readonly #retry: Retry;
  #work: Promise<void> = Promise.resolve();
  #working = false;
  #stopped = false;
  #suspended = false;

  /** @param ballooned frames that are in it from the beginning */
  constructor(host: BalloonHost, frames: number, ballooned: readonly number[]) {
    this.#host = host;
    this.#frames = frames;
    this.#gfns.push(...ballooned);
    this.#target = frames - ballooned.length;
    this.#retry = new Retry(() => this.kick(), 100, 32_000);
  }

  /** Frames in the balloon. */
  get size(): number {
    return this.#gfns.length;
  }

  /** Frames the guest is to do with. */
  get target(): number {
    return this.#target;
  }

  setTarget(frames: number): void {
    this.#target = frames;
    this.kick();
  }

  /** Goes on with what was left undone, now instead of later. */
  kick(): void {
    if (this.#stopped || this.#suspended || this.#working) return;
    this.#working = true;
    this.#work = this.#run();
  }

  /** Rests from when this resolves until it is resumed: no request is under way, no frame changes hands. */
  async suspend(): Promise<void> {
    this.#suspended = true;
    this.#retry.done();
    await this.idle();
  }

  resume(): void {
    this.#suspended = false;
    this.kick();
  }

  /** Resolves when the target is reached, or nothing more can be done towards it for now: then `size` says how far it came. */
  async idle(): Promise<void> {
    while (this.#working) await this.#work;
  }

  stop(): void {
    this.#stopped = true;
    this.#retry.done();
  }

  /** To inflate by this many frames, to deflate where it is negative. */
  get #missing(): number {
    return this.#frames - this.#target - this.#gfns.length;
  }

  async #run(): Promise<void> {
    try {
      let goesOn = true;
      while (goesOn && !this.#stopped && !this.#suspended && this.#missing !== 0) {
        const count = Math.min(Math.abs(this.#missing), BALLOON_CHUNK);
        goesOn = await (this.#missing > 0 ? this.#inflate(count) : this.#deflate(count));
      }
      if (this.#missing === 0) this.#retry.done();
      else if (!this.#stopped && !this.#suspended) this.#retry.later();
    } finally {
      this.#working = false;
    }
  }

  /** Whether anything was done. */
  async #inflate(count: number): Promise<boolean> {
    const { lists, platform, topology } = this.#host;
    let gfns = this.#take(count);
    if (gfns.length < count && this.#host.trim()) gfns = [...gfns, ...this.#take(count - gfns.length)];
    if (gfns.length === 0) return false;
    try {
      await platform.inflate(gfns);
    } catch (error) {
      this.#host.refused(error);
      // All or none: they are the guest's still.
      for (const gfn of gfns) lists.table.transfer(gfn, OWNER_BALLOON, OWNER_FREE);
      for (const gfn of gfns) topology.frameCame(gfn);
      for (const gfn of gfns) lists.file(gfn, 1);
      this.#host.framesChanged();
      return false;
    }
    this.#gfns.push(...gfns);
    this.#host.framesChanged();
    return true;
  }

  /** Claims up to `count` free frames. They count as gone at once: nobody is to look for memory where there soon is none. */
  #take(count: number): number[] {
    const { lists, topology } = this.#host;
    const taken: number[] = [];
    lists.sync();
    while (taken.length < count) {
      let most = 0;
      for (let node = 1; node < topology.nodes; ++node) if (lists.freeOn(node) > lists.freeOn(most)) most = node;
      const gfn = lists.freeOn(most) > 0 ? lists.alloc(0, [most], OWNER_BALLOON) : -1;
      // -1 where a heap was faster: the lists have learnt of it, and another node may have some.
      if (gfn >= 0) {
        topology.frameWent(gfn);
        taken.push(gfn);
      } else if (lists.freeOn(most) === 0) break;
    }
    return taken;
  }

  async #deflate(count: number): Promise<boolean> {
    const { lists, platform, topology } = this.#host;
    const gfns = this.#gfns.slice(-count).reverse();
    let given: number;
    try {
      given = await platform.deflate(gfns);
    } catch (error) {
      this.#host.refused(error);
      return false;
    }
    this.#gfns.length -= given;
    for (const gfn of gfns.slice(0, given)) {
      lists.table.markZero(gfn);
      topology.frameCame(gfn);
      lists.table.transfer(gfn, OWNER_BALLOON, OWNER_FREE);
      lists.file(gfn, 1);
    }
    if (given > 0) this.#host.framesChanged();
    return given === gfns.length;
  }

  /** What is wrong with it, in words. */
  check(): string[] {
    const problems: string[] = [];
    const { table } = this.#host.lists;
    const inside = new Set(this.#gfns);
    if (inside.size !== this.#gfns.length) problems.push("a frame is in the balloon twice");
    for (let gfn = 0; gfn < table.frames; ++gfn) {
      if ((table.ownerOf(gfn) === OWNER_BALLOON) !== inside.has(gfn)) {
        problems.push(`frame ${gfn} is owner ${table.ownerOf(gfn)}'s and ${inside.has(gfn) ? "" : "not "}in the balloon`);
      }
    }
    return problems;
  }
}
