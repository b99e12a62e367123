// What else happens while a machine moves to another host, above all while it stands still between the two; and ends that come at the
// wrong moment.
import { afterEach, describe, expect, test } from "vitest";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { Host, type Vm } from "../../dist/host/index.js";
import type { NumaHeap } from "../../dist/index.js";
import { falseBeliefs } from "../support/host-truth.js";

const MIB = 2 ** 20;
const library = new URL("../../dist/host/index.js", import.meta.url).href;
/** Milliseconds after the threads of the machine were asked to stop. */
const DELAYS = [0, 2, 5, 10, 20, 40];

const hosts: Host[] = [];
const workers: Worker[] = [];
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  await Promise.all(hosts.splice(0).map((host) => host.dispose()));
});

async function create(hypervisor: "xen" | "kvm", nodes = 2): Promise<Host> {
  const host = await Host.create({ hypervisor, nodes, cpusPerNode: 2, memoryPerNode: "64MiB" });
  hosts.push(host);
  return host;
}

/** Moves the machine to and fro; `act` begins the i-th time DELAYS[i] ms into the standstill. */
async function beside(from: Host, to: Host, vm: Vm, act: (at: Host, i: number) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < DELAYS.length; ++i) {
    const [here, there] = i & 1 ? [to, from] : [from, to];
    let acted: Promise<unknown> | undefined;
    const begin = (): void => void setTimeout(() => (acted = act(here, i)).catch(() => {}), DELAYS[i]);
    await here.migrateLive(vm, there, { maxRounds: 1, pause: async () => (begin(), () => {}) });
    while (!acted) await new Promise((resolve) => setTimeout(resolve, 1));
    await acted;
  }
}

/** A thread that does what it is told to in `code`, which has `heaps`: what it has attached to by `handles`. */
async function thread(code: string): Promise<Worker> {
  const source = `
    import { parentPort } from "node:worker_threads";
    import { attachHeap } from "${library}";
    const heaps = [];
    parentPort.on("message", async (handle) => {
      try { ${code} } catch (error) { parentPort.postMessage(String(error.code ?? error)); }
    });
    parentPort.postMessage("up");`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  workers.push(worker);
  await once(worker, "message");
  return worker;
}

async function told(worker: Worker, message: unknown): Promise<unknown> {
  const answer = once(worker, "message");
  worker.postMessage(message);
  return ((await answer) as unknown[])[0];
}

const ATTACH = `if (handle !== "use") heaps.push(await attachHeap(handle));
  parentPort.postMessage(heaps.map((heap) => { const block = heap.alloc(Uint32Array, 4); block.view.fill(77); return block.ptr; }));`;

describe.each(["xen", "kvm"] as const)("%s, while the machine stands still", (hypervisor) => {
  test("operations wait, and are done where it is then", async () => {
    const [a, b] = [await create(hypervisor), await create(hypervisor)];
    const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
    const heap = await vm.createHeap();
    await beside(a, b, vm, async (at, i) => {
      const bytes = (i & 1 ? 28 : 24) * MIB;
      const [balanced, size] = [at.balance(), at.setBalloonTarget(vm, bytes)];
      await balanced;
      expect(await size).toBe(bytes);
      expect((await vm.guest.view()).balloon.target).toBe(bytes / 8192);
    });
    // An even number of moves.
    expect(await falseBeliefs(a, vm, heap)).toEqual([]);
  }, 60_000);

  test("heaps are made, memory is reserved and released, and tasks run, in the memory it has then", async () => {
    const [a, b] = [await create(hypervisor), await create(hypervisor)];
    const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
    const task = await vm.guest.newTask({ vcpu: 1 });
    const address = (await task.calls.mmap(64 * MIB)) as number;
    const rooms = [await vm.reserve(MIB)];
    let page = 0;
    const heaps: NumaHeap[] = [];
    await beside(a, b, vm, async () => {
      const heap = vm.createHeap();
      await rooms.pop()!.release();
      rooms.push(await vm.reserve(MIB));
      for (let i = 0; i < 20; ++i) await task.access(address + page++ * 8192);
      heaps.push(await heap);
    });
    for (const heap of heaps) expect(heap.walk({ live: [heap.malloc(5000)] }).problems).toEqual([]);
    expect(await vm.guest.check()).toEqual([]);
    expect((await vm.guest.problems()).map(String)).toEqual([]);
  }, 60_000);

  test("a thread that comes then attaches where the machine is afterwards; so does one with a handle of before", async () => {
    const [a, b] = [await create(hypervisor), await create(hypervisor)];
    const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
    const heap = await vm.createHeap();
    const old = heap.handle(1);
    await beside(a, b, vm, async () => {
      const worker = await thread(ATTACH);
      const [ptr] = (await told(worker, heap.handle(1))) as number[];
      expect(new Uint32Array(vm.memory.buffer, ptr, 4)).toEqual(Uint32Array.of(77, 77, 77, 77));
    });
    const [ptr] = (await told(await thread(ATTACH), old)) as number[];
    expect(new Uint32Array(vm.memory.buffer, ptr, 1)[0]).toBe(77);
    expect(heap.walk().problems).toEqual([]);
  }, 60_000);

  test("this thread's heaps answer that they are busy; a worker that died is reaped afterwards", async () => {
    const [a, b] = [await create(hypervisor), await create(hypervisor)];
    const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
    const heap = await vm.createHeap();
    const handle = heap.handle(1);
    const worker = await thread(ATTACH);
    heap.register(worker, handle);
    await told(worker, handle);
    const codes: unknown[] = [];
    const tried = (call: () => unknown): void => {
      try {
        call();
      } catch (error) {
        codes.push((error as { code: string }).code);
      }
    };
    const pause = async (): Promise<() => void> => {
      for (const call of [() => heap.malloc(1), () => heap.stats(), () => heap.walk()]) tried(call);
      expect(heap.reap(12345)).toBe("busy");
      return () => {};
    };
    // It dies when it has counted itself among those that stand still.
    const moved = a.migrateLive(vm, b, { pause, onRound: () => void setTimeout(() => void worker.terminate(), 100) });
    await moved.catch(() => {});
    expect(codes).toEqual(["NUMAHEAP_BUSY", "NUMAHEAP_BUSY", "NUMAHEAP_BUSY"]);
    while (heap.stats().threads.length > 2) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(heap.walk().problems).toEqual([]);
  }, 60_000);

  test("it can be destroyed, and both hosts have all their memory again", async () => {
    for (const delay of DELAYS) {
      const [a, b] = [await create(hypervisor), await create(hypervisor)];
      const before = await Promise.all([a.freeMemory(), b.freeMemory()]);
      const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
      await vm.createHeap();
      let ended: Promise<void> | undefined;
      const pause = async (): Promise<() => void> => (setTimeout(() => (ended = vm.destroy()), delay), () => {});
      await a.migrateLive(vm, b, { maxRounds: 1, pause }).catch(() => {});
      while (!ended) await new Promise((resolve) => setTimeout(resolve, 1));
      await ended;
      expect(await Promise.all([a.freeMemory(), b.freeMemory()])).toEqual(before);
      expect([a.vms, b.vms]).toEqual([[], []]);
      await Promise.all([a.dispose(), b.dispose()]);
    }
  }, 60_000);

  test("its destination ends: it goes on where it was", async () => {
    const [a, b, c] = [await create(hypervisor), await create(hypervisor), await create(hypervisor)];
    const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
    const heap = await vm.createHeap();
    const pause = async (): Promise<() => void> => (await b.dispose(), () => {});
    await expect(a.migrateLive(vm, b, { pause })).rejects.toMatchObject({ code: "NUMAHEAP_MIGRATION_ABORTED" });
    expect(heap.malloc(1000)).toBeGreaterThan(0);
    await a.migrateLive(vm, c);
    expect(await falseBeliefs(c, vm, heap)).toEqual([]);
  }, 60_000);
});

test("its source ends: what was promised at the destination is free again", async () => {
  const b = await create("xen");
  const { available } = await b.freeMemory();
  const a = await create("xen");
  const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
  await expect(a.migrateLive(vm, b, { onRound: () => a.dispose() })).rejects.toMatchObject({ code: expect.stringMatching(/^NUMAHEAP_/) });
  while ((await b.freeMemory()).available < available) await new Promise((resolve) => setTimeout(resolve, 5));
}, 30_000);

test("a thread with two heaps of a machine, and one that is two threads of one, stand still once and move with all of them", async () => {
  const [a, b] = [await create("xen"), await create("xen")];
  const vm = await a.boot({ vcpus: 2, memory: "32MiB" });
  const [one, two] = [await vm.createHeap(), await vm.createHeap()];
  const worker = await thread(ATTACH);
  for (const handle of [one.handle(1), two.handle(1), two.handle(0)]) await told(worker, handle);
  await a.migrateLive(vm, b);
  const blocks = (await told(worker, "use")) as number[];
  expect(blocks.map((ptr) => new Uint32Array(vm.memory.buffer, ptr, 1)[0])).toEqual([77, 77, 77]);
}, 30_000);

describe("ends", () => {
  test("twice is once, whoever else is ending; what has ended is on no list, and the balancer goes on", async () => {
    const host = await create("xen");
    const [vm, other] = [await host.boot({ vcpus: 2, memory: "8MiB" }), await host.boot({ vcpus: 2, memory: "8MiB" })];
    await Promise.all([vm.destroy(), vm.destroy()]);
    expect(host.vms).toEqual([other]);
    expect(await host.balance()).toEqual([]);
    await Promise.all([other.destroy(), host.dispose(), host.dispose()]);
  });

  test("a machine that boots while its host ends is none", async () => {
    for (const delay of [0, 20, 60, 120]) {
      const host = await create("xen");
      const booted = host.boot({ vcpus: 1, memory: "8MiB" }).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, delay));
      await host.dispose();
      await booted;
      expect(host.vms).toEqual([]);
    }
  });

  test("a kernel that does not answer is ended all the same", async () => {
    const host = await create("xen");
    const vm = await host.boot({ vcpus: 1, memory: "8MiB" });
    await vm.guest.hold();
    await host.dispose();
  }, 20_000);

  test("calls that are refused change nothing", async () => {
    const host = await create("xen");
    const vm = await host.boot({ vcpus: 2, memory: "32MiB" });
    const heap = await vm.createHeap();
    const worker = await thread(ATTACH);
    await told(worker, heap.handle(1));
    await expect(vm.endHeap(heap)).rejects.toMatchObject({ code: "NUMAHEAP_HEAP_IN_USE" });
    expect(heap.malloc(10)).toBeGreaterThan(0);
    const { pid } = await vm.guest.newTask({ vcpu: 0 });
    await expect(vm.guest.newTask({ vcpu: 99 })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
    await expect(vm.guest.newTask({ vcpu: 0, pid: pid + 1 })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
    await expect(vm.port(undefined as never)).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  }, 20_000);
});
