#!/usr/bin/env node
// The numaheap command.

import { createRequire } from "node:module";
import { Command } from "commander";
import { replayCommand } from "./replay.js";

const { version, description } = createRequire(import.meta.url)("../../package.json") as { version: string; description: string };
const program = new Command("numaheap")
  .description(description)
  .version(version)
  .showHelpAfterError("(numaheap --help tells more)")
  .addCommand(replayCommand());
await program.parseAsync();
