// A guest that runs FreeBSD: domainset policies and cpusets over the actual topology, sysctls over the flat one (FreeBSD: vm/vm_page.c,
// vm/vm_domainset.c, x86/acpica/srat.c).
//
// Memory domains are dense and begin at 0: the d-th node with memory is domain d, as srat.c numbers proximity domains; a node without has no
// domain, and its CPUs belong to the nearest that has one. The original numbers domains once. Here that is done anew when a node gains its
// first memory or loses its last: whoever keeps numbers of domains should listen to topology changes.

import type { BootTables } from "../boot-tables.js";
import { GuestError } from "../errors.js";
import { OWNER_PROCESS } from "../frame-table.js";
import { type BootOptions, Guest, type PortablePolicy } from "../guest.js";
import { both, hasNode, maskOf, NO_NODES, type Nodemask, nodesOf } from "../node-set.js";
import type { VirtualTopology } from "../platform.js";
import { GuestThread, type Mapping, pageOf, type Process } from "../process.js";
import { type Cpuset, CpusetCalls, Cpusets, PID_MAX } from "./cpuset.js";
import {
  type Domainset,
  domainset,
  DOMAINSET_POLICY_FIRSTTOUCH,
  DOMAINSET_POLICY_INTERLEAVE,
  DOMAINSET_POLICY_PREFER,
  ALL_NODES,
  type DomainsetRef,
  STRIPE_PAGES,
  visit,
} from "./domainset.js";

export type FreeBsdProcess = Process<FreeBsdThread, VmObject>;

/** Its policy is that of its set. */
export class FreeBsdThread extends GuestThread implements DomainsetRef {
  iterator = 0;

  constructor(
    process: FreeBsdProcess,
    tid: number,
    vcpu: number,
    public cpuset: Cpuset,
  ) {
    super(process, tid, vcpu);
  }

  get domainset(): Domainset {
    return this.cpuset.domain;
  }
}

/** What a mapping shows. Parts of a mapping that was split show parts of one object. */
export interface VmObject {
  readonly id: number;
  /** Page of the address space where it begins. */
  readonly first: number;
  /** Wins over the thread's. */
  policy: DomainsetRef | undefined;
}

export class FreeBsd extends Guest<FreeBsdThread, VmObject> {
  readonly os = "freebsd";
  readonly cpusets = new Cpusets();
  #objects = 0;
  /** Node of each domain. */
  #domains: readonly number[] = [];

  constructor(options: BootOptions, boot: BootTables, actual: VirtualTopology) {
    super(options, boot, actual);
    this.nodesChanged();
  }

  protected override nodesChanged(): void {
    this.#domains = nodesOf(this.topology.withMemory);
  }

  // ---- domains

  get ndomains(): number {
    return this.#domains.length;
  }

  nodeOfDomain(domain: number): number {
    return this.#domains[domain] ?? -1;
  }

  /** Domain of a node, -1 if it has no memory. */
  domainOfNode(node: number): number {
    return this.#domains.indexOf(node);
  }

  /** Domain a vCPU belongs to (pc_domain). */
  domainOfVcpu(vcpu: number): number {
    return this.domainOfNode(this.nodeOfVcpu(vcpu));
  }

  /** Domains of a set of nodes. */
  domainsOf(nodes: Nodemask): Nodemask {
    return maskOf(this.#domains.flatMap((node, domain) => (hasNode(nodes, node) ? [domain] : [])));
  }

  /** Nodes of a set of domains, undefined if there is one that does not exist. */
  nodesOfDomains(domains: Nodemask): Nodemask | undefined {
    const nodes = nodesOf(domains).map((domain) => this.nodeOfDomain(domain));
    return nodes.includes(-1) ? undefined : maskOf(nodes);
  }

  // ---- processes

  /** Its base is that of the process's first thread. */
  newThread(process: FreeBsdProcess, vcpu: number): FreeBsdThread {
    const base = process.threads[0]?.cpuset.base ?? this.cpusets.initial;
    return new FreeBsdThread(process, PID_MAX + this.newTid(), vcpu, base);
  }

  findThread(tid: number): FreeBsdThread | undefined {
    for (const { threads } of this.processes.values()) {
      const thread = threads.find((candidate) => candidate.tid === tid);
      if (thread) return thread;
    }
    return undefined;
  }

  override ended(process: FreeBsdProcess): void {
    for (const thread of process.threads) this.cpusets.move(thread, this.cpusets.initial);
    super.ended(process);
  }

  newMappingPolicy(first: number): VmObject {
    return { id: this.#objects++, first, policy: undefined };
  }

  /** The calls a thread can make. */
  syscalls(thread: FreeBsdThread): CpusetCalls {
    return new CpusetCalls(this, thread);
  }

  /**
   * Gives the object mapped at an address a policy of its own, undefined = none: a thing of the kernel's, for which there is no call.
   * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT
   */
  setObjectPolicy(process: FreeBsdProcess, address: number, policy: Domainset | undefined): void {
    const mapping = process.mappingAt(pageOf(address));
    if (!mapping) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `there is no object at 0x${address.toString(16)}`);
    mapping.policy.policy = policy && { domainset: policy, iterator: 0 };
  }

  override setPolicy(thread: FreeBsdThread, policy: PortablePolicy): void {
    const nodes = policy.kind === "local" ? ALL_NODES : maskOf(policy.kind === "prefer" ? [policy.node] : policy.nodes);
    const set = {
      local: () => domainset(DOMAINSET_POLICY_FIRSTTOUCH),
      bind: () => domainset(DOMAINSET_POLICY_FIRSTTOUCH, nodes),
      interleave: () => domainset(DOMAINSET_POLICY_INTERLEAVE, nodes),
      prefer: () => domainset(DOMAINSET_POLICY_PREFER, ALL_NODES, nodesOf(nodes)[0]),
    }[policy.kind]();
    if (both(nodes, this.topology.withMemory) === NO_NODES || this.cpusets.setThreads([thread], set) !== 0) {
      throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `the policy has no node that thread ${thread.tid} may use`);
    }
  }

  placePage(thread: FreeBsdThread, mapping: Mapping<VmObject>, page: number): number {
    const object = mapping.policy;
    // Objects begin at different domains, or the first would get most: the original takes the object's address.
    const stripe = Math.floor((page - object.first) / STRIPE_PAGES) + object.id;
    const place = { cpu: this.nodeOfVcpu(thread.vcpu), withMemory: this.topology.withMemory, stripe };
    return this.lists.alloc(0, visit(object.policy ?? thread, place), OWNER_PROCESS);
  }
}
