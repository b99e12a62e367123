// What is to be seen of an event from outside: how the guest was told and when it knew, what threads heard, what the heap did, and where
// allocations went. Counters are read before and after; what was told is sorted by time.

import type { Delivery } from "../guest/drivers/driver.js";
import { wallClock } from "../hypervisor/connection.js";
import type { Listeners, Notification } from "./listeners.js";
import { lessLocality, type Locality } from "./load.js";
import type { Stage } from "./perform.js";
import type { EventReport, Heard, Outcome, Told } from "./result.js";
import type { ScenarioEvent } from "./schema.js";

/** Counters at one time. */
interface Sample {
  readonly time: number;
  readonly guestEpoch: number;
  readonly heapEpoch: number;
  readonly handlerInvocations: number;
  readonly spansRebound: number;
  readonly pagesMoved: number;
  readonly pagesMovedInUse: number;
  readonly locality: Locality;
}

/** An event that has begun. */
export interface Begun {
  readonly event: ScenarioEvent;
  readonly sample: Sample;
  /** Allocations between the event before and this one. */
  readonly before: Locality;
}

/** An event that is over, but for what happens until the next one. */
interface Over extends Begun {
  readonly ms: number;
  readonly after: Sample;
  readonly outcome: Outcome | null;
  readonly error: string | null;
}

const NOTHING: Locality = { local: 0, remote: 0 };

export class Observer {
  readonly #stage: Stage;
  readonly #listeners: Listeners;
  /** Time stamp of when the load began. */
  readonly #zero: number;
  readonly #deliveries: Delivery[] = [];
  readonly #heard = new Map<string, Notification[]>();
  #over: Over | undefined;
  #last: Locality = NOTHING;
  #collecting: Promise<void> = Promise.resolve();

  constructor(stage: Stage, listeners: Listeners, zero: number) {
    this.#stage = stage;
    this.#listeners = listeners;
    this.#zero = zero;
  }

  async #sample(): Promise<Sample> {
    const { vm, heap, load } = this.#stage;
    const { epoch: guestEpoch, handlerInvocations } = await vm.guest.view();
    const { epoch: heapEpoch, spansRebound, pagesMoved, pagesMovedInUse } = heap.stats();
    const counters = { guestEpoch, heapEpoch, handlerInvocations, spansRebound, pagesMoved, pagesMovedInUse };
    return { time: wallClock(), ...counters, locality: load.locality };
  }

  /** Fetches what has been told so far, one after the other: the guest keeps a bounded number of deliveries. */
  collect(): Promise<void> {
    this.#collecting = this.#collecting.then(() => this.#fetch());
    return this.#collecting;
  }

  async #fetch(): Promise<void> {
    for (const { thread, notifications } of this.#listeners.take()) {
      const all = this.#heard.get(thread);
      if (all) all.push(...notifications);
      else this.#heard.set(thread, notifications);
    }
    this.#deliveries.push(...(await this.#stage.vm.guest.deliveries()));
  }

  /** An event begins. Answers with what is known of the one before by now. */
  async begin(event: ScenarioEvent): Promise<{ begun: Begun; before: EventReport | undefined }> {
    const before = await this.close();
    const sample = await this.#sample();
    return { begun: { event, sample, before: lessLocality(sample.locality, this.#last) }, before };
  }

  /** It is over, and the guest and its heaps know it. Answers with the milliseconds it took. */
  async end(begun: Begun, outcome: Outcome | null, error: string | null): Promise<number> {
    const ms = wallClock() - begun.sample.time;
    const after = await this.#sample();
    await this.#listeners.upTo(after.heapEpoch);
    this.#last = after.locality;
    this.#over = { ...begun, ms, after, outcome, error };
    return ms;
  }

  /** The report of the last event that was over: all until now is its. */
  async close(): Promise<EventReport | undefined> {
    await this.collect();
    const over = this.#over;
    this.#over = undefined;
    const deliveries = this.#deliveries.splice(0);
    const heard = [...this.#heard].map(([thread, notifications]) => ({ thread, notifications }));
    this.#heard.clear();
    if (!over) return undefined;
    const { event, sample, ms, after, outcome, error, before } = over;
    const { handlerInvocations } = await this.#stage.vm.guest.view();
    const since = (time: number): number => time - sample.time;
    return {
      event,
      beganMs: sample.time - this.#zero,
      ms,
      outcome,
      error,
      told: told(deliveries, since, handlerInvocations - sample.handlerInvocations),
      heard: heard.map((one) => heardOf(one, since)),
      epochs: { guest: [sample.guestEpoch, after.guestEpoch], heap: [sample.heapEpoch, after.heapEpoch] },
      heap: {
        spansRebound: after.spansRebound - sample.spansRebound,
        pagesMoved: after.pagesMoved - sample.pagesMoved,
        pagesMovedInUse: after.pagesMovedInUse - sample.pagesMovedInUse,
      },
      locality: {
        before,
        during: lessLocality(after.locality, sample.locality),
        after: lessLocality(this.#stage.load.locality, after.locality),
      },
    };
  }
}

function told(deliveries: readonly Delivery[], since: (time: number) => number, handlerInvocations: number): Told {
  const by: Record<string, number> = {};
  for (const { what } of deliveries) by[what] = (by[what] ?? 0) + 1;
  const raisedOnes = deliveries.filter(({ raised }) => raised > 0);
  const delays = raisedOnes.map(({ raised, delivered }) => delivered - raised).sort((a, b) => a - b);
  return {
    deliveries: by,
    changes: deliveries.reduce((sum, { changes }) => sum + changes, 0),
    knownMs: deliveries.length === 0 ? null : Math.max(...deliveries.map(({ delivered }) => since(delivered))),
    delayMs: delays.length === 0 ? null : { median: delays[delays.length >> 1]!, max: delays.at(-1)! },
    handlerInvocations,
  };
}

function heardOf({ thread, notifications }: { thread: string; notifications: Notification[] }, since: (time: number) => number): Heard {
  const [first, last] = [notifications[0], notifications.at(-1)];
  return {
    thread,
    events: notifications.length,
    firstMs: first ? since(first.time) : null,
    lastMs: last ? since(last.time) : null,
    epoch: last?.epoch ?? null,
  };
}
