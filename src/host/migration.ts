// A live migration between hosts, as the application's thread conducts it: the hypervisors talk to each other over a port, and ask here for
// the machine to stand still and to go on.

import * as Comlink from "comlink";
import { HypervisorError } from "../hypervisor/errors.js";
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

/** @param arrived called when the machine runs at `to` */
export async function migrateBetween(
  made: Running,
  from: End,
  to: End,
  options: LiveMigrationOptions,
  arrived: () => void,
): Promise<MigrationReport> {
  const { maxRounds, stopBelow, onRound, pause } = options;
  let there: WebAssembly.Memory | undefined;
  let mine: ReturnType<typeof heapsHere> = [];
  let goOn: ((moved: boolean) => void | Promise<void>) | undefined;

  const stand = async (memory: WebAssembly.Memory): Promise<void> => {
    there = memory;
    // This thread conducts, and must not sleep as others do.
    const hold = (): void => {
      mine = heapsHere(made.heaps);
      for (const [heap] of mine) heap.pause();
    };
    hold();
    try {
      goOn = await pause?.(memory);
      // What is under way ends first, a heap that is being made included; what comes later is done where the machine is then.
      await made.gate.close();
      hold();
      if (made.ended) throw new HypervisorError("NUMAHEAP_NO_SUCH_VM", "the virtual machine has been destroyed");
      const keys = mine.map(([, { name, key }]) => ({ owner: made.heaps.get(name)!, key }));
      await made.thread.call((service) => service.suspend(memory, keys, pause !== undefined));
    } catch (error) {
      for (const [heap] of mine) heap.resume();
      made.gate.open();
      await goOn?.(false);
      throw error;
    }
  };

  const walk = async (vm: number | undefined): Promise<void> => {
    const moved = vm !== undefined;
    try {
      const port = await (moved ? to.connect(vm) : from.connect(made.id));
      await made.thread.call((service) => service.resume(Comlink.transfer(port, [port]), moved ? there : undefined));
    } finally {
      if (moved) {
        Object.assign(made, { id: vm, memory: there!, hypervisor: to.thread } satisfies Partial<Running>);
        arrived();
      }
      for (const [heap] of mine) {
        if (moved) await heap.moveOver(there!);
        else heap.resume();
      }
      made.gate.open();
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
