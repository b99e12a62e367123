// What a developer's script is asked for: options of the kinds of their defaults, and positionals. `--help` is the comment it begins with.
import { closeSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";

/** Ends the process with a line instead of a stack trace, for what was asked for and cannot be had. An error without a code is a defect: thrown. */
export function fail(reason) {
  if (reason instanceof Error && !reason.code) throw reason;
  process.stderr.write(`${basename(process.argv[1])}: ${reason.message ?? reason}\n`);
  process.exit(1);
}

/** Ends the process so unless the file can be written: to be asked before the work whose result it is to keep. Leaves all as it was. */
export function assertWritable(path) {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    // A pipe's reader would take the attempt for the end.
    if (found && !found.isFile() && !found.isDirectory()) return;
    closeSync(openSync(path, "a"));
    if (!found) rmSync(path);
  } catch (error) {
    fail(error);
  }
}

const refuse = (reason) => fail(`${reason}; --help names what can be chosen`);

/**
 * Options and positionals of the script at `url`, and what it passes on: { values, positionals, passed }.
 * @param defaults by name: a whole number, a list of such, a string (undefined: none unless given), or false
 * @param counts names of numbers that are at least 1; all others are at least 0
 * @param positionals most of them
 * @param passes whether all behind `--` is for somebody else
 */
export function argumentsOf(url, defaults, { counts = [], positionals: most = 0, passes = false } = {}) {
  const all = process.argv.slice(2);
  const end = passes && all.includes("--") ? all.indexOf("--") : all.length;
  const args = all.slice(0, end);
  if (args.includes("--help") || args.includes("-h")) {
    const [comment] = /^(?:\/\/.*\n)+/.exec(readFileSync(new URL(url), "utf8"));
    process.stdout.write(comment.replace(/^\/\/ ?/gm, ""));
    process.exit(0);
  }
  const { values: texts, positionals } = parsed(args, defaults);
  if (positionals.length > most) refuse(`Unexpected argument ${JSON.stringify(positionals[most])}`);
  const values = { ...defaults };
  for (const [name, text] of Object.entries(texts)) {
    const whole = (digits) => wholeNumber(name, digits, counts.includes(name) ? 1 : 0);
    if (Array.isArray(defaults[name])) values[name] = text.split(",").map(whole);
    else values[name] = typeof defaults[name] === "number" ? whole(text) : text;
  }
  return { values, positionals, passed: all.slice(end + 1) };
}

function parsed(args, defaults) {
  const kinds = Object.entries(defaults).map(([name, value]) => [name, { type: value === false ? "boolean" : "string" }]);
  try {
    return parseArgs({ args, options: Object.fromEntries(kinds), allowPositionals: true });
  } catch (error) {
    if (!error.code?.startsWith("ERR_PARSE_ARGS_")) throw error;
    // Node's further sentences and lines are advice.
    return refuse(error.message.split(/\.\s|\n/)[0]);
  }
}

function wholeNumber(name, text, least) {
  const number = Number(text);
  // Number reads a whole number in "1e9", as is wanted, and in "".
  if (!text.trim() || !Number.isSafeInteger(number) || number < least)
    refuse(`--${name} is a whole number from ${least} on, not ${JSON.stringify(text)}`);
  return number;
}
