#!/usr/bin/env node
// The numaheap command.

import { Command } from "commander";
import { addReplay } from "./replay.js";

const program = new Command("numaheap")
  .description("A NUMA-aware heap for WebAssembly and JavaScript threads, at work")
  .showHelpAfterError("(run with --help for the options)");
addReplay(program);
await program.parseAsync();
