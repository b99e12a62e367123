// A machine under load: a trace is replayed in it, again and again, until what is to be done to it meanwhile is done. Then everybody's maps
// are compared, once with the trace's blocks alive and once after all are freed.

import type { Trace } from "../trace/format.js";
import type { ReplayOptions } from "../trace/replay.js";
import { passed, type ReplayResult } from "../trace/report.js";
import { disagreements } from "./disagreements.js";
import type { Rig } from "./rig.js";

/** The replay, for whoever does something meanwhile. */
export interface Load {
  /** It has failed: nobody allocates any more. */
  readonly ended: boolean;
  /** Allocations so far on the node the worker truly was on, and on others. */
  locality(): { local: number; remote: number };
  /**
   * Resolves when the workers have made so many more allocations.
   * @throws {Error} if they cannot
   */
  goOn(allocations: number): Promise<void>;
}

export interface LoadResult {
  readonly replay: ReplayResult;
  /** Where a map is not the truth; empty for a machine that is not adaptive, whose guest is not to know it. */
  readonly disagreements: readonly string[];
  /** What the guest got over. */
  readonly problems: readonly string[];
  /** Nothing is lost or wrong. */
  readonly sound: boolean;
}

export async function underLoad(
  rig: Rig,
  trace: Trace,
  act: (load: Load) => Promise<void>,
  options: ReplayOptions = {},
): Promise<LoadResult> {
  const found: string[] = [];
  let done = false;
  let ended = false;
  const compare = async (when: string): Promise<void> => {
    if (rig.vm.mode === "adaptive") found.push(...(await disagreements(rig)).map((words) => `${when}: ${words}`));
  };
  const again = async (): Promise<boolean> => {
    if (done) await compare("with live blocks");
    return !done;
  };
  const replay = await rig.prepare(trace, { ...options, again });
  const allocations = (): number => replay.locality().local + replay.locality().remote;
  const load: Load = {
    get ended() {
      return ended;
    },
    locality: () => replay.locality(),
    goOn: async (count) => {
      const until = allocations() + count;
      while (allocations() < until) {
        if (ended) throw new Error("the replay has ended before its time");
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
  try {
    const playing = replay.play().finally(() => (ended = true));
    await Promise.all([playing, act(load).finally(() => (done = true))]);
    await compare("after all is freed");
  } catch (error) {
    replay.failures.push((error as Error).stack ?? String(error));
  } finally {
    await replay.dismiss();
  }
  const { guest } = rig;
  if (guest.handlerInvocations !== rig.deliveries)
    found.push(`the handler was invoked ${guest.handlerInvocations} times, for ${rig.deliveries} deliveries`);
  const { result } = replay.outcome();
  const problems = rig.problems.map((problem) => String(problem));
  return { replay: result, disagreements: found, problems, sound: passed(result) && found.length === 0 && problems.length === 0 };
}
