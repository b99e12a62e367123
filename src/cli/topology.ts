// numaheap topology: shows a machine's nodes, and writes and reads the ACPI tables that say them.

import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Command, Option } from "commander";
import { AcpiError, type AcpiTable } from "../topology/acpi/errors.js";
import { type AcpiTopology, topologyFromAcpi, topologyToAcpi } from "../topology/acpi/tables.js";
import { formatTopology } from "../topology/format.js";
import { type PresetName, presets } from "../topology/presets.js";
import { memoryOfNode } from "../topology/queries.js";
import { formatRange } from "../topology/ranges.js";
import type { Topology } from "../topology/topology.js";
import { formatSize } from "../topology/size.js";
import { complaining, printable } from "./output.js";

interface Flags {
  list?: boolean;
  preset: PresetName;
  acpiOut?: string;
  acpiIn?: string;
  json?: boolean;
}

const DEFAULT_PRESET: PresetName = "2-socket";
const PRESET_NAMES = Object.keys(presets) as PresetName[];

const TABLES: readonly AcpiTable[] = ["SRAT", "SLIT"];
/** What a table may be called: as written here and by iasl, in /sys/firmware/acpi/tables, by acpidump. */
const fileNames = (table: AcpiTable): string[] => [`${table}.aml`, table, `${table.toLowerCase()}.dat`];
/** No table is as long: a SLIT of 1024 localities has 1 MiB. */
const MAX_TABLE_BYTES = 16 * 2 ** 20;

/** What is the matter, in words for the person at the shell. */
class Complaint extends Error {}

type Reasons = Readonly<Record<string, string>>;

const READING: Reasons = {
  ENOENT: "no such folder",
  ENOTDIR: "a part of this path is no folder",
  EACCES: "access denied; tables of the machine itself are for root",
};
/** Of all else the system says what cannot be done, and to which part of the path. */
const WRITING: Reasons = { ENOTDIR: "a part of this path is no folder", EEXIST: "this is no folder" };

function complaint(error: unknown, path: string, reasons: Reasons): Complaint {
  if (error instanceof Complaint) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const reason = reasons[code ?? ""] ?? (code?.startsWith("NUMAHEAP_") ? `${message} [${code}]` : message);
  return new Complaint(`${path}: ${reason}`, { cause: error });
}

interface TableFile {
  path: string;
  bytes: Uint8Array;
}

async function readTable(folder: string, table: AcpiTable): Promise<TableFile | undefined> {
  for (const name of fileNames(table)) {
    const path = join(folder, name);
    try {
      const found = await stat(path);
      if (!found.isFile() || found.size > MAX_TABLE_BYTES) throw new Complaint(`${path}: this is no file of a table`);
      return { path, bytes: await readFile(path) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw complaint(error, path, READING);
    }
  }
  return undefined;
}

/** The tables of a folder, and what is to be said of them. */
async function readTables(folder: string): Promise<{ said: AcpiTopology; notes: string[] }> {
  const files = { SRAT: await readTable(folder, "SRAT"), SLIT: await readTable(folder, "SLIT") };
  const { SRAT: srat, SLIT: slit } = files;
  if (!srat && !slit) {
    await stat(folder).catch((error: unknown) => Promise.reject(complaint(error, folder, READING)));
    const sought = TABLES.map((table) => `no ${table} (${fileNames(table).join(", ")})`);
    throw new Complaint(`${folder}: ${sought.join(" and ")} is here; --acpi-out writes them`);
  }
  try {
    const said = topologyFromAcpi({ srat: srat?.bytes, slit: slit?.bytes });
    const notes = [`from ${[srat?.path, slit?.path].filter(Boolean).join(" and ")}; CPUs go by their APIC ids`];
    if (!slit) notes.push("no SLIT: distances are what Linux takes then, 10 and 20");
    if (!srat) notes.push("no SRAT: nodes have neither CPUs nor memory, and Linux would not look at the SLIT");
    return { said, notes };
  } catch (error) {
    throw complaint(error, (error instanceof AcpiError && files[error.table]?.path) || folder, READING);
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** Makes a folder, and those above it that are missing. Node's own way (recursive) never ends where the system lets nobody make one: in /proc. */
async function makeFolder(path: string): Promise<void> {
  const above = dirname(path);
  try {
    await mkdir(path);
    return;
  } catch (error) {
    if (await isFolder(path)) return;
    const isMissingAbove = (error as NodeJS.ErrnoException).code === "ENOENT" && above !== path && !(await isFolder(above));
    if (!isMissingAbove) throw error;
  }
  await makeFolder(above);
  await makeFolder(path);
}

async function writeTables(folder: string, topology: Topology, hotplug: AcpiTopology["hotplug"]): Promise<string[]> {
  const written: string[] = [];
  try {
    const { srat, slit } = topologyToAcpi(topology, { hotplug });
    await makeFolder(folder).catch((error: unknown) => {
      const { code = "", message } = error as NodeJS.ErrnoException;
      throw new Complaint(`${folder}: ${WRITING[code] ?? `cannot be made: ${message}`}`, { cause: error });
    });
    for (const [name, bytes] of Object.entries({ "SRAT.aml": srat, "SLIT.aml": slit })) {
      const path = join(folder, name);
      await writeFile(path, bytes);
      written.push(path);
    }
  } catch (error) {
    throw complaint(error, folder, WRITING);
  }
  return written;
}

/** What numactl has no words for: domains that are not their nodes' numbers, memory to come, structures that were passed over. */
function formatExtras({ proximityDomains, hotplug, skipped }: AcpiTopology): string {
  const lines = [
    ...proximityDomains.map((domain, node) => (domain === node ? "" : `node ${node} is proximity domain ${domain}`)),
    ...hotplug.map((range) => `node ${range.node} hotplug: ${formatRange(range)}`),
    ...skipped.map(({ type, offset }) => `skipped: a structure of unknown type ${type} at byte ${offset} of the SRAT`),
  ].filter(Boolean);
  return lines.map((line) => `${line}\n`).join("");
}

function listPresets(json: boolean): string {
  const list = PRESET_NAMES.map((name) => {
    const { summary, topology } = presets[name];
    const { nodes } = topology;
    const cpus = nodes.reduce((sum, node) => sum + node.cpus.length, 0);
    return { name, summary, nodes: nodes.length, cpus, memory: nodes.reduce((sum, { id }) => sum + memoryOfNode(topology, id), 0) };
  });
  if (json) return `${JSON.stringify({ default: DEFAULT_PRESET, presets: list })}\n`;
  const lines = list.map(({ name, summary, nodes, cpus, memory }) => {
    const size = `${nodes} node${nodes === 1 ? "" : "s"}, ${cpus} CPUs, ${formatSize(memory)}`;
    return `${name.padEnd(16)} ${size.padEnd(28)} ${summary}${name === DEFAULT_PRESET ? " (default)" : ""}\n`;
  });
  return lines.join("");
}

async function show({ preset, acpiIn, acpiOut, json = false }: Flags, isDefault: boolean): Promise<string> {
  const read = acpiIn === undefined ? undefined : await readTables(acpiIn);
  const topology = read?.said.topology ?? presets[preset].topology;
  const written = acpiOut === undefined ? [] : await writeTables(acpiOut, topology, read?.said.hotplug ?? []);
  if (json) {
    const { proximityDomains, hotplug, skipped } = read?.said ?? {};
    const source = read ? { acpi: acpiIn } : { preset };
    return `${JSON.stringify({ ...source, ...topology, proximityDomains, hotplug, skipped, written })}\n`;
  }
  const notes = read?.notes ?? [
    `preset ${preset}${isDefault ? ", the default" : ""}: ${presets[preset].summary}. Not this machine; --list names all presets`,
  ];
  return [
    ...notes.map((note) => `${printable(note)}\n`),
    formatTopology(topology),
    read ? formatExtras(read.said) : "",
    ...written.map((path) => `wrote ${printable(path)}\n`),
  ].join("");
}

export function topologyCommand(): Command {
  return complaining(new Command("topology"))
    .description(
      "Show the NUMA nodes of a preset machine or of ACPI tables, as numactl --hardware does, and write them as ACPI tables (SRAT, SLIT).",
    )
    .addOption(new Option("--list", "name the presets").conflicts(["preset", "acpiIn", "acpiOut"]))
    .addOption(new Option("--preset <name>", "the machine to show").choices(PRESET_NAMES).default(DEFAULT_PRESET))
    .addOption(
      new Option("--acpi-in <dir>", "show what SRAT.aml and SLIT.aml of this folder say; either may be absent").conflicts("preset"),
    )
    .option("--acpi-out <dir>", "write SRAT.aml and SLIT.aml into this folder, which is made if need be")
    .option("--json", "one JSON object on stdout, and nothing else")
    .addHelpText(
      "after",
      `
A folder given to --acpi-in may also be /sys/firmware/acpi/tables or one acpidump -b has filled.
Nodes are numbered as Linux numbers them: in order of first appearance in the SRAT, CPUs before memory.

Exit status: 0, or 1 with the reason on stderr if a table is malformed or a file cannot be read or written.
Example: numaheap topology --preset 4-socket-ring --acpi-out tables && numaheap topology --acpi-in tables`,
    )
    .action(async (flags: Flags, command: Command) => {
      try {
        const isDefault = command.getOptionValueSource("preset") === "default";
        process.stdout.write(flags.list ? listPresets(flags.json ?? false) : await show(flags, isDefault));
      } catch (error) {
        if (!(error instanceof Complaint)) throw error;
        process.stderr.write(`${printable(`numaheap: ${error.message}`)}\n`);
        process.exitCode = 1;
      }
    });
}
