// numaheap replay: runs recorded allocation traces on worker threads over one heap, and says whether it is sound.

import { Command, InvalidArgumentError, Option } from "commander";
import { WASM_PAGE } from "../heap/exports.js";
import { readTrace } from "../trace/file.js";
import { DEFAULT_MAX_MEMORY, DEFAULT_NODES, DEFAULT_WORKERS, MAX_WORKERS, type ReplayOptions, replayTrace } from "../trace/replay.js";
import { notReplayed, passed, type ReplayResult } from "../trace/report.js";
import { integer } from "./integer.js";
import { complaining, printable } from "./output.js";
import { Progress } from "./progress.js";
import { parseSize } from "../topology/size.js";
import { printOutcome } from "./tables.js";

interface Flags {
  threads?: number;
  nodes: number;
  maxMemory: number;
  verify: boolean;
  storm: number;
  kill: number;
  seed: number;
  latency?: boolean;
  json?: boolean;
}

/** Smallest heap that can be made. */
const LEAST_MEMORY = WASM_PAGE;

function memorySize(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError("It must be a size such as 65536, 64MiB or 4G.");
  if (bytes < LEAST_MEMORY || bytes > 2 ** 32) throw new InvalidArgumentError("It must be from 64KiB to 4GiB.");
  return bytes;
}

/** What went wrong with a trace as a whole, in words for the person who named it. */
function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "no such file";
  if (code === "EISDIR") return "this is a folder; name the .trace.gz files in it";
  return code?.startsWith("NUMAHEAP_") ? `${message} [${code}]` : message;
}

/** Replays one trace and prints what came of it; whether it is sound. */
async function replayFile(path: string, flags: Flags): Promise<boolean> {
  const { threads, latency = false, ...rest } = flags;
  const progress = new Progress(process.stderr);
  const printJson = (result: ReplayResult): void => {
    if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  };
  const options: ReplayOptions = {
    ...rest,
    latency,
    onProgress: (state) => progress.showReplay({ ...state, trace: printable(state.trace) }),
  };
  if (threads !== undefined) options.threads = threads;
  try {
    const trace = await readTrace(path);
    const outcome = await replayTrace(trace, options);
    progress.end();
    printJson(outcome.result);
    printOutcome(flags.json ? process.stderr : process.stdout, trace, outcome, flags.seed);
    return passed(outcome.result);
  } catch (error) {
    progress.end();
    const reason = explain(error);
    process.stderr.write(`${printable(`numaheap: ${path}: ${reason}`)}\n`);
    printJson(notReplayed(path, threads ?? 0, flags.nodes, reason));
    return false;
  }
}

async function replayFiles(paths: string[], flags: Flags): Promise<void> {
  let sound = true;
  for (const path of paths) sound = (await replayFile(path, flags)) && sound;
  process.exitCode = sound ? 0 : 1;
}

export function replayCommand(): Command {
  return complaining(new Command("replay"))
    .description(
      "Replay recorded allocations (ALTRACE1 .trace.gz files) on worker threads over one heap, and prove that nothing overlapped and nothing was lost.",
    )
    .argument("<trace...>", "trace files")
    .addOption(
      new Option("--threads <n>", `workers (default: as many as the trace has threads, at most ${DEFAULT_WORKERS})`).argParser(
        integer(1, MAX_WORKERS),
      ),
    )
    .addOption(new Option("--nodes <n>", "NUMA nodes; worker w begins on node w mod n").argParser(integer(1, 32)).default(DEFAULT_NODES))
    .addOption(
      new Option("--max-memory <size>", "most the heap may claim, e.g. 64MiB")
        .argParser(memorySize)
        .default(DEFAULT_MAX_MEMORY, "4 GiB less a page"),
    )
    .option("--no-verify", "neither fill blocks with a pattern nor check it")
    .addOption(new Option("--storm <n>", "topology changes a second meanwhile").argParser(integer(0, 1_000_000)).default(0))
    .addOption(
      new Option("--kill <n>", "terminate and replace n workers; the trace repeats until all are done")
        .argParser(integer(0, 1_000_000))
        .default(0),
    )
    .addOption(new Option("--seed <n>", "seed of storm and kills").argParser(integer(0, 0xffff_ffff)).default(1))
    .option("--latency", "measure every allocation, and in turns a call that does nothing")
    .option("--json", "one line of JSON a trace on stdout, all else on stderr")
    .addHelpText(
      "after",
      "\nExit status: 0 if every trace was replayed and nothing failed, 1 otherwise.\nExample: numaheap replay node_modules/numaheap/bench/traces/node-workers.trace.gz --threads 4 --nodes 4 --storm 1000",
    )
    .action(replayFiles);
}
