// Applications that want to hear of topology changes. None of them can keep the kernel or the others from anything.

import type { TopologyUpdate } from "./heap-links.js";

/** What has changed. Ranges are maximal and ascend. */
export interface TopologyEvent extends TopologyUpdate {
  readonly epoch: number;
  /** How many nodes there are now. */
  readonly nodeCount: number;
}

export type TopologyListener = (event: TopologyEvent) => unknown;

export class Listeners {
  readonly #onProblem: (error: unknown) => void;
  readonly #entries = new Set<{ readonly listener: TopologyListener }>();

  /** @param onProblem told why a listener was dropped */
  constructor(onProblem: (error: unknown) => void) {
    this.#onProblem = onProblem;
  }

  /** Answers with what ends it. */
  add(listener: TopologyListener): () => void {
    const entry = { listener };
    this.#entries.add(entry);
    return () => void this.#entries.delete(entry);
  }

  notify(event: TopologyEvent): void {
    for (const entry of [...this.#entries]) {
      const drop = (error: unknown): void => {
        if (this.#entries.delete(entry)) this.#onProblem(error);
      };
      try {
        // One in another thread answers with a promise.
        Promise.resolve(entry.listener(event)).catch(drop);
      } catch (error) {
        drop(error);
      }
    }
  }
}
