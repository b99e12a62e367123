// A live migration between hosts, as the application's thread conducts it: the hypervisors talk to each other over a port, and ask here for
// the machine to stand still and to go on.

import * as Comlink from "comlink";
import type { MigrationReport, MigrationRound } from "../hypervisor/live-migration.js";
import { heapsHere } from "./attach.js";
import type { HypervisorService, MigrationHooks } from "./hypervisor-service.js";
import type { ServiceThread } from "./thread.js";
import type { Running } from "./vm.js";

export interface LiveMigrationOptions {
  /** Rounds before the machine is stopped, whatever is left. Default 8. */
  readonly maxRounds?: number;
  /** It is stopped once a round copies no more frames than this. Default 64. */
  readonly stopBelow?: number;
  /** Called after each round; the next begins when it resolves. */
  readonly onRound?: (round: MigrationRound) => void | Promise<void>;
  /**
   * For threads that use a heap and were not attached by attachHeap: stops them between two calls. What it resolves with lets them go on:
   * over `memory` by resuming there if `moved`, else as they were.
   */
  readonly pause?: (memory: WebAssembly.Memory) => Promise<(moved: boolean) => void | Promise<void>>;
}

/** A host, as far as a migration needs it. */
export interface End {
  readonly thread: ServiceThread<HypervisorService>;
  /** The guest's end of a connection to it. */
  connect(id: number): Promise<MessagePort>;
}

export async function migrateBetween(made: Running, from: End, to: End, options: LiveMigrationOptions): Promise<MigrationReport> {
  const { maxRounds, stopBelow, onRound, pause } = options;
  let there: WebAssembly.Memory | undefined;
  let mine: ReturnType<typeof heapsHere> = [];
  let goOn: ((moved: boolean) => void | Promise<void>) | undefined;

  const stand = async (memory: WebAssembly.Memory): Promise<void> => {
    there = memory;
    // This thread conducts, and must not sleep as others do.
    mine = heapsHere(made.heaps);
    for (const [heap] of mine) heap.pause();
    const keys = mine.map(([, { name, key }]) => ({ owner: made.heaps.get(name)!, key }));
    try {
      goOn = await pause?.(memory);
      await made.thread.call((service) => service.suspend(memory, keys, pause !== undefined));
    } catch (error) {
      for (const [heap] of mine) heap.resume();
      await goOn?.(false);
      throw error;
    }
  };

  const walk = async (vm: number | undefined): Promise<void> => {
    const moved = vm !== undefined;
    const port = await (moved ? to.connect(vm) : from.connect(made.id));
    await made.thread.call((service) => service.resume(Comlink.transfer(port, [port]), moved ? there : undefined));
    if (moved) Object.assign(made, { id: vm, memory: there!, hypervisor: to.thread } satisfies Partial<Running>);
    for (const [heap] of mine) {
      if (moved) await heap.moveOver(there!);
      else heap.resume();
    }
    await goOn?.(moved);
  };

  const hooks: MigrationHooks = { pause: stand, goOn: walk, onRound: async (round) => onRound?.(round) };
  const { port1, port2 } = new MessageChannel();
  await to.thread.call((service) => service.receive(Comlink.transfer(port2, [port2])));
  const limits = { ...(maxRounds !== undefined && { maxRounds }), ...(stopBelow !== undefined && { stopBelow }) };
  // Comlink's types would have the hooks of a remote object be remote objects themselves.
  const proxied = Comlink.proxy(hooks) as unknown as Comlink.Remote<MigrationHooks>;
  return from.thread.call((service) => service.migrateLive(made.id, Comlink.transfer(port1, [port1]), proxied, limits));
}
