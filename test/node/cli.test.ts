// The numaheap command, as a shell sees it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { encodeTrace } from "../../src/trace/encode.js";
import { MALLOC } from "../../src/trace/format.js";

const command = fileURLToPath(new URL("../../dist/cli/index.js", import.meta.url));
const lua = fileURLToPath(new URL("../../bench/traces/lua-mix.trace.gz", import.meta.url));
const redis = fileURLToPath(new URL("../../bench/traces/redis.trace.gz", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "numaheap-"));

function put(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}
const small = put("small.gz", gzipSync(encodeTrace([{ op: MALLOC, thread: 0, object: 0, size: 9, alignment: 0 }], "small\u001b[31m")));

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [command, ...args]);
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close") as Promise<[number]>]);
  return { code, out, err };
}

test("a line of JSON for each trace, readable or not, and all else on stderr", async () => {
  const damaged = put("damaged.gz", gzipSync(Buffer.from("no trace")));
  const paths = [small, damaged, folder, join(folder, "none"), lua];
  const { code, out, err } = await run("replay", ...paths, "--threads", "2", "--json");
  expect(code).toBe(1);
  const results = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { trace: string; failures: string[]; walk: unknown });
  expect(results.map(({ failures, walk }) => [failures.length, walk])).toEqual([
    [0, "ok"],
    [1, []],
    [1, []],
    [1, []],
    [0, "ok"],
  ]);
  const keys = Object.keys(results[4]!);
  for (const result of results) expect(Object.keys(result)).toEqual(keys);
  expect(results[1]!.failures[0]).toMatch(/ALTRACE1.*NUMAHEAP_TRACE_MAGIC/);
  expect(err).toMatch(/this is a folder/);
  expect(err).toMatch(/no such file/);
});

test("the exit status is 0 where nothing failed, and the tables say so", async () => {
  const { code, out } = await run("replay", small, "--storm", "100");
  expect(code).toBe(0);
  expect(out).toMatch(/heap walk ok/);
  // A name is the recorder's: it must not reach the terminal as it is.
  expect(out).not.toMatch(/\u001b\[31m/);
});

test.each([
  [["--threads", "0"], /whole number from 1 to 128/],
  [["--nodes", "33"], /whole number from 1 to 32/],
  [["--max-memory", "12"], /from 64KiB to 4GiB/],
  [["--max-memory", "much"], /a size such as/],
  [["--kill", "-1"], /whole number/],
  [["--what"], /unknown option/],
])("%s is refused, and help is named", async (flags, words) => {
  const { code, out, err } = await run("replay", lua, ...flags);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(words);
  expect(err).toMatch(/--help/);
});

const hostile = "no\nfile\u001b[31m\u009b\u202e";

test.each([
  ["replay", [hostile]],
  ["replay", ["--threads", hostile, lua]],
  ["replay", [`--${hostile}`, lua]],
  ["topology", ["--acpi-in", join(folder, hostile)]],
  ["topology", ["--acpi-out", join(lua, hostile)]],
  ["topology", ["--preset", hostile]],
  ["topology", [`--${hostile}`]],
  ["topology", [hostile, hostile]],
  [hostile, []],
])("%j %j: no argument reaches the terminal as an order", async (name, flags) => {
  const { code, out, err } = await run(name, ...flags);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(/^(numaheap|error): .*\n(\(numaheap.* --help tells more\)\n)?$/);
  expect(err).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
});

test("what went well shows names of files so, too", async () => {
  const tables = join(folder, hostile);
  const { code, out } = await run("topology", "--acpi-out", tables);
  expect([code, out.match(/^wrote .*no\\nfile\\u\{1b\}\[31m.*SRAT\.aml$/m)?.length]).toEqual([0, 1]);
  const read = await run("topology", "--acpi-in", tables);
  expect([read.code, read.out.split("\n")[0]]).toEqual([0, expect.stringMatching(/^from .*no\\nfile.* and .*SLIT\.aml; CPUs/)]);
});

test.each([
  [[], /^Usage: numaheap \[/],
  [["replay"], /missing required argument 'trace'/],
  [["replay", "--json"], /missing required argument 'trace'/],
  [["replay", "--storms", "1", lua], /unknown option '--storms'\n\(Did you mean --storm\?\)\n/],
  [["replay", join(folder, "none")], /none: no such file/],
  [["replay", folder], /this is a folder/],
  [["topology", "--bar"], /unknown option '--bar'/],
  [["topology", "--acpi-in"], /argument missing/],
  [["topology", "--acpi-in", join(folder, "none")], /none: no such folder/],
  [["topology", "more"], /too many arguments/],
  [["reply"], /unknown command 'reply'\n\(Did you mean replay\?\)\n/],
])("%j fails with the reason on stderr, and nothing on stdout", async (args, words) => {
  const { code, out, err } = await run(...args);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(words);
});

test.each([["--help"], ["replay", "--help"], ["topology", "--help"], ["help", "replay"], ["--version"]])(
  "%s %s is on stdout",
  async (...args) => {
    const { code, out, err } = await run(...args);
    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(args.includes("--version") ? /^\d+\.\d+\.\d+\n$/ : /^Usage: numaheap/);
  },
);

test("a reader that stops early is no error to speak of", async () => {
  const child = spawn(process.execPath, [command, "replay", lua]);
  child.stdout.destroy();
  const [err] = await Promise.all([text(child.stderr), once(child, "close")]);
  expect(err).not.toMatch(/EPIPE|at /);
});

test("an interrupt ends a replay, which would go on for minutes", async () => {
  const child = spawn(process.execPath, [command, "replay", redis, "--kill", "1000"]);
  const closed = once(child, "close");
  await new Promise((resolve) => setTimeout(resolve, 2500));
  child.kill("SIGINT");
  const [code, signal] = (await closed) as [number | null, string | null];
  expect([code, signal]).not.toEqual([0, null]);
});
