// XenStore (xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt): a small tree of strings that toolstack and guests share. A watch
// fires once when it is registered, and then whenever its node or one below it changes; the guest finds who fired in a queue.
//
// Modelled are the operations a balloon driver needs and their refusals, a domain's own subtree, and the quotas. Departures: requests are
// calls, not messages in a ring; there are no transactions; permissions are fixed: a guest reads /local/domain/<id> and writes below
// its data/ and control/.

import { E2BIG, EACCES, EEXIST, EINVAL, ENOENT, ENOSPC } from "../errors.js";

const MAX_PATH = 3072;
const MAX_RELATIVE_PATH = 2048;
const MAX_VALUE = 4096;
const MAX_NODES = 1000;
const MAX_WATCHES = 128;
const MAX_OUTSTANDING = 1024;

/** The toolstack's domain. */
export const DOM0 = 0;

export interface WatchEvent {
  readonly path: string;
  readonly token: string;
}

interface Watch extends WatchEvent {
  readonly domain: number;
  /** Path from the root. */
  readonly node: string;
}

export const homeOf = (domain: number): string => `/local/domain/${domain}`;

export class XenStore {
  readonly #values = new Map<string, string>();
  #watches: Watch[] = [];
  readonly #queues = new Map<number, WatchEvent[]>();
  readonly #fired: (domain: number) => void;

  /** @param fired a domain's queue is not empty any more */
  constructor(fired: (domain: number) => void) {
    this.#fired = fired;
  }

  /** The value of a node, or a negative errno. */
  read(domain: number, path: string): string | number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    if (!mayRead(domain, node)) return -EACCES;
    return this.#values.get(node) ?? -ENOENT;
  }

  /** Names below a node, in order. */
  directory(domain: number, path: string): string[] | number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    if (!mayRead(domain, node)) return -EACCES;
    if (!this.#values.has(node)) return -ENOENT;
    const names = [...this.#values.keys()]
      .filter((key) => key.startsWith(`${node}/`))
      .map((key) => key.slice(node.length + 1).split("/")[0]!);
    return [...new Set(names)].sort();
  }

  /** Writes a node and makes those above it, if they are missing. */
  write(domain: number, path: string, value: string): number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    if (!mayWrite(domain, node)) return -EACCES;
    if (value.length > MAX_VALUE) return -E2BIG;
    const missing: string[] = [];
    for (let above = node; above !== "" && !this.#values.has(above); above = above.slice(0, above.lastIndexOf("/"))) missing.push(above);
    if (domain !== DOM0 && this.#owned(domain) + missing.length > MAX_NODES) return -ENOSPC;
    for (const above of missing) this.#values.set(above, "");
    this.#values.set(node, value);
    this.#fire(node);
    return 0;
  }

  /** Removes a node and all below it. */
  remove(domain: number, path: string): number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    if (!mayWrite(domain, node)) return -EACCES;
    if (!this.#values.has(node)) return -ENOENT;
    const gone = [...this.#values.keys()].filter((key) => under(key, node));
    for (const key of gone) this.#values.delete(key);
    for (const key of gone) this.#fire(key);
    return 0;
  }

  watch(domain: number, path: string, token: string): number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    if (token.length > MAX_VALUE) return -E2BIG;
    const own = this.#watches.filter((watch) => watch.domain === domain);
    if (own.some((watch) => watch.node === node && watch.token === token)) return -EEXIST;
    if (own.length >= MAX_WATCHES) return -ENOSPC;
    const watch = { domain, node, path, token };
    this.#watches.push(watch);
    this.#queue(watch, path);
    return 0;
  }

  unwatch(domain: number, path: string, token: string): number {
    const node = resolve(domain, path);
    if (typeof node === "number") return node;
    const rest = this.#watches.filter((watch) => watch.domain !== domain || watch.node !== node || watch.token !== token);
    if (rest.length === this.#watches.length) return -ENOENT;
    this.#watches = rest;
    return 0;
  }

  /** The domain's watch events so far, in order. */
  takeEvents(domain: number): WatchEvent[] {
    const events = this.#queues.get(domain) ?? [];
    this.#queues.delete(domain);
    return events;
  }

  /** A domain begins anew: nothing is watched. */
  resetWatches(domain: number): void {
    this.#watches = this.#watches.filter((watch) => watch.domain !== domain);
    this.#queues.delete(domain);
  }

  /** A domain ends. */
  forget(domain: number): void {
    this.resetWatches(domain);
    this.remove(DOM0, homeOf(domain));
  }

  #owned(domain: number): number {
    let count = 0;
    for (const key of this.#values.keys()) if (key.startsWith(`${homeOf(domain)}/`)) ++count;
    return count;
  }

  #fire(node: string): void {
    for (const watch of this.#watches) {
      // A relative watch is told a relative path.
      if (under(node, watch.node)) this.#queue(watch, watch.path + node.slice(watch.node.length));
    }
  }

  /**
   * What stands in the queue already says all there is to say: the guest reads the node afterwards. One that does not take its events
   * hears of no others at last.
   */
  #queue({ domain, token }: Watch, path: string): void {
    let queue = this.#queues.get(domain);
    if (!queue) this.#queues.set(domain, (queue = []));
    if (queue.length >= MAX_OUTSTANDING || queue.some((event) => event.token === token && event.path === path)) return;
    queue.push({ path, token });
    this.#fired(domain);
  }
}

/** The path from the root, or a negative errno. */
function resolve(domain: number, path: string): string | number {
  const relative = !path.startsWith("/");
  if (path.length > (relative ? MAX_RELATIVE_PATH : MAX_PATH)) return -E2BIG;
  const node = relative ? `${homeOf(domain)}/${path}` : path;
  return /^(\/[A-Za-z0-9_@:+-]+)+$/.test(node) ? node : -EINVAL;
}

const under = (node: string, above: string): boolean => node === above || node.startsWith(`${above}/`);
const mayRead = (domain: number, node: string): boolean => domain === DOM0 || under(node, homeOf(domain));
const mayWrite = (domain: number, node: string): boolean =>
  domain === DOM0 || node.startsWith(`${homeOf(domain)}/data/`) || node.startsWith(`${homeOf(domain)}/control/`);
