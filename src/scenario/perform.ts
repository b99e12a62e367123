// One event of a scenario, done to the machine. Resolves when the guest and its heaps know what it changed.

import type { NumaHeap } from "../heap/numa-heap.js";
import type { Host } from "../host/host.js";
import type { Vm } from "../host/vm.js";
import type { PageMigration } from "../hypervisor/hypervisor.js";
import { STRIPE_FRAMES } from "../hypervisor/modes.js";
import { FRAME_BYTES } from "../hypervisor/vm-layout.js";
import { pauseReplay } from "../trace/vm-ground.js";
import { Flight } from "./flight.js";
import type { Load } from "./load.js";
import type { Outcome } from "./result.js";
import type { ScenarioEvent } from "./schema.js";
import { storm } from "./storm.js";

/** Where it all happens. */
export interface Stage {
  /** The host the machine is on, and the one a live migration takes it to. */
  host: Host;
  other: Host | undefined;
  readonly vm: Vm;
  /** The heap, as the conducting thread has it. */
  readonly heap: NumaHeap;
  readonly load: Load;
}

type Event<Do extends ScenarioEvent["do"]> = Extract<ScenarioEvent, { do: Do }>;

/** Ranges of one migration that are under way at the same time: a hypervisor may have several to tell its guest of. */
const MOST_UNDER_WAY = 16;

export async function perform(event: ScenarioEvent, stage: Stage): Promise<Outcome> {
  const { host, vm } = stage;
  switch (event.do) {
    case "migrate-vcpu": {
      const { vcpu, toNode, toCpu } = event;
      const move = await host.migrateVcpu(vm, vcpu, toNode === undefined ? { toCpu: toCpu! } : { toNode });
      return { kind: "vcpu", move: move ?? null };
    }
    case "migrate-pages":
      return { kind: "pages", ...(await migratePages(event, stage)) };
    case "balloon":
      return { kind: "balloon", bytes: await host.setBalloonTarget(vm, event.target), wanted: event.target };
    case "balance": {
      for (const [vcpu, load] of (event.loads ?? []).entries()) await host.setLoad(vm, vcpu, load);
      return { kind: "balance", moves: await host.balance() };
    }
    case "placement":
      await vm.guest.setPlacement(event.policy);
      return { kind: "placement" };
    case "advise": {
      const { start, bytes, toNode } = event;
      return { kind: "advice", bytes: await vm.guest.advise({ start, bytes, toNode }), advised: bytes };
    }
    case "migrate-live":
      return migrateLive(event, stage);
    case "storm":
      return storm(event, stage);
  }
}

async function migratePages({ start, bytes, share, toNode }: Event<"migrate-pages">, { host, vm }: Stage): Promise<PageMigration> {
  if (share === undefined) return host.migratePages(vm, { start: start!, bytes: bytes!, toNode });
  const all = vm.memory.buffer.byteLength / FRAME_BYTES;
  const part = Math.max(1, Math.round(share * STRIPE_FRAMES));
  const sum = { moved: 0, spilled: 0, refused: 0 };
  const flight = new Flight(MOST_UNDER_WAY);
  for (let first = 0; first < all; first += STRIPE_FRAMES) {
    await flight.room();
    const count = Math.min(part, all - first);
    const work = host.migratePages(vm, { start: first * FRAME_BYTES, bytes: count * FRAME_BYTES, toNode });
    flight.add(
      work.then(({ moved, spilled, refused }) => {
        sum.moved += moved;
        sum.spilled += spilled;
        sum.refused += refused;
      }),
    );
  }
  await flight.landed();
  return sum;
}

async function migrateLive({ maxRounds, stopBelow }: Event<"migrate-live">, stage: Stage): Promise<Outcome> {
  const [from, to] = [stage.host, stage.other!];
  const limits = { ...(maxRounds !== undefined && { maxRounds }), ...(stopBelow !== undefined && { stopBelow }) };
  const report = await from.migrateLive(stage.vm, to, { ...limits, pause: pauseReplay(stage.load.replay) });
  [stage.host, stage.other] = [to, from];
  const { rounds, bytes, pauseMs, fromNodes, toNodes } = report;
  return { kind: "live-migration", rounds, bytes, pauseMs, fromNodes, toNodes };
}
