// Progress: a line that is drawn over on a terminal, now and then a line of its own elsewhere.

import type { WriteStream } from "node:tty";
import type { ReplayProgress } from "../trace/replay.js";
import { formatSize } from "../topology/size.js";

const BAR = 24;
/** Milliseconds between lines where they cannot be drawn over. */
const QUIET_MS = 1000;

export class LiveLine {
  private told = -Infinity;
  private drawn = false;

  constructor(private readonly stream: NodeJS.WriteStream | WriteStream) {}

  /**
   * Shows how far it is.
   * @param drawn the line on a terminal, with a bar for `share`
   * @param told the line elsewhere
   */
  show(share: number, drawn: (bar: string) => string, told: () => string): void {
    if (this.stream.isTTY) {
      const filled = Math.round(share * BAR);
      // A line that wraps cannot be drawn over.
      const line = drawn("#".repeat(filled) + ".".repeat(BAR - filled)).slice(0, (this.stream.columns ?? 80) - 1);
      this.stream.write(`\r\x1b[2K${line}`);
      this.drawn = true;
    } else if (performance.now() - this.told >= QUIET_MS) {
      this.told = performance.now();
      this.stream.write(`${told()}\n`);
    }
  }

  /** A line that stays. */
  say(line: string): void {
    this.end();
    this.stream.write(`${line}\n`);
  }

  end(): void {
    if (this.drawn) this.stream.write("\r\x1b[2K");
    this.drawn = false;
  }
}

/** Progress of a replay. */
export class Progress extends LiveLine {
  showReplay(state: ReplayProgress): void {
    const share = state.events > 0 ? state.done / state.events : 1;
    const percent = Math.floor(share * 100);
    const parts = [`live ${formatSize(state.liveBytes)}`, `committed ${formatSize(state.committedBytes)}`];
    if (state.round > 0) parts.unshift(`round ${state.round + 1}`);
    if (state.failures > 0) parts.push(`${state.failures} failure${state.failures === 1 ? "" : "s"}`);
    if (state.killed > 0) parts.push(`${state.killed} killed`);
    this.show(
      share,
      (bar) => `${state.trace} ${bar} ${`${percent}`.padStart(3)} %  ${parts.join(", ")}`,
      () => `${state.trace}: ${percent} %, ${parts.join(", ")}`,
    );
  }
}
