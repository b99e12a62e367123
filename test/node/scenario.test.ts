// Scenarios: what is built in, on every pairing; what their JSON may say; and what becomes of what it may not.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Host } from "../../dist/host/index.js";
import { compareMaps } from "../../dist/scenario/compare.js";
import { ScenarioError } from "../../dist/scenario/errors.js";
import { findScenario, findTrace } from "../../dist/scenario/file.js";
import { namedScenarios } from "../../dist/scenario/named.js";
import { type Overrides, parseScenario } from "../../dist/scenario/parse.js";
import type { Stage } from "../../dist/scenario/perform.js";
import { isSound, type ScenarioResult } from "../../dist/scenario/result.js";
import { runScenario, type ScenarioProgress } from "../../dist/scenario/run.js";
import type { ScenarioFile } from "../../dist/scenario/schema.js";
import { writeTrace } from "../../dist/trace/file.js";
import { MALLOC } from "../../dist/trace/format.js";

const folder = mkdtempSync(join(tmpdir(), "numaheap-scenario-"));
const PAIRINGS = (["xen", "kvm"] as const).flatMap((hypervisor) => (["linux", "freebsd"] as const).map((guest) => ({ hypervisor, guest })));
const NAMES = ["vcpu-migration", "ballooning", "live-migration", "storm"];

/** The same events on a quarter of the memory, in a tenth of the time, under a lighter load. */
function short(name: string): ScenarioFile {
  const quarter = (_: string, mib: string): string => `"${Number(mib) / 4}MiB"`;
  const small = JSON.parse(JSON.stringify(namedScenarios[name]).replace(/"(\d+)MiB"/g, quarter)) as ScenarioFile;
  const events = small.events.map((event) => ({ ...event, at: event.at / 10, ...(event.do === "storm" && { for: event.for / 10 }) }));
  return { ...small, load: { trace: "lua-mix", listeners: 1 }, events: events as ScenarioFile["events"] };
}

const play = (value: unknown, overrides?: Overrides): Promise<ScenarioResult> =>
  runScenario({ scenario: parseScenario(value, overrides), folder });

const SMALL = {
  machine: { nodes: 2, memoryPerNode: "32MiB" },
  vm: { vcpus: 2, memory: "32MiB" },
  load: { trace: "lua-mix", listeners: 0 },
  events: [{ at: 0, do: "migrate-vcpu", vcpu: 1, toNode: 0 }],
} satisfies ScenarioFile;

function refusal(value: unknown, overrides?: Overrides): ScenarioError {
  try {
    parseScenario(value, overrides);
  } catch (error) {
    expect(error).toBeInstanceOf(ScenarioError);
    return error as ScenarioError;
  }
  throw new Error("it was taken");
}

test("four scenarios are built in, and each can be played as it stands, wherever", () => {
  expect(Object.keys(namedScenarios)).toEqual(NAMES);
  for (const name of NAMES) for (const pairing of PAIRINGS) expect(parseScenario(namedScenarios[name], pairing)).toMatchObject(pairing);
});

describe.each(PAIRINGS)("$hypervisor, $guest", ({ hypervisor, guest }) => {
  test.each(NAMES)("%s: all is done, everybody is told, and all maps equal the truth", async (name) => {
    const result = await play(short(name), { hypervisor, guest });
    expect(result).toMatchObject({ failures: [], problems: [], walk: "ok", hypervisor, guest, ok: true });
    expect(result.replay).toMatchObject({ failures: [], walk: "ok", leakedBytes: 0, skippedEvents: 0 });
    expect(result.maps).toMatchObject({ guest: { vcpusWrong: 0, framesWrong: 0 }, heap: { vcpusWrong: 0, framesWrong: 0 }, examples: [] });
    expect(result.events.map(({ event }) => event.do)).toEqual(namedScenarios[name]!.events.map(({ do: action }) => action));
    for (const { error, outcome, told, heard } of result.events) {
      expect(error).toBeNull();
      // The handler is invoked for each delivery, and for nothing else; threads are never told more often than there was something.
      const deliveries = Object.values(told.deliveries).reduce((sum, times) => sum + times, 0);
      expect(told.handlerInvocations).toBe(deliveries);
      for (const { events } of heard) expect(events).toBeLessThanOrEqual(Math.max(1, deliveries));
      if (outcome?.kind === "vcpu" && outcome.move) {
        expect(told).toMatchObject({ changes: 1, deliveries: { [hypervisor === "xen" ? "VIRQ_TOPOLOGY" : "event"]: 1 } });
        expect(heard.map(({ events }) => events)).toEqual([1, 1]);
      }
      if (outcome?.kind === "pages") expect(outcome.moved + outcome.spilled + outcome.refused).toBeGreaterThan(0);
      if (outcome?.kind === "balloon") expect(outcome.bytes).toBe(outcome.wanted);
      if (outcome?.kind === "storm") expect(outcome.made).toBe(outcome.vcpus + outcome.ranges + outcome.targets);
      if (outcome?.kind === "storm") expect(outcome.made).toBeGreaterThan(0);
      if (outcome?.kind === "live-migration") {
        expect(outcome.bytes).toBe(outcome.rounds.reduce((sum, { bytes }) => sum + bytes, 0));
        expect([outcome.rounds.length > 1, outcome.fromNodes + outcome.toNodes]).toEqual([true, 6]);
        expect(told.deliveries).toEqual({ resume: 1 });
      }
    }
  });
});

test("a machine that is not told goes on all the same, and it is said what it does not know", async () => {
  const events: ScenarioFile["events"] = [
    { at: 0, do: "migrate-vcpu", vcpu: 0, toNode: 1 },
    { at: 0, do: "migrate-vcpu", vcpu: 1, toNode: 0 },
    { at: 50, do: "balloon", target: "28MiB" },
  ];
  const result = await play({ ...SMALL, mode: "static", events });
  expect(result).toMatchObject({ follows: false, ok: true, walk: "ok", maps: { guest: { vcpusWrong: 2 }, heap: { vcpusWrong: 2 } } });
  expect(result.events.map(({ told }) => [told.changes, told.handlerInvocations])).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
  expect(result.replay!.remoteAllocations).toBeGreaterThan(0);
  // The same of a guest that is told would not be sound; nor would anything else that is wrong.
  expect(isSound(result)).toBe(true);
  const wrong: Partial<ScenarioResult>[] = [
    { follows: true },
    { walk: ["a problem"] },
    { problems: ["a problem"] },
    { failures: ["a failure"] },
    { maps: null },
    { replay: null },
    { replay: { ...result.replay!, leakedBytes: 1 } },
    { events: [{ ...result.events[0]!, error: "refused" }] },
  ];
  for (const change of wrong) expect(isSound({ ...result, ...change }), JSON.stringify(change)).toBe(false);
});

test("a guest that may choose the placement does, at boot and later", async () => {
  const events: ScenarioFile["events"] = [{ at: 20, do: "placement", policy: "first-touch" }];
  const result = await play({ ...SMALL, mode: "policy-hypercall", placement: "interleave", events });
  expect(result).toMatchObject({ ok: true, events: [{ outcome: { kind: "placement" } }] });
});

test("a load that runs out of memory is a failure, and events that are left are said to be", async () => {
  const trace = join(folder, "much.trace.gz");
  await writeTrace(trace, [{ op: MALLOC, thread: 0, size: 64 * 2 ** 20 }], "much");
  const result = await play({ ...SMALL, load: { trace }, events: [{ at: 60_000, do: "balance" }] });
  expect(result).toMatchObject({ ok: false, events: [], failures: [expect.stringMatching(/events are left/)] });
  expect(result.replay?.failures).toEqual([expect.stringMatching(/no memory for 67108864 bytes/)]);
});

test("a load that has too little memory says so meanwhile, and does not go on failing once all events are over", async () => {
  const machine = { nodes: 4, cpusPerNode: 2, memoryPerNode: "128MiB", distances: "ring" } as const;
  const scenario = parseScenario({
    ...{ machine, vm: { vcpus: 4, memory: "192MiB" }, load: { trace: "jq-filter" } },
    events: [{ at: 200, do: "balloon", target: "1MiB" }],
  });
  const seen: ScenarioProgress[] = [];
  const result = await runScenario({ scenario, folder }, { onProgress: (progress) => void seen.push(progress) });
  const { failures, events, eventsPerWorker, rounds } = result.replay!;
  expect(failures.slice(0, 2)).toEqual([
    expect.stringMatching(/^round \d was given up: it had failed, and all events were over$/),
    expect.stringMatching(/no memory for \d+ bytes/),
  ]);
  expect(result).toMatchObject({ ok: false, failures: [], problems: [], walk: "ok", replay: { walk: "ok", leakedBytes: 0 } });
  const { events: all } = await findTrace("jq-filter", folder);
  expect(events).toBeLessThan(all * rounds);
  expect(events).toBeGreaterThan(all * (rounds - 1));
  expect(eventsPerWorker.reduce((sum, count) => sum + count, 0)).toBe(events);
  const { failures: count, failure } = seen.at(-1)!;
  expect(count).toBeGreaterThan(0);
  expect(failure).toMatch(/^worker \d, event \d+ \(.*\): no memory for \d+ bytes$/);
});

test("what the machine changes by itself while maps are compared is nobody's error, what stays wrong is", async () => {
  const host = await Host.create({ hypervisor: "kvm", nodes: 2, memoryPerNode: "32MiB" });
  try {
    const vm = await host.boot({ vcpus: 1, memory: "16MiB" });
    using heap = await vm.createHeap();
    /** The host, on which the vCPU moves so many times as soon as the truth was told. */
    const restless = (moves: number) => ({
      topology: host.topology,
      truth: async () => {
        const truth = await host.truth(vm);
        if (--moves >= 0) await host.migrateVcpu(vm, 0, { toNode: 1 - truth.vcpus[0]! });
        return truth;
      },
    });
    const wrongOf = async (at: object) => (await compareMaps({ host: at, vm, heap } as unknown as Stage)).guest.vcpusWrong;
    expect(await wrongOf(restless(0))).toBe(0);
    expect(await wrongOf(restless(1))).toBe(0);
    expect(await wrongOf(restless(Infinity))).toBe(1);
  } finally {
    await host.dispose();
  }
});

test("a trace that has no room in the machine is refused by name", async () => {
  const result = await play({ ...SMALL, load: { trace: "redis" } });
  expect(result).toMatchObject({ ok: false, replay: null, failures: [expect.stringMatching(/^vm.memory: .*events alone/)] });
});

test("an empty trace and no event are a scenario, too", async () => {
  await writeTrace(join(folder, "none.trace.gz"), [], "none");
  expect(await play({ ...SMALL, load: { trace: "none.trace.gz" }, events: [] })).toMatchObject({ ok: true, events: [] });
});

describe("what a scenario may not say is refused with the name of the field:", () => {
  const with_ = (event: object): unknown => ({ ...SMALL, events: [event] });
  test.each<[string, unknown, string, RegExp]>([
    ["nothing", undefined, "scenario", /must be \{ machine/],
    ["a list", [], "machine", /is missing/],
    ["a machine that is none", { ...SMALL, machine: 7 }, "machine", /must be \{ preset \} or/],
    ["an unknown field", { ...SMALL, speed: 3 }, "speed", /is not known/],
    ["an unknown field within", { ...SMALL, vm: { ...SMALL.vm, cpus: 3 } }, "vm.cpus", /is not known/],
    ["a field that is missing", { ...SMALL, vm: { vcpus: 1 } }, "vm.memory", /is missing/],
    ["an unknown preset", { ...SMALL, machine: { preset: "toString" } }, "machine.preset", /must be one of uma/],
    ["preset and nodes", { ...SMALL, machine: { preset: "uma", nodes: 2 } }, "machine.nodes", /is not known/],
    ["distances that are none", { ...SMALL, machine: { nodes: 2, distances: [[10]] } }, "machine.distances", /1 rows for 2/],
    ["too large a machine", { ...SMALL, machine: { nodes: 32, memoryPerNode: "2GiB" } }, "machine.memoryPerNode", /at most 32 GiB/],
    ["more than the machine has", { ...SMALL, vm: { vcpus: 2, memory: "128MiB" } }, "vm.memory", /machine has 67108864/],
    ["less than the destination", { ...SMALL, destination: { nodes: 1, memoryPerNode: "16MiB" } }, "vm.memory", /destination has/],
    ["odd memory", { ...SMALL, vm: { vcpus: 2, memory: 100_000 } }, "vm.memory", /multiple of 65536/],
    ["a mode that is none", { ...SMALL, mode: "magic" }, "mode", /must be one of adaptive/],
    ["a placement in the wrong mode", { ...SMALL, placement: "interleave" }, "placement", /nothing to choose/],
    ["more workers than vCPUs", { ...SMALL, load: { trace: "lua-mix", threads: 3 } }, "load.threads", /vCPU i/],
    ["an event that is none", with_({ at: 0, do: "explode" }), "events[0].do", /one of migrate-vcpu, migrate-pages/],
    ["a time before all", with_({ at: -1, do: "balance" }), "events[0].at", /whole number/],
    ["a time without end", with_({ at: 1e9, do: "balance" }), "events[0].at", /whole number/],
    ["a vCPU that is not there", with_({ at: 0, do: "migrate-vcpu", vcpu: 2, toNode: 0 }), "events[0].vcpu", /vCPUs 0 to 1/],
    ["a node that is not there", with_({ at: 0, do: "migrate-vcpu", vcpu: 1, toNode: 2 }), "events[0].toNode", /nodes 0 to 1/],
    ["a pCPU that is not there", with_({ at: 0, do: "migrate-vcpu", vcpu: 1, toCpu: 4 }), "events[0].toCpu", /pCPUs 0 to 3/],
    ["two places at once", with_({ at: 0, do: "migrate-vcpu", vcpu: 1, toCpu: 1, toNode: 1 }), "events[0]", /toNode or toCpu/],
    ["pages and a share", with_({ at: 0, do: "migrate-pages", share: 1, start: 0, bytes: 8192, toNode: 1 }), "events[0]", /or share/],
    ["pages beyond the memory", with_({ at: 0, do: "migrate-pages", start: "32MiB", bytes: 8192, toNode: 1 }), "events[0].bytes", /ends/],
    ["half a page", with_({ at: 0, do: "advise", start: 4096, bytes: 8192, toNode: 1 }), "events[0].start", /multiple of 8192/],
    ["a share of more than all", with_({ at: 0, do: "migrate-pages", share: 1.5, toNode: 1 }), "events[0].share", /at most 1/],
    ["a balloon of everything", with_({ at: 0, do: "balloon", target: 8192 }), "events[0].target", /from \d+ to/],
    ["a live migration to nowhere", with_({ at: 0, do: "migrate-live" }), "destination", /is missing/],
    ["a choice where there is none", with_({ at: 0, do: "placement", policy: "interleave" }), "events[0]", /nothing to choose/],
    ["storms without end", with_({ at: 0, do: "storm", for: 600_001, perSecond: 1 }), "events[0].for", /whole number/],
    ["loads of others", with_({ at: 0, do: "balance", loads: [1, 2, 3] }), "events[0].loads", /2 vCPUs/],
    ["too many events", { ...SMALL, events: new Array(1001).fill(SMALL.events[0]) }, "events", /1000 events at most/],
  ])("%s", (_, value, field, words) => {
    const error = refusal(value);
    expect(error.message).toMatch(words);
    expect(error).toMatchObject({ code: "NUMAHEAP_SCENARIO_VALUE", field });
  });

  test("also what only an override makes impossible, and what is so only by then", () => {
    const choice = { ...SMALL, mode: "policy-hypercall" as const, placement: "interleave" as const };
    expect(refusal(choice, { mode: "flat" }).field).toBe("placement");
    const there = { nodes: 1, memoryPerNode: "64MiB" };
    const move = { at: 5, do: "migrate-vcpu", vcpu: 0, toNode: 1 };
    // Events happen in the order of their times, not of the file.
    const error = refusal({ ...SMALL, destination: there, events: [move, { at: 1, do: "migrate-live" }] });
    expect([error.field, error.message]).toEqual(["events[0].toNode", expect.stringMatching(/nodes 0 to 0 at that time/)]);
  });
});

test("each storm has a seed of its own, and all follow from one that is given", () => {
  const storm = { at: 0, do: "storm", for: 1, perSecond: 1 } as const;
  const seedsOf = (overrides: Overrides): unknown[] =>
    parseScenario({ ...SMALL, seed: 5, events: [storm, { ...storm, seed: 77 }, storm] }, overrides).events.map(
      (event) => "seed" in event && event.seed,
    );
  expect(seedsOf({})).toEqual([5, 77, 7]);
  expect(seedsOf({ seed: 0xffff_ffff })).toEqual([0xffff_ffff, 0, 1]);
});

describe("hostile files", () => {
  const put = (name: string, bytes: string | Uint8Array): string => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const codeOf = (path: string): Promise<string> =>
    findScenario(path).then(
      () => "taken",
      (error: unknown) => (error instanceof ScenarioError ? error.code : `untyped: ${String(error)}`),
    );

  test("that are none, never end, or are no JSON", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    mkdirSync(join(folder, "folder"));
    expect(await codeOf(join(folder, "pipe"))).toBe("NUMAHEAP_SCENARIO_FILE");
    expect(await codeOf(join(folder, "folder"))).toBe("NUMAHEAP_SCENARIO_FILE");
    expect(await codeOf("/dev/zero")).toBe("NUMAHEAP_SCENARIO_FILE");
    expect(await codeOf(join(folder, "nowhere"))).toBe("NUMAHEAP_SCENARIO_UNKNOWN");
    expect(await codeOf("toString")).toBe("NUMAHEAP_SCENARIO_UNKNOWN");
    expect(await codeOf(put("long", " ".repeat(2 ** 20 + 1)))).toBe("NUMAHEAP_SCENARIO_TOO_LARGE");
    expect(await codeOf(put("empty", ""))).toBe("NUMAHEAP_SCENARIO_JSON");
    expect(await codeOf(put("deep", "[".repeat(500_000)))).toBe("NUMAHEAP_SCENARIO_JSON");
    expect(await codeOf(put("nested", "[".repeat(100_000) + "]".repeat(100_000)))).toMatch(/^NUMAHEAP_SCENARIO/);
    expect(await codeOf(put("proto", '{"__proto__": {"machine": 1}, "constructor": 1}'))).toBe("NUMAHEAP_SCENARIO_VALUE");
  });

  test("with traces that are none, or never end", async () => {
    for (const trace of ["nothing", "/dev/zero", "pipe", ".", "lua-mix.trace.gz", "a\0b"])
      await expect(findTrace(trace, folder), trace).rejects.toMatchObject({ code: "NUMAHEAP_SCENARIO_TRACE", field: "load.trace" });
  });

  test("whose bytes were changed: a scenario within its limits, or a typed error", async () => {
    const texts = NAMES.map((name) => new TextEncoder().encode(JSON.stringify(short(name))));
    const edit = fc.record({ at: fc.nat(4000), byte: fc.integer({ min: 0, max: 255 }), drop: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...texts), fc.array(edit, { minLength: 1, maxLength: 4 }), async (text, edits) => {
        const bytes = [...text];
        for (const { at, byte, drop } of edits) bytes.splice(at % bytes.length, drop ? 1 : 0, ...(drop ? [] : [byte]));
        expect(await codeOf(put("edited", Uint8Array.from(bytes)))).toMatch(/^taken|^NUMAHEAP_SCENARIO_(JSON|VALUE)$/);
      }),
      { numRuns: 300 },
    );
  });

  test("whose values were replaced: the same", () => {
    const value = fc.oneof(
      fc.constantFrom<unknown>(-1, 0, 1, 2 ** 31, 2 ** 53, 1e308, 0.5, "", "1MiB", "9999GiB", null, true, [], {}, [[]], "adaptive"),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...NAMES),
        fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 }),
        value,
        fc.boolean(),
        (name, path, to, add) => {
          const scenario = structuredClone(short(name)) as unknown;
          let at = scenario as Record<string, unknown>;
          for (const step of path) {
            const keys = Object.keys(at);
            const key = keys[step % Math.max(1, keys.length)];
            if (key === undefined || typeof at[key] !== "object" || at[key] === null) break;
            at = at[key] as Record<string, unknown>;
          }
          const keys = Object.keys(at);
          at[add || keys.length === 0 ? "extra" : keys[path[0]! % keys.length]!] = to;
          try {
            const { vm, events, load } = parseScenario(scenario);
            expect(vm.memory).toBeLessThanOrEqual(2 ** 30);
            expect(load.threads).toBeLessThanOrEqual(vm.vcpus);
            expect(events.every((event) => event.at <= 600_000)).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(ScenarioError);
            expect((error as ScenarioError).field).not.toBe("");
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
