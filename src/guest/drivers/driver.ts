// What the drivers have in common: what they report of each delivery, and how they call a guest.

import { wallClock } from "../../hypervisor/connection.js";
import { HypervisorError } from "../../hypervisor/errors.js";
import type { KvmConnection } from "../../hypervisor/kvm/kvm.js";
import type { XenConnection } from "../../hypervisor/xen/xen.js";
import type { Platform, PlatformChange, PlatformHandler } from "../platform.js";

export type Connection = XenConnection | KvmConnection;

/** A platform as its driver brings it: what a live migration and a test need beside what a guest does. */
export interface Driver extends Platform {
  /** Resolves when all that was raised before the call has been handed over. */
  settled(): Promise<void>;
  /** Before the guest is stopped to be moved: waits for what is under way, and hears no more. */
  suspend(): Promise<void>;
  /**
   * On another host, whose memory has been filled, or where it was: begins anew there and hands over what is different.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT for a hypervisor of another kind
   */
  resume(connection: Connection): Promise<void>;
}

/** The connection, if it is of this kind. */
export function ofKind<Name extends Connection["name"]>(name: Name, connection: Connection): Extract<Connection, { name: Name }> {
  if (connection.name === name) return connection as Extract<Connection, { name: Name }>;
  throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `a guest of ${name} cannot go on under ${connection.name}`);
}

/** Changes were handed to the guest. */
export interface Delivery {
  /** By what the guest was told. */
  readonly what: string;
  /**
   * When the first of the changes was made, and when the guest had handled them: milliseconds of the hypervisor's clock. `raised` is 0 where
   * nobody told it: it looked by itself, having arrived on another host.
   */
  readonly raised: number;
  readonly delivered: number;
  /** How many there were; a range of frames is one. */
  readonly changes: number;
}

export interface DriverOptions {
  /** Called after each delivery. */
  readonly onEvent?: (event: Delivery) => void;
  /** The hypervisor's clock, if it was given one of its own. */
  readonly now?: () => number;
}

export class Deliverer {
  handler: PlatformHandler | undefined;
  readonly #onEvent: ((event: Delivery) => void) | undefined;
  readonly #now: () => number;
  #target: number;

  /** @param frames what the guest has before it is told otherwise */
  constructor(frames: number, { onEvent, now = wallClock }: DriverOptions) {
    this.#target = frames;
    this.#onEvent = onEvent;
    this.#now = now;
  }

  deliver(what: string, raised: number, changes: readonly PlatformChange[]): void {
    if (changes.length === 0) return;
    this.#guard(() => this.handler?.topologyChanged(changes));
    this.#onEvent?.({ what, raised, delivered: this.#now(), changes: changes.length });
  }

  target(frames: number): void {
    if (frames === this.#target) return;
    this.#target = frames;
    this.#guard(() => this.handler?.balloonTargetChanged(frames));
  }

  /** A guest that throws must not stop its own driver, let alone the hypervisor below it; but somebody should hear of it. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
