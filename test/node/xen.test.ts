// What is Xen's own: event channels and their edges, get_vnumainfo, XenStore, hypercalls of a guest that means no good.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { E2BIG, EACCES, EEXIST, EINVAL, ENOBUFS, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP } from "../../src/hypervisor/errors.js";
import type { Line } from "../../src/hypervisor/connection.js";
import { EventChannels, VIRQ_TOPOLOGY, XENSTORE_PORT } from "../../src/hypervisor/xen/event-channel.js";
import * as X from "../../src/hypervisor/xen/hypercalls.js";
import { SharedInfo } from "../../src/hypervisor/xen/shared-info.js";
import type { VnumaInfo } from "../../src/hypervisor/xen/vnuma-info.js";
import { Xen, type XenConnection } from "../../src/hypervisor/xen/xen.js";
import { DOM0, XenStore } from "../../src/hypervisor/xen/xenstore.js";
import { audit, boot, MIB, ring, TestGuest } from "../support/hypervisor-rig.js";

describe("event channels", () => {
  const rig = (): { info: SharedInfo; channels: EventChannels; raised: () => number } => {
    const info = new SharedInfo(new SharedArrayBuffer(65536));
    let count = 0;
    const line: Line = { raise: () => void ++count };
    return { info, channels: new EventChannels(info, 4, line), raised: () => count };
  };

  test("an event is an edge: until the guest clears it, a second one is the same", () => {
    const { info, channels, raised } = rig();
    const port = channels.bindVirq(VIRQ_TOPOLOGY, 2);
    info.unmask(port);
    channels.raiseVirq(VIRQ_TOPOLOGY, 2);
    channels.raiseVirq(VIRQ_TOPOLOGY, 2);
    expect([raised(), info.isPending(port), info.takeUpcall(2), info.takeUpcall(0)]).toEqual([1, true, true, false]);
    expect(info.takeSelector(2)).toBe(1 << (port >> 5));
    // The upcall is gone, the channel not cleared: nothing more is raised.
    channels.raiseVirq(VIRQ_TOPOLOGY, 2);
    expect(raised()).toBe(1);
    info.clearPending(port);
    channels.raiseVirq(VIRQ_TOPOLOGY, 2);
    expect(raised()).toBe(2);
  });

  test("a masked channel becomes pending without an upcall, and unmasking looks again", () => {
    const { info, channels, raised } = rig();
    const port = channels.bindVirq(VIRQ_TOPOLOGY, 1);
    expect(info.isMasked(port)).toBe(true);
    channels.raiseVirq(VIRQ_TOPOLOGY, 1);
    expect([raised(), info.isPending(port), info.deliverable(0), info.takeUpcall(1)]).toEqual([0, true, 0, false]);
    expect(channels.unmask(port)).toBe(0);
    expect([raised(), info.isMasked(port), info.takeUpcall(1)]).toEqual([1, false, true]);
    // Nothing pending: unmasking raises nothing.
    info.clearPending(port);
    info.takeSelector(1);
    info.mask(port);
    channels.unmask(port);
    expect(raised()).toBe(1);
  });

  test("several channels of a vCPU are one upcall; a vCPU that masks upcalls finds it when it looks", () => {
    const { info, channels, raised } = rig();
    const ports = [VIRQ_TOPOLOGY, 0, 1].map((virq) => channels.bindVirq(virq, 3));
    for (const port of ports) info.unmask(port);
    for (const virq of [VIRQ_TOPOLOGY, 0, 1]) channels.raiseVirq(virq, 3);
    expect(raised()).toBe(1);
    // Of several words too.
    for (let virq = 2; virq < VIRQ_TOPOLOGY; ++virq) for (const vcpu of [1, 2, 3]) channels.bindVirq(virq, vcpu);
    const far = channels.portOf(VIRQ_TOPOLOGY - 1, 3)!;
    expect(far).toBeGreaterThan(31);
    info.unmask(far);
    channels.raiseVirq(VIRQ_TOPOLOGY - 1, 3);
    expect([raised(), info.takeSelector(3)]).toEqual([1, 3]);
    const idle = channels.bindVirq(VIRQ_TOPOLOGY, 0);
    info.unmask(idle);
    info.maskUpcalls(0, true);
    channels.raiseVirq(VIRQ_TOPOLOGY, 0);
    expect([raised(), info.takeUpcall(0)]).toEqual([1, true]);
  });

  test("bind, close, send and unmask refuse what is not there", () => {
    const { info, channels } = rig();
    const port = channels.bindVirq(VIRQ_TOPOLOGY, 0);
    expect(channels.bindVirq(VIRQ_TOPOLOGY, 0)).toBe(-EEXIST);
    expect(channels.bindVirq(VIRQ_TOPOLOGY, 4)).toBe(-ENOENT);
    expect(channels.bindVirq(24, 0)).toBe(-EINVAL);
    expect([channels.unmask(99), channels.close(99), channels.close(XENSTORE_PORT), channels.send(port)]).toEqual(Array(4).fill(-EINVAL));
    expect(channels.send(XENSTORE_PORT)).toBe(0);
    channels.raiseVirq(VIRQ_TOPOLOGY, 0);
    expect(channels.close(port)).toBe(0);
    expect(info.isPending(port)).toBe(false);
    channels.raiseVirq(VIRQ_TOPOLOGY, 0); // bound by nobody
    channels.setPending(port);
    expect(info.isPending(port)).toBe(false);
    expect(channels.bindVirq(VIRQ_TOPOLOGY, 0)).toBe(port);
  });
});

describe("telling a guest", () => {
  const machine = ring(4, 2, 512);

  test("what changes between two looks is one event, however much it is", async () => {
    const { hypervisor, vm, guest } = await boot(new Xen(machine));
    for (let i = 0; i < 10; ++i) {
      hypervisor.migrateVcpu(vm, 0, { toNode: (i + 1) % 4 });
      hypervisor.migratePages(vm, 50 + 10 * i, 10, 3 - (i % 4));
    }
    await guest.platform.settled();
    expect(guest.calls.length).toBe(1);
    expect(guest.deliveries).toMatchObject([{ what: "VIRQ_TOPOLOGY", changes: guest.calls[0]!.length }]);
    expect(guest.deliveries[0]!.raised).toBeLessThanOrEqual(guest.deliveries[0]!.delivered);
    expect(await guest.wrong(hypervisor)).toEqual([]);
  });

  test("what changes and changes back before the guest looks is nothing", async () => {
    const { hypervisor, vm, guest } = await boot(new Xen(machine));
    hypervisor.migrateVcpu(vm, 0, { toNode: 2 });
    hypervisor.migrateVcpu(vm, 0, { toNode: 0 });
    await guest.platform.settled();
    expect(guest.calls).toEqual([]);
  });

  test("a vCPU that moves costs no hypercall", async () => {
    const hypervisor = new Xen(machine);
    const vm = hypervisor.createVm({ vcpus: 4, memory: 4 * MIB });
    const calls: number[] = [];
    const connection = hypervisor.connect(vm);
    const counted: XenConnection = { ...connection, hypercall: (call) => (calls.push(call.cmd), connection.hypercall(call)) };
    const guest = await new TestGuest(counted, vm).boot();
    calls.length = 0;
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    await guest.platform.settled();
    expect([guest.vcpus[1], calls]).toEqual([3, []]);
    hypervisor.migratePages(vm, 100, 1, 2);
    await guest.platform.settled();
    expect([guest.frames[100], calls]).toEqual([2, [X.XENMEM_GET_VNUMAINFO]]);
  });

  test("events that come while the guest looks are found when it unmasks", async () => {
    const hypervisor = new Xen(machine);
    const vm = hypervisor.createVm({ vcpus: 4, memory: 4 * MIB });
    const connection = hypervisor.connect(vm);
    let left = 0;
    const during = (): void => void (left-- > 0 && hypervisor.migratePages(vm, 100 + left, 1, 3));
    // A change right behind each answer: the handler is at work, its channel masked.
    let interrupts = 0;
    const late: XenConnection = {
      ...connection,
      onInterrupt: (handler) => connection.onInterrupt(() => (++interrupts, handler())),
      hypercall: async (call) => {
        const answer = await connection.hypercall(call);
        if (call.cmd === X.XENMEM_GET_VNUMAINFO) during();
        return answer;
      },
    };
    const guest = await new TestGuest(late, vm).boot();
    left = 5;
    hypervisor.migratePages(vm, 200, 1, 3);
    await new Promise((resolve) => setTimeout(resolve, 0));
    // The channel was masked meanwhile: nobody was interrupted.
    expect([guest.calls.length, interrupts]).toEqual([6, 1]);
    expect(await guest.wrong(hypervisor)).toEqual([]);
  });

  test("a guest whose handler throws stops neither its driver nor the hypervisor", async () => {
    const { hypervisor, vm, guest } = await boot(new Xen(machine));
    const thrown: unknown[] = [];
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => thrown.push(error));
    const handle = guest.topologyChanged.bind(guest);
    guest.topologyChanged = () => {
      guest.topologyChanged = handle;
      throw new Error("the guest's own fault");
    };
    hypervisor.migrateVcpu(vm, 1, { toNode: 3 });
    await guest.platform.settled();
    hypervisor.migrateVcpu(vm, 2, { toNode: 0 });
    await guest.platform.settled();
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const listener of listeners) process.on("uncaughtException", listener);
    expect(String(thrown[0])).toContain("the guest's own fault");
    expect(guest.vcpus[2]).toBe(0);
  });
});

test("get_vnumainfo says how much there is, and fills nothing that has no room", async () => {
  const hypervisor = new Xen(ring(4, 2, 512));
  const vm = hypervisor.createVm({ vcpus: 3, memory: 4 * MIB });
  hypervisor.migratePages(vm, 10, 1, 3);
  const { hypercall } = hypervisor.connect(vm);
  const ask = ([nr_vnodes, nr_vcpus, nr_vmemranges]: readonly number[]): ReturnType<typeof hypercall> =>
    hypercall({ op: X.MEMORY_OP, cmd: X.XENMEM_GET_VNUMAINFO, args: { nr_vnodes, nr_vcpus, nr_vmemranges } });
  const counts = { nr_vnodes: 4, nr_vcpus: 3, nr_vmemranges: 6 };
  for (const room of [
    [3, 3, 6],
    [4, 2, 6],
    [4, 3, 5],
    [0, 0, 0],
  ]) {
    expect(await ask(room)).toEqual({ status: -ENOBUFS, value: counts });
  }
  const { status, value } = await ask([4, 3, 6]);
  const info = value as VnumaInfo;
  expect(status).toBe(0);
  expect(info).toMatchObject(counts);
  expect([...info.vdistance]).toEqual(hypervisor.machine.distances.flat());
  expect([...info.vcpu_to_vnode]).toEqual([0, 1, 2]);
  expect([...info.vmemrange.subarray(0, 12)]).toEqual([0, 81920, 0, 0, 81920, 90112, 0, 3, 90112, 1048576, 0, 0]);
  const blind = hypervisor.createVm({ vcpus: 1, memory: MIB, mode: "flat" });
  const room = { nr_vnodes: 9, nr_vcpus: 9, nr_vmemranges: 99 };
  const answer = await hypervisor.connect(blind).hypercall({ op: X.MEMORY_OP, cmd: X.XENMEM_GET_VNUMAINFO, args: room });
  expect(answer.status).toBe(-EOPNOTSUPP);
});

describe("XenStore", () => {
  const store = (): { it: XenStore; fired: number[] } => {
    const fired: number[] = [];
    return { it: new XenStore((domain) => fired.push(domain)), fired };
  };

  test("a watch fires once when it is registered, then for its node and all below", () => {
    const { it, fired } = store();
    expect(it.watch(1, "memory/target", "t")).toBe(0);
    expect([it.takeEvents(1), fired]).toEqual([[{ path: "memory/target", token: "t" }], [1]]);
    it.write(DOM0, "/local/domain/1/memory/target", "8");
    it.write(DOM0, "/local/domain/1/memory/target", "16");
    it.write(DOM0, "/local/domain/1/memory/target/below", "");
    it.write(DOM0, "/local/domain/1/memory/other", "");
    it.write(DOM0, "/local/domain/2/memory/target", "");
    expect(it.takeEvents(1)).toEqual([
      { path: "memory/target", token: "t" },
      { path: "memory/target/below", token: "t" },
    ]);
    expect(it.takeEvents(1)).toEqual([]);
    expect(it.watch(1, "memory/target", "t")).toBe(-EEXIST);
    expect(it.unwatch(1, "memory/target", "t")).toBe(0);
    expect(it.unwatch(1, "memory/target", "t")).toBe(-ENOENT);
    it.write(DOM0, "/local/domain/1/memory/target", "4");
    expect(it.takeEvents(1)).toEqual([]);
  });

  test("a guest reads its own home and writes below data and control", () => {
    const { it } = store();
    it.write(DOM0, "/local/domain/1/memory/target", "8");
    it.write(DOM0, "/local/domain/2/name", "other");
    expect(it.read(1, "memory/target")).toBe("8");
    expect(it.read(1, "/local/domain/1/memory/target")).toBe("8");
    expect(it.read(1, "memory/nothing")).toBe(-ENOENT);
    expect(it.read(1, "/local/domain/2/name")).toBe(-EACCES);
    expect(it.read(1, "/tool")).toBe(-EACCES);
    expect(it.write(1, "memory/target", "1")).toBe(-EACCES);
    expect(it.remove(1, "memory")).toBe(-EACCES);
    expect(it.write(1, "data/a/b", "x")).toBe(0);
    expect([it.read(1, "data/a/b"), it.read(1, "data/a"), it.directory(1, "data"), it.directory(1, "data/x")]).toEqual([
      "x",
      "",
      ["a"],
      -ENOENT,
    ]);
    expect(it.directory(1, "/local/domain/2")).toBe(-EACCES);
    expect(it.remove(1, "data/a")).toBe(0);
    expect(it.read(1, "data/a/b")).toBe(-ENOENT);
    expect(it.remove(1, "data/a")).toBe(-ENOENT);
    for (const path of ["", "/", "a//b", "a/", "data/ü", "data/a b", "data/../memory/target"])
      expect(it.write(1, path, ""), path).toBe(-EINVAL);
    expect(it.write(1, `data/${"a".repeat(2048)}`, "")).toBe(-E2BIG);
    expect(it.write(1, "data/a", "v".repeat(4097))).toBe(-E2BIG);
    expect(it.watch(1, "data", "t".repeat(4097))).toBe(-E2BIG);
  });

  test("whatever a guest asks for, nothing outside its own data and control changes", () => {
    const { it } = store();
    const kept = ["/local/domain/1/memory/target", "/local/domain/1/name", "/local/domain/2/data/x", "/local/domain/11/data/x", "/tool/x"];
    for (const path of kept) it.write(DOM0, path, "kept");
    const part = fc.constantFrom(
      "local",
      "domain",
      "1",
      "2",
      "11",
      "memory",
      "target",
      "data",
      "control",
      "name",
      "tool",
      "x",
      "..",
      ".",
      "",
    );
    const path = fc.tuple(fc.constantFrom("", "/", "/local/domain/1/", "/local/domain/2/"), fc.array(part, { maxLength: 5 }));
    const call = fc.record({ path: path.map(([root, parts]) => root + parts.join("/")), value: fc.string(), what: fc.nat(5) });
    fc.assert(
      fc.property(call, ({ path: at, value, what }) => {
        const { length } = it.takeEvents(1);
        expect(length).toBeLessThanOrEqual(1024);
        if (what === 0) it.remove(1, at);
        else if (what === 1) it.watch(1, at, value);
        else if (what === 2) it.unwatch(1, at, value);
        else if (what === 3) it.directory(1, at);
        else expect(it.write(1, at, value)).toBeLessThanOrEqual(0);
        for (const path of kept) if (it.read(DOM0, path) !== "kept") expect.fail(`${at} changed ${path}`);
      }),
      { numRuns: 3000, seed: 10 },
    );
  });

  test("removal tells those who watch what is gone", () => {
    const { it } = store();
    it.write(1, "data/a/b", "x");
    it.watch(1, "data/a/b", "t");
    it.takeEvents(1);
    it.remove(1, "data/a");
    expect(it.takeEvents(1)).toEqual([{ path: "data/a/b", token: "t" }]);
  });

  test("nodes, watches and events that nobody takes are bounded", () => {
    const { it } = store();
    const until = (run: (i: number) => number): number => {
      for (let i = 0; i < 5000; ++i) if (run(i) !== 0) return i;
      return Infinity;
    };
    expect(until((i) => it.write(1, `data/n${i}`, ""))).toBe(999); // and data itself
    expect(it.write(1, "data/more", "")).toBe(-ENOSPC);
    expect(it.write(1, "data/n1", "again")).toBe(0);
    expect(until((i) => it.watch(1, "data", `t${i}`))).toBe(128);
    for (let i = 0; i < 999; ++i) it.write(1, `data/n${i}`, "");
    expect(it.takeEvents(1).length).toBe(1024);
    it.forget(1);
    expect(it.read(1, "data/n1")).toBe(-ENOENT);
  });
});

describe("a guest that means no good", () => {
  const snapshot = (hypervisor: Xen): unknown =>
    hypervisor.vms.map((vm) => [
      [...Array(vm.frames).keys()].map((gfn) => vm.p2m.get(gfn)),
      vm.cpus.map(({ cpu }) => cpu),
      vm.reserved,
      vm.policy,
      hypervisor.frames.free,
      hypervisor.store.read(DOM0, `/local/domain/${vm.id}/memory/target`),
      vm.tracker.count,
    ]);

  test("unknown and malformed hypercalls are answered, whatever they are, and change nothing", async () => {
    const { hypervisor, vm } = await boot(new Xen(ring(4, 2, 512)));
    const { hypercall } = hypervisor.connect(vm);
    const before = snapshot(hypervisor);
    const known = { op: X.MEMORY_OP, cmd: X.XENMEM_DECREASE_RESERVATION };
    const refused: [unknown, number][] = [
      [undefined, EINVAL],
      [null, EINVAL],
      [7, EINVAL],
      [{}, ENOSYS],
      [{ op: 99, cmd: 1 }, ENOSYS],
      [{ op: X.MEMORY_OP, cmd: 99 }, ENOSYS],
      [{ op: "constructor", cmd: "name" }, ENOSYS],
      [{ op: X.MEMORY_OP, cmd: "toString" }, ENOSYS],
      [known, EINVAL],
      [{ ...known, args: 5 }, EINVAL],
      [{ ...known, args: { gfns: "100" } }, EINVAL],
      [{ ...known, args: { gfns: [100, -1] } }, EINVAL],
      [{ ...known, args: { gfns: [100, 100] } }, EINVAL],
      [{ ...known, args: { gfns: [100, 512] } }, EINVAL],
      [{ ...known, args: { gfns: [1] } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_POPULATE_PHYSMAP, args: { gfns: [100] } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_ADVISE_NODE, args: { first: 500, count: 13, node: 1 } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_ADVISE_NODE, args: { first: 0, count: 1, node: 4 } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_ADVISE_NODE, args: { first: 0.5, count: 1, node: 0 } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_PAGE_MAPPING, args: { policy: 3 } }, EINVAL],
      [{ op: X.MEMORY_OP, cmd: X.XENMEM_PAGE_MAPPING, args: { policy: 1 } }, EOPNOTSUPP],
      [{ op: X.EVENT_CHANNEL_OP, cmd: X.EVTCHNOP_UNMASK, args: { port: 2 ** 40 } }, EINVAL],
      [{ op: X.XENSTORE_OP, cmd: X.XS_WRITE, args: { path: "memory/target", value: "0" } }, EACCES],
      [{ op: X.XENSTORE_OP, cmd: X.XS_WRITE, args: { path: {}, value: "0" } }, EINVAL],
    ];
    for (const [call, errno] of refused) expect((await hypercall(call as X.Hypercall)).status, JSON.stringify(call)).toBe(-errno);
    expect(snapshot(hypervisor)).toEqual(before);
  });

  test("random hypercalls: an answer each, the books in order, other machines untouched", async () => {
    const number = fc.oneof(fc.nat(600), fc.integer(), fc.double(), fc.constantFrom(2 ** 32 - 1, 2 ** 32, -1, NaN));
    const anything = fc.oneof(number, fc.string(), fc.anything(), fc.array(number, { maxLength: 6 }));
    const ops = [X.MEMORY_OP, X.EVENT_CHANNEL_OP, X.XENSTORE_OP];
    const cmds = fc.oneof(fc.nat(16), fc.constantFrom(X.XENMEM_GET_VNUMAINFO, X.XENMEM_PAGE_MAPPING, X.XENMEM_ADVISE_NODE), anything);
    const names = [
      "gfns",
      "first",
      "count",
      "node",
      "port",
      "virq",
      "vcpu",
      "path",
      "token",
      "value",
      "policy",
      "nr_vnodes",
      "nr_vcpus",
      "nr_vmemranges",
    ];
    const args = fc.oneof(fc.record(Object.fromEntries(names.map((name) => [name, anything])), { requiredKeys: [] }), anything);
    const { hypervisor, vm, guest } = await boot(new Xen(ring(4, 2, 1024)));
    const neighbour = await boot(hypervisor);
    const others = (): unknown => [neighbour.vm.truth(), neighbour.vm.reserved, neighbour.vm.tracker.count];
    const before = others();
    const { hypercall } = hypervisor.connect(vm);
    await fc.assert(
      fc.asyncProperty(fc.record({ op: fc.constantFrom(...ops, 0), cmd: cmds, args }), async (call) => {
        const { status } = await hypercall(call as X.Hypercall);
        expect(Number.isInteger(status)).toBe(true);
        if (status < 0) audit(hypervisor);
      }),
      { numRuns: 1500, seed: 4 },
    );
    audit(hypervisor);
    expect(others()).toEqual(before);
    guest.platform.stop();
  });

  test("bits set at random in shared_info reach nobody else and stop nothing", async () => {
    const { hypervisor, vm } = await boot(new Xen(ring(4, 2, 1024)));
    const neighbour = await boot(hypervisor);
    const page = new Uint8Array(vm.memory.buffer, 8192, 8192);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.nat(8127), async (bytes, at) => {
        page.set(bytes, at);
        hypervisor.migrateVcpu(vm, 0, { toNode: at % 4 });
        hypervisor.migratePages(vm, 100, 5, at % 4);
        hypervisor.migrateVcpu(neighbour.vm, 1, { toNode: at % 4 });
        expect(await neighbour.guest.wrong(hypervisor)).toEqual([]);
      }),
      { numRuns: 200, seed: 5 },
    );
    audit(hypervisor);
  });
});
