// Changes of a machine, drawn from a seed: one of each kind, or any. What is drawn depends on the seed and on what was drawn before, as far
// as the machine allows; what comes of it may depend on which frames its threads had claimed by then.

import type { MigrationReport } from "../hypervisor/live-migration.js";
import { seeded } from "../trace/random.js";
import type { Rig } from "./rig.js";

export const CHANGE_KINDS = ["vcpu", "balance", "affinity", "pages", "advice", "balloon", "live"] as const;
export type ChangeKind = (typeof CHANGE_KINDS)[number];

/** How often each kind is drawn, live migrations apart, of 100. */
const SHARES: readonly (readonly [ChangeKind, number])[] = [
  ["vcpu", 36],
  ["pages", 36],
  ["advice", 10],
  ["balance", 8],
  ["affinity", 6],
  ["balloon", 4],
];
/** Least part of its frames that a balloon leaves the guest. */
const LEAST_SHARE = 7 / 8;
/** Longest range of frames that moves at once: so large a part of all. */
const LONGEST_SHARE = 1 / 8;
const NOWHERE = -1;

export class Changes {
  /** Changes that took effect, by kind. */
  readonly count: Record<ChangeKind, number> = { vcpu: 0, balance: 0, affinity: 0, pages: 0, advice: 0, balloon: 0, live: 0 };
  readonly migrations: MigrationReport[] = [];
  /** Frames that came out of the balloon, and those of them that came back on another node than they had gone from. */
  framesBack = 0;
  framesBackElsewhere = 0;
  readonly #rig: Rig;
  readonly #random: () => number;
  /** Node each frame of the balloon was on. */
  readonly #wentFrom: Int8Array;

  constructor(rig: Rig, seed: number) {
    this.#rig = rig;
    this.#random = seeded(seed);
    this.#wentFrom = new Int8Array(rig.vm.frames).fill(NOWHERE);
  }

  get total(): number {
    return CHANGE_KINDS.reduce((sum, kind) => sum + this.count[kind], 0);
  }

  /** Draws a kind, live migrations excepted. */
  any(): ChangeKind {
    let left = this.#below(100);
    return SHARES.find(([, share]) => (left -= share) < 0)![0];
  }

  /** Makes a change of this kind. False: nothing came of it. */
  async make(kind: ChangeKind): Promise<boolean> {
    const { tracker } = this.#rig.vm;
    const before = tracker.count;
    const took = (await this.#makers[kind]()) ?? tracker.count !== before;
    if (took) ++this.count[kind];
    return took;
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  get #vcpu(): number {
    return this.#below(this.#rig.vm.vcpus);
  }

  /** A range of log-uniform length anywhere in the machine. */
  #range(): { first: number; count: number } {
    const { frames } = this.#rig.vm;
    const count = Math.floor(Math.exp(this.#random() * Math.log(frames * LONGEST_SHARE)));
    return { first: this.#below(frames - count), count };
  }

  /** Each answers whether it took effect; undefined: if anything was tracked. */
  readonly #makers: Readonly<Record<ChangeKind, () => boolean | undefined | Promise<boolean | undefined>>> = {
    vcpu: () => {
      const { hypervisor, vm } = this.#rig;
      const vcpu = this.#vcpu;
      const toNode = (vm.cpus[vcpu]!.node + 1 + this.#below(hypervisor.nodes - 1)) % hypervisor.nodes;
      hypervisor.migrateVcpu(vm, vcpu, { toNode });
      return undefined;
    },
    balance: () => {
      const { hypervisor, vm } = this.#rig;
      for (let vcpu = 0; vcpu < vm.vcpus; ++vcpu) hypervisor.setLoad(vm, vcpu, 10 + this.#below(190));
      hypervisor.balance();
      return undefined;
    },
    affinity: () => {
      const { hypervisor, vm } = this.#rig;
      const vcpu = this.#vcpu;
      hypervisor.setAffinity(vm, vcpu, [this.#below(hypervisor.scheduler.cpus)]);
      hypervisor.setAffinity(vm, vcpu, undefined);
      return undefined;
    },
    pages: () => {
      const { hypervisor, vm } = this.#rig;
      const { first, count } = this.#range();
      hypervisor.migratePages(vm, first, count, this.#below(hypervisor.nodes));
      return undefined;
    },
    advice: async () => {
      const { hypervisor, driver } = this.#rig;
      const { first, count } = this.#range();
      await driver.advise(first, count, this.#below(hypervisor.nodes));
      return undefined;
    },
    balloon: async () => {
      const { hypervisor, vm, guest, driver } = this.#rig;
      const before = vm.truth().frames;
      hypervisor.setBalloonTarget(vm, Math.floor(vm.frames * (LEAST_SHARE + this.#random() * (1 - LEAST_SHARE))));
      await driver.settled();
      await guest.balloon.idle();
      return this.#compare(before, vm.truth().frames);
    },
    live: async () => {
      this.migrations.push(await this.#rig.migrateLive(this.#rig.hypervisor.nodes === 4 ? 2 : 4));
      return true;
    },
  };

  /** What went into the balloon and came out of it. Whether anything did. */
  #compare(before: Int8Array, after: Int8Array): boolean {
    let changed = false;
    after.forEach((node, gfn) => {
      if (node < 0 === before[gfn]! < 0) return;
      changed = true;
      if (node < 0) this.#wentFrom[gfn] = before[gfn]!;
      else {
        ++this.framesBack;
        if (this.#wentFrom[gfn] !== node) ++this.framesBackElsewhere;
      }
    });
    return changed;
  }
}
