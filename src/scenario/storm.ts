// The random storm: vCPUs and page ranges change nodes in equal parts, so many times a second, and now and then the balloon's target does.

import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { seeded } from "../trace/random.js";
import { Flight } from "./flight.js";
import type { Stage } from "./perform.js";
import type { Outcome } from "./result.js";
import type { ScenarioEvent } from "./schema.js";

/** Changes under way at the same time; beyond them it falls behind its rate. */
const MOST_UNDER_WAY = 16;
/** One change in so many is of the balloon's target, where that may change. */
const BALLOON_EVERY = 20;
/** Frames looked at for one that is the heap's. */
const TRIES = 16;

export async function storm(event: Extract<ScenarioEvent, { do: "storm" }>, stage: Stage): Promise<Outcome> {
  const { host, vm, heap, load } = stage;
  const seed = event.seed!;
  const random = seeded(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const { nodes } = host.topology;
  const withCpus = nodes.filter(({ cpus }) => cpus.length > 0).map(({ id }) => id);
  const frames = vm.memory.buffer.byteLength / FRAME_BYTES;
  const made = { vcpus: 0, ranges: 0, targets: 0 };
  const isHeaps = (gfn: number): boolean => heap.nodeOf(gfn * FRAME_BYTES) >= 0;

  const change = (): Promise<unknown> => {
    if (event.balloon !== undefined && below(BALLOON_EVERY) === 0) {
      ++made.targets;
      const least = event.balloon / FRAME_BYTES;
      return host.setBalloonTarget(vm, (least + below(frames - least + 1)) * FRAME_BYTES);
    }
    if (random() < 0.5) {
      ++made.vcpus;
      return host.migrateVcpu(vm, below(vm.vcpus), { toNode: withCpus[below(withCpus.length)]! });
    }
    ++made.ranges;
    const count = Math.max(1, Math.floor(Math.exp(random() * Math.log(frames / 4))));
    let first = below(frames - count + 1);
    for (let tries = 1; tries < TRIES && !isHeaps(first); ++tries) first = below(frames - count + 1);
    return host.migratePages(vm, { start: first * FRAME_BYTES, bytes: count * FRAME_BYTES, toNode: below(nodes.length) });
  };

  const flight = new Flight(MOST_UNDER_WAY);
  const sum = (): number => made.vcpus + made.ranges + made.targets;
  const start = performance.now();
  for (let elapsed = 0; elapsed < event.for && !load.ended; elapsed = performance.now() - start) {
    await flight.room();
    const due = Math.floor((elapsed * event.perSecond) / 1000) + 1;
    while (sum() < due && !flight.isFull) flight.add(change());
    if (sum() >= due) await new Promise((resolve) => setTimeout(resolve, Math.min(1000 / event.perSecond, event.for - elapsed)));
  }
  await flight.landed();
  return { kind: "storm", made: sum(), asked: Math.ceil((event.for * event.perSecond) / 1000), ...made, seed };
}
