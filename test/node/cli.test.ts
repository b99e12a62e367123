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
