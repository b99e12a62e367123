// numaheap topology, as a shell sees it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { encodeSrat } from "../../src/topology/acpi/srat.js";
import { topologyToAcpi } from "../../src/topology/acpi/tables.js";
import { presets } from "../../src/topology/presets.js";
import { parseTopology } from "../../src/topology/topology.js";
import { patched, tablesOf } from "../support/acpi.js";

const command = fileURLToPath(new URL("../../dist/cli/index.js", import.meta.url));
const fixtures = fileURLToPath(new URL("../fixtures/acpi", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "numaheap-topology-"));

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [command, "topology", ...args]);
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close") as Promise<[number]>]);
  return { code, out, err };
}

/** A folder with these files in it. */
function put(name: string, files: Record<string, Uint8Array>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(path, file), bytes);
  return path;
}

/** The one JSON object that stands on stdout. */
async function json(...args: string[]): Promise<Record<string, unknown>> {
  const { code, out, err } = await run(...args, "--json");
  expect([code, err, out.trimEnd().split("\n").length]).toEqual([0, "", 1]);
  return JSON.parse(out) as Record<string, unknown>;
}

test("without anything it shows a preset, says which, and that it is not this machine", async () => {
  const { code, out, err } = await run();
  expect([code, err]).toEqual([0, ""]);
  expect(out).toBe(
    [
      "preset 2-socket, the default: two sockets, one link. Not this machine; --list names all presets",
      "available: 2 nodes (0-1)",
      "node 0 cpus: 0 1 2 3",
      "node 0 size: 4096 MB",
      "node 1 cpus: 4 5 6 7",
      "node 1 size: 4096 MB",
      "node distances:",
      "node   0   1",
      "  0:  10  21",
      "  1:  21  10",
      "",
    ].join("\n"),
  );
});

test("--list names every preset with a word about it", async () => {
  const { code, out } = await run("--list");
  expect(code).toBe(0);
  const lines = out.trimEnd().split("\n");
  expect(lines.map((line) => line.split(" ")[0])).toEqual(Object.keys(presets));
  Object.values(presets).forEach(({ summary }, i) => expect(lines[i]).toContain(summary));
  expect(lines.filter((line) => line.endsWith("(default)"))).toEqual([expect.stringMatching(/^2-socket /)]);

  const listed = await json("--list");
  expect(listed["default"]).toBe("2-socket");
  expect((listed["presets"] as unknown[])[5]).toEqual({
    name: "memoryless-node",
    summary: presets["memoryless-node"].summary,
    nodes: 3,
    cpus: 12,
    memory: 8 * 2 ** 30,
  });
});

test("--json is a topology that can be read back", async () => {
  const shown = await json("--preset", "4-socket-ring");
  expect(shown).toMatchObject({ preset: "4-socket-ring", written: [] });
  expect(parseTopology(shown)).toEqual(presets["4-socket-ring"].topology);
});

test("--acpi-out makes the folder and writes both tables, --acpi-in shows what they say", async () => {
  const made = join(folder, "deep", "tables");
  const { code, out } = await run("--preset", "cpuless-node", "--acpi-out", made);
  expect(code).toBe(0);
  expect(out).toContain(`wrote ${join(made, "SRAT.aml")}\nwrote ${join(made, "SLIT.aml")}\n`);
  const { srat, slit } = topologyToAcpi(presets["cpuless-node"].topology);
  expect(new Uint8Array(readFileSync(join(made, "SRAT.aml")))).toEqual(srat);
  expect(new Uint8Array(readFileSync(join(made, "SLIT.aml")))).toEqual(slit);

  const shown = await run("--acpi-in", made);
  const direct = await run("--preset", "cpuless-node");
  expect(shown.out.split("\n").slice(1)).toEqual(direct.out.split("\n").slice(1));
  expect(shown.out.split("\n")[0]).toBe(`from ${join(made, "SRAT.aml")} and ${join(made, "SLIT.aml")}; CPUs go by their APIC ids`);
  const read = await json("--acpi-in", made, "--acpi-out", join(folder, "again"));
  expect(read).toMatchObject({ acpi: made, proximityDomains: [0, 1, 2], hotplug: [], skipped: [] });
  expect(read["written"]).toEqual([join(folder, "again", "SRAT.aml"), join(folder, "again", "SLIT.aml")]);
  expect(parseTopology(read)).toEqual(presets["cpuless-node"].topology);
});

test("either table may be absent, and it says what follows", async () => {
  const { srat, slit } = tablesOf("4node");
  const alone = await run("--acpi-in", put("srat-alone", { "SRAT.aml": srat }));
  expect(alone.code).toBe(0);
  expect(alone.out).toMatch(/no SLIT: distances are what Linux takes then, 10 and 20/);
  expect(alone.out).toMatch(/ {2}0: {2}10 {2}20 {2}20 {2}20\n/);
  const other = await run("--acpi-in", put("slit-alone", { "SLIT.aml": slit }));
  expect(other.code).toBe(0);
  expect(other.out).toMatch(/no SRAT: nodes have neither CPUs nor memory/);
  expect(other.out).toMatch(/ {2}0: {2}10 {2}16 {2}21 {2}31\n/);
});

test("tables may be called as the kernel and acpidump call them", async () => {
  for (const [name, sratName, slitName] of [
    ["sysfs", "SRAT", "SLIT"],
    ["acpidump", "srat.dat", "slit.dat"],
  ] as const) {
    const path = put(name, {});
    copyFileSync(join(fixtures, "8node.srat.dat"), join(path, sratName));
    copyFileSync(join(fixtures, "8node.slit.dat"), join(path, slitName));
    const { code, out } = await run("--acpi-in", path);
    expect(code).toBe(0);
    expect(out).toMatch(/available: 8 nodes \(0-7\)/);
    expect(out).toMatch(/ {2}7: {2}32 {2}32 {2}32 {2}32 {2}16 {2}16 {2}12 {2}10\n$/);
  }
});

test("what numactl has no words for is told: domains, memory to come, what was skipped; written tables keep the memory to come", async () => {
  const { srat, slit } = tablesOf("2node-hotplug");
  const plugged = put("hotplug", { "SRAT.aml": srat, "SLIT.aml": slit });
  expect((await run("--acpi-in", plugged)).out).toMatch(/node 1 hotplug: \[mem 0x100000000-0x2dfffffff\]\n$/);
  await run("--acpi-in", plugged, "--acpi-out", join(folder, "replugged"));
  expect((await json("--acpi-in", join(folder, "replugged")))["hotplug"]).toEqual([{ node: 1, start: 2 ** 32, end: 0x2_e000_0000 }]);

  const enabled = { enabled: true, hotPluggable: false, nonVolatile: false, specificPurpose: false };
  const odd = encodeSrat({
    entries: [
      { kind: "unknown", type: 5, body: new Uint8Array(30) },
      { kind: "memory", proximityDomain: 300, base: 0, length: 2 ** 20, ...enabled },
    ],
  });
  const { code, out } = await run("--acpi-in", put("odd", { "SRAT.aml": odd }));
  expect(code).toBe(0);
  expect(out).toMatch(/node 0 is proximity domain 300\nskipped: a structure of unknown type 5 at byte 48 of the SRAT\n$/);
});

test("malformed tables are refused: status 1, nothing on stdout, file, place and code on stderr", async () => {
  const { srat, slit } = tablesOf("2node");
  const wrong = srat.map((byte, at) => (at === 9 ? byte ^ 1 : byte));
  const cases: [string, Record<string, Uint8Array>, string[], RegExp][] = [
    ["sum", { "SRAT.aml": wrong, "SLIT.aml": slit }, [], /SRAT\.aml: SRAT: .+ \(checksum, at byte 9\) \[NUMAHEAP_ACPI_CHECKSUM\]/],
    [
      "diagonal",
      { "SRAT.aml": srat, "SLIT.aml": patched(slit, 44, 11) },
      ["--json"],
      /SLIT\.aml: SLIT: .+at byte 44\) \[NUMAHEAP_ACPI_DIAGONAL\]/,
    ],
    [
      "few",
      { "SRAT.aml": tablesOf("4node").srat, "SLIT.aml": slit },
      ["--acpi-out", join(folder, "few-out")],
      /SLIT\.aml: SLIT: 2 localities, and the SRAT has a proximity domain 3/,
    ],
    ["swapped", { "SRAT.aml": slit, "SLIT.aml": srat }, [], /SLIT\.aml: SLIT: .+NUMAHEAP_ACPI_SIGNATURE/],
    ["empty", { "SRAT.aml": new Uint8Array() }, [], /SRAT\.aml: .+NUMAHEAP_ACPI_TRUNCATED/],
  ];
  for (const [name, files, flags, words] of cases) {
    const path = put(name, files);
    const { code, out, err } = await run("--acpi-in", path, ...flags);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(words);
    expect(err.trimEnd().split("\n").length).toBe(1);
  }
  expect(existsSync(join(folder, "few-out"))).toBe(false);
});

test("folders that cannot serve are refused by name", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const nested = put("nested", {});
  mkdirSync(join(nested, "SRAT.aml"));
  const cases: [string[], RegExp][] = [
    [["--acpi-in", join(folder, "none")], /none: no such folder/],
    [
      ["--acpi-in", put("bare", {})],
      /bare: no SRAT \(SRAT\.aml, SRAT, srat\.dat\) and no SLIT \(SLIT\.aml, SLIT, slit\.dat\) is here; --acpi-out writes them/,
    ],
    [["--acpi-in", file], /no folder/],
    [["--acpi-in", nested], /SRAT\.aml: this is no file of a table/],
    [["--acpi-out", file], /file: this is no folder/],
    [["--acpi-out", join(file, "deeper")], /a part of this path is no folder/],
    // Where nobody can make one, though its own is there.
    ...(process.platform === "linux" ? ["/proc/numaheap", "/proc/numaheap/deeper"] : []).map((path): [string[], RegExp] => [
      ["--acpi-out", path],
      /(deeper|numaheap): cannot be made: ENOENT: [a-z ]+, mkdir '\/proc\/numaheap'\n$/,
    ]),
  ];
  for (const [flags, words] of cases) {
    const { code, out, err } = await run(...flags);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^numaheap: /);
    expect(err).toMatch(words);
    expect(err).not.toMatch(/\n {4}at /);
  }
});

test("what no SRAT can say is not written: a SLIT alone has no memory", async () => {
  const path = put("slit-only", { "SLIT.aml": tablesOf("2node").slit });
  const { code, out, err } = await run("--acpi-in", path, "--acpi-out", join(folder, "from-slit"));
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(/no memory is present at boot .+NUMAHEAP_ACPI_NO_MEMORY/);
});

test.each([
  [["--preset", "9-socket"], /Allowed choices are uma, 2-socket/],
  [["--preset", "uma", "--acpi-in", "x"], /cannot be used with/],
  [["--list", "--acpi-out", "x"], /cannot be used with/],
  [["--list", "--preset", "uma"], /cannot be used with/],
  [["2-socket"], /too many arguments/],
  [["--acpi-in"], /argument missing/],
])("%s is refused, and help is named", async (flags, words) => {
  const { code, out, err } = await run(...flags);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(words);
  expect(err).toMatch(/numaheap topology --help/);
});

test("--help tells every option, the exit status, and an example", async () => {
  const { code, out } = await run("--help");
  expect(code).toBe(0);
  for (const words of ["--list", "--preset", "--acpi-in", "--acpi-out", "--json", "Exit status", "Example: numaheap topology"])
    expect(out).toContain(words);
});
