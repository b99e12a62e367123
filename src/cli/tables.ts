// The tables printed after a replay, and after a scenario.

import Table from "cli-table3";
import { HEAP_PAGE } from "../heap/exports.js";
import type { HeapStats, NodeStats } from "../heap/inspect.js";
import type { Trace } from "../trace/format.js";
import type { ReplayOutcome } from "../trace/replay.js";
import { passed } from "../trace/report.js";
import { formatSize } from "../topology/size.js";
import { printable } from "./output.js";

export const count = (value: number): string => Math.round(value).toLocaleString("en-US");

export function table(head: string[], rows: string[][]): string {
  const out = new Table({
    head,
    colAligns: head.map((_, i) => (i === 0 ? "left" : "right")),
    style: { head: [], border: [], compact: true, "padding-left": 1, "padding-right": 1 },
    chars: Object.fromEntries(
      [
        "top",
        "top-mid",
        "top-left",
        "top-right",
        "bottom",
        "bottom-mid",
        "bottom-left",
        "bottom-right",
        "left",
        "left-mid",
        "mid",
        "mid-mid",
        "right",
        "right-mid",
        "middle",
      ].map((name) => [name, ""]),
    ),
  });
  out.push(...rows);
  return `${out.toString()}\n`;
}

/** A numastat-like table: a column a node. Counters in blocks, as threads fetched them. */
export function nodeTable(nodes: HeapStats["nodes"]): string {
  const row = (name: string, of: (node: NodeStats) => string): string[] => [name, ...nodes.map(of)];
  const counters = Object.keys(nodes[0]?.numastat ?? {}) as (keyof NodeStats["numastat"])[];
  return table(
    ["", ...nodes.map((node) => `node${node.node}`)],
    [
      ...counters.map((name) => row(name, (node) => count(node.numastat[name]))),
      row("owned", (node) => formatSize(node.ownedPages * HEAP_PAGE)),
      row("in spans", (node) => formatSize(node.usedPages * HEAP_PAGE)),
      row("free", (node) => formatSize(node.freePages * HEAP_PAGE)),
      row("spans", (node) => count(node.spans)),
    ],
  );
}

export function workerTable(eventsPerWorker: readonly number[], workerSeconds: readonly number[]): string {
  const rows = eventsPerWorker.map((events, worker) => {
    const seconds = workerSeconds[worker] ?? 0;
    return [`worker ${worker}`, count(events), seconds.toFixed(2), seconds > 0 ? count(events / seconds) : "-"];
  });
  return table(["", "events", "seconds", "events/s"], rows);
}

/** Tells what the replay did, what the heap looks like, and whether it is sound. */
export function printOutcome(stream: NodeJS.WritableStream, trace: Trace, outcome: ReplayOutcome, seed: number): void {
  const { result, stats } = outcome;
  const say = (line: string): void => void stream.write(`${line}\n`);
  say(printable(`${trace.name}: ${trace.description}`));
  say(
    `${count(result.events)} events in ${result.seconds.toFixed(2)} s on ${result.threads} workers and ${result.nodes} nodes: ${count(result.opsPerSecond)} a second (seed ${seed})\n`,
  );
  if (stats) say(nodeTable(stats.nodes));
  say(workerTable(result.eventsPerWorker, outcome.workerSeconds));
  say(
    `peak live ${formatSize(result.peakLiveBytes)}, peak committed ${formatSize(result.peakCommittedBytes)} (${(result.peakCommittedBytes / Math.max(1, result.peakLiveBytes)).toFixed(2)} of live)`,
  );
  say(
    `allocations: ${count(result.localAllocations)} local, ${count(result.remoteAllocations)} remote; frees from another node: ${count(result.remoteFrees)}`,
  );
  if (result.topologyChanges > 0) {
    say(
      `topology: ${count(result.topologyChanges)} changes (${count(result.topologyChanges / result.seconds)} a second), ${count(result.pagesMoved)} pages moved (${count(result.pagesMovedInUse)} in use), ${count(result.spansRebound)} spans rebound`,
    );
  }
  if (result.killed > 0) {
    say(
      `killed ${result.killed} workers in ${result.rounds} rounds: ${result.skippedEvents} events skipped, ${result.unaccountedBlocks} blocks unaccounted for`,
    );
  }
  if (result.latency) {
    const { samples, malloc, control, excess } = result.latency;
    say(
      `\n${count(samples)} allocations, ns:\n${table(
        ["", "p50", "p99.9", "max"],
        Object.entries({ malloc, "does nothing": control, excess }).map(([name, q]) => [name, count(q.p50), count(q.p999), count(q.max)]),
      )}`,
    );
  }
  for (const failure of result.failures) say(`FAILED  ${failure}`);
  for (const problem of result.walk === "ok" ? [] : result.walk) say(`WALK    ${problem}`);
  const kills = result.killed > 0 ? ` but for ${result.unaccountedBlocks} blocks of calls that were cut off` : "";
  say(
    passed(result)
      ? `heap walk ok: every block is in exactly one place, nothing overlapped, nothing was lost${kills}`
      : `NOT SOUND: ${result.failures.length} failures, ${result.walk === "ok" ? 0 : result.walk.length} problems of the walk, ${result.leakedBytes} bytes leaked`,
  );
}
