// A soak: thousands of changes of all kinds to one machine while a trace is replayed in it, and then a look at whether everybody knows the truth
// and nothing was lost.

import type { Trace } from "../trace/format.js";
import { seeded } from "../trace/random.js";
import { passed, type ReplayResult } from "../trace/report.js";
import { type ChangeKind, Changes } from "./changes.js";
import { disagreements } from "./disagreements.js";
import { type Pairing, Rig } from "./rig.js";

export interface SoakOptions extends Pairing {
  readonly trace: Trace;
  readonly changes: number;
  readonly seed: number;
  /** Every so many changes, the machine moves to another host. Default 500. */
  readonly liveEvery?: number;
  /** Bytes of the machine. */
  readonly memory?: number;
  /** Told now and then how many changes were made. */
  readonly onProgress?: (changes: number) => void;
}

export interface SoakResult extends Pairing {
  readonly seed: number;
  /** Changes that took effect, by kind, and all of them. */
  readonly changes: Readonly<Record<ChangeKind, number>> & { readonly all: number };
  /** Changes as the guest was told of them: frame by frame, vCPU by vCPU. */
  readonly handlerInvocations: number;
  readonly framesBack: number;
  readonly framesBackElsewhere: number;
  readonly migrations: {
    readonly rounds: number;
    readonly bytes: number;
    readonly pauseMs: { readonly p50: number; readonly max: number };
  };
  readonly replay: Pick<
    ReplayResult,
    | "trace"
    | "events"
    | "rounds"
    | "failures"
    | "walk"
    | "leakedBytes"
    | "unaccountedBlocks"
    | "spansRebound"
    | "pagesMoved"
    | "pagesMovedInUse"
    | "localAllocations"
    | "remoteAllocations"
  >;
  /** Where a map is not the truth: with the trace's blocks alive, and after all are freed. */
  readonly disagreements: readonly string[];
  /** What the guest got over. */
  readonly problems: readonly string[];
  readonly seconds: number;
  readonly sound: boolean;
}

/** Changes between two turns of the event loop, at most. */
const BURST = 16;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { platform, os, trace, changes: wanted, seed, liveEvery = 500, memory, onProgress } = options;
  const start = performance.now();
  const rig = await Rig.boot({ platform, os, ...(memory !== undefined && { memory }) });
  const changes = new Changes(rig, seed);
  const order = seeded(seed + 1);
  const found: string[] = [];
  let over = false;
  /** Once the changes have been made, somebody waits for the round to end. */
  const again = async (): Promise<boolean> => {
    if (!over) return true;
    found.push(...(await disagreements(rig)).map((words) => `with live blocks: ${words}`));
    return false;
  };
  const replay = await rig.prepare(trace, { again, seed });
  let ended = false;
  const playing = replay.play().finally(() => (ended = true));
  const changing = (async (): Promise<void> => {
    for (let burst = 0; changes.total < wanted && !ended;) {
      const live = (changes.count.live + 1) * liveEvery <= changes.total;
      await changes.make(live ? "live" : changes.any());
      if (live || --burst < 0) {
        burst = Math.floor(order() * BURST);
        await rig.driver.settled();
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (changes.total % 100 === 0) onProgress?.(changes.total);
    }
  })().finally(() => (over = true));
  try {
    await Promise.all([playing, changing]);
    found.push(...(await disagreements(rig)));
  } catch (error) {
    replay.failures.push((error as Error).stack ?? String(error));
  } finally {
    await replay.dismiss();
  }
  const { result } = replay.outcome();
  const { framesBack, framesBackElsewhere, migrations, count } = changes;
  if (rig.guest.handlerInvocations !== rig.deliveries)
    found.push(`the handler was invoked ${rig.guest.handlerInvocations} times, for ${rig.deliveries} deliveries`);
  const pauses = migrations.map(({ pauseMs }) => pauseMs).sort((a, b) => a - b);
  const problems = rig.problems.map((problem) => String(problem));
  const sound = passed(result) && found.length === 0 && problems.length === 0 && changes.total >= wanted;
  const { handlerInvocations } = rig.guest;
  await rig.end();
  return {
    platform,
    os,
    seed,
    changes: { all: changes.total, ...count },
    handlerInvocations,
    framesBack,
    framesBackElsewhere,
    migrations: {
      rounds: migrations.reduce((sum, { rounds }) => sum + rounds.length, 0),
      bytes: migrations.reduce((sum, { bytes }) => sum + bytes, 0),
      pauseMs: { p50: pauses[pauses.length >> 1] ?? 0, max: pauses.at(-1) ?? 0 },
    },
    replay: {
      trace: result.trace,
      events: result.events,
      rounds: result.rounds,
      failures: result.failures,
      walk: result.walk,
      leakedBytes: result.leakedBytes,
      unaccountedBlocks: result.unaccountedBlocks,
      spansRebound: result.spansRebound,
      pagesMoved: result.pagesMoved,
      pagesMovedInUse: result.pagesMovedInUse,
      localAllocations: result.localAllocations,
      remoteAllocations: result.remoteAllocations,
    },
    disagreements: found,
    problems,
    seconds: (performance.now() - start) / 1000,
    sound,
  };
}
