// A virtual machine as its hypervisor knows it: memory, p2m, vCPUs, tracker, and the tables in its memory that say the truth for whoever
// measures. Those are written here and never read back: a guest could have written to them too.

import type { PlacementPolicy, PlatformChange } from "../guest/platform.js";
import type { MachineFrames } from "./frames.js";
import type { BootMode } from "./modes.js";
import { BALLOONED, homeOf, isBacked, P2m } from "./p2m.js";
import type { Vcpu } from "./scheduler.js";
import { Tracker } from "./tracker.js";
import type { Truth } from "./truth.js";
import { FRAME_BYTES, vmLayout, type VmLayout } from "./vm-layout.js";

/** The hypervisor's end of what it shares with the guest: Xen's shared_info and event channels, KVM's devices. */
export interface GuestPort {
  /** An entry of the p2m was set. Whoever implements this sees to it that the tracker learns. */
  entryChanged(gfn: number, from: number, to: number): void;
  /** Frames [first, first + count) are about to be moved or taken away, by `edit`. */
  changing(first: number, count: number, edit: () => void): void;
  /** Tells the guest. Only called where it is to know. */
  announce(changes: readonly PlatformChange[]): void;
  balloonTarget(frames: number): void;
  /** The virtual machine ends. */
  close(): void;
}

/** What a virtual machine is, wherever it runs: what a live migration sends ahead. */
export interface VmImage {
  readonly name: string;
  readonly vcpus: number;
  readonly frames: number;
  readonly mode: BootMode;
  readonly policy: PlacementPolicy;
  readonly balloonTarget: number;
  /** Load of each vCPU, undefined: as each begins. Affinity stays behind: it names pCPUs of one machine. */
  readonly loads?: readonly number[];
  /** ACPI tables as of its boot; the guest has read them. undefined: it has not booted yet. */
  readonly firmware?: Firmware;
}

export interface Firmware {
  readonly srat: Uint8Array;
  readonly slit: Uint8Array;
}

export class VirtualMachine {
  readonly layout: VmLayout;
  readonly p2m: P2m;
  readonly tracker: Tracker;
  readonly #frames: MachineFrames;
  readonly #vcpuTruth: Uint8Array;
  readonly #frameTruth: Uint8Array;
  readonly #toucher: Uint8Array;
  readonly #touchedWords: Int32Array;
  /** The toucher's words as of the last look, so that the next one finds what is new at 4 frames a comparison. */
  readonly #seenWords: Int32Array;
  /** The scheduler's, in order; empty until it runs. */
  cpus: readonly Vcpu[] = [];
  /** What its firmware shows it, from its boot on. */
  firmware: Firmware;
  policy: PlacementPolicy;
  balloonTarget: number;
  /** Frames the machine has promised it, backed or not. */
  reserved: number;
  /** A live migration of it is under way. */
  migrating = false;
  port: GuestPort;

  constructor(
    readonly id: number,
    readonly image: VmImage,
    readonly memory: WebAssembly.Memory,
    frames: MachineFrames,
    reserved: number,
    publish: (changes: readonly PlatformChange[]) => void,
    port: (vm: VirtualMachine) => GuestPort,
  ) {
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.layout = vmLayout(image.frames);
    this.#frames = frames;
    this.#vcpuTruth = new Uint8Array(buffer, this.layout.vcpuTruth, image.vcpus);
    this.#frameTruth = new Uint8Array(buffer, this.layout.frameTruth, image.frames);
    this.#toucher = new Uint8Array(buffer, this.layout.frameToucher, image.frames);
    this.#touchedWords = new Int32Array(buffer, this.layout.frameToucher, Math.ceil(image.frames / 4));
    this.#seenWords = new Int32Array(this.#touchedWords.length);
    this.firmware = image.firmware ?? { srat: new Uint8Array(), slit: new Uint8Array() };
    this.policy = image.policy;
    this.balloonTarget = image.balloonTarget;
    this.reserved = reserved;
    this.tracker = new Tracker(image.frames, image.vcpus, publish);
    this.p2m = new P2m(image.frames, (gfn, from, to) => {
      if (homeOf(from) >= 0) frames.unkeep(homeOf(from));
      if (homeOf(to) >= 0) frames.keep(homeOf(to));
      Atomics.store(this.#frameTruth, gfn, 1 + (isBacked(to) ? frames.nodeOf(to) : homeOf(to)));
      this.port.entryChanged(gfn, from, to);
    });
    this.port = port(this);
  }

  get name(): string {
    return this.image.name;
  }
  get vcpus(): number {
    return this.image.vcpus;
  }
  get frames(): number {
    return this.image.frames;
  }
  get mode(): BootMode {
    return this.image.mode;
  }

  /** Node a frame lies on or waits for, NOWHERE if neither. */
  nodeOf(gfn: number): number {
    const entry = this.p2m.get(gfn);
    return isBacked(entry) ? this.#frames.nodeOf(entry) : homeOf(entry);
  }

  /**
   * A machine frame for a guest frame that is to lie on `node`: the one that is kept for it there, or one near it.
   * @throws {HypervisorError} NUMAHEAP_NO_MACHINE_FRAME
   */
  frameFor(gfn: number, node: number): number {
    const kept = homeOf(this.p2m.get(gfn)) === node ? this.#frames.take(node) : -1;
    return kept >= 0 ? kept : this.#frames.alloc(node);
  }

  /** Gives back what is behind its frames, and what is kept for them. */
  releaseFrames(): void {
    for (let gfn = 0; gfn < this.frames; ++gfn) {
      const entry = this.p2m.get(gfn);
      if (isBacked(entry)) this.#frames.release(entry);
      else if (homeOf(entry) >= 0) this.#frames.unkeep(homeOf(entry));
    }
  }

  isBallooned(gfn: number): boolean {
    return this.p2m.get(gfn) === BALLOONED;
  }

  /** A vCPU runs on another node. */
  vcpuMoved(vcpu: number, node: number): void {
    Atomics.store(this.#vcpuTruth, vcpu, node);
    this.tracker.vcpu(vcpu, node);
  }

  /** Calls back with each frame that was touched since the last look and is not backed, and with its toucher's node. */
  forEachTouched(what: (gfn: number, node: number) => void): void {
    if (this.p2m.waiting === 0) return;
    for (let word = 0; word < this.#seenWords.length; ++word) {
      const touched = this.#touchedWords[word]!;
      if (touched === this.#seenWords[word]) continue;
      this.#seenWords[word] = touched;
      for (let gfn = word * 4; gfn < Math.min(word * 4 + 4, this.frames); ++gfn) {
        const entry = this.p2m.get(gfn);
        const by = Atomics.load(this.#toucher, gfn);
        if (by !== 0 && !isBacked(entry) && entry !== BALLOONED) what(gfn, by - 1);
      }
    }
  }

  /** Node of the vCPU that touched the frame first, by the guest's word; -1 = nobody. */
  toucherOf(gfn: number): number {
    return Atomics.load(this.#toucher, gfn) - 1;
  }

  /** Nobody has touched the frame, from now on. */
  forgetToucher(gfn: number): void {
    Atomics.store(this.#toucher, gfn, 0);
    this.#seenWords[gfn >> 2] = 0;
  }

  /** Fills a frame with zeros, as a hypervisor hands memory out. */
  clear(gfn: number): void {
    new Uint8Array(this.memory.buffer, gfn * FRAME_BYTES, FRAME_BYTES).fill(0);
  }

  truth(): Truth {
    const frames = new Int8Array(this.frames);
    const backed = new Uint8Array(this.frames);
    for (let gfn = 0; gfn < this.frames; ++gfn) {
      frames[gfn] = this.nodeOf(gfn);
      backed[gfn] = Number(isBacked(this.p2m.get(gfn)));
    }
    return { vcpus: this.cpus.map((vcpu) => vcpu.node), frames, backed };
  }
}
