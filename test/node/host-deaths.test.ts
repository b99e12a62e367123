// Threads of an application that are terminated anywhere in the allocator while the machine below changes.
import { afterEach, expect, test } from "vitest";
import { Worker } from "node:worker_threads";
import { Host } from "../../dist/host/index.js";
import { NumaHeap } from "../../dist/index.js";
import { falseBeliefs } from "../support/host-truth.js";
import { fieldOf } from "../support/rig.js";

const DEATHS = Number(process.env["TORTURE_ROUNDS"] ?? 6) * 5;
const hosts: Host[] = [];
afterEach(() => Promise.all(hosts.splice(0).map((host) => host.dispose())));

const library = new URL("../../dist/host/index.js", import.meta.url).href;
/** Allocates and frees without end, of all sizes; what it has when it dies is lost. */
const BUSY = `
  import { parentPort, workerData } from "node:worker_threads";
  import { attachHeap } from "${library}";
  const heap = await attachHeap(workerData);
  parentPort.postMessage("busy");
  const live = [];
  for (let i = 0; ; ++i) {
    const ptr = heap.malloc((i * 7919) % 70_000);
    if (ptr !== 0) live.push(ptr);
    if (live.length > 8) heap.free(live.splice((i * 31) % live.length, 1)[0]);
  }`;
const script = new URL(`data:text/javascript,${encodeURIComponent(BUSY)}`);

const options = { timeout: 60_000 + DEATHS * 2000 };
test.each(["xen", "kvm"] as const)("%s: the kernel and everybody else go on, and the dead are reaped", options, async (hypervisor) => {
  const host = await Host.create({ hypervisor, nodes: 4, cpusPerNode: 1, memoryPerNode: "32MiB" });
  hosts.push(host);
  const vm = await host.boot({ vcpus: 4, memory: "64MiB" });
  const heap = await vm.createHeap();
  const crew = new Set<Worker>();
  const hire = async (vcpu: number): Promise<Worker> => {
    const handle = heap.handle(vcpu);
    const worker = new Worker(script, { workerData: handle });
    heap.register(worker, handle);
    await new Promise((resolve) => worker.once("message", resolve));
    crew.add(worker);
    return worker;
  };
  const workers = await Promise.all([1, 2, 3].map(hire));
  for (let death = 0; death < DEATHS; ++death) {
    const changes = [
      host.migrateVcpu(vm, death % 4, { toNode: (death * 3 + 1) % 4 }),
      host.migratePages(vm, { start: (death % 8) * 2 ** 22, bytes: 2 ** 21, toNode: death % 4 }),
    ];
    const place = death % 3;
    const dying = workers[place]!;
    crew.delete(dying);
    await dying.terminate();
    await Promise.all(changes);
    workers[place] = await hire(1 + place);
  }
  await Promise.all([...crew].map((worker) => worker.terminate()));
  while (heap.stats().threads.length > 2) await new Promise((resolve) => setTimeout(resolve, 1));
  await vm.guest.settle();
  expect(heap.stats().reapedThreads).toBe(DEATHS + 3);
  const { problems, unaccounted } = heap.walk({ live: [] });
  expect(problems).toEqual([]);
  for (const { ptr } of unaccounted) heap.free(ptr);
  expect(await vm.guest.check()).toEqual([]);
  // Whoever was told nothing any more is no problem but a note.
  const notes = (await vm.guest.problems()).map(({ message }) => message).filter((message) => !/hears no more of changes/.test(message));
  expect(notes).toEqual([]);
  const last = heap.malloc(90_000);
  expect(heap.walk({ live: [last] })).toEqual({ ok: true, problems: [], unaccounted: [] });
});

// The host cannot know of such a death. A thread that holds the lock for good stands for it.
test("a thread that died with a lock and was never registered: operations are done, say so, and end; once it is reaped all is well", async () => {
  const host = await Host.create({ hypervisor: "xen", nodes: 4, cpusPerNode: 1, memoryPerNode: "32MiB" });
  hosts.push(host);
  const vm = await host.boot({ vcpus: 4, memory: "64MiB" });
  const heap = await vm.createHeap();
  const handle = heap.handle(1);
  const dead = await NumaHeap.attach(handle);
  const lock = new Uint32Array(vm.memory.buffer, handle.base + fieldOf("Heap", "topologyLock").offset, 1);
  Atomics.store(lock, 0, dead.imports.threadId() << 1);
  await expect(host.migrateVcpu(vm, 2, { toNode: 3 })).rejects.toMatchObject({ code: "NUMAHEAP_HEAP_BUSY" });
  expect(heap.reap(handle.key)).toBe("reaped");
  expect((await host.truth(vm)).vcpus[2]).toBe(3);
  await vm.guest.settle();
  await vm.guest.problems(); // that it was out of reach
  expect(await falseBeliefs(host, vm, heap)).toEqual([]);
}, 60_000);
