// `--help` of a developer's script is the comment it begins with.
import { readFileSync } from "node:fs";

/** Prints the first comment of the script at `url` and ends the process, if that was asked for. */
export function answerHelp(url) {
  if (!process.argv.some((argument) => argument === "--help" || argument === "-h")) return;
  const [comment] = /^(?:\/\/.*\n)+/.exec(readFileSync(new URL(url), "utf8"));
  process.stdout.write(comment.replace(/^\/\/ ?/gm, ""));
  process.exit(0);
}
