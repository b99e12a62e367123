// Topology changes as events of a heap in any thread of the application.
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "./eventually.js";
import { Host, attachHeap, type Vm } from "../../dist/host/index.js";
import { MIXED, NumaHeap, type TopologyChange, type TopologyChangeEvent } from "../../dist/index.js";
import { AppWorker } from "./workers.js";

type Told = TopologyChange & { readonly seen: number };

let host: Host;
let vm: Vm;
const workers: AppWorker[] = [];

beforeEach(async () => {
  host = await Host.create({ hypervisor: "kvm", nodes: 4, cpusPerNode: 2, memoryPerNode: "32MiB" });
  vm = await host.boot({ vcpus: 4, memory: "32MiB" });
});

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  await host.dispose();
});

async function attached(heap: NumaHeap, vcpu: number, options: { patience?: number } = {}): Promise<AppWorker> {
  const worker = new AppWorker();
  workers.push(worker);
  await worker.order("attach", { handle: heap.handle(vcpu), ...options });
  return worker;
}

/** What the worker is told from now on, once it knows of an epoch. */
async function toldUntil(worker: AppWorker, epoch: number): Promise<Told[]> {
  const told: Told[] = [];
  await eventually(async () => {
    told.push(...((await worker.order("events")) as Told[]));
    expect(told.at(-1)?.epoch).toBe(epoch);
  });
  return told;
}

const storm = async (changes: number): Promise<void> => {
  for (let i = 0; i < changes; ++i) {
    if (i % 2) await host.migrateVcpu(vm, (i >> 1) % 4, { toNode: i % 4 });
    else await host.migratePages(vm, { start: 2 ** 23 + (i % 50) * 8192, bytes: 8192 * 3, toNode: (i >> 1) % 4 });
  }
};

test("every thread hears of a change, this one and workers alike", async () => {
  const heap = await vm.createHeap();
  const heard: TopologyChangeEvent[] = [];
  heap.addEventListener("topologychange", (event) => heard.push(event));
  const [one, two] = [await attached(heap, 1), await attached(heap, 2)];
  await host.migrateVcpu(vm, 1, { toNode: 3 });
  const expected = { epoch: heap.epoch, nodeCount: 4, nodes: false, vcpus: [{ vcpu: 1, node: 3 }], ranges: [] };
  for (const worker of [one, two]) expect(await toldUntil(worker, heap.epoch)).toEqual([{ ...expected, seen: heap.epoch }]);
  await eventually(() => expect(heard.length).toBe(1));
  expect(heard[0]).toMatchObject(expected);
  expect(heard[0]).toBeInstanceOf(Event);
  expect(heard[0]!.type).toBe("topologychange");
  await host.migratePages(vm, { start: 2 ** 24, bytes: 2 ** 20, toNode: 0 });
  const [moved] = await toldUntil(one, heap.epoch);
  expect(moved).toMatchObject({ vcpus: [], ranges: [{ start: 2 ** 24, end: 2 ** 24 + 2 ** 20, node: 0 }] });
});

test("a listener can be removed, ended by a signal, or called once; a heap that was detached hears nothing", async () => {
  const heap = await vm.createHeap();
  const handle = heap.handle(0);
  const mine = await attachHeap(handle, { mayBlock: false });
  let [once, removed, aborted, after] = [0, 0, 0, 0];
  const abort = new AbortController();
  const remove = (): void => void ++removed;
  mine.addEventListener("topologychange", () => ++once, { once: true });
  mine.addEventListener("topologychange", remove);
  mine.addEventListener("topologychange", () => ++aborted, { signal: abort.signal });
  mine.addEventListener("topologychange", () => ++after);
  await host.migrateVcpu(vm, 0, { toNode: 1 });
  await eventually(() => expect(after).toBe(1));
  mine.removeEventListener("topologychange", remove);
  abort.abort();
  await host.migrateVcpu(vm, 0, { toNode: 2 });
  await eventually(() => expect(after).toBe(2));
  mine.detach();
  // It may not have been told of the change before yet.
  let last = 0;
  heap.addEventListener("topologychange", ({ epoch }) => (last = epoch));
  await host.migrateVcpu(vm, 0, { toNode: 3 });
  await eventually(() => expect(last).toBe(heap.epoch));
  expect([once, removed, aborted, after]).toEqual([1, 1, 1, 2]);
  expect(await vm.guest.problems()).toEqual([]);
});

test("under a storm events are joined, keep their order, and end with the truth", async () => {
  const heap = await vm.createHeap();
  const worker = await attached(heap, 2);
  await Promise.all([storm(200), storm(200), storm(200)]);
  const told = await toldUntil(worker, heap.epoch);
  const epochs = told.map(({ epoch }) => epoch);
  expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
  expect(new Set(epochs).size).toBe(epochs.length);
  // What an event tells of stands in shared memory when it arrives.
  for (const { epoch, seen } of told) expect(seen).toBeGreaterThanOrEqual(epoch);
  const node = new Map([0, 1, 2, 3].map((vcpu) => [vcpu, vcpu]));
  for (const { vcpus } of told) for (const { vcpu, node: on } of vcpus) node.set(vcpu, on);
  const truth = await host.truth(vm);
  expect([...node.values()]).toEqual(truth.vcpus);
});

test("a thread that hears no message follows all the same, and is told in one event when it listens again", async () => {
  const heap = await vm.createHeap();
  const worker = await attached(heap, 2);
  const words = new Int32Array(new SharedArrayBuffer(8));
  const looping = worker.order("loop", { node: 3, words });
  await eventually(() => expect(Atomics.load(words, 1)).toBe(1));
  for (const toNode of [0, 1, 0, 1, 0, 3]) await host.migrateVcpu(vm, 2, { toNode });
  await storm(40);
  await host.migrateVcpu(vm, 2, { toNode: 3 });
  Atomics.store(words, 0, 1);
  expect(await looping).toMatchObject({ node: 3 });
  const told = await toldUntil(worker, heap.epoch);
  // The one under way as it began to loop, and one of all the others.
  expect(told.length).toBe(2);
  expect(told[1]!.vcpus).toContainEqual({ vcpu: 2, node: 3 });
});

test("a thread that is out of reach for too long is let go, and told what it missed once it is back", async () => {
  const heap = await vm.createHeap({ patience: 50 });
  const worker = await attached(heap, 2, { patience: 50 });
  const words = new Int32Array(new SharedArrayBuffer(8));
  const looping = worker.order("loop", { node: -2, words });
  await eventually(() => expect(Atomics.load(words, 1)).toBe(1));
  await host.migrateVcpu(vm, 2, { toNode: 1 });
  const problems: string[] = [];
  await eventually(async () => {
    problems.push(...(await vm.guest.problems()).map(({ message }) => message));
    expect(problems).toContainEqual(expect.stringMatching(/hears no more of changes: no answer in 50 ms/));
  });
  await host.migrateVcpu(vm, 2, { toNode: 0 });
  Atomics.store(words, 0, 1);
  await looping;
  const [late, missed] = await toldUntil(worker, heap.epoch);
  expect(late).toMatchObject({ vcpus: [{ vcpu: 2, node: 1 }] });
  expect(missed).toMatchObject({ nodes: true, ranges: [{ start: 0, end: 2 ** 25, node: MIXED }] });
  expect(missed!.vcpus).toContainEqual({ vcpu: 2, node: 0 });
  await host.migrateVcpu(vm, 2, { toNode: 3 });
  expect(await toldUntil(worker, heap.epoch)).toMatchObject([{ vcpus: [{ vcpu: 2, node: 3 }], ranges: [] }]);
});

test("a thread that dies is missed by nobody", async () => {
  const heap = await vm.createHeap({ patience: 50 });
  const [dying, alive] = [await attached(heap, 1), await attached(heap, 2)];
  await dying.order("allocate", { count: 100, bytes: 4000 });
  await dying.terminate();
  await storm(60);
  await toldUntil(alive, heap.epoch);
  await eventually(async () =>
    expect((await vm.guest.problems()).map(({ message }) => message)).toContainEqual(expect.stringMatching(/hears no more/)),
  );
  await storm(20);
  await toldUntil(alive, heap.epoch);
  expect(await alive.order("allocate", { count: 1, bytes: 4000 })).toEqual([(await host.truth(vm)).vcpus[2]]);
});

test("what no kernel keeps cannot be subscribed to", async () => {
  const heap = await NumaHeap.create();
  const handle = heap.handle();
  await expect(attachHeap(handle, { patience: 50 })).rejects.toMatchObject({ name: "HeapError", code: "NUMAHEAP_INVALID_ARGUMENT" });
  expect(heap.stats().threads.length).toBe(1);
});

test("garbage on a heap's channel is nothing to anybody", async () => {
  const heap = await vm.createHeap();
  const { name } = heap.handle();
  const channel = new BroadcastChannel(`numaheap-topology-${name}`);
  for (const message of [
    null,
    7,
    "hello",
    {},
    { is: "hello" },
    { is: "hello", key: "x" },
    { is: "leave", key: 99 },
    { is: "hello", key: 1.5 },
  ])
    channel.postMessage(message);
  let heard = 0;
  heap.addEventListener("topologychange", () => ++heard);
  await host.migrateVcpu(vm, 2, { toNode: 1 });
  await eventually(() => expect(heard).toBe(1));
  channel.close();
  expect(await vm.guest.problems()).toEqual([]);
});
