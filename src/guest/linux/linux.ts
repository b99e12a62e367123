// A guest that runs Linux: memory policies, zonelists, cpusets and their calls over the actual topology; /sys over the flat one (Linux:
// alloc_pages_mpol of mm/mempolicy.c, mm/page_alloc.c).
//
// A page is placed by the policy of its range, else of the task, else of the system; cpusets win over all of them. When nodes or who has
// memory change, the root cpuset follows, and every policy is rebound, as after a hotplug of memory.

import { MAX_NODES } from "../../hypervisor/vm-layout.js";
import type { BootTables } from "../boot-tables.js";
import { GuestError } from "../errors.js";
import { OWNER_PROCESS } from "../frame-table.js";
import { type BootOptions, Guest, type PortablePolicy } from "../guest.js";
import type { VirtualTopology } from "../platform.js";
import { type Credentials, GuestThread, type Mapping, pageOf, Process } from "../process.js";
import { AutoNuma, type AutoNumaOptions } from "./autonuma.js";
import { Cpuset } from "./cpuset.js";
import { answer } from "./errno.js";
import {
  freshInterleave,
  type InterleaveState,
  interleaveAt,
  interleaveNext,
  isInterleaved,
  type Mempolicy,
  MPOL_BIND,
  MPOL_INTERLEAVE,
  MPOL_LOCAL,
  MPOL_PREFERRED,
  MPOL_PREFERRED_MANY,
  newPolicy,
  rebind,
  SYSTEM_POLICY,
} from "./mempolicy.js";
import { both, firstNode, hasNode, maskOf, NO_NODES, type Nodemask } from "./nodemask.js";
import { NumaStat } from "./numastat.js";
import { Syscalls } from "./syscalls.js";
import { buildZonelists } from "./zonelist.js";

export type LinuxProcess = Process<Task, Mempolicy | undefined>;

export class Task extends GuestThread {
  /** undefined: the system's. */
  policy: Mempolicy | undefined;
  interleave: InterleaveState = freshInterleave();
}

/** Where a page may come from. */
export interface Choice {
  /** Node the policy names; it may have nothing. */
  readonly wanted: number;
  /** Nodes in the order they are asked. */
  readonly nodes: readonly number[];
  /** If none of these has any, these are asked (preferred-many). */
  readonly otherwise: readonly number[];
}

export class Linux extends Guest<Task, Mempolicy | undefined> {
  readonly os = "linux";
  readonly rootCpuset = new Cpuset(undefined);
  /** /sys/kernel/mm/mempolicy/weighted_interleave */
  readonly weights = new Uint8Array(MAX_NODES).fill(1);
  /** By actual nodes, and by those /sys shows. */
  readonly numastat = new NumaStat();
  readonly bootNumastat = new NumaStat();
  /** undefined: off. */
  autonuma: AutoNuma | undefined;
  #zonelists: readonly (readonly number[])[] = [];
  readonly #cpusets = new WeakMap<LinuxProcess, Cpuset>();

  constructor(options: BootOptions, boot: BootTables, actual: VirtualTopology) {
    super(options, boot, actual);
    this.nodesChanged();
  }

  /** Nodes in the order they are asked for a page that is wanted on `node`. */
  zonelist(node: number): readonly number[] {
    return this.#zonelists[node] ?? [];
  }

  protected override nodesChanged(): void {
    this.#zonelists = buildZonelists(this.topology);
    this.#updateCpusets(() => this.rootCpuset.update(this.topology.withMemory));
  }

  // ---- cpusets

  override spawn(credentials?: Credentials): LinuxProcess {
    const process = super.spawn(credentials);
    this.#cpusets.set(process, this.rootCpuset);
    return process;
  }

  newCpuset(mems?: Nodemask, parent = this.rootCpuset): Cpuset {
    return new Cpuset(parent, mems);
  }

  configureCpuset(cpuset: Cpuset, mems: Nodemask | undefined): void {
    this.#updateCpusets(() => cpuset.configure(mems));
  }

  /** The process belongs to the group from now on. */
  attach(process: LinuxProcess, cpuset: Cpuset): void {
    this.#updateCpusets(() => this.#cpusets.set(process, cpuset));
  }

  /** Nodes a process may have memory on. */
  memsOf(process: LinuxProcess): Nodemask {
    return this.#cpusets.get(process)!.effective;
  }

  /** Rebinds what belongs to processes that are allowed other nodes than before. */
  #updateCpusets(update: () => void): void {
    const before = [...this.processes.values()].map((process) => [process, this.memsOf(process)] as const);
    update();
    for (const [process, mems] of before) {
      const now = this.memsOf(process);
      if (now === mems) continue;
      const rebound = (policy: Mempolicy | undefined): Mempolicy | undefined => policy && rebind(policy, now);
      for (const task of process.threads) task.policy = rebound(task.policy);
      process.changePolicies(process.mappings, rebound);
    }
  }

  // ---- tasks

  newThread(process: LinuxProcess, vcpu: number): Task {
    return new Task(process, this.newTid(), vcpu);
  }

  newMappingPolicy(): undefined {
    return undefined;
  }

  /** The calls a task can make. */
  syscalls(task: Task): Syscalls {
    return new Syscalls(this, task);
  }

  processOf(task: Task): LinuxProcess {
    return task.process as LinuxProcess;
  }

  override setPolicy(task: Task, policy: PortablePolicy): void {
    const allowed = { mems: this.memsOf(this.processOf(task)), withMemory: this.topology.withMemory };
    const status = answer(() => {
      if (policy.kind === "local") task.policy = newPolicy(MPOL_LOCAL, 0, NO_NODES, allowed);
      else if (policy.kind === "prefer") task.policy = newPolicy(MPOL_PREFERRED, 0, maskOf([policy.node]), allowed);
      else task.policy = newPolicy(policy.kind === "bind" ? MPOL_BIND : MPOL_INTERLEAVE, 0, maskOf(policy.nodes), allowed);
      task.interleave = freshInterleave();
      return 0;
    });
    if (status < 0) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `the policy has no node that process ${task.process.pid} may use`);
  }

  /** AutoNUMA may make something of it. */
  override access(task: Task, address: number): number {
    const node = super.access(task, address);
    if (!this.autonuma) return node;
    this.autonuma.accessed(task, pageOf(address));
    return this.processOf(task).nodeOf(pageOf(address));
  }

  enableAutoNuma(options?: AutoNumaOptions): AutoNuma {
    return (this.autonuma = new AutoNuma(this, options));
  }

  // ---- pages

  /** Policy in force for a page, and the page's place in its interleaving. */
  policyOf(task: Task, mapping: Mapping<Mempolicy | undefined>): Mempolicy {
    return mapping.policy ?? task.policy ?? SYSTEM_POLICY;
  }

  /**
   * Where a page of `index` may come from; without an index it has no place in an address space, and a task's interleaving goes a step on.
   * The node of an interleaving is named even where the task may not use it: then its neighbours serve.
   */
  choose(task: Task, policy: Mempolicy, index?: number): Choice {
    const runsOn = this.nodeOfVcpu(task.vcpu);
    const mems = this.memsOf(this.processOf(task));
    let wanted = runsOn;
    if (policy.mode === MPOL_PREFERRED) wanted = firstNode(policy.nodes);
    else if (isInterleaved(policy)) {
      wanted = index === undefined ? interleaveNext(policy, task.interleave, this.weights) : interleaveAt(policy, index, this.weights);
    }
    const order = this.#zonelists[wanted] ?? this.#zonelists[runsOn]!;
    const within = (mask: Nodemask): number[] => order.filter((node) => hasNode(mask, node));
    const restricted = both(policy.nodes, mems);
    if (policy.mode === MPOL_PREFERRED_MANY) return { wanted, nodes: within(restricted), otherwise: within(mems) };
    const isBound = policy.mode === MPOL_BIND && restricted !== NO_NODES;
    return { wanted, nodes: within(isBound ? restricted : mems), otherwise: [] };
  }

  placePage(task: Task, mapping: Mapping<Mempolicy | undefined>, page: number): number {
    // An anonymous mapping's offset is its address: a page's place is its number.
    return this.#take(task, this.policyOf(task, mapping), page, (nodes) => this.lists.alloc(0, nodes, OWNER_PROCESS));
  }

  /** A page for the kernel on behalf of a task, a page of the page cache, say: by the task's policy. -1: there is none. */
  allocPage(task: Task): number {
    const policy = task.policy ?? SYSTEM_POLICY;
    return this.#take(task, policy, undefined, (nodes) => this.takeKernelPage(nodes, task.vcpu));
  }

  #take(task: Task, policy: Mempolicy, index: number | undefined, take: (nodes: readonly number[]) => number): number {
    const { wanted, nodes, otherwise } = this.choose(task, policy, index);
    for (const candidates of [nodes, otherwise]) {
      const gfn = candidates.length > 0 ? take(candidates) : -1;
      if (gfn < 0) continue;
      this.#countPage(gfn, candidates[0]!, task.vcpu);
      if (isInterleaved(policy)) this.#countInterleaved(gfn, wanted);
      return gfn;
    }
    return -1;
  }

  override moved(gfn: number, wanted: number, vcpu: number): void {
    super.moved(gfn, wanted, vcpu);
    this.#countPage(gfn, wanted, vcpu);
  }

  /** Once by the nodes there are, and once by those the unmodified kernel knows: of a flat machine, every page is where it should be. */
  #countPage(gfn: number, wanted: number, vcpu: number): void {
    this.numastat.count(wanted, this.table.nodeOf(gfn), this.nodeOfVcpu(vcpu));
    const got = this.boot.nodeOfFrame(gfn);
    this.bootNumastat.count(this.boot.isFlat ? got : wanted, got, this.boot.nodeOfVcpu(vcpu));
  }

  #countInterleaved(gfn: number, wanted: number): void {
    if (this.table.nodeOf(gfn) === wanted) this.numastat.countInterleaved(wanted);
    const got = this.boot.nodeOfFrame(gfn);
    if (this.boot.isFlat || got === wanted) this.bootNumastat.countInterleaved(got);
  }
}
