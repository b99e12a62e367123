// Live migration: a virtual machine goes to another host while it runs. Its memory is copied in rounds, each of what was written during
// the one before; then it stops, the rest is copied, and it goes on over there, in a memory of its own, with a p2m and vCPUs placed
// anew. The source is overwritten before the destination runs, so that whoever still looks there is found out.
//
// There is no write protection to log dirty frames by: a frame is dirty if its bytes differ from the destination's, which has them as of the
// round before. So a round reads all of the memory, and the last one does so while the machine stands still. Frames of the balloon are not
// copied, nor are those that nobody wrote to, since they are zero on both sides.

import { ARRIVES_BACKED, ARRIVES_BALLOONED, ARRIVES_UNTOUCHED, type Incoming, type MigrationTarget } from "./arrival.js";
import { HypervisorError, whole } from "./errors.js";
import type { Hypervisor } from "./hypervisor.js";
import { BALLOONED, isBacked } from "./p2m.js";
import type { VirtualMachine, VmImage } from "./vm.js";
import { FRAME_BYTES } from "./vm-layout.js";

/** Where the machine goes on: at the destination, with this number there; or where it was, since the migration was given up. */
export type Resumption =
  { readonly at: "destination"; readonly vm: number; readonly memory: WebAssembly.Memory } | { readonly at: "source" };

export type Resume = (where: Resumption) => void | Promise<void>;

export interface MigrationOptions {
  /** Stops every thread of the machine at a call boundary, and the guest's driver (suspend). What it resolves with lets them go on. */
  readonly pause: () => Promise<Resume>;
  /** Rounds before the machine is stopped, whatever is left. Default 8. */
  readonly maxRounds?: number;
  /** It is stopped once a round copies no more frames than this. Default 64. */
  readonly stopBelow?: number;
  /** Called after each round; the next begins when it resolves. Default: lets the thread do what else it has to. */
  readonly onRound?: (round: MigrationRound) => void | Promise<void>;
  /** Gives the migration up, until the machine has been stopped. */
  readonly signal?: AbortSignal;
}

export interface MigrationRound {
  /** 1, 2, ...; the last one copied while the machine stood still. */
  readonly round: number;
  /** Frames that differed and were copied. */
  readonly frames: number;
  readonly bytes: number;
  readonly ms: number;
}

export interface MigrationReport {
  readonly rounds: readonly MigrationRound[];
  readonly frames: number;
  readonly bytes: number;
  /** How long the machine stood still: from when pause had been answered until its resumption was. */
  readonly pauseMs: number;
  readonly fromNodes: number;
  readonly toNodes: number;
  /** Its number at the destination. */
  readonly vm: number;
}

/** What a source is overwritten with. */
export const SCRIBBLE = 0xdb;

const WORDS = FRAME_BYTES / 4;
const letOthersRun = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/**
 * Moves `vm` from `source` to `destination`. Whatever fails before the destination has accepted it leaves it running at the source.
 * @throws {HypervisorError} NUMAHEAP_OVERCOMMIT if there is no room there, NUMAHEAP_MIGRATION_ABORTED
 */
export async function migrateLive(
  source: Hypervisor,
  vm: VirtualMachine,
  destination: MigrationTarget,
  options: MigrationOptions,
): Promise<MigrationReport> {
  if (source.vm(vm.id) !== vm || vm.migrating) {
    throw new HypervisorError("NUMAHEAP_MIGRATION_ABORTED", `${vm.name} is on its way already, or a machine of another hypervisor`);
  }
  vm.migrating = true;
  try {
    source.populateTouched();
    const toNodes = await destination.nodes;
    const incoming = await destination.prepare(imageOf(vm), vm.reserved);
    const memory = await incoming.memory;
    const copy = new Copy(source, vm, memory);
    let resume: Resume | undefined;
    let stopped: number;
    let id: number;
    try {
      await copyWhileRunning(copy, options);
      resume = await options.pause();
      stopped = performance.now();
      copy.round();
      id = await incoming.commit(imageOf(vm), copy.states);
    } catch (cause) {
      await cancelAnyway(incoming);
      await resume?.({ at: "source" });
      throw aborted(vm, cause instanceof Error ? cause.message : String(cause), cause);
    }
    // Nothing leads back from here: the destination has it.
    source.destroyVm(vm);
    new Uint8Array(vm.memory.buffer).fill(SCRIBBLE);
    await resume({ at: "destination", vm: id, memory });
    const pauseMs = performance.now() - stopped;
    const frames = copy.rounds.reduce((sum, round) => sum + round.frames, 0);
    return { rounds: copy.rounds, frames, bytes: frames * FRAME_BYTES, pauseMs, fromNodes: source.nodes, toNodes, vm: id };
  } finally {
    vm.migrating = false;
  }
}

/** A destination that has ended has forgotten the machine, and must not keep it from running here. */
async function cancelAnyway(incoming: Incoming): Promise<void> {
  try {
    await incoming.cancel();
  } catch (error) {
    if ((error as { code?: string }).code !== "NUMAHEAP_DISCONNECTED") throw error;
  }
}

async function copyWhileRunning(copy: Copy, options: MigrationOptions): Promise<void> {
  const { maxRounds = 8, stopBelow = 64, onRound = letOthersRun, signal } = options;
  for (let left = whole(maxRounds, 1, 1000, "maxRounds"); left > 0; --left) {
    signal?.throwIfAborted();
    const round = copy.round();
    await onRound(round);
    signal?.throwIfAborted();
    if (round.frames <= stopBelow) break;
  }
}

/** What a machine is, as of now. */
const imageOf = (vm: VirtualMachine): VmImage => ({
  ...vm.image,
  policy: vm.policy,
  balloonTarget: vm.balloonTarget,
  loads: vm.cpus.map(({ load }) => load),
  firmware: vm.firmware,
});

/** The copy of a machine's memory, brought up to date by each round. */
class Copy {
  readonly rounds: MigrationRound[] = [];
  /** What is behind each frame, as of the last round. */
  readonly states: Uint8Array;
  readonly #from: Int32Array;
  readonly #to: Int32Array;

  constructor(
    private readonly source: Hypervisor,
    private readonly vm: VirtualMachine,
    memory: WebAssembly.Memory,
  ) {
    this.states = new Uint8Array(vm.frames);
    this.#from = new Int32Array(vm.memory.buffer);
    this.#to = new Int32Array(memory.buffer);
  }

  round(): MigrationRound {
    const { source, vm } = this;
    // It may have been destroyed since.
    source.vm(vm.id);
    source.populateTouched();
    const start = performance.now();
    let frames = 0;
    for (let gfn = 0; gfn < vm.frames; ++gfn) {
      const entry = vm.p2m.get(gfn);
      this.states[gfn] = entry === BALLOONED ? ARRIVES_BALLOONED : isBacked(entry) ? ARRIVES_BACKED : ARRIVES_UNTOUCHED;
      if (entry === BALLOONED || !this.#isDirty(gfn)) continue;
      this.#to.set(this.#from.subarray(gfn * WORDS, (gfn + 1) * WORDS), gfn * WORDS);
      ++frames;
    }
    const round = { round: this.rounds.length + 1, frames, bytes: frames * FRAME_BYTES, ms: performance.now() - start };
    this.rounds.push(round);
    return round;
  }

  #isDirty(gfn: number): boolean {
    for (let word = gfn * WORDS; word < (gfn + 1) * WORDS; ++word) if (this.#from[word] !== this.#to[word]) return true;
    return false;
  }
}

const aborted = (vm: VirtualMachine, why: string, cause?: unknown): HypervisorError =>
  new HypervisorError("NUMAHEAP_MIGRATION_ABORTED", `the migration of ${vm.name} was given up, it runs where it was: ${why}`, { cause });
