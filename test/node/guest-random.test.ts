// Both guests through any sequence of everything: topology changes of all kinds, balloons, heaps behind the kernel's back, processes whose
// pages come, move and go. In the end the kernel is sound, knows the truth, heaps know it, and no byte is lost.
import fc from "fast-check";
import { expect, test } from "vitest";
import { OWNER_FREE, OWNER_HEAP } from "../../src/guest/frame-table.js";
import { GuestError } from "../../src/guest/errors.js";
import type { Guest, PortablePolicy } from "../../src/guest/guest.js";
import type { PlatformChange } from "../../src/guest/platform.js";
import { type GuestThread, pageOf, type Process } from "../../src/guest/process.js";
import { busy, FakeHeap, type FakePlatform, FRAME, ring } from "../support/fake-platform.js";
import { bootGuest, expectSound, SYSTEMS } from "../support/guests.js";

const FRAMES = 1024;
const VCPUS = 4;
const n = fc.nat(2 ** 20);
const anyRange = fc
  .tuple(fc.nat(FRAMES - 1), fc.nat(300))
  .map(([first, count]) => ({ first, count: Math.max(1, Math.min(count, FRAMES - first)) }));
const anyStep = fc.oneof(
  fc.record({ kind: fc.constant("vcpu" as const), vcpu: fc.nat(VCPUS - 1), node: n }),
  fc.record({ kind: fc.constant("frames" as const), range: anyRange, node: n, more: fc.array(fc.tuple(anyRange, n), { maxLength: 3 }) }),
  fc.record({ kind: fc.constant("nodes" as const), count: fc.integer({ min: 1, max: 6 }) }),
  fc.record({
    kind: fc.constant("balloon" as const),
    target: fc.integer({ min: 300, max: FRAMES }),
    waits: fc.boolean(),
    tellsFirst: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("room" as const), frames: fc.option(fc.nat(200)) }),
  fc.record({ kind: fc.constant("claim" as const), range: anyRange, step: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant("release" as const), range: anyRange, step: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant("busy" as const), is: fc.boolean() }),
  fc.record({ kind: fc.constant("spawn" as const), vcpu: fc.nat(VCPUS - 1) }),
  fc.record({ kind: fc.constant("policy" as const), who: n, what: fc.nat(3), nodes: fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }) }),
  fc.record({ kind: fc.constant("map" as const), who: n, pages: fc.integer({ min: 1, max: 60 }) }),
  fc.record({ kind: fc.constant("write" as const), who: n, pages: fc.array(n, { maxLength: 30 }) }),
  fc.record({ kind: fc.constant("unmap" as const), who: n, at: n, pages: fc.integer({ min: 1, max: 30 }) }),
  fc.record({ kind: fc.constant("migrate" as const), who: n, pages: fc.array(n, { maxLength: 20 }), node: n }),
  fc.record({ kind: fc.constant("exit" as const), who: n }),
  fc.record({ kind: fc.constant("poll" as const) }),
);
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never;

class Run {
  readonly heap = new FakeHeap();
  readonly owner: number;
  readonly processes: { process: Process; thread: GuestThread; written: Map<number, number> }[] = [];
  stamp = 1;

  constructor(
    readonly guest: Guest,
    readonly platform: FakePlatform,
  ) {
    const { owner } = guest.grantHeap(8, 0);
    this.owner = owner;
    guest.registerHeap(this.heap);
    this.heap.onTrim = () => {
      let gave = false;
      for (let gfn = 500; gfn < 560; ++gfn) gave = guest.table.transfer(gfn, owner, OWNER_FREE, true) || gave;
      return gave;
    };
    platform.comesBackOn = (gfn) => (gfn * 7) % platform.distances.length;
  }

  #nodes(count: number): PlatformChange[] {
    const { platform } = this;
    const distances: PlatformChange = { kind: "nodes", distances: ring(count) };
    if (count >= platform.distances.length) return [distances];
    const changes: PlatformChange[] = [];
    platform.vcpuNode.forEach((node, vcpu) => node >= count && changes.push({ kind: "vcpu", vcpu, node: node % count }));
    // Frames of the balloon are nowhere: nobody is told of them.
    platform.nodeOf.forEach((node, gfn) => {
      if (node < count) return;
      if (platform.ballooned.has(gfn)) platform.nodeOf[gfn] = 0;
      else changes.push({ kind: "frames", first: gfn, count: 1, node: node % count });
    });
    return [...changes, distances];
  }

  #pagesOf(who: number): { process: Process; thread: GuestThread; written: Map<number, number>; pages: number[] } | undefined {
    const chosen = this.processes[who % Math.max(1, this.processes.length)];
    if (!chosen) return undefined;
    const pages = chosen.process.mappings.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i));
    return pages.length > 0 ? { ...chosen, pages } : undefined;
  }

  #write(step: Extract<Step, { kind: "write" }>): void {
    const chosen = this.#pagesOf(step.who);
    if (!chosen) return;
    const { process, thread, written, pages } = chosen;
    for (const i of step.pages) {
      const page = pages[i % pages.length]!;
      const value = this.stamp++;
      try {
        process.write(thread, page * FRAME, new Uint8Array(Uint32Array.of(value).buffer));
        written.set(page, value);
      } catch (error) {
        if (!(error instanceof GuestError) || error.code !== "NUMAHEAP_OUT_OF_MEMORY") throw error;
      }
    }
  }

  async step(step: Step): Promise<void> {
    const { guest, platform } = this;
    const count = platform.distances.length;
    switch (step.kind) {
      case "vcpu":
        return platform.moveVcpu(step.vcpu, step.node % count);
      case "frames":
        return platform.happen(
          ...[[step.range, step.node] as const, ...step.more].map(([range, node]): PlatformChange => ({
            kind: "frames",
            ...range,
            node: node % count,
          })),
        );
      case "nodes":
        return platform.happen(...this.#nodes(step.count));
      case "balloon":
        platform.tellsFirst = step.tellsFirst;
        platform.target(step.target);
        if (step.waits) await guest.balloon.idle();
        return;
      case "room":
        platform.room = step.frames ?? Infinity;
        return guest.balloon.kick();
      case "claim":
      case "release": {
        const [from, to] = step.kind === "claim" ? [OWNER_FREE, this.owner] : [this.owner, OWNER_FREE];
        const { first } = step.range;
        for (let gfn = Math.max(first, guest.layout.kernelFrames + 10); gfn < first + step.range.count; gfn += step.step) {
          if (!guest.table.transfer(gfn, from, to, true) || to === OWNER_FREE) continue;
          // As a heap does: it reads the node when the frame is its own.
          this.heap.nodeOf.set(gfn, guest.table.nodeOf(gfn));
        }
        return;
      }
      case "busy":
        this.heap.failure = step.is ? busy() : undefined;
        return;
      case "spawn": {
        const process = guest.spawn();
        this.processes.push({ process, thread: process.newThread(step.vcpu), written: new Map() });
        return;
      }
      case "policy":
        return this.#policy(step);
      case "map":
        this.processes[step.who % Math.max(1, this.processes.length)]?.process.mmap(step.pages * FRAME);
        return;
      case "write":
        return this.#write(step);
      case "unmap": {
        const chosen = this.#pagesOf(step.who);
        const first = chosen?.pages[step.at % chosen.pages.length];
        if (!chosen || first === undefined) return;
        chosen.process.unmap(first, first + step.pages);
        for (let page = first; page < first + step.pages; ++page) chosen.written.delete(page);
        return;
      }
      case "migrate": {
        const chosen = this.#pagesOf(step.who);
        if (!chosen) return;
        const pages = step.pages.map((i) => chosen.pages[i % chosen.pages.length]!);
        await guest.movePages(chosen.process, pages, step.node % count, chosen.thread.vcpu);
        return;
      }
      case "exit": {
        const [gone] = this.processes.splice(step.who % Math.max(1, this.processes.length), 1);
        gone?.process.exit();
        return;
      }
      case "poll":
        return guest.poll();
    }
  }

  #policy({ who, what, nodes }: Extract<Step, { kind: "policy" }>): void {
    const chosen = this.processes[who % Math.max(1, this.processes.length)];
    const policies: PortablePolicy[] = [
      { kind: "local" },
      { kind: "prefer", node: nodes[0]! },
      { kind: "interleave", nodes },
      { kind: "bind", nodes },
    ];
    try {
      if (chosen) this.guest.setPolicy(chosen.thread, policies[what]!);
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
    }
  }

  async end(): Promise<void> {
    const { guest, platform, heap } = this;
    platform.room = Infinity;
    heap.failure = undefined;
    guest.balloon.kick();
    await guest.balloon.idle();
    // Changes that come after the answer to a request.
    await new Promise((resolve) => setTimeout(resolve));
    expectSound(guest, platform);
    for (let gfn = 0; gfn < FRAMES; ++gfn) {
      if (guest.table.ownerOf(gfn) === this.owner) expect([gfn, heap.nodeOf.get(gfn)]).toEqual([gfn, platform.nodeOf[gfn]]);
      expect(guest.table.ownerOf(gfn)).toBeLessThanOrEqual(OWNER_HEAP);
    }
    for (let vcpu = 0; vcpu < VCPUS; ++vcpu) expect(heap.vcpuNode.get(vcpu)).toBe(guest.nodeOfVcpu(vcpu));
    expect(heap.nodes).toBe(platform.distances.length);
    expect(heap.distances).toEqual(platform.distances);
    for (const { process, thread, written } of this.processes) {
      expect(process.populated(0, Infinity).length).toBeGreaterThanOrEqual(written.size);
      for (const [page, value] of written) expect(new Uint32Array(process.read(thread, page * FRAME, 4).buffer)[0]).toBe(value);
      expect(process.populated(0, Infinity).every((page) => process.frameOf(page) >= 0 && pageOf(page * FRAME) === page)).toBe(true);
    }
    guest.stop();
  }
}

/** A node goes between the answer to a request for frames and the word where they lie. */
const NODE_GOES: { nodes: number; steps: Step[] } = {
  nodes: 1,
  steps: [
    { kind: "nodes", count: 2 },
    { kind: "balloon", target: 300, waits: true, tellsFirst: false },
    { kind: "balloon", target: 302, waits: false, tellsFirst: false },
    { kind: "room", frames: null },
    { kind: "nodes", count: 1 },
  ],
};

test.each(SYSTEMS)(
  "%s",
  async (system) => {
    const anyBoot = fc.record({ nodes: fc.integer({ min: 1, max: 4 }), steps: fc.array(anyStep, { maxLength: 60 }) });
    await fc.assert(
      fc.asyncProperty(anyBoot, async ({ nodes, steps }) => {
        const { guest, platform, problems } = await bootGuest(system, { frames: FRAMES, vcpus: VCPUS, distances: ring(nodes) });
        const run = new Run(guest, platform);
        let invocations = 0;
        const told = platform.handler!.topologyChanged;
        platform.handler = { ...platform.handler!, topologyChanged: (changes) => (++invocations, told(changes)) };
        for (const step of steps) await run.step(step);
        await run.end();
        expect(problems).toEqual([]);
        expect(guest.handlerInvocations).toBe(invocations);
      }),
      { numRuns: 120, examples: [[NODE_GOES]] },
    );
  },
  120_000,
);
