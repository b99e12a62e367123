// How soon a change of the machine reaches a thread that allocates: from the call of the hypervisor's operation until the change can be seen
// in the heap, until the thread's first block on its true node, and until the last cached block of another node has gone. The one that
// allocates is a thread of its own; hypervisor and guest run in the thread that calls the operations, or in one each.

import { HostMachine } from "./host-machine.js";
import { type Machine, RigMachine } from "./machine.js";
import type { Seen } from "./probe-protocol.js";
import { Probe } from "./probe.js";
import { MACHINE_BYTES, type Pairing } from "./rig.js";

export const EVENTS = ["vcpu migration", "page migration", "ballooning", "live migration"] as const;
export type EventKind = (typeof EVENTS)[number];

/** Where hypervisor and guest run: both with whoever calls the operations, or each in a thread of its own. */
export const THREADS = ["one", "own"] as const;
export type Threads = (typeof THREADS)[number];

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
  /** Bytes the heap begins with; 64 KiB if not said. */
  readonly initialBytes?: number;
  /** vCPU the thread runs on. */
  readonly vcpu: number;
  /** What has to be so before each operation. */
  prepare?(machine: Machine): Promise<void>;
  /** Makes the `i`-th change. */
  act(machine: Machine, i: number, cached: Cached, probe: Probe): Promise<unknown>;
  /** What is to be undone after it. */
  restore?(machine: Machine, cached: Cached): Promise<unknown>;
}

/** No span of the blocks a probe caches is longer. */
const SPAN_PAGES = 8;
/** Frames that go into the balloon and come back. */
const BALLOONED = 512;

/** All spans that what is cached is in, to a node: a span that is cut belongs to the larger part. */
const moveCached = (machine: Machine, { first, end }: Cached, node: number): Promise<unknown> =>
  machine.migratePages(first - SPAN_PAGES, end - first + 2 * SPAN_PAGES, node);

const OPERATIONS: Readonly<Record<EventKind, Event>> = {
  "vcpu migration": {
    vcpu: 2,
    act: (machine, i) => machine.migrateVcpu(2, (3 + i) % machine.nodes),
  },
  // What the thread has cached moves away from its node.
  "page migration": {
    vcpu: 2,
    act: (machine, _, cached) => moveCached(machine, cached, 3),
    restore: (machine, cached) => moveCached(machine, cached, 2),
  },
  // The thread's node has none of the machine's memory, until frames that went from the other node come back on this one: the heap has the
  // half of the machine that does not.
  ballooning: {
    nodes: 2,
    initialBytes: MACHINE_BYTES / 2,
    vcpu: 1,
    prepare: async (machine) => {
      await machine.migratePages(0, machine.frames, 0);
      await machine.setBalloonTarget(machine.frames - BALLOONED);
    },
    act: (machine) => machine.setBalloonTarget(machine.frames),
  },
  "live migration": {
    vcpu: 3,
    act: (machine, _i, _cached, probe) => machine.migrateLive(machine.nodes === 4 ? 2 : 4, (during) => probe.stopFor(during)),
  },
};

const since = (start: bigint, time: bigint): number => Number(time - start) / 1000;

/** Changes of each kind made before anything is measured. */
const WARM_UP = 300;
/** Operations on one machine: each leaves it a little less like one that has just been booted. */
const A_MACHINE = 25;

/**
 * Measures an event so many times.
 * @throws {Error} if a change never reaches the thread, or it never gets a block on its node
 */
export async function measureAdaptation(pairing: Pairing, kind: EventKind, count: number, threads: Threads = "one"): Promise<Sample[]> {
  const samples: Sample[] = [];
  while (samples.length < count) {
    samples.push(...(await onOneMachine(pairing, OPERATIONS[kind], Math.min(A_MACHINE, count - samples.length), threads)));
  }
  return samples;
}

async function onOneMachine(pairing: Pairing, event: Event, count: number, threads: Threads): Promise<Sample[]> {
  const { nodes, initialBytes } = event;
  const options = { ...pairing, ...(nodes !== undefined && { nodes }), ...(initialBytes !== undefined && { initialBytes }) };
  const machine: Machine = await (threads === "one" ? RigMachine : HostMachine).boot(options);
  const probe = await Probe.start(machine.handle(event.vcpu), machine.layout, threads === "own");
  await warmUp(machine);
  const samples: Sample[] = [];
  while (samples.length < count) {
    await event.prepare?.(machine);
    await machine.settle();
    const cached = await probe.prime();
    await probe.watch();
    const start = process.hrtime.bigint();
    const [seen] = await Promise.all([probe.seen(), event.act(machine, samples.length, cached, probe)]);
    samples.push(sampleOf(seen, start));
    await event.restore?.(machine, cached);
  }
  await probe.end();
  await machine.end();
  return samples;
}

/** What is measured is no code that runs for the first time. A vCPU that the thread is not on and the machine's last frame end up on node 0. */
async function warmUp(machine: Machine): Promise<void> {
  for (let i = WARM_UP; i >= 0; --i) {
    await machine.migrateVcpu(0, i % machine.nodes);
    await machine.migratePages(machine.frames - 1, 1, i % machine.nodes);
  }
}

function sampleOf({ epoch, local, clean, stale, complete }: Seen, start: bigint): Sample {
  if (!complete) throw new Error(`the change has not reached the thread, which has got ${stale} blocks of other nodes since`);
  return { epoch: since(start, epoch), local: since(start, local), clean: since(start, clean), stale };
}
