// AutoNUMA: pages move to those who use them (Linux: kernel/sched/fair.c, mpol_misplaced of mm/mempolicy.c). A scan takes the access rights
// of some populated pages away; the next access faults, which tells who uses the page; when two faults in a row come from the same other
// node, the page moves there. Pages of a heap stay at their addresses: for them the hypervisor is advised.
//
// Only where the policy in force lets it: where none is set, or with MPOL_F_NUMA_BALANCING, within the policy's nodes.
//
// Departs from the original: the scan runs when it is called, as many pages as it is told, instead of by clocks that adapt; tasks are not
// moved to their memory, for which vCPU they run on is not the kernel's to say.

import { PAGE_BYTES } from "../process.js";
import type { Linux, LinuxProcess, Task } from "./linux.js";
import { MPOL_BIND, MPOL_F_NUMA_BALANCING, MPOL_PREFERRED_MANY } from "./mempolicy.js";
import { hasNode } from "./nodemask.js";

export interface AutoNumaOptions {
  /** Bytes a scan looks at (scan_size_mb). Default 2 MiB. */
  readonly scanBytes?: number;
}

/** As in /proc/vmstat. */
export interface AutoNumaStat {
  numa_pte_updates: number;
  numa_hint_faults: number;
  numa_hint_faults_local: number;
  numa_pages_migrated: number;
}

interface Watched {
  /** Pages whose next access faults. */
  readonly marked: Set<number>;
  /** Node of the last fault on each page. */
  readonly last: Map<number, number>;
  /** Page the next scan begins at. */
  cursor: number;
}

export class AutoNuma {
  readonly stat: AutoNumaStat = { numa_pte_updates: 0, numa_hint_faults: 0, numa_hint_faults_local: 0, numa_pages_migrated: 0 };
  readonly #linux: Linux;
  readonly #scanPages: number;
  readonly #watched = new WeakMap<LinuxProcess, Watched>();
  #advice: Promise<unknown> = Promise.resolve();

  constructor(linux: Linux, { scanBytes = 2 ** 21 }: AutoNumaOptions = {}) {
    this.#linux = linux;
    this.#scanPages = Math.max(1, Math.floor(scanBytes / PAGE_BYTES));
  }

  /** Takes the access rights of the next populated pages of a process away, from where the last scan ended. How many. */
  scan(process: LinuxProcess): number {
    const watched = this.#of(process);
    const pages = process.populated(watched.cursor, Infinity);
    const next = pages.slice(0, this.#scanPages);
    const last = next.at(-1);
    watched.cursor = last === undefined || pages.length <= this.#scanPages ? 0 : last + 1;
    for (const page of next) watched.marked.add(page);
    this.stat.numa_pte_updates += next.length;
    return next.length;
  }

  /** A task has accessed a page, which may have been one that a scan has marked. */
  accessed(task: Task, page: number): void {
    const process = this.#linux.processOf(task);
    const { marked, last } = this.#of(process);
    if (!marked.delete(page)) return;
    const here = this.#linux.nodeOfVcpu(task.vcpu);
    const there = process.nodeOf(page);
    ++this.stat.numa_hint_faults;
    if (here === there) ++this.stat.numa_hint_faults_local;
    const again = last.get(page) === here;
    last.set(page, here);
    if (here !== there && again && this.#mayMove(task, page, here)) this.#move(process, task, page, here);
  }

  /** Resolves when the hypervisor has answered all advice so far. */
  async settled(): Promise<void> {
    await this.#advice;
  }

  #of(process: LinuxProcess): Watched {
    let watched = this.#watched.get(process);
    if (!watched) this.#watched.set(process, (watched = { marked: new Set(), last: new Map(), cursor: 0 }));
    return watched;
  }

  #mayMove(task: Task, page: number, to: number): boolean {
    const process = this.#linux.processOf(task);
    const policy = process.mappingAt(page)!.policy ?? task.policy;
    if (!hasNode(this.#linux.memsOf(process), to)) return false;
    if (!policy) return true;
    const restricts = policy.mode === MPOL_BIND || policy.mode === MPOL_PREFERRED_MANY;
    return (policy.flags & MPOL_F_NUMA_BALANCING) !== 0 && restricts && hasNode(policy.nodes, to);
  }

  #move(process: LinuxProcess, task: Task, page: number, to: number): void {
    const gfn = process.frameOf(page);
    if (gfn !== page) {
      if (process.migratePage(page, [to], task.vcpu)) ++this.stat.numa_pages_migrated;
      return;
    }
    // Nobody waits for it: where the hypervisor cannot be asked, the page stays.
    const advice = this.#linux
      .advise([gfn], to)
      .then((refused) => void (this.stat.numa_pages_migrated += 1 - refused))
      .catch(this.#linux.onProblem);
    this.#advice = Promise.all([this.#advice, advice]);
  }
}
