// numaheap scenario, as a shell sees it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { namedScenarios } from "../../dist/scenario/named.js";
import type { ScenarioResult } from "../../dist/scenario/result.js";

const command = fileURLToPath(new URL("../../dist/cli/index.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "numaheap-scenario-"));

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [command, "scenario", ...args]);
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close") as Promise<[number]>]);
  return { code, out, err };
}

function put(name: string, scenario: object): string {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(scenario));
  return path;
}

const SMALL = {
  name: "small\u001b[31m",
  machine: { nodes: 2, memoryPerNode: "32MiB" },
  vm: { vcpus: 2, memory: "32MiB" },
  load: { trace: "lua-mix", listeners: 1 },
  events: [
    { at: 10, do: "migrate-vcpu", vcpu: 1, toNode: 0 },
    { at: 20, do: "migrate-pages", start: "8MiB", bytes: "4MiB", toNode: 1 },
  ],
};
const small = put("small.json", SMALL);

test("it says who was told what, what the heap did, and that all maps are true; progress goes to stderr", async () => {
  const { code, out, err } = await run(small, "--hypervisor", "kvm", "--guest", "freebsd");
  expect(code).toBe(0);
  for (const words of [
    /^KVM on 2 nodes; a guest of FreeBSD, mode adaptive, 2 vCPUs, 32\.0 MiB; lua-mix on 2 workers; seed 1$/m,
    /nodes are simulated: counts of allocations are exact, times are this machine's wall clock/,
    /batched {7}nothing: each change is an event/,
    /acknowledged {2}by returning the event's buffer/,
    /vCPU 1 to node 0.*: from node 1 to 0 \(pCPU \d to \d\); .* ms in all/,
    /guest {4}told of 1 change by event; knew all after .*; topologyChangeHdlr invoked 1 time, epoch 0 to 1/,
    /threads {2}told by topologychange: conductor, vCPU 0: 1 event after .* ms; listener, vCPU 1: 1 event/,
    /heap {5}\d.* spans? rebound, .* pages? moved .*allocations local: .* before, .* meanwhile, .* afterwards/,
    /numa_hit/,
    /worker 1 .*\d/,
    /maps equal the hypervisor's truth: 2 vCPUs, 4,096 frames/,
    /heap walk ok/,
  ])
    expect(out).toMatch(words);
  expect(err).toMatch(/booting/);
  expect(err).toMatch(/vCPU 1 to node 0: from node 1 to 0/);
  // A name is the file's: it must not reach the terminal as it is.
  expect(out + err).not.toMatch(/\u001b\[31m/);
});

test("--json is one line on stdout, all else on stderr; what is given on the command line holds", async () => {
  const { code, out, err } = await run(small, "--json", "--mode", "static", "--seed", "7");
  expect(code).toBe(0);
  expect(out.trimEnd().split("\n").length).toBe(1);
  const result = JSON.parse(out) as ScenarioResult;
  expect(result).toMatchObject({ hypervisor: "xen", mode: "static", seed: 7, follows: false, ok: true, walk: "ok", failures: [] });
  expect(result.events.map(({ event, error }) => [event.do, error])).toEqual([
    ["migrate-vcpu", null],
    ["migrate-pages", null],
  ]);
  expect(err).toMatch(/the price of not following \(mode static\): the guest is wrong about 1 of 2 vCPUs/);
});

test("what goes wrong in a scenario is told, and the exit status is 1", async () => {
  const path = put("tight.json", { ...SMALL, load: { trace: "jq-filter" } });
  const { code, out } = await run(path, "--json");
  expect(code).toBe(1);
  const result = JSON.parse(out) as ScenarioResult;
  expect(result.ok).toBe(false);
  expect([...result.failures, ...(result.replay?.failures ?? [])].length).toBeGreaterThan(0);
});

test("a file that cannot be played is refused with the field that is wrong", async () => {
  const path = put("bad.json", { ...SMALL, vm: { vcpus: 2, memory: "32 bananas" } });
  const refused = await run(path);
  expect([refused.code, refused.out]).toEqual([1, ""]);
  expect(refused.err).toMatch(/^numaheap: .*bad\.json: vm\.memory: must be bytes.* \[NUMAHEAP_SCENARIO_VALUE\]\n$/);
  const { code, out } = await run(path, "--json");
  expect([code, JSON.parse(out)]).toEqual([
    1,
    { scenario: path, failures: [expect.stringMatching(/NUMAHEAP_SCENARIO_VALUE/) as string], ok: false },
  ]);
  const missing = await run("nowhere\u001b[31m");
  expect([missing.code, missing.out]).toEqual([1, ""]);
  expect(missing.err).toMatch(/neither a file nor one of vcpu-migration, ballooning, live-migration, storm \[NUMAHEAP_SCENARIO_UNKNOWN\]/);
  expect(missing.err).not.toMatch(/\u001b/);
});

test("--list names those that are built in", async () => {
  const { code, out } = await run("--list");
  expect(code).toBe(0);
  expect(out.trimEnd().split("\n").length).toBe(4);
  for (const [name, { description }] of Object.entries(namedScenarios)) expect(out).toMatch(new RegExp(`^${name} +${description}$`, "m"));
  const listed = JSON.parse((await run("--list", "--json")).out) as { scenarios: { name: string }[] };
  expect(listed.scenarios.map(({ name }) => name)).toEqual(Object.keys(namedScenarios));
});

test.each([
  [[], /missing required argument 'scenario'/],
  [["storm", "--hypervisor", "vmware"], /Allowed choices are xen, kvm/],
  [["storm", "--guest", "plan9"], /Allowed choices are linux, freebsd/],
  [["storm", "--mode", "magic"], /Allowed choices are adaptive, static/],
  [["storm", "--seed", "-1"], /whole number/],
  [["storm", "ballooning"], /too many arguments/],
  [["--list", "--seed", "1"], /cannot be used with/],
  [["--list", "storm"], /--list takes no scenario/],
  [["storm", "--what"], /unknown option/],
])("%s is refused, and help is named", async (flags, words) => {
  const { code, out, err } = await run(...flags);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(words);
  expect(err).toMatch(/numaheap scenario --help/);
});

test("--help tells every option, the exit status, and an example", async () => {
  const { code, out } = await run("--help");
  expect(code).toBe(0);
  for (const words of ["--list", "--hypervisor", "--guest", "--mode", "--seed", "--json", "Exit status", "Example: numaheap scenario"])
    expect(out).toContain(words);
});
