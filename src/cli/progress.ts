// Progress of a replay: a line that is drawn over on a terminal, now and then a line of its own elsewhere.

import type { WriteStream } from "node:tty";
import type { ReplayProgress } from "../trace/replay.js";
import { formatSize } from "../topology/size.js";

const BAR = 24;
/** Milliseconds between lines where they cannot be drawn over. */
const QUIET_MS = 1000;

export class Progress {
  private told = -Infinity;
  private drawn = false;

  constructor(private readonly stream: NodeJS.WriteStream | WriteStream) {}

  show(state: ReplayProgress): void {
    const share = state.events > 0 ? state.done / state.events : 1;
    const percent = `${Math.floor(share * 100)}`.padStart(3);
    const parts = [`live ${formatSize(state.liveBytes)}`, `committed ${formatSize(state.committedBytes)}`];
    if (state.round > 0) parts.unshift(`round ${state.round + 1}`);
    if (state.killed > 0) parts.push(`${state.killed} killed`);
    if (this.stream.isTTY) {
      const filled = Math.round(share * BAR);
      this.stream.write(`\r\x1b[2K${state.trace} ${"#".repeat(filled)}${".".repeat(BAR - filled)} ${percent} %  ${parts.join(", ")}`);
      this.drawn = true;
    } else if (performance.now() - this.told >= QUIET_MS) {
      this.told = performance.now();
      this.stream.write(`${state.trace}: ${percent.trim()} %, ${parts.join(", ")}\n`);
    }
  }

  end(): void {
    if (this.drawn) this.stream.write("\r\x1b[2K");
    this.drawn = false;
  }
}
