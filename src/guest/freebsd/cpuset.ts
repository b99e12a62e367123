// Sets of processes and threads with what they may use (FreeBSD: kern/kern_cpuset.c; cpuset(2), cpuset_getdomain(2)), as far as memory
// domains go. Set 0 is the root's, which nobody changes; set 1 is where processes begin. A thread that is given domains of its own gets an
// anonymous set below the numbered one its process belongs to, its base.
//
// Domains in masks are numbers of now: the d-th node with memory. Masks have longs of 32 bits, as everywhere in wasm32, and all domains fit
// one. Departs from the original: there are no jails and no capability mode.

import { type Nodemask, hasNode, isSubset, nodesOf, weight } from "../node-set.js";
import {
  ALL_NODES,
  type Domainset,
  DOMAINSET_POLICY_MAX,
  DOMAINSET_POLICY_PREFER,
  DOMAINSET_POLICY_ROUNDROBIN,
  domainset,
  FIRST_TOUCH,
  isEqual,
} from "./domainset.js";
import { EDEADLK, EFAULT, EINVAL, EPERM, ERANGE, ESRCH } from "./errno.js";
import type { FreeBsd, FreeBsdProcess, FreeBsdThread } from "./freebsd.js";

export const CPU_LEVEL_ROOT = 1;
export const CPU_LEVEL_CPUSET = 2;
export const CPU_LEVEL_WHICH = 3;

export const CPU_WHICH_TID = 1;
export const CPU_WHICH_PID = 2;
export const CPU_WHICH_CPUSET = 3;
export const CPU_WHICH_IRQ = 4;
export const CPU_WHICH_JAIL = 5;
export const CPU_WHICH_DOMAIN = 6;
export const CPU_WHICH_INTRHANDLER = 7;
export const CPU_WHICH_ITHREAD = 8;
export const CPU_WHICH_TIDPID = 9;

/** sizeof(domainset_t), and the most that a user may pass. */
export const DOMAINSET_BYTES = 4;
const DOMAINSET_MOST_BYTES = 32;
/** Threads are numbered from above it. */
export const PID_MAX = 99_999;

/** Number of a set without one. */
const ANONYMOUS = -1;

export class Cpuset {
  readonly children = new Set<Cpuset>();
  domain: Domainset;

  constructor(
    readonly id: number,
    readonly parent: Cpuset | undefined,
    domain: Domainset,
    readonly readOnly = false,
  ) {
    this.domain = domain;
    parent?.children.add(this);
  }

  /** The numbered set of an anonymous one. */
  get base(): Cpuset {
    return this.id === ANONYMOUS ? this.parent! : this;
  }

  get root(): Cpuset {
    return this.parent ? this.parent.root : this;
  }
}

const isValidIn = ({ mask }: Domainset, child: Domainset): boolean =>
  child.policy === DOMAINSET_POLICY_PREFER ? hasNode(mask, child.prefer) : isSubset(child.mask, mask);

const overlaps = ({ mask }: Domainset, child: Domainset): boolean =>
  child.policy === DOMAINSET_POLICY_PREFER ? hasNode(mask, child.prefer) : (mask & child.mask) !== 0;

const shadow = (parent: Domainset, child: Domainset): Domainset => ({ ...child, mask: (child.mask & parent.mask) >>> 0 });

export class Cpusets {
  readonly root = new Cpuset(0, undefined, FIRST_TOUCH, true);
  readonly #numbered = new Map<number, Cpuset>([[0, this.root]]);
  readonly initial = this.create(1);

  /** A numbered set below the root. */
  create(id = this.#numbered.size): Cpuset {
    const set = new Cpuset(id, this.root, this.root.domain);
    this.#numbered.set(id, set);
    return set;
  }

  find(id: number): Cpuset | undefined {
    return this.#numbered.get(id);
  }

  /** Gives a thread a set, and lets go of the anonymous one it had. */
  move(thread: FreeBsdThread, set: Cpuset): void {
    if (thread.cpuset.id === ANONYMOUS) thread.cpuset.parent!.children.delete(thread.cpuset);
    thread.cpuset = set;
  }

  /** Domains of a thread's own, below its base. */
  setThreads(threads: readonly FreeBsdThread[], domain: Domainset): number {
    if (threads.some(({ cpuset }) => !isValidIn(cpuset.base.domain, domain))) return EINVAL;
    for (const thread of threads) {
      const { base } = thread.cpuset;
      this.move(thread, new Cpuset(ANONYMOUS, base, shadow(base.domain, domain)));
    }
    return 0;
  }

  /** Threads of a process change to another numbered set; what each has of its own is kept as far as that set has it. */
  setBase(threads: readonly FreeBsdThread[], set: Cpuset): number {
    const restricted = (cpuset: Cpuset): Domainset =>
      isEqual(cpuset.domain, cpuset.base.domain) ? set.domain : shadow(set.domain, cpuset.domain);
    const isOwn = ({ cpuset }: FreeBsdThread): boolean => cpuset.id === ANONYMOUS;
    if (threads.some((thread) => isOwn(thread) && restricted(thread.cpuset).mask === 0)) return EDEADLK;
    for (const thread of threads) this.move(thread, isOwn(thread) ? new Cpuset(ANONYMOUS, set, restricted(thread.cpuset)) : set);
    return 0;
  }

  /** Changes a set, and with it what follows it; what differs from it below keeps its policy, within the new mask. */
  modify(set: Cpuset, asked: Domainset): number {
    if (!isValidIn(set.root.domain, asked)) return EINVAL;
    const isPrefer = asked.policy === DOMAINSET_POLICY_PREFER;
    const domain = isPrefer ? { ...asked, mask: set.domain.mask } : asked;
    const error = this.#test(set, domain, set.domain);
    if (error === 0) this.#update(set, domain, set.domain);
    return error;
  }

  #test(set: Cpuset, domain: Domainset, before: Domainset): number {
    if (set.readOnly) return EPERM;
    const differs = !isEqual(set.domain, before);
    if (differs && !overlaps(domain, set.domain)) return EDEADLK;
    const next = differs ? shadow(domain, set.domain) : domain;
    for (const child of set.children) {
      const error = this.#test(child, next, set.domain);
      if (error !== 0) return error;
    }
    return 0;
  }

  #update(set: Cpuset, domain: Domainset, before: Domainset): void {
    const own = set.domain;
    set.domain = isEqual(own, before) ? domain : shadow(domain, own);
    for (const child of set.children) this.#update(child, set.domain, own);
  }
}

/** What a call names. */
interface Named {
  readonly threads: readonly FreeBsdThread[];
  readonly set: Cpuset | undefined;
}

export class CpusetCalls {
  readonly #freebsd: FreeBsd;
  readonly thread: FreeBsdThread;

  constructor(freebsd: FreeBsd, thread: FreeBsdThread) {
    this.#freebsd = freebsd;
    this.thread = thread;
  }

  /** Makes a set and moves the process to it; its number goes to `setid`. */
  cpuset(setid: Int32Array): number {
    if (!(setid instanceof Int32Array) || setid.length < 1) return EFAULT;
    const set = this.#freebsd.cpusets.create();
    setid[0] = set.id;
    return this.#freebsd.cpusets.setBase(this.#process(this.thread).threads, set);
  }

  cpuset_setid(which: number, id: number, setid: number): number {
    if (which !== CPU_WHICH_PID) return EINVAL;
    const set = this.#freebsd.cpusets.find(setid);
    if (!set) return ESRCH;
    const named = this.#which(which, id);
    return typeof named === "number" ? named : this.#freebsd.cpusets.setBase(named.threads, set);
  }

  cpuset_getid(level: number, which: number, id: number, setid: Int32Array): number {
    if (level === CPU_LEVEL_WHICH && which !== CPU_WHICH_CPUSET) return EINVAL;
    const named = this.#which(which, id);
    if (typeof named === "number") return named;
    const set = named.set ?? named.threads[0]?.cpuset.base;
    if (!set) return EINVAL;
    if (!(setid instanceof Int32Array) || setid.length < 1) return EFAULT;
    setid[0] = level === CPU_LEVEL_ROOT ? set.root.id : set.id;
    return 0;
  }

  cpuset_getdomain(level: number, which: number, id: number, setsize: number, mask: Uint32Array, policy: Int32Array): number {
    if (!(setsize >= DOMAINSET_BYTES && setsize <= DOMAINSET_MOST_BYTES)) return ERANGE;
    const named = this.#which(which, id);
    if (typeof named === "number") return named;
    const found = this.#domainOf(level, named);
    if (typeof found === "number") return found;
    if (!(mask instanceof Uint32Array) || mask.length < Math.ceil(setsize / DOMAINSET_BYTES)) return EFAULT;
    mask.fill(0, 0, Math.ceil(setsize / DOMAINSET_BYTES));
    // Only the preferred domain is shown, not where pages go when it is full.
    const shown = found.policy === DOMAINSET_POLICY_PREFER ? (1 << found.prefer) >>> 0 : found.mask;
    mask[0] = this.#freebsd.domainsOf(shown);
    if (!(policy instanceof Int32Array) || policy.length < 1) return EFAULT;
    policy[0] = found.policy;
    return 0;
  }

  #domainOf(level: number, { threads, set }: Named): Domainset | number {
    const base = set ?? threads[0]?.cpuset;
    if (!base) return EINVAL;
    if (level === CPU_LEVEL_ROOT) return base.root.domain;
    if (level === CPU_LEVEL_CPUSET) return base.base.domain;
    if (level !== CPU_LEVEL_WHICH) return EINVAL;
    if (set) return set.domain;
    // Domains of all threads; the policy of the last one wins.
    const all = threads.reduce((mask, { cpuset }) => (mask | cpuset.domain.mask) >>> 0, 0);
    return { ...threads.at(-1)!.cpuset.domain, mask: all };
  }

  cpuset_setdomain(level: number, which: number, id: number, setsize: number, mask: Uint32Array, policy: number): number {
    if (!(setsize >= DOMAINSET_BYTES && setsize <= DOMAINSET_MOST_BYTES)) return ERANGE;
    if (!(Number.isInteger(policy) && policy >= DOMAINSET_POLICY_ROUNDROBIN && policy <= DOMAINSET_POLICY_MAX)) return EINVAL;
    const words = Math.ceil(setsize / DOMAINSET_BYTES);
    if (!(mask instanceof Uint32Array) || mask.length < words) return EFAULT;
    if (mask.subarray(1, words).some((word) => word !== 0)) return EINVAL;
    const domain = this.#domain(mask[0]!, policy);
    return typeof domain === "number" ? domain : this.#setDomain(level, which, id, domain);
  }

  #domain(domains: Nodemask, policy: number): Domainset | number {
    if (domains === 0) return EDEADLK;
    const nodes = this.#freebsd.nodesOfDomains(domains);
    if (nodes === undefined) return EINVAL;
    if (policy !== DOMAINSET_POLICY_PREFER) return domainset(policy, nodes);
    return weight(nodes) === 1 ? domainset(policy, ALL_NODES, nodesOf(nodes)[0]) : EINVAL;
  }

  #setDomain(level: number, which: number, id: number, domain: Domainset): number {
    const { cpusets } = this.#freebsd;
    if (level !== CPU_LEVEL_ROOT && level !== CPU_LEVEL_CPUSET && level !== CPU_LEVEL_WHICH) return EINVAL;
    const named = this.#which(which, id);
    if (typeof named === "number") return named;
    if (level === CPU_LEVEL_WHICH && !named.set) return named.threads.length > 0 ? cpusets.setThreads(named.threads, domain) : EINVAL;
    const set = named.set ?? named.threads[0]?.cpuset;
    if (!set) return EINVAL;
    if (this.#process(this.thread).credentials.uid !== 0) return EPERM;
    return cpusets.modify(level === CPU_LEVEL_ROOT ? set.root : level === CPU_LEVEL_CPUSET ? set.base : set, domain);
  }

  /** What `which` and `id` name (cpuset_which); an errno if that is nothing. */
  #which(which: number, id: number): Named | number {
    switch (which) {
      case CPU_WHICH_TIDPID:
        return this.#which(id === -1 || id > PID_MAX ? CPU_WHICH_TID : CPU_WHICH_PID, id);
      case CPU_WHICH_TID: {
        const thread = id === -1 ? this.thread : this.#freebsd.findThread(id);
        return thread ? this.#permitted(this.#process(thread), [thread]) : ESRCH;
      }
      case CPU_WHICH_PID: {
        const process = id === -1 ? this.#process(this.thread) : this.#freebsd.processes.get(id);
        return process ? this.#permitted(process, process.threads) : ESRCH;
      }
      case CPU_WHICH_CPUSET: {
        const set = id === -1 ? this.thread.cpuset.base : this.#freebsd.cpusets.find(id);
        return set ? { threads: [], set } : ESRCH;
      }
      case CPU_WHICH_JAIL:
        return ESRCH;
      case CPU_WHICH_IRQ:
      case CPU_WHICH_DOMAIN:
        return { threads: [], set: undefined };
      default:
        return EINVAL;
    }
  }

  /** p_cansched, as far as users decide it. */
  #permitted(process: FreeBsdProcess, threads: readonly FreeBsdThread[]): Named | number {
    const { uid } = this.#process(this.thread).credentials;
    return uid === 0 || uid === process.credentials.uid ? { threads, set: undefined } : EPERM;
  }

  #process(thread: FreeBsdThread): FreeBsdProcess {
    return thread.process as FreeBsdProcess;
  }
}
