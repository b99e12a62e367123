// What is printed after a scenario: each event with who was told when, what the heap did, the tables, and the end.

import { formatSize } from "../topology/size.js";
import { type EventReport, mapsAreTrue, type Heard, type MapCheck, type Maps, type ScenarioResult, type Told } from "../scenario/result.js";
import { printable } from "./output.js";
import { milliseconds, sayEvent, sayOutcome, seconds, several, shareOf } from "./scenario-words.js";
import { count, nodeTable, table, workerTable } from "./tables.js";

const SYSTEMS = { xen: "Xen", kvm: "KVM", linux: "Linux", freebsd: "FreeBSD" } as const;
const INDENT = " ".repeat(10);

function sayTold({ deliveries, changes, knownMs, delayMs, handlerInvocations }: Told, [from, to]: readonly [number, number]): string {
  if (knownMs === null) return "told of no change";
  const by = Object.entries(deliveries).map(([what, times]) => `${what} ${count(times)} times`.replace(/ 1 times$/, ""));
  const delay = delayMs ? `, ${milliseconds(delayMs.median)} after the change (median; at most ${milliseconds(delayMs.max)})` : "";
  const handled = `topologyChangeHdlr invoked ${several(handlerInvocations, "time")}, epoch ${from} to ${to}`;
  return `told of ${several(changes, "change")} by ${by.join(", ")}; knew all after ${milliseconds(knownMs)}${delay}; ${handled}`;
}

function sayHeard({ thread, events, firstMs, lastMs }: Heard): string {
  if (firstMs === null || lastMs === null) return `${thread}: nothing`;
  const when = events === 1 ? `after ${milliseconds(firstMs)}` : `after ${milliseconds(firstMs)} to ${milliseconds(lastMs)}`;
  return `${thread}: ${several(events, "event")} ${when}`;
}

function sayReport({ event, beganMs, ms, outcome, error, told, heard, epochs, heap, locality }: EventReport): string[] {
  const late = beganMs - event.at > 100 ? ` (meant for ${seconds(event.at)})` : "";
  const [before, after] = epochs.heap;
  const lines = [
    `${seconds(beganMs).padStart(8)}  ${sayEvent(event)}${late}: ${outcome ? sayOutcome(outcome) : printable(`FAILED: ${error}`)}; ${milliseconds(ms)} in all`,
    `${INDENT}guest    ${sayTold(told, epochs.guest)}`,
  ];
  if (heard.some(({ events }) => events > 0)) {
    lines.push(`${INDENT}threads  told by topologychange: ${heard.map(sayHeard).join("; ")}; heap epoch ${before} to ${after}`);
  }
  lines.push(
    `${INDENT}heap     ${several(heap.spansRebound, "span")} rebound, ${several(heap.pagesMoved, "page")} moved (${count(heap.pagesMovedInUse)} in use); ` +
      `allocations local: ${shareOf(locality.before)} before, ${shareOf(locality.during)} meanwhile, ${shareOf(locality.after)} afterwards`,
  );
  if (outcome?.kind === "live-migration") {
    const rows = outcome.rounds.map(({ round, frames, bytes, ms: took }, i) => [
      i === outcome.rounds.length - 1 ? `round ${round}, standing still` : `round ${round}`,
      count(frames),
      formatSize(bytes),
      milliseconds(took),
    ]);
    const rounds = table(["", "frames", "bytes", "time"], rows).trimEnd().split("\n");
    lines.push(...rounds.map((line) => INDENT + line.trimEnd()));
  }
  return lines;
}

function sayLoad({ replay, workerSeconds, heapNodes }: ScenarioResult): string[] {
  if (!replay) return [];
  const lines = [nodeTable(heapNodes), workerTable(replay.eventsPerWorker, workerSeconds)];
  lines.push(
    `${replay.trace}: ${count(replay.events)} events in ${several(replay.rounds, "round")}, ${replay.seconds.toFixed(2)} s on ${replay.threads} workers: ${count(replay.opsPerSecond)} a second`,
    `peak live ${formatSize(replay.peakLiveBytes)}, peak committed ${formatSize(replay.peakCommittedBytes)}`,
    `allocations: ${count(replay.localAllocations)} local, ${count(replay.remoteAllocations)} remote (${shareOf({ local: replay.localAllocations, remote: replay.remoteAllocations })} local); frees from another node: ${count(replay.remoteFrees)}`,
    `heap: ${several(replay.spansRebound, "span")} rebound, ${several(replay.pagesMoved, "page")} moved (${count(replay.pagesMovedInUse)} in use)`,
  );
  return lines;
}

const wrongOf = ({ vcpusWrong, vcpus, framesWrong, frames }: MapCheck): string =>
  `${vcpusWrong} of ${several(vcpus, "vCPU")} and ${count(framesWrong)} of ${several(frames, "frame")}`;

function sayMaps({ mode, follows }: ScenarioResult, maps: Maps): string[] {
  const { guest, heap, examples } = maps;
  if (mapsAreTrue(maps)) {
    const told = follows ? "" : `, though in mode ${mode} nobody tells them`;
    return [
      `maps equal the hypervisor's truth${told}: ${several(guest.vcpus, "vCPU")}, ${several(guest.frames, "frame")}, ${count(heap.frames)} of them the heap's`,
    ];
  }
  const who = follows ? "MAPS    " : `the price of not following (mode ${mode}): `;
  return [
    `${who}the guest is wrong about ${wrongOf(guest)}, the heap about ${wrongOf(heap)}`,
    ...examples.map((words) => `${INDENT}${words}`),
  ];
}

function sayEnd(result: ScenarioResult): string[] {
  const { replay, maps, walk, problems, failures, events, ok } = result;
  const undone = events.filter(({ error }) => error !== null);
  const lines = [
    ...(maps ? sayMaps(result, maps) : []),
    ...undone.map(({ event, error }) => `FAILED  ${sayEvent(event)}: ${error}`),
    ...[...failures, ...(replay?.failures ?? [])].map((failure) => `FAILED  ${failure}`),
    ...problems.map((problem) => `KERNEL  ${problem}`),
    ...[...(replay && replay.walk !== "ok" ? replay.walk : []), ...(walk === "ok" ? [] : walk)].map((problem) => `WALK    ${problem}`),
  ];
  if (ok) lines.push("heap walk ok: every block is in exactly one place, nothing overlapped, nothing was lost");
  else lines.push("NOT SOUND: see above");
  return lines.map(printable);
}

/** Tells all of it. */
export function printScenario(stream: NodeJS.WritableStream, result: ScenarioResult): void {
  const { scenario, description, hypervisor, guest, mode, seed, nodes, vm, load, platform, events } = result;
  const say = (...lines: string[]): void => lines.forEach((line) => stream.write(`${line}\n`));
  say(
    printable(description === "" ? scenario : `${scenario}: ${description}`),
    printable(
      `${SYSTEMS[hypervisor]} on ${several(nodes, "node")}; a guest of ${SYSTEMS[guest]}, mode ${mode}, ${several(vm.vcpus, "vCPU")}, ${formatSize(vm.memory)}; ` +
        `${load.trace} on ${several(load.threads, "worker")}; seed ${seed}`,
    ),
    "nodes are simulated: counts of allocations are exact, times are this machine's wall clock",
  );
  if (platform) {
    say(
      "",
      `${SYSTEMS[hypervisor]}: memory is populated ${platform.populated}`,
      `${INDENT}batched       ${platform.batched}`,
      `${INDENT}acknowledged  ${platform.acknowledged}`,
      `${INDENT}seen          ${platform.seen}`,
    );
  }
  if (events.length > 0) say("", ...events.flatMap(sayReport), "");
  say(...sayLoad(result), ...sayEnd(result));
}
