// `numaheap replay`: real programs' allocations over one shared heap.

import Table from "cli-table3";
import type { Command } from "commander";
import type { HeapStats } from "../heap/inspect.js";
import { readTrace } from "../trace/file.js";
import { DEFAULT_MAX_MEMORY, DEFAULT_NODES, DEFAULT_WORKERS, MAX_WORKERS, replayTrace, type ReplayProgress } from "../trace/replay.js";
import { passed, type ReplayResult } from "../trace/report.js";
import { formatSize, parseSize, wholeNumber } from "./size.js";

interface ReplayFlags {
  threads?: number;
  nodes: number;
  maxMemory: number;
  verify: boolean;
  storm: number;
  kill: number;
  seed: number;
  latency: boolean;
  json: boolean;
}

export function addReplay(program: Command): void {
  program
    .command("replay")
    .description("replay recorded allocations of real programs on worker threads over one shared heap, and prove that nothing was lost")
    .argument("<trace...>", "files NAME.trace.gz")
    .option("--threads <n>", `workers (default: the trace's threads, at most ${DEFAULT_WORKERS})`, wholeNumber(1, MAX_WORKERS))
    .option("--nodes <n>", "NUMA nodes", wholeNumber(1, 32), DEFAULT_NODES)
    .option("--max-memory <size>", "most the heap may claim (default: 4 GiB less a page)", parseSize, DEFAULT_MAX_MEMORY)
    .option("--no-verify", "do not fill and check the blocks")
    .option("--storm <n>", "topology changes a second", wholeNumber(0, 1_000_000), 0)
    .option("--kill <n>", "workers to terminate and replace", wholeNumber(0, 1_000_000), 0)
    .option("--seed <n>", "seed of all that is random", wholeNumber(0, 2 ** 32 - 1), 1)
    .option("--latency", "measure each allocation, with a call that does nothing as control", false)
    .option("--json", "one line of JSON a trace on stdout, all else on stderr", false)
    .action(async (traces: string[], flags: ReplayFlags) => {
      for (const path of traces) if (!(await replayOne(path, flags))) process.exitCode = 1;
    });
}

/** Replays one file and prints what came of it; whether nothing failed. */
async function replayOne(path: string, flags: ReplayFlags): Promise<boolean> {
  const progress = new Progress();
  try {
    const trace = await readTrace(path);
    const { json, ...options } = flags;
    const { result, stats, workerSeconds } = await replayTrace(trace, { ...options, onProgress: (at) => progress.show(at) });
    progress.end();
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else process.stdout.write(report(result, stats, workerSeconds));
    return passed(result);
  } catch (error) {
    progress.end();
    process.stderr.write(`${path}: ${error instanceof Error ? error.message : String(error)}\n`);
    return false;
  }
}

/** One line on stderr that is written over where that is a terminal, a line every few seconds elsewhere. */
class Progress {
  private last = 0;
  private shown = false;

  show(at: ReplayProgress): void {
    const now = performance.now();
    const terminal = process.stderr.isTTY === true;
    if (!terminal && now - this.last < 5000) return;
    this.last = now;
    const percent = ((100 * at.done) / Math.max(1, at.events)).toFixed(0).padStart(3);
    const round = at.round > 0 ? `, round ${at.round + 1}` : "";
    const killed = at.killed > 0 ? `, ${at.killed} killed` : "";
    const line = `${at.trace} ${percent} % of ${at.events} events, ${formatSize(at.liveBytes)} live, ${formatSize(at.committedBytes)} committed${round}${killed}`;
    process.stderr.write(terminal ? `\r\x1b[K${line}` : `${line}\n`);
    this.shown = terminal;
  }

  end(): void {
    if (this.shown) process.stderr.write("\r\x1b[K");
    this.shown = false;
  }
}

const count = (n: number): string => n.toLocaleString("en-US");

function report(result: ReplayResult, stats: HeapStats | undefined, workerSeconds: readonly number[]): string {
  const lines = [
    "",
    `${result.trace}: ${count(result.events)} events on ${result.threads} workers and ${result.nodes} nodes in ${result.seconds.toFixed(2)} s (${count(result.opsPerSecond)} a second)`,
    `peak ${formatSize(result.peakLiveBytes)} live, ${formatSize(result.peakCommittedBytes)} committed (${(result.peakCommittedBytes / Math.max(1, result.peakLiveBytes)).toFixed(2)} times as much)`,
  ];
  if (stats) lines.push(numastat(stats));
  const workers = new Table({
    head: ["worker", "events", "seconds", "events/s"],
    style: { head: [], border: [] },
    colAligns: ["right", "right", "right", "right"],
  });
  result.eventsPerWorker.forEach((events, part) => {
    const seconds = workerSeconds[part] ?? 0;
    workers.push([String(part), count(events), seconds.toFixed(2), seconds > 0 ? count(Math.round(events / seconds)) : "-"]);
  });
  lines.push(workers.toString());
  lines.push(
    `allocations on the worker's own node ${count(result.localAllocations)}, on others ${count(result.remoteAllocations)}; remote frees ${count(result.remoteFrees)}`,
    `topology changes ${count(result.topologyChanges)}: pages moved ${count(result.pagesMoved)}, of them in use ${count(result.pagesMovedInUse)}; spans rebound ${count(result.spansRebound)}`,
  );
  if (result.killed > 0) {
    lines.push(
      `workers killed and replaced ${result.killed}; events skipped ${count(result.skippedEvents)}; blocks of calls cut off ${result.unaccountedBlocks}`,
    );
  }
  if (result.latency) {
    const { samples, malloc, control, excess } = result.latency;
    const say = (name: string, q: { p50: number; p999: number; max: number }): string =>
      `${name} p50 ${q.p50} ns, p99.9 ${q.p999} ns, max ${q.max} ns`;
    lines.push(
      `latency of ${count(samples)} allocations: ${say("malloc", malloc)}; ${say("no-op control", control)}; ${say("excess", excess)}`,
    );
  }
  for (const failure of result.failures) lines.push(`FAILED: ${failure}`);
  if (result.walk === "ok") lines.push(`heap walk: ok, nothing overlaps; leaked ${result.leakedBytes} bytes`);
  else lines.push(...result.walk.map((problem) => `heap walk: ${problem}`), `leaked ${result.leakedBytes} bytes`);
  return `${lines.join("\n")}\n`;
}

/** A table per node, with numastat's rows. */
function numastat(stats: HeapStats): string {
  const head = ["", ...stats.nodes.map(({ node }) => `node ${node}`)];
  const table = new Table({ head, style: { head: [], border: [] }, colAligns: head.map((_, i) => (i === 0 ? "left" : "right")) });
  for (const row of ["numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"] as const) {
    table.push([row, ...stats.nodes.map(({ numastat: counters }) => count(counters[row]))]);
  }
  table.push(["pages owned", ...stats.nodes.map(({ ownedPages }) => count(ownedPages))]);
  table.push(["pages free", ...stats.nodes.map(({ freePages }) => count(freePages))]);
  table.push(["spans", ...stats.nodes.map(({ spans }) => count(spans))]);
  return table.toString();
}
