// What became of a scenario: the result that is printed as JSON, and whether all went as it should.

import type { HeapStats } from "../heap/inspect.js";
import type { PageMigration, PlatformDescription } from "../hypervisor/hypervisor.js";
import type { MigrationRound } from "../hypervisor/live-migration.js";
import type { VcpuMove } from "../hypervisor/scheduler.js";
import { passed, type ReplayResult } from "../trace/report.js";
import type { Locality } from "./load.js";
import type { Scenario } from "./parse.js";
import type { ScenarioEvent } from "./schema.js";

/** What an operation answered. */
export type Outcome =
  /** `move` is null where it ran there already. */
  | { readonly kind: "vcpu"; readonly move: VcpuMove | null }
  /** Frames, in three parts. */
  | ({ readonly kind: "pages" } & PageMigration)
  /** Bytes the guest has now. */
  | { readonly kind: "balloon"; readonly bytes: number; readonly wanted: number }
  | { readonly kind: "balance"; readonly moves: readonly VcpuMove[] }
  | { readonly kind: "placement" }
  /** Bytes that lie where they were advised to. */
  | { readonly kind: "advice"; readonly bytes: number; readonly advised: number }
  | {
      readonly kind: "live-migration";
      readonly rounds: readonly MigrationRound[];
      readonly bytes: number;
      readonly pauseMs: number;
      readonly fromNodes: number;
      readonly toNodes: number;
    }
  /** Changes that were made, of those the rate asked for. */
  | {
      readonly kind: "storm";
      readonly made: number;
      readonly asked: number;
      readonly vcpus: number;
      readonly ranges: number;
      readonly targets: number;
      readonly seed: number;
    };

/** How the guest was told. Milliseconds from when the event began, unless they say otherwise. */
export interface Told {
  /** Interrupts or events handed over, by what they are. */
  readonly deliveries: Readonly<Record<string, number>>;
  /** Changes in them; a range of frames is one. */
  readonly changes: number;
  /** When the guest had handled the last one, null = it was told nothing. */
  readonly knownMs: number | null;
  /** From the change to the guest having handled it, of all deliveries: median and maximum. */
  readonly delayMs: { readonly median: number; readonly max: number } | null;
  /** Invocations of topologyChangeHdlr. */
  readonly handlerInvocations: number;
}

/** What one thread of the application heard. */
export interface Heard {
  readonly thread: string;
  /** `topologychange` events. */
  readonly events: number;
  readonly firstMs: number | null;
  readonly lastMs: number | null;
  /** Epoch of the heap as the last one said it. */
  readonly epoch: number | null;
}

/** What the heap did. Counts of pages in use and spans are of the whole heap, and exact. */
export interface HeapDid {
  readonly spansRebound: number;
  readonly pagesMoved: number;
  readonly pagesMovedInUse: number;
}

export interface EventReport {
  readonly event: ScenarioEvent;
  /** Milliseconds after the load began; later than `at` if the event before was not over. */
  readonly beganMs: number;
  /** Until the guest and its heaps knew all of it. */
  readonly ms: number;
  readonly outcome: Outcome | null;
  /** Why it could not be done. */
  readonly error: string | null;
  readonly told: Told;
  readonly heard: readonly Heard[];
  /** Before and afterwards; the heap's is for comparing for equality only. */
  readonly epochs: { readonly guest: readonly [number, number]; readonly heap: readonly [number, number] };
  readonly heap: HeapDid;
  /** Allocations since the event before was over, during this one, and from then until the next one began. */
  readonly locality: { readonly before: Locality; readonly during: Locality; readonly after: Locality };
}

/** How many entries of somebody's map are not the truth, of how many. */
export interface MapCheck {
  readonly vcpusWrong: number;
  readonly vcpus: number;
  readonly framesWrong: number;
  readonly frames: number;
}

export interface Maps {
  readonly guest: MapCheck;
  readonly heap: MapCheck;
  /** The first few, in words. */
  readonly examples: readonly string[];
}

/** `numaheap scenario --json` prints exactly this. */
export interface ScenarioResult {
  readonly scenario: string;
  readonly description: string;
  readonly hypervisor: Scenario["hypervisor"];
  readonly guest: Scenario["guest"];
  readonly mode: Scenario["mode"];
  /** The guest is told of changes in this mode: its maps and the heap's have to be the truth. */
  readonly follows: boolean;
  readonly seed: number;
  readonly nodes: number;
  readonly vm: Scenario["vm"];
  readonly load: Scenario["load"];
  /** How this hypervisor tells its guests, in words. */
  platform: PlatformDescription | null;
  readonly events: EventReport[];
  replay: ReplayResult | null;
  workerSeconds: readonly number[];
  /** Figures of the heap at the end of the last round, before what the trace left alive was freed. */
  heapNodes: HeapStats["nodes"];
  maps: Maps | null;
  /** The heap's last walk, with nothing alive. */
  walk: "ok" | readonly string[];
  /** What is wrong in the kernel's books, and what it got over. */
  problems: readonly string[];
  readonly failures: string[];
  ok: boolean;
}

/** The result of a scenario of which nothing has happened yet. */
export function blankResult(scenario: Scenario): ScenarioResult {
  const { name, description, hypervisor, guest, mode, follows, seed, machine, vm, load } = scenario;
  return {
    scenario: name,
    description,
    hypervisor,
    guest,
    mode,
    follows,
    seed,
    nodes: machine.nodes.length,
    vm,
    load,
    platform: null,
    events: [],
    replay: null,
    workerSeconds: [],
    heapNodes: [],
    maps: null,
    walk: [],
    problems: [],
    failures: [],
    ok: false,
  };
}

/** Nowhere is anybody wrong. */
export const mapsAreTrue = ({ guest, heap }: Maps): boolean =>
  [guest, heap].every(({ vcpusWrong, framesWrong }) => vcpusWrong === 0 && framesWrong === 0);

/** Whether all went as it should; a guest that is not told of changes need not know them. */
export function isSound(result: ScenarioResult): boolean {
  const { replay, maps, walk, failures, problems, events, follows } = result;
  if (failures.length > 0 || problems.length > 0 || events.some(({ error }) => error !== null)) return false;
  return replay !== null && passed(replay) && walk === "ok" && maps !== null && (!follows || mapsAreTrue(maps));
}

/** An error in words for whoever reads a result. */
export function wordsOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code?.startsWith("NUMAHEAP_") ? `${message} [${code}]` : String(message ?? error);
}
