// Tells subscribers of changes, each at its own pace: one notification is under way to a subscriber at a time, and what happens before it has
// answered becomes one more. So nothing piles up for one that is slow, and order is kept. One that does not answer in time is let go:
// nothing was in the notification that does not stand in shared memory, too.

import type { TopologyChange } from "../heap/topology-event.js";
import { join } from "./join.js";

/** Whoever is to hear of changes, in whichever thread. */
export interface Subscriber {
  /** Answers when the change has been handled. */
  changed(change: TopologyChange): PromiseLike<unknown>;
  /** It hears no more. */
  close(): void;
}

/** Milliseconds a subscriber has for an answer. */
export const PATIENCE_MS = 10_000;

interface Entry {
  readonly subscriber: Subscriber;
  busy: boolean;
  pending: TopologyChange | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class Notifier {
  readonly #entries = new Map<number, Entry>();
  readonly #patience: number;
  readonly #onDrop: (key: number, why: string) => void;

  /** @param onDrop told of a subscriber that was let go, and why */
  constructor(onDrop: (key: number, why: string) => void = () => {}, patience = PATIENCE_MS) {
    this.#onDrop = onDrop;
    this.#patience = patience;
  }

  /** Keys of those who hear of changes. */
  get keys(): readonly number[] {
    return [...this.#entries.keys()];
  }

  /** From now on it is told; one of the same key is let go. `missed`: what it has to be told first. */
  add(key: number, subscriber: Subscriber, missed?: TopologyChange): void {
    this.remove(key);
    const entry: Entry = { subscriber, busy: false, pending: undefined, timer: undefined };
    this.#entries.set(key, entry);
    if (missed) this.#tell(key, entry, missed);
  }

  remove(key: number): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    clearTimeout(entry.timer);
    entry.subscriber.close();
  }

  notify(change: TopologyChange): void {
    for (const [key, entry] of [...this.#entries]) this.#tell(key, entry, change);
  }

  stop(): void {
    for (const key of this.keys) this.remove(key);
  }

  #tell(key: number, entry: Entry, change: TopologyChange): void {
    if (entry.busy) {
      entry.pending = join(entry.pending, change);
      return;
    }
    entry.busy = true;
    entry.timer = setTimeout(() => this.#drop(key, entry, `no answer in ${this.#patience} ms`), this.#patience);
    let answer: PromiseLike<unknown>;
    try {
      answer = entry.subscriber.changed(change);
    } catch (error) {
      this.#drop(key, entry, String(error));
      return;
    }
    answer.then(
      () => this.#answered(key, entry),
      (error: unknown) => this.#drop(key, entry, String(error)),
    );
  }

  #answered(key: number, entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(key) !== entry) return;
    entry.busy = false;
    const { pending } = entry;
    entry.pending = undefined;
    if (pending) this.#tell(key, entry, pending);
  }

  #drop(key: number, entry: Entry, why: string): void {
    if (this.#entries.get(key) !== entry) return;
    this.remove(key);
    this.#onDrop(key, why);
  }
}
