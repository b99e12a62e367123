// The scheduler: which pCPU each vCPU runs on. vCPUs of all machines share the pCPUs; an affinity mask says which of them a vCPU may
// use. Moves are made by call, by a change of affinity, or by the balancer; each is answered with the move, for the tracker.

import { HypervisorError, whole } from "./errors.js";

/** What a vCPU is taken to use until somebody says how busy it is: a whole pCPU. */
const FULL_LOAD = 100;

/** A vCPU as the scheduler knows it. */
export interface Vcpu {
  /** Number of its virtual machine. */
  readonly vm: number;
  readonly index: number;
  readonly cpu: number;
  readonly node: number;
  /** Share of a pCPU it would use, in per cent. */
  readonly load: number;
  /** pCPUs it may run on; undefined = all. */
  readonly affinity: readonly number[] | undefined;
}

export interface VcpuMove {
  readonly vm: number;
  readonly vcpu: number;
  readonly fromCpu: number;
  readonly toCpu: number;
  readonly fromNode: number;
  readonly toNode: number;
}

/** Where to: a node, whose least loaded pCPU is taken, or a pCPU. */
export type Destination = { readonly toNode: number } | { readonly toCpu: number };

interface Runnable extends Vcpu {
  cpu: number;
  node: number;
  load: number;
  affinity: readonly number[] | undefined;
}

export class Scheduler {
  readonly #cpuNode: readonly number[];
  readonly #distances: readonly (readonly number[])[];
  /** Nodes that have pCPUs. */
  readonly #nodes: readonly number[];
  readonly #load: number[];
  readonly #vcpus: Runnable[] = [];

  /** @param cpuNode node of each pCPU */
  constructor(cpuNode: readonly number[], distances: readonly (readonly number[])[]) {
    this.#cpuNode = cpuNode;
    this.#distances = distances;
    this.#nodes = [...new Set(cpuNode)].sort((a, b) => a - b);
    this.#load = cpuNode.map(() => 0);
  }

  get cpus(): number {
    return this.#cpuNode.length;
  }

  nodeOfCpu(cpu: number): number {
    return this.#cpuNode[cpu]!;
  }

  loadOf(cpu: number): number {
    return this.#load[cpu]!;
  }

  /** A new vCPU, on the node its number says (of those with pCPUs, in turn). */
  add(vm: number, index: number, load = FULL_LOAD): Vcpu {
    const node = this.#nodes[index % this.#nodes.length]!;
    const vcpu: Runnable = { vm, index, cpu: -1, node, load, affinity: undefined };
    this.#run(vcpu, this.#leastLoaded(this.#on(node))!);
    this.#vcpus.push(vcpu);
    return vcpu;
  }

  /** All vCPUs of a virtual machine end. */
  remove(vm: number): void {
    for (let i = this.#vcpus.length - 1; i >= 0; --i) {
      const vcpu = this.#vcpus[i]!;
      if (vcpu.vm !== vm) continue;
      this.#load[vcpu.cpu]! -= vcpu.load;
      this.#vcpus.splice(i, 1);
    }
  }

  /**
   * @returns the move, undefined if it runs there already
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_AFFINITY
   */
  migrate(which: Vcpu, to: Destination): VcpuMove | undefined {
    const vcpu = this.#own(which);
    const { toCpu, toNode } = to as { toCpu?: number; toNode?: number };
    if (toCpu !== undefined) {
      const cpu = whole(toCpu, 0, this.cpus - 1, "toCpu");
      if (!allows(vcpu, cpu)) throw notAllowed(vcpu, `pCPU ${cpu}`);
      return this.#move(vcpu, cpu);
    }
    const node = whole(toNode, 0, this.#distances.length - 1, "toNode");
    if (vcpu.node === node) return undefined;
    const cpus = this.#on(node);
    if (cpus.length === 0) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `node ${node} has no pCPU: choose another toNode`);
    const cpu = this.#leastLoaded(cpus.filter((candidate) => allows(vcpu, candidate)));
    if (cpu === undefined) throw notAllowed(vcpu, `node ${node}`);
    return this.#move(vcpu, cpu);
  }

  /**
   * From now on the vCPU runs on these pCPUs only (undefined = all). Where it may not stay, it goes to the least loaded of the nearest.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  setAffinity(which: Vcpu, cpus: readonly number[] | undefined): VcpuMove | undefined {
    const vcpu = this.#own(which);
    if (cpus && !(Array.isArray(cpus) && cpus.length > 0)) {
      throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", "an affinity is a list of pCPUs, of one at least");
    }
    const mask = cpus && [...new Set(cpus.map((cpu) => whole(cpu, 0, this.cpus - 1, "a pCPU of an affinity")))].sort((a, b) => a - b);
    vcpu.affinity = mask;
    if (!mask || mask.includes(vcpu.cpu)) return undefined;
    const distance = (cpu: number): number => this.#distances[vcpu.node]![this.#cpuNode[cpu]!]!;
    const nearest = Math.min(...mask.map(distance));
    return this.#move(vcpu, this.#leastLoaded(mask.filter((cpu) => distance(cpu) === nearest))!);
  }

  /** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT */
  setLoad(which: Vcpu, load: number): void {
    const vcpu = this.#own(which);
    this.#load[vcpu.cpu]! += whole(load, 0, 1e6, "load") - vcpu.load;
    vcpu.load = load;
  }

  /**
   * Moves vCPUs from loaded pCPUs to idle ones while that lowers the greater of the two loads: the sum of the squares of all loads falls
   * with each move, so this ends. The same loads give the same moves.
   */
  balance(): VcpuMove[] {
    const moves: VcpuMove[] = [];
    for (let move = this.#improvement(); move; move = this.#improvement()) moves.push(move);
    return moves;
  }

  #improvement(): VcpuMove | undefined {
    const byLoad = [...this.#load.keys()].sort((a, b) => this.#load[b]! - this.#load[a]! || a - b);
    for (const from of byLoad) {
      const near = (cpu: number): number => this.#distances[this.#cpuNode[from]!]![this.#cpuNode[cpu]!]!;
      const targets = [...this.#load.keys()].sort((a, b) => this.#load[a]! - this.#load[b]! || near(a) - near(b) || a - b);
      const movable = this.#vcpus.filter((vcpu) => vcpu.cpu === from && vcpu.load > 0);
      for (const to of targets) {
        const gap = this.#load[from]! - this.#load[to]!;
        // Nearest to half the gap levels best; a load as large as the gap would only swap the two.
        const best = movable
          .filter((vcpu) => vcpu.load < gap && allows(vcpu, to))
          .sort((a, b) => Math.abs(gap / 2 - a.load) - Math.abs(gap / 2 - b.load) || a.vm - b.vm || a.index - b.index)[0];
        if (best) return this.#move(best, to);
      }
    }
    return undefined;
  }

  #own(vcpu: Vcpu): Runnable {
    return vcpu as Runnable;
  }

  #on(node: number): number[] {
    return [...this.#cpuNode.keys()].filter((cpu) => this.#cpuNode[cpu] === node);
  }

  #leastLoaded(cpus: readonly number[]): number | undefined {
    return [...cpus].sort((a, b) => this.#load[a]! - this.#load[b]! || a - b)[0];
  }

  #run(vcpu: Runnable, cpu: number): void {
    if (vcpu.cpu >= 0) this.#load[vcpu.cpu]! -= vcpu.load;
    vcpu.cpu = cpu;
    vcpu.node = this.#cpuNode[cpu]!;
    this.#load[cpu]! += vcpu.load;
  }

  #move(vcpu: Runnable, toCpu: number): VcpuMove | undefined {
    const { cpu: fromCpu, node: fromNode } = vcpu;
    if (fromCpu === toCpu) return undefined;
    this.#run(vcpu, toCpu);
    return { vm: vcpu.vm, vcpu: vcpu.index, fromCpu, toCpu, fromNode, toNode: vcpu.node };
  }
}

const allows = (vcpu: Vcpu, cpu: number): boolean => vcpu.affinity?.includes(cpu) ?? true;

function notAllowed(vcpu: Vcpu, where: string): HypervisorError {
  return new HypervisorError(
    "NUMAHEAP_AFFINITY",
    `vCPU ${vcpu.index} may not run on ${where}: its affinity is ${vcpu.affinity?.join(",")}; widen it with setAffinity`,
  );
}
