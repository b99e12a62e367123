// Xen's shared_info page (xen/include/public/xen.h: struct shared_info, struct vcpu_info), one frame of the guest's memory, seen by both
// sides. As the model of adaptable vNUMA has it, vcpu_to_pnode[] stands at its end, with a version to tell changes by.
//
//   offset  what                                     written by
//   0       vcpu_info[256], 16 bytes each:
//     +0    evtchn_upcall_pending                    hypervisor sets, guest clears
//     +4    evtchn_upcall_mask                       guest
//     +8    evtchn_pending_sel                       hypervisor sets, guest takes
//   4096    evtchn_pending[32]                       hypervisor sets, guest clears
//   4224    evtchn_mask[32]                          guest; the hypervisor clears one bit in EVTCHNOP_unmask
//   4352    vcpu_to_pnode[256], bytes                hypervisor
//   4608    topology_version, memory_version         hypervisor
//   4616    raised: when the first change that the guest has not looked at was made
//
// Departures from Xen. All 256 vcpu_infos lie in the page (Xen has 32 there, others are registered by VCPUOP_register_vcpu_info), and
// their fields are words, since the atomic operations here are. The selector and channels are those of a 32-bit guest: 32 x 32.
// memory_version tells a change of frames from one of vCPUs, so that a guest needs no hypercall for the latter. `raised` is for measuring.

import { FRAME_BYTES, MAX_VCPUS, PLATFORM_FRAME } from "../vm-layout.js";

/** Event channels of the 2-level ABI. */
export const CHANNELS = 1024;

const VCPU_INFO_WORDS = 4;
const UPCALL_PENDING = 0;
const UPCALL_MASK = 1;
const PENDING_SEL = 2;
const AT_PENDING = 4096;
const AT_MASK = 4224;
const AT_VCPU_TO_PNODE = 4352;
const AT_VERSIONS = 4608;
const AT_RAISED = 4616;
const TOPOLOGY_VERSION = 0;
const MEMORY_VERSION = 1;

export class SharedInfo {
  readonly #vcpu: Int32Array;
  readonly #pending: Int32Array;
  readonly #mask: Int32Array;
  readonly #node: Uint8Array;
  readonly #version: Int32Array;
  readonly #raised: Float64Array;

  constructor(buffer: ArrayBufferLike) {
    const base = PLATFORM_FRAME * FRAME_BYTES;
    this.#vcpu = new Int32Array(buffer, base, MAX_VCPUS * VCPU_INFO_WORDS);
    this.#pending = new Int32Array(buffer, base + AT_PENDING, CHANNELS / 32);
    this.#mask = new Int32Array(buffer, base + AT_MASK, CHANNELS / 32);
    this.#node = new Uint8Array(buffer, base + AT_VCPU_TO_PNODE, MAX_VCPUS);
    this.#version = new Int32Array(buffer, base + AT_VERSIONS, 2);
    this.#raised = new Float64Array(buffer, base + AT_RAISED, 1);
  }

  /** As a new page is: nothing pending, every channel masked. */
  reset(): void {
    for (const words of [this.#vcpu, this.#pending]) words.forEach((_, i) => Atomics.store(words, i, 0));
    this.#mask.forEach((_, i) => Atomics.store(this.#mask, i, -1));
    this.#raised[0] = 0;
  }

  // ---- channels. Each `set` answers whether the bit was set before.

  setPending(port: number): boolean {
    return testAndSet(this.#pending, port);
  }
  clearPending(port: number): void {
    Atomics.and(this.#pending, port >> 5, ~bit(port));
  }
  isPending(port: number): boolean {
    return (Atomics.load(this.#pending, port >> 5) & bit(port)) !== 0;
  }
  mask(port: number): void {
    Atomics.or(this.#mask, port >> 5, bit(port));
  }
  unmask(port: number): void {
    Atomics.and(this.#mask, port >> 5, ~bit(port));
  }
  isMasked(port: number): boolean {
    return (Atomics.load(this.#mask, port >> 5) & bit(port)) !== 0;
  }
  /** Channels 32 word .. 32 word + 31 that are pending and not masked, as bits. */
  deliverable(word: number): number {
    return Atomics.load(this.#pending, word) & ~Atomics.load(this.#mask, word);
  }

  // ---- vCPUs

  /** The word of the channel may hold something for this vCPU. */
  setSelector(vcpu: number, port: number): boolean {
    return (Atomics.or(this.#vcpu, vcpu * VCPU_INFO_WORDS + PENDING_SEL, bit(port >> 5)) & bit(port >> 5)) !== 0;
  }
  takeSelector(vcpu: number): number {
    return Atomics.exchange(this.#vcpu, vcpu * VCPU_INFO_WORDS + PENDING_SEL, 0);
  }
  setUpcall(vcpu: number): boolean {
    return Atomics.exchange(this.#vcpu, vcpu * VCPU_INFO_WORDS + UPCALL_PENDING, 1) !== 0;
  }
  takeUpcall(vcpu: number): boolean {
    return Atomics.exchange(this.#vcpu, vcpu * VCPU_INFO_WORDS + UPCALL_PENDING, 0) !== 0;
  }
  upcallsMasked(vcpu: number): boolean {
    return Atomics.load(this.#vcpu, vcpu * VCPU_INFO_WORDS + UPCALL_MASK) !== 0;
  }
  maskUpcalls(vcpu: number, masked: boolean): void {
    Atomics.store(this.#vcpu, vcpu * VCPU_INFO_WORDS + UPCALL_MASK, Number(masked));
  }

  // ---- topology

  setNode(vcpu: number, node: number): void {
    Atomics.store(this.#node, vcpu, node);
  }
  nodeOf(vcpu: number): number {
    return Atomics.load(this.#node, vcpu);
  }
  /** Counts a change, after it has been written and before the guest is told. */
  bump(memory: boolean, now: number): void {
    if (this.#raised[0] === 0) this.#raised[0] = now;
    if (memory) Atomics.add(this.#version, MEMORY_VERSION, 1);
    Atomics.add(this.#version, TOPOLOGY_VERSION, 1);
  }
  get topologyVersion(): number {
    return Atomics.load(this.#version, TOPOLOGY_VERSION);
  }
  get memoryVersion(): number {
    return Atomics.load(this.#version, MEMORY_VERSION);
  }
  /** When the first change since the last look was made; the guest looks now. */
  takeRaised(): number {
    const raised = this.#raised[0]!;
    this.#raised[0] = 0;
    return raised;
  }
}

const bit = (port: number): number => 1 << (port & 31);

function testAndSet(words: Int32Array, port: number): boolean {
  return (Atomics.or(words, port >> 5, bit(port)) & bit(port)) !== 0;
}
