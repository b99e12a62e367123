#!/usr/bin/env node
// The numaheap command.

import { createRequire } from "node:module";
import { Command } from "commander";
import { complaining } from "./output.js";
import { replayCommand } from "./replay.js";
import { scenarioCommand } from "./scenario.js";
import { topologyCommand } from "./topology.js";

// Whoever reads our output may stop early, as head does: nobody is left to tell anything.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit(1);
  });
}

const { version, description } = createRequire(import.meta.url)("../../package.json") as { version: string; description: string };
const program = complaining(new Command("numaheap"))
  .description(description)
  .version(version)
  .addCommand(replayCommand())
  .addCommand(topologyCommand())
  .addCommand(scenarioCommand());
await program.parseAsync();
