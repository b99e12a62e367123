// Where FreeBSD puts pages: each policy, objects before threads, domains numbered densely, and what sysctl shows.
import { beforeEach, describe, expect, test } from "vitest";
import { OWNER_KERNEL } from "../../src/guest/frame-table.js";
import * as D from "../../src/guest/freebsd/domainset.js";
import type { FreeBsd, FreeBsdProcess, FreeBsdThread } from "../../src/guest/freebsd/freebsd.js";
import { Sysctl } from "../../src/guest/freebsd/sysctl.js";
import { maskOf } from "../../src/guest/node-set.js";
import { type FakePlatform, FRAME, ring } from "../support/fake-platform.js";
import { bootFreeBsd, expectSound } from "../support/guests.js";

let freebsd: FreeBsd;
let platform: FakePlatform;
let process: FreeBsdProcess;
let thread: FreeBsdThread;

async function start(options = {}): Promise<void> {
  ({ guest: freebsd, platform } = await bootFreeBsd(options));
  process = freebsd.spawn();
  thread = process.newThread(1);
}
beforeEach(() => start());

const set = (policy: number, nodes?: number[], prefer?: number): D.Domainset => D.domainset(policy, nodes && maskOf(nodes), prefer);
/** The thread's set, whatever a call would say to it. */
const give = (domainset: D.Domainset): void => expect(freebsd.cpusets.setThreads([thread], domainset)).toBe(0);
const touch = (address: number, pages: number, by = thread): number[] =>
  Array.from({ length: pages }, (_, i) => freebsd.access(by, address + i * FRAME));
const placed = (pages: number): number[] => touch(process.mmap(pages * FRAME), pages);

function exhaust(node: number, left = 0): void {
  while (freebsd.lists.freeOn(node) > left) freebsd.lists.alloc(0, [node], OWNER_KERNEL);
}

describe("visiting", () => {
  const place = { cpu: 2, withMemory: maskOf([0, 1, 2, 3]), stripe: 5 };
  const order = (domainset: D.Domainset, iterator = 0, at = place): number[] => [...D.visit({ domainset, iterator }, at)];

  test("each domain once, the policy's first, then round", () => {
    expect(order(set(D.DOMAINSET_POLICY_FIRSTTOUCH))).toEqual([2, 1, 3, 0]);
    expect(order(set(D.DOMAINSET_POLICY_ROUNDROBIN))).toEqual([1, 2, 3, 0]);
    expect(order(set(D.DOMAINSET_POLICY_ROUNDROBIN), 3)).toEqual([0, 1, 2, 3]);
    expect(order(set(D.DOMAINSET_POLICY_PREFER, undefined, 3))).toEqual([3, 1, 2, 0]);
    expect(order(set(D.DOMAINSET_POLICY_INTERLEAVE), 9)).toEqual([1, 2, 3, 0]);
  });

  test("within the set", () => {
    expect(order(set(D.DOMAINSET_POLICY_FIRSTTOUCH, [1, 2]))).toEqual([2, 1]);
    expect(order(set(D.DOMAINSET_POLICY_INTERLEAVE, [0, 3]))).toEqual([3, 0]);
    // First touch from outside is a round.
    expect(order(set(D.DOMAINSET_POLICY_FIRSTTOUCH, [0, 3]))).toEqual([3, 0]);
  });

  test("without domains that have no memory; with none at all it is the default", () => {
    const some = { ...place, withMemory: maskOf([0, 3]) };
    expect(order(set(D.DOMAINSET_POLICY_ROUNDROBIN, [0, 1, 3]), 0, some)).toEqual([3, 0]);
    expect(order(set(D.DOMAINSET_POLICY_PREFER, undefined, 1), 0, some)).toEqual([3, 0]);
    expect(order(set(D.DOMAINSET_POLICY_FIRSTTOUCH, [1, 2]), 0, some)).toEqual([3, 0]);
    expect(order(set(D.DOMAINSET_POLICY_FIRSTTOUCH, [1, 2]), 0, { ...some, stripe: 6 })).toEqual([0, 3]);
  });

  test("only as far as it is followed does the iterator move", () => {
    const ref = { domainset: set(D.DOMAINSET_POLICY_ROUNDROBIN), iterator: 0 };
    for (const expected of [1, 2, 3, 0]) expect(D.visit(ref, place).next().value).toBe(expected);
    expect(ref.iterator).toBe(4);
  });
});

describe("each policy", () => {
  test("first touch is where threads begin", () => {
    expect(thread.domainset).toEqual(D.FIRST_TOUCH);
    expect(placed(3)).toEqual([1, 1, 1]);
    thread.vcpu = 3;
    expect(placed(1)).toEqual([3]);
    exhaust(3);
    expect(placed(4)).toEqual([1, 2, 0, 1]);
  });

  test("round robin goes on from page to page, whatever the mapping", () => {
    give(set(D.DOMAINSET_POLICY_ROUNDROBIN, [0, 2, 3]));
    expect([...placed(4), ...placed(3)]).toEqual([2, 3, 0, 2, 3, 0, 2]);
    exhaust(3);
    expect(placed(3)).toEqual([0, 2, 0]);
  });

  test("prefer, and round the others when it is full", () => {
    give(set(D.DOMAINSET_POLICY_PREFER, undefined, 2));
    exhaust(2, 2);
    expect(placed(6)).toEqual([2, 2, 1, 3, 0, 1]);
  });

  test("interleave in stripes of 2 MiB, each object beginning one further", async () => {
    await start({ frames: 4096 });
    give(set(D.DOMAINSET_POLICY_INTERLEAVE, [0, 1, 3]));
    expect(D.STRIPE_PAGES).toBe(256);
    const stripes = (nodes: number[]): [number, number][] =>
      nodes.reduce<[number, number][]>((runs, node) => {
        const last = runs.at(-1);
        if (last?.[0] === node) ++last[1];
        else runs.push([node, 1]);
        return runs;
      }, []);
    expect(stripes(placed(700))).toEqual([
      [0, 256],
      [1, 256],
      [3, 188],
    ]);
    expect(stripes(placed(300))).toEqual([
      [1, 256],
      [3, 44],
    ]);
    expectSound(freebsd, platform);
  });

  test("a part of a mapping is of the same object as the rest", async () => {
    await start({ frames: 4096 });
    give(set(D.DOMAINSET_POLICY_INTERLEAVE));
    const address = process.mmap(600 * FRAME);
    const first = address / FRAME;
    process.unmap(first + 10, first + 300);
    expect(freebsd.access(thread, address + 5 * FRAME)).toBe(0);
    expect(freebsd.access(thread, address + 300 * FRAME)).toBe(1);
    expect(freebsd.access(thread, address + 599 * FRAME)).toBe(2);
  });
});

describe("which policy holds", () => {
  test("the object's before the thread's", () => {
    give(set(D.DOMAINSET_POLICY_PREFER, undefined, 0));
    const [plain, own] = [process.mmap(4 * FRAME), process.mmap(4 * FRAME)];
    freebsd.setObjectPolicy(process, own, set(D.DOMAINSET_POLICY_ROUNDROBIN, [2, 3]));
    expect(touch(own, 2)).toEqual([3, 2]);
    expect(touch(plain, 2)).toEqual([0, 0]);
    // Its iterator is its own, whoever touches it.
    expect(touch(own + 2 * FRAME, 2, process.newThread(0))).toEqual([3, 2]);
    expect(thread.iterator).toBe(0);
    freebsd.setObjectPolicy(process, plain, set(D.DOMAINSET_POLICY_PREFER, undefined, 3));
    expect(touch(plain + 2 * FRAME, 1)).toEqual([3]);
    freebsd.setObjectPolicy(process, plain, undefined);
    expect(touch(plain + 3 * FRAME, 1)).toEqual([0]);
    expect(() => freebsd.setObjectPolicy(process, FRAME, undefined)).toThrow(
      expect.objectContaining({ code: "NUMAHEAP_INVALID_ARGUMENT" }),
    );
  });
});

describe("domains", () => {
  const domains = (): number[] => Array.from({ length: freebsd.ndomains }, (_, domain) => freebsd.nodeOfDomain(domain));

  test("are numbered from 0 without gaps, whatever the nodes", async () => {
    await start({ nodeOf: (gfn: number) => (gfn < 512 ? 1 : 3) });
    expect(domains()).toEqual([1, 3]);
    expect([0, 1, 2, 3].map((node) => freebsd.domainOfNode(node))).toEqual([-1, 0, -1, 1]);
    expect(freebsd.nodeOfDomain(2)).toBe(-1);
    // CPUs of nodes without memory belong to the nearest.
    expect([0, 1, 2, 3].map((vcpu) => freebsd.domainOfVcpu(vcpu))).toEqual([0, 0, 0, 1]);
    expect(freebsd.domainsOf(maskOf([0, 1, 3]))).toBe(0b11);
    expect(freebsd.nodesOfDomains(0b10)).toBe(maskOf([3]));
    expect(freebsd.nodesOfDomains(0b100)).toBeUndefined();
  });

  test("are numbered anew when memory comes and goes; sets stay what they are", () => {
    give(set(D.DOMAINSET_POLICY_ROUNDROBIN, [2, 3]));
    expect(placed(2)).toEqual([3, 2]);
    platform.moveFrames(256, 512, 0);
    expect(domains()).toEqual([0, 3]);
    expect(placed(2)).toEqual([3, 3]);
    platform.happen({ kind: "frames", first: 768, count: 256, node: 0 });
    expect(domains()).toEqual([0]);
    expect(placed(2)).toEqual([0, 0]);
    platform.happen({ kind: "frames", first: 300, count: 20, node: 2 });
    expect(domains()).toEqual([0, 2]);
    expect(placed(2)).toEqual([2, 2]);
    expectSound(freebsd, platform);
  });

  test("4 nodes, then 2, then 4", () => {
    give(set(D.DOMAINSET_POLICY_PREFER, undefined, 3));
    platform.happen(
      { kind: "frames", first: 512, count: 512, node: 1 },
      { kind: "vcpu", vcpu: 2, node: 0 },
      { kind: "vcpu", vcpu: 3, node: 1 },
      { kind: "nodes", distances: ring(2) },
    );
    expect(domains()).toEqual([0, 1]);
    expect(placed(2).sort()).toEqual([0, 1]);
    platform.happen({ kind: "nodes", distances: ring(4) }, { kind: "frames", first: 900, count: 100, node: 3 });
    expect(domains()).toEqual([0, 1, 3]);
    expect(placed(2)).toEqual([3, 3]);
    expectSound(freebsd, platform);
  });
});

describe("sysctl", () => {
  test("shows the flat machine, whatever happens below it", () => {
    const sysctl = new Sysctl(freebsd);
    const read = () => Object.fromEntries(sysctl.list().map((name) => [name, sysctl.read(name)]));
    const before = read();
    expect(before).toEqual({
      "vm.ndomains": 1,
      "vm.numa.disabled": 1,
      "vm.phys_locality": "0: 10 \n",
      "vm.phys_segs": "\nSEGMENT 0:\n\nstart:     0xc000\nend:       0x800000\ndomain:    0\n",
      "vm.stats.vm.v_page_count": 1024,
      "vm.stats.vm.v_free_count": 1018,
      "vm.domain.0.stats.free_count": 1018,
    });
    platform.happen({ kind: "vcpu", vcpu: 0, node: 3 }, { kind: "frames", first: 0, count: 512, node: 2 });
    expect(read()).toEqual(before);
    expect(freebsd.ndomains).toBe(2);
    placed(8);
    expect(sysctl.read("vm.domain.0.stats.free_count")).toBe(1010);
    expect(sysctl.read("vm.domain.1.stats.free_count")).toBeUndefined();
  });

  test("shows the domains of a machine that was booted with them: those with memory", async () => {
    await start({ mode: "static", nodeOf: (gfn: number) => (gfn < 512 ? 1 : 3), ballooned: [] });
    const sysctl = new Sysctl(freebsd);
    expect(sysctl.read("vm.ndomains")).toBe(2);
    expect(sysctl.read("vm.numa.disabled")).toBe(0);
    expect(sysctl.read("vm.phys_locality")).toBe("0: 10 30 \n1: 30 10 \n");
    expect(sysctl.read("vm.phys_segs")).toContain("\nSEGMENT 1:\n\nstart:     0x400000\nend:       0x800000\ndomain:    1\n");
    expect(sysctl.read("vm.domain.0.stats.free_count")).toBe(506);
  });

  test("without a table of distances there are none", async () => {
    const bare = Object.assign(Object.create(platform) as FakePlatform, { slit: new Uint8Array() });
    const guest = await (freebsd.constructor as typeof FreeBsd).boot({ platform: bare, memory: platform.memory });
    expect(new Sysctl(guest).read("vm.phys_locality")).toBe("0: -1 \n");
  });

  test("has no variable by a name that objects have", () => {
    for (const name of ["__proto__", "constructor", "toString", "valueOf", "hasOwnProperty"])
      expect(new Sysctl(freebsd).read(name)).toBeUndefined();
  });

  test("frames of the balloon are no pages", async () => {
    platform.target(1000);
    await freebsd.balloon.idle();
    expect(new Sysctl(freebsd).read("vm.stats.vm.v_page_count")).toBe(1000);
    expect(new Sysctl(freebsd).read("vm.stats.vm.v_free_count")).toBe(994);
  });
});
