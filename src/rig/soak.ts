// A soak: thousands of changes of all kinds to one machine while a trace is replayed in it, and then a look at whether everybody knows the truth
// and nothing was lost.

import type { Trace } from "../trace/format.js";
import { seeded } from "../trace/random.js";
import type { ReplayResult } from "../trace/report.js";
import { type ChangeKind, Changes } from "./changes.js";
import { type Pairing, Rig } from "./rig.js";
import { type Load, type LoadResult, underLoad } from "./under-load.js";

export interface SoakOptions extends Pairing {
  readonly trace: Trace;
  readonly changes: number;
  /** Of the order and the arguments of changes. Threads are as fast as they are. */
  readonly seed: number;
  /** Every so many changes, the machine moves to another host. Default 500. */
  readonly liveEvery?: number;
  /** Bytes of the machine. */
  readonly memory?: number;
  /** Told now and then how many changes were made. */
  readonly onProgress?: (changes: number) => void;
}

export interface SoakResult extends Pairing, Omit<LoadResult, "replay"> {
  readonly seed: number;
  /** Changes that took effect, by kind, and all of them. */
  readonly changes: Readonly<Record<ChangeKind, number>> & { readonly all: number };
  readonly handlerInvocations: number;
  /** Frames that came out of the balloon, and those of them that came back on another node than they had gone from. */
  readonly framesBack: number;
  readonly framesBackElsewhere: number;
  readonly liveMigrations: {
    readonly rounds: number;
    readonly bytes: number;
    readonly pauseMs: { readonly p50: number; readonly max: number };
  };
  readonly replay: Pick<ReplayResult, (typeof REPORTED)[number]>;
  readonly seconds: number;
}

const REPORTED = [
  "trace",
  "events",
  "rounds",
  "threads",
  "failures",
  "walk",
  "leakedBytes",
  "unaccountedBlocks",
  "spansRebound",
  "pagesMoved",
  "pagesMovedInUse",
  "localAllocations",
  "remoteAllocations",
] as const;

/** Most changes between two turns of the event loop. */
const BURST = 16;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { platform, os, trace, changes: wanted, seed, liveEvery = 500, memory, onProgress } = options;
  const start = performance.now();
  const rig = await Rig.boot({ platform, os, ...(memory !== undefined && { memory }) });
  const changes = new Changes(rig, seed);
  const order = seeded(seed + 1);
  const act = async (load: Load): Promise<void> => {
    for (let burst = 0; changes.total < wanted && !load.ended;) {
      const live = (changes.count.live + 1) * liveEvery <= changes.total;
      await changes.make(live ? "live" : changes.any());
      // What is not waited for is one event, or finds no room in a queue.
      if (live || --burst < 0) {
        burst = Math.floor(order() * BURST);
        await rig.driver.settled();
        await new Promise((resolve) => setImmediate(resolve));
        onProgress?.(changes.total);
      }
    }
  };
  const { replay, ...judged } = await underLoad(rig, trace, act, { seed });
  const { handlerInvocations } = rig.guest;
  const { framesBack, framesBackElsewhere, migrations, count, total } = changes;
  await rig.end();
  const pauses = migrations.map(({ pauseMs }) => pauseMs).sort((a, b) => a - b);
  return {
    platform,
    os,
    seed,
    ...judged,
    changes: { all: total, ...count },
    handlerInvocations,
    framesBack,
    framesBackElsewhere,
    liveMigrations: {
      rounds: migrations.reduce((sum, { rounds }) => sum + rounds.length, 0),
      bytes: migrations.reduce((sum, { bytes }) => sum + bytes, 0),
      pauseMs: { p50: pauses[pauses.length >> 1] ?? 0, max: pauses.at(-1) ?? 0 },
    },
    replay: Object.fromEntries(REPORTED.map((field) => [field, replay[field]])) as SoakResult["replay"],
    seconds: (performance.now() - start) / 1000,
  };
}
