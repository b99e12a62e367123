// What developers' scripts say to --help is the comment they begin with: all that can be chosen stands in it.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const SCRIPTS = [
  ...["adaptation", "churn", "footprint", "hit-path", "latency", "replay-all", "soak"].map((name) => `bench/${name}.mjs`),
  ...["crash/run", "interleave/run", "interleave/mutants"].map((name) => `test/${name}.mjs`),
];
/** What a script asks of itself, in a process of its own. */
const INTERNAL = ["sample"];

test.each(SCRIPTS)("%s --help", async (name) => {
  const script = fileURLToPath(new URL(`../../${name}`, import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, "--help"]);
  expect(stdout).toContain(`node ${name}`);
  const options = [...readFileSync(script, "utf8").matchAll(/"?([\w-]+)"?: \{ type: "(?:string|boolean)"/g)].map(
    ([, option]) => option ?? "",
  );
  for (const option of options) if (!INTERNAL.includes(option)) expect(stdout).toContain(`--${option}`);
});
