// The engines a round can run in. Each round has a process, or a page, of its own: where an engine puts compiled code in memory is worth
// nanoseconds to any loop, so a figure is the median over several placings.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const runner = fileURLToPath(new URL("./runner.mjs", import.meta.url));
const LONGEST_ERROR = 2000;

/** A command that runs a script; `npx` brings those that the npm registry has. */
function command(file, args, version) {
  const ask = () =>
    new Promise((resolve, reject) => {
      let said = "";
      const child = spawn(file, version, { stdio: ["ignore", "pipe", "ignore"] });
      child.stdout.on("data", (data) => (said += data));
      child.on("error", reject);
      child.on("exit", (code) =>
        code === 0
          ? resolve(said.trim().split("\n")[0])
          : reject(new Error(`${[file, ...version].join(" ")} ended with ${code}: is there such an engine, and a network?`)),
      );
    });
  const run = (url) => {
    const child = spawn(file, [...args, runner, url], { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (data) => (errors = (errors + data).slice(-LONGEST_ERROR)));
    const ended = new Promise((resolve) => child.on("close", (code) => resolve(code === 0 ? undefined : `exit status ${code}: ${errors}`)));
    return { ended, kill: () => child.kill("SIGKILL") };
  };
  return { version: ask, run };
}

const CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];

function chromium(path = process.env.CHROMIUM ?? "/usr/bin/chromium") {
  const launch = async () => {
    if (!existsSync(path)) throw new Error(`no Chromium at ${path}: install it, or set CHROMIUM to its path`);
    const { chromium: browser } = await import("playwright-core");
    return browser.launch({ executablePath: path, args: CHROMIUM_FLAGS });
  };
  return {
    async version() {
      const browser = await launch();
      const version = browser.version();
      await browser.close();
      return version;
    },
    run(url) {
      let end = () => {};
      const ended = new Promise((resolve) => (end = resolve));
      const browser = launch().then(async (browser) => {
        const page = await browser.newPage();
        page.on("pageerror", (error) => end(String(error)));
        await page.goto(url);
        return browser;
      });
      browser.catch((error) => end(String(error)));
      return { ended, kill: () => void browser.then((each) => each.close()).then(() => end(undefined)) };
    },
  };
}

const npx = (name, ...args) => command("npx", ["--yes", name, ...args], ["--yes", name, "--version"]);

const ENGINES = {
  node: () => ({ ...command(process.execPath, [], ["--version"]), name: "node" }),
  chromium: () => ({ ...chromium(), name: "chromium" }),
  deno: () => ({ ...npx("deno", "run", "--allow-all"), name: "deno" }),
  bun: () => ({ ...npx("bun", "run"), name: "bun" }),
};

/** @throws {RangeError} for a name that is none of them, node@N apart */
export function engineOf(name) {
  if (/^node@\d+$/.test(name)) return { ...npx(name), name };
  if (!Object.hasOwn(ENGINES, name))
    throw new RangeError(`--engine ${name}: must be node, node@N, ${Object.keys(ENGINES).slice(1).join(", ")}`);
  return ENGINES[name]();
}
