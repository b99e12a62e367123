// Runs the browser tests where a Chromium is found; with CI=true it must be: `[CHROMIUM=PATH] node test/browser.mjs`.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { argumentsOf } from "../bench/arguments.mjs";

argumentsOf(import.meta.url, {});
const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";
if (existsSync(chromium)) {
  const args = ["vitest", "run", "--root", ".", "--config", "test/vitest.config.ts", "--project", "browser"];
  process.exit(spawnSync("npx", args, { stdio: "inherit" }).status ?? 1);
}
const message = `browser tests: no Chromium at ${chromium} (set CHROMIUM to the path of one)`;
if (process.env.CI === "true") {
  console.error(`${message}; CI requires it`);
  process.exit(1);
}
console.log(`SKIPPED ${message}`);
