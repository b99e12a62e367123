// The benchmark's command line: what can be said before anything is measured.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const script = fileURLToPath(new URL("../../bench/index.mjs", import.meta.url));
const bench = (...args: string[]) => promisify(execFile)(process.execPath, [script, ...args]);

test("--help names what can be chosen", async () => {
  const { stdout } = await bench("--help");
  for (const option of ["--quick", "--only", "--engine", "--rounds", "--compare", "--out", "--json"]) expect(stdout).toContain(option);
});

test.each([
  [["--only", "a1,zz9"], /zz9.*a1 a2/s],
  [["--engine", "netscape"], /netscape.*chromium/s],
  [["--rounds", "0"], /rounds/],
  [["--colour"], /--colour/],
])("%j ends with a reason on stderr, and nothing on stdout", async (args, reason) => {
  await expect(bench(...args)).rejects.toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(reason) });
});
