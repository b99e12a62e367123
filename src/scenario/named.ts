// The scenarios that are built in, as their files would be written. Each is about one thing that happens to a machine; the load goes on.

import type { ScenarioFile } from "./schema.js";

const MACHINE = { nodes: 4, cpusPerNode: 2, memoryPerNode: "128MiB", distances: "ring" } as const;
/** The load's events lie in the guest's memory, too: enough of it that the first node has room for blocks beside them. */
const VM = { vcpus: 4, memory: "192MiB" } as const;

export const namedScenarios: Readonly<Record<string, ScenarioFile>> = {
  "vcpu-migration": {
    description: "vCPUs move between the nodes of a ring: one by one, then as the load balancer has it, and most of them back; then pages",
    machine: MACHINE,
    vm: VM,
    load: { trace: "jq-filter" },
    events: [
      { at: 1000, do: "migrate-vcpu", vcpu: 1, toNode: 2 },
      { at: 1500, do: "migrate-vcpu", vcpu: 2, toNode: 0 },
      { at: 2000, do: "migrate-vcpu", vcpu: 3, toCpu: 0 },
      { at: 2500, do: "balance", loads: [90, 90, 90, 90] },
      { at: 3000, do: "migrate-vcpu", vcpu: 1, toNode: 1 },
      { at: 3500, do: "migrate-vcpu", vcpu: 3, toNode: 2 },
      { at: 4000, do: "migrate-pages", share: 0.25, toNode: 3 },
      { at: 4500, do: "advise", start: "48MiB", bytes: "8MiB", toNode: 1 },
    ],
  },
  ballooning: {
    description: "the hypervisor takes memory away and gives it back, from whichever node has some",
    machine: MACHINE,
    vm: VM,
    load: { trace: "jq-filter" },
    events: [
      { at: 1000, do: "balloon", target: "160MiB" },
      { at: 1500, do: "balloon", target: "128MiB" },
      { at: 2000, do: "migrate-pages", start: "64MiB", bytes: "64MiB", toNode: 0 },
      { at: 2500, do: "balloon", target: "192MiB" },
      { at: 3000, do: "balloon", target: "144MiB" },
      { at: 3500, do: "balloon", target: "192MiB" },
    ],
  },
  "live-migration": {
    description: "the machine moves to a host of two nodes and back to one of four, while its threads allocate",
    machine: MACHINE,
    destination: { nodes: 2, cpusPerNode: 4, memoryPerNode: "256MiB" },
    vm: VM,
    load: { trace: "jq-filter" },
    events: [
      { at: 1000, do: "migrate-live", maxRounds: 4 },
      { at: 2500, do: "migrate-vcpu", vcpu: 0, toNode: 1 },
      { at: 3500, do: "migrate-live", maxRounds: 4 },
      { at: 5000, do: "migrate-vcpu", vcpu: 1, toNode: 2 },
    ],
  },
  storm: {
    description: "vCPUs, pages and the balloon's target change at random, many times a second",
    machine: MACHINE,
    vm: { vcpus: 4, memory: "320MiB" },
    load: { trace: "node-workers" },
    events: [
      { at: 1000, do: "storm", for: 2000, perSecond: 50 },
      { at: 4000, do: "storm", for: 3000, perSecond: 200, balloon: "256MiB" },
    ],
  },
};
