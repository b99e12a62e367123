// The balloon (virtio 1.x, section 5.5): num_pages says how large it is to be, in pages of 4 KiB; through two queues the driver says which
// pages it puts in and takes out, as u32 PFNs; `actual` is how large it is, by the driver's word.
//
// Departures from virtio. A frame here is two pages, PFNs 2g and 2g + 1, one after the other, or the list is refused. A list is accepted
// all or none, and there may be no room for what is taken out, so each chain has a head of u32 flags and 0 before its PFNs, and
// ends in room for u32 errno and how many frames were accepted, from the first on. A list too long for one chain goes in as several, all but
// the last flagged MORE: they count as one. Taking out always tells the host first (feature MUST_TELL_HOST).

import { errnoOf, HypervisorError } from "../errors.js";
import { FRAME_BYTES, PLATFORM_FRAME } from "../vm-layout.js";
import { AT_CONFIG, bytesOf, ISR_CONFIG, VirtioDevice } from "./virtio-device.js";
import type { Chain } from "./virtqueue.js";

export const BALLOON_DEVICE_ID = 5;
export const BALLOON_REGISTERS = PLATFORM_FRAME * FRAME_BYTES + 4096;
export const F_MUST_TELL_HOST = 1;

export const INFLATE_QUEUE = 0;
export const DEFLATE_QUEUE = 1;

export const CONFIG_NUM_PAGES = 0;
export const CONFIG_ACTUAL = 4;

export const LIST_HEAD_BYTES = 8;
export const LIST_MORE = 1;
export const LIST_ANSWER_BYTES = 8;
/** Pages of a balloon in a frame. */
export const FRAME_PFNS = FRAME_BYTES / 4096;

/** What a guest may ask for through the queues. */
export interface BalloonRequests {
  inflate(gfns: readonly number[]): void;
  deflate(gfns: readonly number[]): number;
}

export class BalloonDevice extends VirtioDevice {
  readonly #config: DataView;
  readonly #frames: number;
  readonly #requests: BalloonRequests;
  /** Frames of an inflation that is not complete. */
  #gathered: readonly number[] = [];

  constructor(buffer: ArrayBufferLike, frames: number, requests: BalloonRequests, interrupt: () => void) {
    super(buffer, BALLOON_REGISTERS, BALLOON_DEVICE_ID, F_MUST_TELL_HOST, 2, interrupt);
    this.#config = new DataView(buffer, BALLOON_REGISTERS + AT_CONFIG, 8);
    this.#frames = frames;
    this.#requests = requests;
    this.#config.setUint32(CONFIG_ACTUAL, 0, true);
  }

  /** Frames the guest is to do with. */
  target(frames: number): void {
    this.configure(() => this.#config.setUint32(CONFIG_NUM_PAGES, (this.#frames - frames) * FRAME_PFNS, true));
    this.raise(ISR_CONFIG);
  }

  protected override restarted(): void {
    this.#gathered = [];
  }

  protected override serve(): void {
    this.each(INFLATE_QUEUE, (chain) => this.#serve(chain, (gfns, more) => this.#inflate(gfns, more)));
    this.each(DEFLATE_QUEUE, (chain) => this.#serve(chain, (gfns) => this.#requests.deflate(gfns)));
  }

  #serve({ readable, writable }: Chain, run: (gfns: readonly number[], more: boolean) => number): number {
    const bytes = bytesOf(readable);
    const most = LIST_HEAD_BYTES + this.#frames * FRAME_PFNS * 4;
    if (bytes < LIST_HEAD_BYTES || bytes % 4 !== 0 || bytes > most || bytesOf(writable) < LIST_ANSWER_BYTES) {
      throw VirtioDevice.broken(`a list of pages has a head, at most every page once, and room for an answer; this one has ${bytes} bytes`);
    }
    const [flags, , ...pfns] = new Uint32Array(this.read(readable).buffer);
    const answer = new Uint32Array(2);
    try {
      answer[1] = run(framesOf(pfns), (flags! & LIST_MORE) !== 0);
    } catch (error) {
      this.#gathered = [];
      answer[0] = errnoOf(error);
    }
    this.write(writable, new Uint8Array(answer.buffer));
    return LIST_ANSWER_BYTES;
  }

  #inflate(gfns: readonly number[], more: boolean): number {
    const all = this.#gathered.concat(gfns);
    if (all.length > this.#frames) throw refused("more frames than there are");
    this.#gathered = more ? all : [];
    if (more) return gfns.length;
    this.#requests.inflate(all);
    return gfns.length;
  }
}

/** Frames of a list of pages: pairs of consecutive ones, from an even one on. */
function framesOf(pfns: readonly number[]): number[] {
  const gfns: number[] = [];
  for (let i = 0; i < pfns.length; i += FRAME_PFNS) {
    const pfn = pfns[i]!;
    if (pfn % FRAME_PFNS !== 0 || pfns[i + 1] !== pfn + 1)
      throw refused(`page ${pfn} is not the first half of a frame whose second half follows`);
    gfns.push(pfn / FRAME_PFNS);
  }
  return gfns;
}

const refused = (what: string): HypervisorError => new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", what);
