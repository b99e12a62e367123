// Scenarios and the traces of their loads, as they are found: by a name that is built in, or by a path. Whatever stands there is read no
// further than a scenario or a trace can reach, and a pipe, which may never end, is not read at all.

import { constants } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readTrace } from "../trace/file.js";
import type { Trace } from "../trace/format.js";
import { ScenarioError } from "./errors.js";
import { namedScenarios } from "./named.js";
import { type Overrides, parseScenario, type Scenario } from "./parse.js";
import { LIMITS } from "./schema.js";

/** Folder of the traces that come along: the repository's, or those of the package. */
const TRACES = fileURLToPath(new URL("../../bench/traces/", import.meta.url));
const SUFFIX = ".trace.gz";

/** A scenario, and what paths in it start from. */
export interface FoundScenario {
  readonly scenario: Scenario;
  readonly folder: string;
}

/**
 * The scenario of that name, or else of that file.
 * @throws {ScenarioError}
 */
export async function findScenario(nameOrPath: string, overrides: Overrides = {}): Promise<FoundScenario> {
  if (Object.hasOwn(namedScenarios, nameOrPath)) {
    return { scenario: parseScenario({ ...namedScenarios[nameOrPath]!, name: nameOrPath }, overrides), folder: "." };
  }
  const value = jsonOf(await readText(nameOrPath));
  return { scenario: parseScenario(value, overrides), folder: dirname(nameOrPath) };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new ScenarioError("NUMAHEAP_SCENARIO_JSON", "", `not JSON: ${(cause as Error).message}`, { cause });
  }
}

async function readText(path: string): Promise<string> {
  const fail = (cause: NodeJS.ErrnoException): never => {
    const missing = `neither a file nor one of ${Object.keys(namedScenarios).join(", ")}`;
    if (cause.code === "ENOENT") throw new ScenarioError("NUMAHEAP_SCENARIO_UNKNOWN", "", missing, { cause });
    throw new ScenarioError("NUMAHEAP_SCENARIO_FILE", "", cause.message, { cause });
  };
  // Without O_NONBLOCK a pipe would have us wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(fail);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new ScenarioError("NUMAHEAP_SCENARIO_FILE", "", "this is no file");
    const bytes = new Uint8Array(LIMITS.fileBytes + 1);
    let length = 0;
    for (let read = 1; read > 0 && length < bytes.length; length += read) ({ bytesRead: read } = await file.read(bytes, length));
    if (length > LIMITS.fileBytes)
      throw new ScenarioError("NUMAHEAP_SCENARIO_TOO_LARGE", "", `a scenario has at most ${LIMITS.fileBytes} bytes`);
    return new TextDecoder().decode(bytes.subarray(0, length));
  } finally {
    await file.close();
  }
}

/** Names of the traces that come along. */
async function bundledTraces(): Promise<string[]> {
  const files = await readdir(TRACES).catch(() => []);
  return files.filter((file) => file.endsWith(SUFFIX)).map((file) => file.slice(0, -SUFFIX.length));
}

/**
 * The trace of a load: one that comes along, by its name, or a file.
 * @param folder what paths start from
 * @throws {ScenarioError} NUMAHEAP_SCENARIO_TRACE
 * @throws {TraceError} for a damaged one
 */
export async function findTrace(nameOrPath: string, folder: string): Promise<Trace> {
  const bundled = await bundledTraces();
  const path = bundled.includes(nameOrPath) ? resolve(TRACES, nameOrPath + SUFFIX) : resolve(folder, nameOrPath);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) {
    const message = `${nameOrPath} is neither a file nor one of ${bundled.join(", ")}`;
    throw new ScenarioError("NUMAHEAP_SCENARIO_TRACE", "load.trace", message);
  }
  return readTrace(path);
}
