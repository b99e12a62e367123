// How many allocations of a trace's workers come from the node the worker truly runs on, after changes of one kind: exact counts, by the
// hypervisor's tables.

import type { BootMode } from "../hypervisor/modes.js";
import type { VirtualMachine } from "../hypervisor/vm.js";
import type { Trace } from "../trace/format.js";
import type { EventKind } from "./adaptation.js";
import { Changes } from "./changes.js";
import { type Pairing, Rig } from "./rig.js";
import { type Load, type LoadResult, underLoad } from "./under-load.js";

export interface LocalityOptions extends Pairing {
  readonly kind: EventKind;
  readonly mode: BootMode;
  readonly trace: Trace;
  /** How many changes there are, and allocations between two of them. */
  readonly events: number;
  readonly allocations: number;
  readonly seed: number;
  /** Bytes of the machine. */
  readonly memory: number;
}

export interface Counts {
  readonly local: number;
  readonly remote: number;
}

export interface Locality {
  /** As many allocations before the first change as are counted after all of them. */
  readonly before: Counts;
  /** From each change until the next. */
  readonly after: Counts;
  readonly result: LoadResult;
}

/** Part of its frames that the machine keeps while its balloon is inflated. */
const KEPT_SHARE = 3 / 8;
const FULL_NODE = 1;

/** Frames come back from the balloon elsewhere, for another machine has taken the room on their node. */
async function balloonUnderPressure({ hypervisor, vm, guest, driver }: Rig, neighbour: VirtualMachine): Promise<void> {
  for (const target of [Math.floor(vm.frames * KEPT_SHARE), vm.frames]) {
    hypervisor.setBalloonTarget(vm, target);
    await driver.settled();
    await guest.balloon.idle();
    hypervisor.migratePages(neighbour, 0, neighbour.frames, FULL_NODE);
  }
}

/** Makes changes of one kind, one after the other. */
function changer(rig: Rig, kind: EventKind, seed: number): () => Promise<unknown> {
  const changes = new Changes(rig, seed);
  if (kind === "vcpu migration") return () => changes.make("vcpu");
  if (kind === "page migration") return () => changes.make("pages");
  if (kind === "live migration") return () => changes.make("live");
  // As large as a node, lest the host be short of memory.
  const memory = Math.floor(rig.vm.frames / 2 / 8) * 65536;
  const neighbour = rig.hypervisor.createVm({ vcpus: 1, memory, name: "neighbour" });
  return () => balloonUnderPressure(rig, neighbour);
}

export async function measureLocality(options: LocalityOptions): Promise<Locality> {
  const { kind, mode, trace, events, allocations, seed, platform, os, memory } = options;
  const rig = await Rig.boot({ platform, os, mode, memory });
  const change = changer(rig, kind, seed);
  const counted: Counts[] = [];
  const count = async (load: Load, many: number): Promise<void> => {
    const from = load.locality();
    await load.goOn(many);
    const to = load.locality();
    counted.push({ local: to.local - from.local, remote: to.remote - from.remote });
  };
  const result = await underLoad(
    rig,
    trace,
    async (load) => {
      await count(load, allocations * events);
      for (let i = 0; i < events; ++i) {
        await change();
        await rig.driver.settled();
        await count(load, allocations);
      }
    },
    { seed },
  );
  await rig.end();
  const [before = { local: 0, remote: 0 }, ...after] = counted;
  const sum = (field: keyof Counts): number => after.reduce((total, counts) => total + counts[field], 0);
  return { before, after: { local: sum("local"), remote: sum("remote") }, result };
}
