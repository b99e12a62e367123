// libnuma for a task, by its own names (numactl's libnuma.c; numa(3)). Masks are lists of nodes. Where C answers -1 or NULL, so do these
// (NULL is 0), and `errno` says why; where C has no answer and calls numa_error, `numa_error` is called, and `errno` is set.
//
// Departs from the original in what it reads: not /sys, which shows the flat machine, but the actual topology, as the library of the
// published prototype did by system calls of its own. How many nodes there are is asked anew each time. Which CPUs a node has is kept, as in
// the original, until numa_node_to_cpu_update; unless `follow` is false, the library calls that itself when it hears of a change.

import { PAGE_BYTES } from "../process.js";
import { EINVAL, ERANGE } from "./errno.js";
import type { Linux, Task } from "./linux.js";
import { MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED, MPOL_WEIGHTED_INTERLEAVE } from "./mempolicy.js";
import { maskOf, type Nodemask, nodesOf } from "./nodemask.js";
import { MPOL_F_MEMS_ALLOWED, MPOL_F_NODE, MPOL_MF_STRICT, type Syscalls } from "./syscalls.js";
import { MAX_NODES, MAX_VCPUS } from "../../hypervisor/vm-layout.js";

type Nodes = readonly number[];

export interface LibnumaOptions {
  /** Learn of topology changes. Default: true. */
  readonly follow?: boolean;
}

export class Libnuma {
  /** Of the last call that failed. */
  errno = 0;
  /** Called where C would print: with the call that failed. May be replaced. */
  numa_error: (where: string) => void = () => {};
  readonly #linux: Linux;
  readonly #task: Task;
  readonly #calls: Syscalls;
  readonly #unfollow: () => void;
  /** Node of each CPU as of the last look; undefined: to be looked at. */
  #cpuNode: readonly number[] | undefined;
  #bindPolicy = MPOL_BIND;
  #mbindFlags = 0;

  constructor(linux: Linux, task: Task, { follow = true }: LibnumaOptions = {}) {
    this.#linux = linux;
    this.#task = task;
    this.#calls = linux.syscalls(task);
    this.#unfollow = follow ? linux.onTopologyChange(() => this.numa_node_to_cpu_update()) : () => {};
  }

  /** The program ends. */
  close(): void {
    this.#unfollow();
  }

  // ---- what there is

  numa_available(): number {
    return this.#value(this.#calls.get_mempolicy(null, null, 0, 0, 0));
  }

  numa_max_possible_node(): number {
    return MAX_NODES - 1;
  }
  numa_num_possible_nodes(): number {
    return MAX_NODES;
  }
  numa_num_possible_cpus(): number {
    return MAX_VCPUS;
  }
  numa_max_node(): number {
    return this.#linux.topology.nodes - 1;
  }
  numa_num_configured_nodes(): number {
    return this.#linux.topology.nodes;
  }
  numa_num_configured_cpus(): number {
    return this.#linux.vcpus;
  }
  numa_num_task_nodes(): number {
    return this.numa_get_mems_allowed().length;
  }
  numa_pagesize(): number {
    return PAGE_BYTES;
  }

  /** Bytes of a node, -1 if there is no such node; `free` gets how many of them are free. */
  numa_node_size64(node: number, free?: { bytes: number }): number {
    if (!this.#isNode(node)) {
      if (free) free.bytes = -1;
      return -1;
    }
    if (free) {
      this.#linux.lists.sync();
      free.bytes = this.#linux.lists.freeOn(node) * PAGE_BYTES;
    }
    return this.#linux.topology.framesOn(node) * PAGE_BYTES;
  }

  /** 0 if there is no such node. */
  numa_distance(from: number, to: number): number {
    return this.#linux.topology.distances[from]?.[to] ?? 0;
  }

  numa_node_of_cpu(cpu: number): number {
    return this.#cpus()[cpu] ?? this.#fail(EINVAL);
  }

  /** CPUs of a node, -1 if there is no such node. */
  numa_node_to_cpus(node: number): number[] | -1 {
    if (!this.#isNode(node)) return this.#fail(ERANGE);
    return this.#cpus().flatMap((of, cpu) => (of === node ? [cpu] : []));
  }

  /** CPUs may have changed node: looks again when asked next. */
  numa_node_to_cpu_update(): void {
    this.#cpuNode = undefined;
  }

  #cpus(): readonly number[] {
    return (this.#cpuNode ??= Array.from({ length: this.#linux.vcpus }, (_, cpu) => this.#linux.nodeOfVcpu(cpu)));
  }

  #isNode(node: number): boolean {
    return Number.isInteger(node) && node >= 0 && node < this.#linux.topology.nodes;
  }

  // ---- the task's policy

  numa_set_preferred(node: number): void {
    if (node < 0) this.#setPolicy(MPOL_DEFAULT, []);
    else this.#setPolicy(MPOL_PREFERRED, [node]);
  }

  /** The lowest node of a policy that prefers or binds, else 0, as in the original. */
  numa_preferred(): number {
    const { mode, nodes } = this.#policy();
    return mode === MPOL_PREFERRED || mode === MPOL_BIND ? (nodes[0] ?? 0) : 0;
  }

  numa_set_localalloc(): void {
    this.#setPolicy(MPOL_LOCAL, []);
  }

  numa_set_membind(nodes: Nodes): void {
    this.#setPolicy(MPOL_BIND, nodes);
  }

  /** All nodes where the policy does not bind. */
  numa_get_membind(): number[] {
    const { mode, nodes } = this.#policy();
    return mode === MPOL_BIND ? nodes : this.#allNodes();
  }

  numa_set_interleave_mask(nodes: Nodes): void {
    this.#setPolicy(nodes.length === 0 ? MPOL_DEFAULT : MPOL_INTERLEAVE, nodes);
  }

  numa_get_interleave_mask(): number[] {
    const { mode, nodes } = this.#policy();
    return mode === MPOL_INTERLEAVE ? nodes : [];
  }

  numa_set_weighted_interleave_mask(nodes: Nodes): void {
    this.#setPolicy(nodes.length === 0 ? MPOL_DEFAULT : MPOL_WEIGHTED_INTERLEAVE, nodes);
  }

  numa_get_weighted_interleave_mask(): number[] {
    const { mode, nodes } = this.#policy();
    return mode === MPOL_WEIGHTED_INTERLEAVE ? nodes : [];
  }

  numa_get_interleave_node(): number {
    const mode = new Int32Array(1);
    return this.#calls.get_mempolicy(mode, null, 0, 0, MPOL_F_NODE) === 0 ? mode[0]! : 0;
  }

  numa_get_mems_allowed(): number[] {
    const mask = new Uint32Array(1);
    this.#value(this.#calls.get_mempolicy(null, mask, MAX_NODES + 1, 0, MPOL_F_MEMS_ALLOWED));
    return nodesOf(mask[0]!);
  }

  /** Whether memory of a node is bound to it (MPOL_BIND, as at first) or prefers it. */
  numa_set_bind_policy(strict: number): void {
    this.#bindPolicy = strict ? MPOL_BIND : MPOL_PREFERRED;
  }

  /** Whether binding memory fails where pages of it are elsewhere. */
  numa_set_strict(flag: number): void {
    this.#mbindFlags = flag ? MPOL_MF_STRICT : 0;
  }

  // ---- memory: addresses, 0 on failure

  numa_alloc(size: number): number {
    const address = this.#mmap(size);
    if (address !== 0) this.numa_police_memory(address, size);
    return address;
  }

  numa_alloc_onnode(size: number, node: number): number {
    return this.#allocBound(size, this.#bindPolicy, [node]);
  }

  numa_alloc_local(size: number): number {
    return this.#allocBound(size, MPOL_LOCAL, []);
  }

  numa_alloc_interleaved(size: number): number {
    return this.#allocBound(size, MPOL_INTERLEAVE, this.#allNodes());
  }

  numa_alloc_interleaved_subset(size: number, nodes: Nodes): number {
    return this.#allocBound(size, MPOL_INTERLEAVE, nodes);
  }

  numa_alloc_weighted_interleaved(size: number): number {
    return this.#allocBound(size, MPOL_WEIGHTED_INTERLEAVE, this.#allNodes());
  }

  numa_alloc_weighted_interleaved_subset(size: number, nodes: Nodes): number {
    return this.#allocBound(size, MPOL_WEIGHTED_INTERLEAVE, nodes);
  }

  numa_free(address: number, size: number): void {
    this.#value(this.#calls.munmap(address, size));
  }

  numa_tonode_memory(address: number, size: number, node: number): void {
    this.#bind(address, size, this.#bindPolicy, [node]);
  }

  numa_tonodemask_memory(address: number, size: number, nodes: Nodes): void {
    this.#bind(address, size, this.#bindPolicy, nodes);
  }

  numa_setlocal_memory(address: number, size: number): void {
    this.#bind(address, size, MPOL_LOCAL, []);
  }

  numa_interleave_memory(address: number, size: number, nodes: Nodes): void {
    this.#bind(address, size, MPOL_INTERLEAVE, nodes);
  }

  numa_weighted_interleave_memory(address: number, size: number, nodes: Nodes): void {
    this.#bind(address, size, MPOL_WEIGHTED_INTERLEAVE, nodes);
  }

  /** Touches each page, so that it is where the policy of now puts it. */
  numa_police_memory(address: number, size: number): void {
    for (let at = address; at < address + size; at += PAGE_BYTES) this.#linux.access(this.#task, at);
  }

  // ---- pages that are there

  async numa_move_pages(
    pid: number,
    pages: ArrayLike<number>,
    nodes: ArrayLike<number> | null,
    status: Int32Array,
    flags: number,
  ): Promise<number> {
    return this.#value(await this.#calls.move_pages(pid, pages.length, pages, nodes, status, flags));
  }

  async numa_migrate_pages(pid: number, from: Nodes, to: Nodes): Promise<number> {
    return this.#value(await this.#calls.migrate_pages(pid, MAX_NODES + 1, word(from), word(to)));
  }

  // ----

  #allNodes(): number[] {
    return this.numa_get_mems_allowed();
  }

  /** A call's answer as C has it. */
  #value(answer: number): number {
    return answer < 0 ? this.#fail(-answer) : answer;
  }

  #fail(errno: number): -1 {
    this.errno = errno;
    return -1;
  }

  #setPolicy(mode: number, nodes: Nodes): void {
    if (this.#value(this.#calls.set_mempolicy(mode, word(nodes), MAX_NODES + 1)) < 0) this.numa_error("set_mempolicy");
  }

  #policy(): { mode: number; nodes: number[] } {
    const mode = new Int32Array(1);
    const mask = new Uint32Array(1);
    this.#value(this.#calls.get_mempolicy(mode, mask, MAX_NODES + 1, 0, 0));
    return { mode: mode[0]!, nodes: nodesOf(mask[0]!) };
  }

  #mmap(size: number): number {
    return Math.max(0, this.#value(this.#calls.mmap(size)));
  }

  #allocBound(size: number, mode: number, nodes: Nodes): number {
    const address = this.#mmap(size);
    if (address !== 0) this.#bind(address, size, mode, nodes);
    return address;
  }

  #bind(address: number, size: number, mode: number, nodes: Nodes): void {
    const status = this.#calls.mbindOnly(address, size, mode, word(nodes), MAX_NODES + 1, this.#mbindFlags);
    if (this.#value(status) < 0) this.numa_error("mbind");
  }
}

/** A mask as the kernel reads it. What is no node is in none, as numa_bitmask_setbit has it. */
const word = (nodes: Nodes): Uint32Array =>
  Uint32Array.of(maskOf(nodes.filter((node) => node >= 0 && node < MAX_NODES)) satisfies Nodemask);
