// What developers' scripts say to --help is the comment they begin with: all that can be chosen stands in it. What cannot be had ends in one line.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const SCRIPTS = [
  ...["adaptation", "churn", "footprint", "hit-path", "latency", "replay-all", "soak"].map((name) => `bench/${name}.mjs`),
  ...["browser", "crash/run", "interleave/run", "interleave/mutants", "interleave/selftest"].map((name) => `test/${name}.mjs`),
];
/** What a script asks of itself, in a process of its own. */
const INTERNAL = ["sample"];

const pathOf = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const run = (name: string, ...args: string[]) => promisify(execFile)(process.execPath, [pathOf(name), ...args]);

async function expectOneLine(name: string, args: readonly string[], reason: string): Promise<void> {
  const { code, stdout, stderr } = await run(name, ...args).then(
    (output) => ({ code: 0, ...output }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toMatch(/^.+\n$/);
  expect(stderr).toContain(`${basename(name)}: `);
  expect(stderr).toContain(reason);
}

test.each(SCRIPTS)("%s names all its options, and no others, to --help; another ends in one line", async (name) => {
  const [{ stdout }] = await Promise.all([run(name, "--help"), expectOneLine(name, ["--nonsense"], "'--nonsense'; --help names")]);
  expect(stdout).toContain(`node ${name}`);
  const [, defaults = ""] = /argumentsOf\(\s*import\.meta\.url,\s*\{([^}]*)\}/.exec(readFileSync(pathOf(name), "utf8")) ?? [];
  const options = [...defaults.matchAll(/(?:^|,)\s*"?([\w-]+)"?:/gm)].map(([, option = ""]) => option);
  const named = [...stdout.matchAll(/--([a-z][\w-]*)/g)].map(([, option]) => option);
  expect(new Set(named)).toEqual(new Set(options.filter((option) => !INTERNAL.includes(option))));
});

test.each([
  ["bench/hit-path.mjs", ["--rounds", "x"], '--rounds is a whole number from 1 on, not "x"'],
  ["bench/replay-all.mjs", ["--threads", "1,two"], '--threads is a whole number from 1 on, not "two"'],
  ["bench/replay-all.mjs", ["--nodes", "0"], 'not "0"'],
  ["bench/replay-all.mjs", ["--nodes", "Infinity"], 'not "Infinity"'],
  ["bench/replay-all.mjs", ["--nodes="], 'not ""'],
  ["bench/replay-all.mjs", ["--only"], "'--only <value>' argument missing"],
  ["bench/replay-all.mjs", ["redis"], 'argument "redis"'],
  // What stands behind -- is not for this script.
  ["bench/replay-all.mjs", ["--only", "nobody", "--", "--help"], 'no trace is called "nobody"'],
  ["test/browser.mjs", ["heap"], 'argument "heap"'],
  ["test/interleave/selftest.mjs", ["no such toy"], 'no toy is called "no such toy"'],
  ["bench/footprint.mjs", ["one.csv", "two.csv"], 'argument "two.csv"'],
  ["bench/footprint.mjs", ["no-such.csv"], "no-such.csv"],
  ["bench/footprint.mjs", ["LICENSE"], "LICENSE is no CSV of replay-all.mjs: it has no column trace, threads, nodes"],
  // Before hours of measuring, not behind them.
  ["bench/adaptation.mjs", ["--out", "no-such/x.json"], "no such file"],
  ["bench/churn.mjs", ["--operations", "1", "--out", "no-such/x.json"], "no such file"],
  ["bench/churn.mjs", ["--operations", "1", "--only", "pair", "--out", "LICENSE"], "LICENSE has no results to go on with: "],
  ["bench/churn.mjs", ["--operations", "1", "--only", "pair", "--out", "package.json"], "package.json has no results to go on with"],
  ["bench/hit-path.mjs", ["--rounds", "1", "--out", "no-such/x.json"], "no such file"],
  ["bench/latency.mjs", ["--rounds", "1", "--out", "no-such/x.json"], "no such file"],
  ["bench/soak.mjs", ["--changes", "1", "--out", "no-such/x.json"], "no such file"],
])("%s %j ends in one line", expectOneLine);
