// Text that others chose (names of files, of traces, arguments) on its way to a terminal, which would take some of it for orders.

import type { Command } from "commander";

/** Control characters, what reorders or hides text, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;
const SHORT: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** `text` with such characters as escapes, as JSON writes them; a line stays one line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (c) => SHORT[c] ?? `\\u{${c.codePointAt(0)!.toString(16)}}`);
}

/** A command whose complaints show arguments so, and name its help. */
export function complaining(command: Command): Command {
  const name = command.name() === "numaheap" ? "numaheap" : `numaheap ${command.name()}`;
  // A suggestion stands on a line of its own.
  const lines = (text: string): string =>
    text
      .trimEnd()
      .split(/\n(?=\(Did you mean )/)
      .map(printable)
      .join("\n");
  return command
    .configureOutput({ outputError: (text, write) => write(`${lines(text)}\n`) })
    .showHelpAfterError(`(${name} --help tells more)`);
}
