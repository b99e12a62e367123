// How soon a change of the machine reaches a thread that allocates: from the call of the hypervisor's operation until the change can be seen
// in the heap, until the thread's first block on its true node, and until the last cached block of another node has gone. Hypervisor,
// guest and operations run in one thread, the one that allocates is another.

import type { Seen } from "./probe-protocol.js";
import { Probe } from "./probe.js";
import { type Pairing, Rig } from "./rig.js";

export const EVENTS = ["vcpu migration", "page migration", "ballooning", "live migration"] as const;
export type EventKind = (typeof EVENTS)[number];

/** Microseconds since the operation was called. */
export interface Sample {
  readonly epoch: number;
  readonly local: number;
  readonly clean: number;
  /** Blocks of other nodes that were handed out after the epoch could be seen. */
  readonly stale: number;
}

/** Frames [first, end) that the thread has cached blocks in. */
interface Cached {
  readonly first: number;
  readonly end: number;
}

interface Event {
  /** Nodes of the host; 4 if not said. */
  readonly nodes?: number;
  /** Share of the machine's frames that the heap begins with. */
  readonly heapShare?: number;
  /** vCPU the thread runs on. */
  readonly vcpu: number;
  /** What has to be so before each operation. */
  prepare?(rig: Rig): Promise<void>;
  act(rig: Rig, cached: Cached, probe: Probe): unknown;
  /** What is to be undone after it. */
  restore?(rig: Rig, cached: Cached): void;
}

/** No span of the blocks a probe caches is longer. */
const SPAN_PAGES = 8;
/** Frames that go into the balloon and come back. */
const BALLOONED = 512;

const OPERATIONS: Readonly<Record<EventKind, Event>> = {
  "vcpu migration": {
    vcpu: 2,
    act: ({ hypervisor, vm }) => hypervisor.migrateVcpu(vm, 2, { toNode: (vm.cpus[2]!.node + 1) % hypervisor.nodes }),
  },
  // What the thread has cached moves away from its node, with all of the spans it is in: a span that is cut belongs to the larger part.
  "page migration": {
    vcpu: 2,
    act: ({ hypervisor, vm }, { first, end }) => hypervisor.migratePages(vm, first - SPAN_PAGES, end - first + 2 * SPAN_PAGES, 3),
    restore: ({ hypervisor, vm }, { first, end }) => void hypervisor.migratePages(vm, first - SPAN_PAGES, end - first + 2 * SPAN_PAGES, 2),
  },
  // The thread's node has none of the machine's memory, until frames that went from the other node come back on this one: the heap has the
  // half of the machine that does not.
  ballooning: {
    nodes: 2,
    heapShare: 1 / 2,
    vcpu: 1,
    prepare: async ({ hypervisor, vm, guest, driver }) => {
      hypervisor.migratePages(vm, 0, vm.frames, 0);
      hypervisor.setBalloonTarget(vm, vm.frames - BALLOONED);
      await driver.settled();
      await guest.balloon.idle();
    },
    act: ({ hypervisor, vm }) => hypervisor.setBalloonTarget(vm, vm.frames),
  },
  "live migration": {
    vcpu: 3,
    act: (rig, _, probe) => rig.migrateLive(rig.hypervisor.nodes === 4 ? 2 : 4, (during) => probe.stopFor(during)),
  },
};

const since = (start: bigint, time: bigint): number => Number(time - start) / 1000;

/** Changes of each kind made before anything is measured. */
const WARM_UP = 1000;
/** Operations on one machine: each leaves it a little less like one that has just been booted. */
const A_MACHINE = 25;

/**
 * Measures an event so many times.
 * @throws {Error} if a change never reaches the thread, or it never gets a block on its node
 */
export async function measureAdaptation(pairing: Pairing, kind: EventKind, count: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  while (samples.length < count)
    samples.push(...(await onOneMachine(pairing, OPERATIONS[kind], Math.min(A_MACHINE, count - samples.length))));
  return samples;
}

async function onOneMachine(pairing: Pairing, event: Event, count: number): Promise<Sample[]> {
  const rig = await Rig.boot({ ...pairing, ...(event.nodes !== undefined && { nodes: event.nodes }) });
  const probe = await Probe.start(await rig.makeHeap(event.heapShare), rig.guest.layout, event.vcpu);
  await warmUp(rig);
  const samples: Sample[] = [];
  while (samples.length < count) {
    await event.prepare?.(rig);
    await rig.settle();
    const cached = await probe.prime();
    await probe.watch();
    const start = process.hrtime.bigint();
    const [seen] = await Promise.all([probe.seen(), event.act(rig, cached, probe)]);
    samples.push(sampleOf(seen, start));
    event.restore?.(rig, cached);
  }
  await probe.end();
  await rig.end();
  return samples;
}

/** What is measured is no code that runs for the first time. All is where it was in the end. */
async function warmUp({ hypervisor, vm, driver }: Rig): Promise<void> {
  const { node } = vm.cpus[0]!;
  const last = vm.frames - 1;
  const home = vm.nodeOf(last);
  for (let i = WARM_UP; i >= 0; --i) {
    hypervisor.migrateVcpu(vm, 0, { toNode: (node + i) % hypervisor.nodes });
    await driver.settled();
    hypervisor.migratePages(vm, last, 1, (home + i) % hypervisor.nodes);
    await driver.settled();
  }
}

function sampleOf({ epoch, local, clean, stale, complete }: Seen, start: bigint): Sample {
  if (!complete) throw new Error(`the change has not reached the thread, which has got ${stale} blocks of other nodes since`);
  return { epoch: since(start, epoch), local: since(start, local), clean: since(start, clean), stale };
}
