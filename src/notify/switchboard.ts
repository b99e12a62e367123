// The kernel's end, for one heap: it hears who wants to be told, tells them, and has their threads stand still for a live migration.

import * as Comlink from "comlink";
import type { HeapHandle } from "../heap/handle.js";
import type { TopologyChange } from "../heap/topology-event.js";
import {
  GO_ON_THERE,
  heapChannel,
  type Hello,
  inNode,
  type Leave,
  now,
  openChannel,
  type Standstill,
  STANDING,
  type SubscriberCalls,
  threadChannel,
  VERDICT,
} from "./channel.js";
import { Notifier, PATIENCE_MS, type Subscriber } from "./notifier.js";

export interface SwitchboardOptions {
  /** What has changed since an epoch, in one; undefined: nothing. */
  readonly since: (epoch: number) => TopologyChange | undefined;
  readonly onDrop?: (key: number, why: string) => void;
  readonly patience?: number;
}

/** A thread that is called through Comlink. */
class RemoteThread implements Subscriber {
  readonly #channel: BroadcastChannel;
  readonly calls: Comlink.Remote<SubscriberCalls>;
  #closed = false;

  constructor(channel: BroadcastChannel) {
    this.#channel = channel;
    // Comlink says goodbye whenever it likes, on a closed channel, too; and a thread that was let go still has to hear a welcome.
    this.calls = Comlink.wrap<SubscriberCalls>({
      postMessage: (message: unknown) => void (this.#closed || channel.postMessage(message)),
      addEventListener: (type, listener) => channel.addEventListener(type, listener),
      removeEventListener: (type, listener) => channel.removeEventListener(type, listener),
    });
  }

  changed(change: TopologyChange): PromiseLike<unknown> {
    return this.calls.changed(change, now());
  }

  close(): void {
    this.#closed = true;
    this.calls[Comlink.releaseProxy]();
    this.#channel.close();
  }
}

const verdictOf = ({ words }: Standstill): number => Atomics.load(words, VERDICT);

export class Switchboard {
  readonly #handle: HeapHandle;
  readonly #options: SwitchboardOptions;
  readonly #channel: BroadcastChannel;
  readonly #notifier: Notifier;
  readonly #threads = new Map<number, RemoteThread>();
  /** Of threads that were given one: it carries memories everywhere, which channels of browsers do not. */
  readonly #ports = new Map<number, { readonly port: MessagePort; readonly calls: Comlink.Remote<SubscriberCalls> }>();

  /** The last one. */
  #standstill: Standstill | undefined;

  constructor(handle: HeapHandle, options: SwitchboardOptions) {
    this.#handle = handle;
    this.#options = options;
    this.#notifier = new Notifier((key, why) => {
      this.#threads.delete(key);
      options.onDrop?.(key, why);
    }, options.patience);
    this.#channel = openChannel(heapChannel(handle));
    this.#channel.addEventListener("message", ({ data }) => this.#hear(data as Hello));
  }

  /** Keys of the threads that are told. */
  get keys(): readonly number[] {
    return this.#notifier.keys;
  }

  notify(change: TopologyChange): void {
    this.#notifier.notify(change);
  }

  /** The thread of this key is at the other end of a port. */
  connect(key: number, port: MessagePort): void {
    this.#ports.get(key)?.port.close();
    this.#ports.set(key, { port, calls: Comlink.wrap<SubscriberCalls>(port) });
  }

  stop(): void {
    this.#notifier.stop();
    this.#threads.clear();
    for (const { port } of this.#ports.values()) port.close();
    this.#channel.close();
  }

  #hear(message: Partial<Hello | Leave> | null): void {
    const { is, key } = message ?? {};
    if (!Number.isInteger(key) || key === undefined) return;
    if (is === "hello") this.#admit(key, (message as Hello).epoch);
    else if (is === "leave") {
      this.#threads.delete(key);
      this.#notifier.remove(key);
      this.#ports.get(key)?.port.close();
      this.#ports.delete(key);
    }
  }

  #admit(key: number, epoch: number | undefined): void {
    const known = this.#threads.get(key);
    // It has said hello again before it was answered, and misses nothing that is under way to it.
    if (known && epoch === undefined) return void this.#welcome(key, known);
    const thread = new RemoteThread(openChannel(threadChannel(this.#handle, key)));
    this.#threads.set(key, thread);
    this.#notifier.add(key, thread, epoch === undefined ? undefined : this.#options.since(epoch));
    void this.#welcome(key, thread);
  }

  /** Who comes while the machine stands still is welcome afterwards; who has a handle of before it moved is told which memory is the machine's now. */
  async #welcome(key: number, thread: RemoteThread): Promise<void> {
    while (this.#standstill && verdictOf(this.#standstill) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const port = this.#ports.get(key);
    const moved = this.#standstill && verdictOf(this.#standstill) === GO_ON_THERE && (port !== undefined || inNode);
    await (port ?? thread).calls.welcome(moved ? this.#standstill!.memory : undefined);
  }

  /** Asks threads to stand still; `refused` hears of one that cannot. They count themselves in the words. */
  ask(keys: readonly number[], standstill: Standstill, refused: (error: unknown) => void): void {
    this.#standstill = standstill;
    for (const key of keys) (this.#ports.get(key) ?? this.#threads.get(key))?.calls.park(standstill).then(undefined, refused);
  }

  get name(): string {
    return this.#handle.name;
  }

  get patience(): number {
    return this.#options.patience ?? PATIENCE_MS;
  }
}

/**
 * Has threads of several heaps stand still between two calls, until they are told the verdict; all are asked before one is waited for, since a
 * thread that has several heaps sleeps but once.
 * @throws {Error} if one does not within the patience
 */
export async function standStill(
  asked: readonly { readonly switchboard: Switchboard; readonly keys: readonly number[] }[],
  { memory, words }: Pick<Standstill, "memory" | "words">,
): Promise<void> {
  const id = `${now()}-${Math.random()}`;
  const standstill: Standstill = { id, memory, words, asked: asked.map(({ switchboard: { name }, keys }) => ({ name, keys })) };
  let refusal: unknown;
  for (const { switchboard, keys } of asked) switchboard.ask(keys, standstill, (error) => (refusal = error));
  const count = asked.reduce((sum, { keys }) => sum + keys.length, 0);
  const deadline = now() + Math.max(0, ...asked.map(({ switchboard }) => switchboard.patience));
  while (Atomics.load(words, STANDING) < count) {
    if (refusal !== undefined || now() > deadline) {
      const standing = `${Atomics.load(words, STANDING)} of ${count} stand still`;
      throw new Error(refusal === undefined ? standing : `${standing}: ${String(refusal)}`, { cause: refusal });
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
