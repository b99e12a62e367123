// numaheap scenario: boots a virtual machine, has timed events happen to it under load, and says who was told what and when, and whether
// everybody knows the truth in the end.

import { Command, Option } from "commander";
import { BOOT_MODES } from "../hypervisor/modes.js";
import { formatSize } from "../topology/size.js";
import { ScenarioError } from "../scenario/errors.js";
import { findScenario } from "../scenario/file.js";
import { namedScenarios } from "../scenario/named.js";
import type { Overrides } from "../scenario/parse.js";
import { type ScenarioResult, wordsOf } from "../scenario/result.js";
import { runScenario, type Watcher } from "../scenario/run.js";
import { integer } from "./integer.js";
import { complaining, printable } from "./output.js";
import { LiveLine } from "./progress.js";
import { printScenario } from "./scenario-report.js";
import { milliseconds, percent, sayEvent, sayOutcome, seconds, several } from "./scenario-words.js";

interface Flags extends Overrides {
  list?: boolean;
  json?: boolean;
}

/** Threads that hang do not keep the command from ending, so many milliseconds after it has said so. */
const LAST_WORD_MS = 5000;

function list(json: boolean): string {
  const named = Object.entries(namedScenarios).map(([name, { description = "" }]) => ({ name, description }));
  if (json) return `${JSON.stringify({ scenarios: named })}\n`;
  return named.map(({ name, description }) => `${name.padEnd(16)} ${description}\n`).join("");
}

/** Shows live what happens, on stderr. */
function watcherOn(line: LiveLine): Watcher {
  let now = "";
  let hasFailed = false;
  return {
    onStep: (words) => line.say(`${words} ...`),
    onBegin: (event) => (now = `${sayEvent(event)}, `),
    onEnd: (event, outcome, error, ms) => {
      now = "";
      const result = outcome ? sayOutcome(outcome) : printable(`FAILED: ${error}`);
      line.say(`${sayEvent(event)}: ${result} (${milliseconds(ms)})`);
    },
    onProgress: ({ ms, round, share, liveBytes, committedBytes, local, eventsOver, events, failures, failure }) => {
      if (failure !== undefined && !hasFailed) line.say(printable(`the load fails: ${failure}`));
      hasFailed ||= failure !== undefined;
      const failed = failures > 0 ? `${several(failures, "failure")}, ` : "";
      const state = `${now}${failed}${percent(local)} of allocations local, live ${formatSize(liveBytes)}, committed ${formatSize(committedBytes)}`;
      const where = `round ${round + 1}, ${eventsOver} of ${several(events, "event")} over`;
      line.show(
        share,
        (bar) => `${seconds(ms)} ${where} ${bar} ${state}`,
        () => `${seconds(ms)}: ${where}, ${Math.floor(share * 100)} %, ${state}`,
      );
    },
  };
}

async function play(nameOrPath: string, overrides: Overrides): Promise<ScenarioResult> {
  const line = new LiveLine(process.stderr);
  try {
    return await runScenario(await findScenario(nameOrPath, overrides), watcherOn(line));
  } finally {
    line.end();
  }
}

async function run(nameOrPath: string, { json = false, ...overrides }: Omit<Flags, "list">): Promise<void> {
  process.exitCode = 1;
  try {
    const result = await play(nameOrPath, overrides);
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
    printScenario(json ? process.stderr : process.stdout, result);
    process.exitCode = result.ok ? 0 : 1;
  } catch (error) {
    if (!(error instanceof ScenarioError)) throw error;
    const words = wordsOf(error);
    process.stderr.write(`${printable(`numaheap: ${nameOrPath}: ${words}`)}\n`);
    if (json) process.stdout.write(`${JSON.stringify({ scenario: nameOrPath, failures: [words], ok: false })}\n`);
  }
  setTimeout(() => process.exit(), LAST_WORD_MS).unref();
}

export function scenarioCommand(): Command {
  return complaining(new Command("scenario"))
    .description(
      "Boot a virtual machine on a model of a NUMA host and let things happen to it at given times (vCPUs and pages move, memory is ballooned, the whole machine goes to another host) while worker threads replay a real program's allocations in it.",
    )
    .argument("[scenario]", "a JSON file, or one of those that --list names")
    .addOption(new Option("--list", "name the scenarios that are built in").conflicts(["hypervisor", "guest", "mode", "seed"]))
    .addOption(new Option("--hypervisor <name>", "whose ways the hypervisor has").choices(["xen", "kvm"]))
    .addOption(new Option("--guest <name>", "whose ways the guest's kernel has").choices(["linux", "freebsd"]))
    .addOption(
      new Option("--mode <mode>", "how the machine is booted; in all but adaptive the guest is not told of changes").choices(BOOT_MODES),
    )
    .addOption(new Option("--seed <n>", "seed of storms").argParser(integer(0, 0xffff_ffff)))
    .option("--json", "one line of JSON on stdout, all else on stderr")
    .addHelpText(
      "after",
      `
What is not given is as the scenario has it: xen, linux, adaptive and 1 where it says nothing.
Nodes are simulated. Counts of allocations by node are exact; times are wall-clock times of this machine.

Exit status: 0 if every event could be done, no block was damaged or lost, the heap's walk is ok, and the maps of guest and heap
are the hypervisor's truth (in mode adaptive; in others the differences are told); 1 otherwise.
Example: numaheap scenario live-migration --hypervisor kvm --guest freebsd`,
    )
    .action(async (scenario: string | undefined, flags: Flags, command: Command) => {
      const { list: listed, ...rest } = flags;
      if (listed) {
        if (scenario !== undefined) command.error("error: --list takes no scenario");
        process.stdout.write(list(rest.json ?? false));
      } else if (scenario === undefined) command.error("error: missing required argument 'scenario': a file, or a name of --list");
      else await run(scenario, rest);
    });
}
