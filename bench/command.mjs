// Runs `numaheap replay --json` and gives back what it printed.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const command = `${root}dist/cli/index.js`;

/** All traces of bench/traces, by name; or only those asked for. */
export function traces(names) {
  const all = readdirSync(`${root}bench/traces`)
    .filter((file) => file.endsWith(".trace.gz"))
    .map((file) => file.replace(".trace.gz", ""));
  const missing = names.filter((name) => !all.includes(name));
  if (missing.length) throw new Error(`no such trace in bench/traces: ${missing.join(", ")}`);
  return names.length ? names : all;
}

/** Result of one replay in a process of its own; `passed` tells its exit status. */
export function replay(trace, flags) {
  const args = [command, "replay", `${root}bench/traces/${trace}.trace.gz`, "--json", ...flags];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    child.on("error", reject);
    child.on("close", (status) => {
      try {
        resolve({ ...JSON.parse(out), passed: status === 0 });
      } catch {
        reject(new Error(`numaheap replay ${trace} ${flags.join(" ")} ended with ${status}:\n${err}`));
      }
    });
  });
}

export const geometricMean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
