// Events of a scenario, and what came of them, in words.

import type { Locality } from "../scenario/load.js";
import type { Outcome } from "../scenario/result.js";
import type { ScenarioEvent } from "../scenario/schema.js";
import { formatSize } from "../topology/size.js";

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** "1 page", "1,234 pages". */
export const several = (count: number, what: string): string => `${count.toLocaleString("en-US")} ${what}${count === 1 ? "" : "s"}`;

/** Share of allocations that were local; a dash where there were none. */
export function shareOf({ local, remote }: Locality): string {
  return local + remote === 0 ? "-" : percent(local / (local + remote));
}

/** What is to happen. */
export function sayEvent(event: ScenarioEvent): string {
  switch (event.do) {
    case "migrate-vcpu":
      return `vCPU ${event.vcpu} to ${event.toNode === undefined ? `pCPU ${event.toCpu}` : `node ${event.toNode}`}`;
    case "migrate-pages":
      return event.share === undefined
        ? `${formatSize(event.bytes!)} from ${formatSize(event.start!)} on to node ${event.toNode}`
        : `${percent(event.share)} of each 2 MiB to node ${event.toNode}`;
    case "balloon":
      return `memory to be ${formatSize(event.target)}`;
    case "balance":
      return "load balancer";
    case "placement":
      return `placement ${event.policy}`;
    case "advise":
      return `advice: ${formatSize(event.bytes)} from ${formatSize(event.start)} on to node ${event.toNode}`;
    case "migrate-live":
      return "live migration";
    case "storm":
      return `storm of ${event.perSecond} changes a second for ${seconds(event.for)}`;
  }
}

/** What came of it. */
export function sayOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case "vcpu":
      return outcome.move === null ? "it runs there already" : sayMove(outcome.move);
    case "pages": {
      const { moved, spilled, refused } = outcome;
      return `${several(moved, "frame")} there, ${spilled} nearer on another node, ${refused} not moved (no room, or in the balloon)`;
    }
    case "balloon":
      return outcome.bytes === outcome.wanted ? "done" : `${formatSize(outcome.bytes)} is as far as it came`;
    case "balance":
      return outcome.moves.length === 0 ? "nothing moved" : outcome.moves.map((move) => `vCPU ${move.vcpu} ${sayMove(move)}`).join(", ");
    case "placement":
      return "chosen";
    case "advice":
      return `${formatSize(outcome.bytes)} of ${formatSize(outcome.advised)} there`;
    case "live-migration": {
      const { rounds, bytes, pauseMs, fromNodes, toNodes } = outcome;
      return `from ${fromNodes} nodes to ${toNodes} in ${several(rounds.length, "round")} of ${formatSize(bytes)} in all; stood still for ${milliseconds(pauseMs)}`;
    }
    case "storm": {
      const { made, asked, vcpus, ranges, targets, seed } = outcome;
      return `${made} of ${asked} changes: ${several(vcpus, "vCPU move")}, ${several(ranges, "page range")}, ${several(targets, "balloon target")} (seed ${seed})`;
    }
  }
}

const sayMove = ({ fromNode, toNode, fromCpu, toCpu }: { fromNode: number; toNode: number; fromCpu: number; toCpu: number }): string =>
  `from node ${fromNode} to ${toNode} (pCPU ${fromCpu} to ${toCpu})`;
