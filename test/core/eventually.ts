// What becomes true by messages of other threads, soon on any machine however busy.
import { vi } from "vitest";

const PATIENCE = { timeout: 30_000, interval: 5 };

/** Tries until it throws no more: for conditions only that nothing can overshoot. */
export const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, PATIENCE);
