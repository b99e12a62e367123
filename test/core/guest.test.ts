// A hypervisor in this thread and its guest in another, with a port between them and the memory they share.
import { expect, test } from "vitest";
import { Kvm } from "../../dist/hypervisor/kvm/kvm.js";
import { migrateLive } from "../../dist/hypervisor/live-migration.js";
import { differences } from "../../dist/hypervisor/truth.js";
import type { VirtualMachine } from "../../dist/hypervisor/vm.js";
import { Xen } from "../../dist/hypervisor/xen/xen.js";
import { defaultDistances, parseTopology, type Topology } from "../../dist/topology/topology.js";
import { GuestWorker } from "./workers.js";

const machine = (nodes: number): Topology =>
  parseTopology({
    nodes: Array.from({ length: nodes }, (_, id) => ({
      id,
      cpus: [id * 2, id * 2 + 1],
      memory: [{ start: id * 2 ** 23, end: (id + 1) * 2 ** 23 }],
    })),
    distances: defaultDistances(nodes),
  });

/** The worker's map against the truth, once it has heard everything. */
async function wrong(hypervisor: Xen | Kvm, vm: VirtualMachine, guest: GuestWorker): Promise<string[]> {
  const { vcpus, frames } = (await guest.order("settle")) as { vcpus: Int8Array; frames: Int8Array };
  return differences(
    hypervisor.truth(vm),
    (vcpu) => vcpus[vcpu]!,
    (gfn) => frames[gfn]!,
  );
}

test.each([
  ["xen", Xen],
  ["kvm", Kvm],
] as const)("%s: a guest in a worker hears everything, also after it moved to another host", async (_, Kind) => {
  const hypervisor = new Kind(machine(4));
  const vm = hypervisor.createVm({ vcpus: 4, memory: 2 ** 23 });
  const guest = new GuestWorker();
  const served = (by: Xen | Kvm, it: VirtualMachine): MessagePort => {
    const { port1, port2 } = new MessageChannel();
    by.serve(it, port1);
    return port2;
  };
  await guest.order("boot", { port: served(hypervisor, vm) });
  for (let i = 0; i < 600; ++i) {
    if (i % 2) hypervisor.migrateVcpu(vm, i % 4, { toNode: (i * 7) % 4 });
    else hypervisor.migratePages(vm, (i * 37) % 1000, 1 + (i % 24), (i * 3) % 4);
    if (i === 200) await guest.order("inflate", { gfns: [500, 501, 502, 503] });
    if (i === 400) expect(await guest.order("deflate", { gfns: [501, 502] })).toBe(2);
    if (i % 40 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    if (i % 100 === 99) expect(await wrong(hypervisor, vm, guest)).toEqual([]);
  }
  const destination = new Kind(machine(2));
  const report = await migrateLive(hypervisor, vm, destination, {
    pause: async () => {
      await guest.order("suspend");
      return async (where) => {
        if (where.at === "destination") await guest.order("resume", { port: served(destination, destination.vm(where.vm)) });
      };
    },
  });
  const arrived = destination.vm(report.vm);
  destination.migrateVcpu(arrived, 0, { toNode: 1 });
  destination.migratePages(arrived, 600, 100, 0);
  expect(await wrong(destination, arrived, guest)).toEqual([]);
  guest.terminate();
});
