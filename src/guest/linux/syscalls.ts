// The calls of a task that concern nodes (Linux: mm/mempolicy.c; set_mempolicy(2), get_mempolicy(2), mbind(2)). Each answers as the kernel
// does: 0 or a count, or the negative of an errno. A user's pointer is a typed array, or null; what is too short for what the call says is
// memory that cannot be accessed. Longs have 32 bits, as everywhere in wasm32.
//
// mbind is a promise because of heaps: their pages are moved by advice to the hypervisor, which takes its time.

import { GuestError } from "../errors.js";
import { ADDRESS_END, PAGE_BYTES, pageOf } from "../process.js";
import { answer, answerLater, EFAULT, EINVAL, EIO, ENOMEM, EPERM, Errno } from "./errno.js";
import {
  freshInterleave,
  interleavePeek,
  isInterleaved,
  keepsUserNodes,
  type Mempolicy,
  MPOL_DEFAULT,
  newPolicy,
  splitMode,
} from "./mempolicy.js";
import type { Linux, LinuxProcess, Task } from "./linux.js";
import { migratePages, movePages } from "./migrate.js";
import { hasNode, NO_NODES, type Nodemask } from "./nodemask.js";

export const MPOL_F_NODE = 1 << 0;
export const MPOL_F_ADDR = 1 << 1;
export const MPOL_F_MEMS_ALLOWED = 1 << 2;

export const MPOL_MF_STRICT = 1 << 0;
export const MPOL_MF_MOVE = 1 << 1;
export const MPOL_MF_MOVE_ALL = 1 << 2;
const MPOL_MF_MOVES = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL;

const BITS_PER_LONG = 32;
/** Bits of a mask that fills a page. */
const MOST_BITS = PAGE_BYTES * 8;

const isRoot = ({ credentials }: LinuxProcess): boolean => credentials.uid === 0;
/** CAP_SYS_NICE */
export const maySysNice = (process: LinuxProcess): boolean => isRoot(process) || process.credentials.sysNice === true;
/** ptrace_may_access, as far as users decide it. */
export const mayAccess = (process: LinuxProcess, other: LinuxProcess): boolean =>
  isRoot(process) || process.credentials.uid === other.credentials.uid;

/**
 * Nodes of a user's mask of `maxnode` - 1 bits (get_nodes).
 * @throws {Errno} EINVAL, EFAULT
 */
export function readNodes(mask: Uint32Array | null, maxnode: number): Nodemask {
  const bits = maxnode - 1;
  if (bits === 0 || mask === null) return NO_NODES;
  // Of 0 bits less 1 there are more than of anything; all nodes fit one long.
  if (!(Number.isInteger(bits) && bits > 0 && bits <= MOST_BITS)) throw new Errno(EINVAL);
  const words = Math.ceil(bits / BITS_PER_LONG);
  if (!(mask instanceof Uint32Array) || mask.length < words) throw new Errno(EFAULT);
  const wordAt = (i: number): number => {
    const used = bits - i * BITS_PER_LONG;
    return (used >= BITS_PER_LONG ? mask[i]! : mask[i]! & ((1 << used) - 1)) >>> 0;
  };
  for (let i = 1; i < words; ++i) if (wordAt(i) !== 0) throw new Errno(EINVAL);
  return wordAt(0);
}

/** Writes a mask of `maxnode` - 1 bits to the user, in longs (copy_nodes_to_user). */
function writeNodes(mask: Uint32Array, maxnode: number, nodes: Nodemask): void {
  const words = Math.ceil((maxnode - 1) / BITS_PER_LONG);
  if (words * 4 > PAGE_BYTES) throw new Errno(EINVAL);
  if (!(mask instanceof Uint32Array) || mask.length < words) throw new Errno(EFAULT);
  if (words === 0) return;
  mask.fill(0, 0, words);
  mask[0] = nodes;
}

interface Bound {
  /** Pages that are not where the policy wants them. */
  readonly misplaced: readonly number[];
  readonly isStrict: boolean;
}

export class Syscalls {
  readonly #linux: Linux;
  readonly task: Task;
  readonly process: LinuxProcess;

  constructor(linux: Linux, task: Task) {
    this.#linux = linux;
    this.task = task;
    this.process = linux.processOf(task);
  }

  /** Address of `length` bytes of anonymous memory, -errno if there cannot be. */
  mmap(length: number): number {
    if (!(Number.isInteger(length) && length > 0)) return -EINVAL;
    if (length > this.process.unmapped) return -ENOMEM;
    return this.process.mmap(length);
  }

  munmap(addr: number, length: number): number {
    const end = addr + Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
    if (!(Number.isSafeInteger(addr) && addr >= 0 && addr % PAGE_BYTES === 0 && length > 0 && end <= ADDRESS_END)) return -EINVAL;
    this.process.unmap(pageOf(addr), pageOf(end));
    return 0;
  }

  /** Node the task's vCPU is on (getcpu(2)). */
  getcpu(): { cpu: number; node: number } {
    return { cpu: this.task.vcpu, node: this.#linux.nodeOfVcpu(this.task.vcpu) };
  }

  set_mempolicy(mode: number, nodemask: Uint32Array | null, maxnode: number): number {
    return answer(() => {
      const policy = this.#policy(mode, nodemask, maxnode);
      this.task.policy = policy;
      if (policy && isInterleaved(policy)) this.task.interleave = freshInterleave();
      return 0;
    });
  }

  get_mempolicy(mode: Int32Array | null, nodemask: Uint32Array | null, maxnode: number, addr: number, flags: number): number {
    return answer(() => {
      if (nodemask !== null && maxnode < this.#linux.topology.nodes) throw new Errno(EINVAL);
      const { value, nodes } = this.#policyState(addr, flags);
      if (mode !== null) {
        if (!(mode instanceof Int32Array) || mode.length < 1) throw new Errno(EFAULT);
        mode[0] = value;
      }
      if (nodemask !== null) writeNodes(nodemask, maxnode, nodes);
      return 0;
    });
  }

  #policyState(addr: number, flags: number): { value: number; nodes: Nodemask } {
    if ((flags & ~(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED)) !== 0) throw new Errno(EINVAL);
    if ((flags & MPOL_F_MEMS_ALLOWED) !== 0) {
      if (flags !== MPOL_F_MEMS_ALLOWED) throw new Errno(EINVAL);
      return { value: 0, nodes: this.#linux.memsOf(this.process) };
    }
    let policy = this.task.policy;
    if ((flags & MPOL_F_ADDR) !== 0) {
      const mapping = this.process.mappingAt(pageOf(addr));
      if (!mapping) throw new Errno(EFAULT);
      policy = mapping.policy;
    } else if (addr !== 0) {
      throw new Errno(EINVAL);
    }
    const nodes = policy ? (keepsUserNodes(policy) ? policy.reference : policy.nodes) : NO_NODES;
    return {
      value: (flags & MPOL_F_NODE) !== 0 ? this.#nodeState(policy, addr, flags) : policy ? policy.mode | policy.flags : MPOL_DEFAULT,
      nodes,
    };
  }

  /** With MPOL_F_NODE: the node of the page at `addr`, which is populated for it, or of the next page of the task's interleaving. */
  #nodeState(policy: Mempolicy | undefined, addr: number, flags: number): number {
    if ((flags & MPOL_F_ADDR) !== 0) {
      const page = pageOf(addr);
      if (this.process.mappingAt(page)!.heap !== undefined && this.process.frameOf(page) < 0) throw new Errno(EFAULT);
      this.#populate(addr);
      return this.process.nodeOf(page);
    }
    if (!policy || !isInterleaved(policy)) throw new Errno(EINVAL);
    return interleavePeek(policy, this.task.interleave);
  }

  #populate(addr: number): void {
    try {
      this.process.touch(this.task, addr);
    } catch (error) {
      if (error instanceof GuestError && error.code === "NUMAHEAP_OUT_OF_MEMORY") throw new Errno(ENOMEM);
      throw error;
    }
  }

  mbind(addr: number, len: number, mode: number, nodemask: Uint32Array | null, maxnode: number, flags: number): Promise<number> {
    return answerLater(async () => {
      const { misplaced, isStrict } = this.#bindRange(addr, len, mode, nodemask, maxnode, flags);
      const failed = (flags & MPOL_MF_MOVES) !== 0 ? await this.#moveByPolicy(misplaced, (flags & MPOL_MF_MOVE_ALL) !== 0) : 0;
      if (isStrict && failed > 0) throw new Errno(EIO);
      return 0;
    });
  }

  /** mbind where nothing is to move: the answer at once. */
  mbindOnly(addr: number, len: number, mode: number, nodemask: Uint32Array | null, maxnode: number, flags: number): number {
    return answer(() => {
      this.#bindRange(addr, len, mode, nodemask, maxnode, flags & ~MPOL_MF_MOVES);
      return 0;
    });
  }

  #bindRange(addr: number, len: number, mode: number, nodemask: Uint32Array | null, maxnode: number, flags: number): Bound {
    const { mode: plain, flags: modeFlags } = splitMode(mode);
    const user = readNodes(nodemask, maxnode);
    if ((flags & ~(MPOL_MF_STRICT | MPOL_MF_MOVES)) !== 0) throw new Errno(EINVAL);
    if ((flags & MPOL_MF_MOVE_ALL) !== 0 && !maySysNice(this.process)) throw new Errno(EPERM);
    const end = addr + Math.ceil(len / PAGE_BYTES) * PAGE_BYTES;
    // What ends beyond all addresses is a hole; what goes round at 2^64 is nonsense.
    if (!(Number.isSafeInteger(addr) && addr >= 0 && addr % PAGE_BYTES === 0 && len >= 0 && end < 2 ** 64)) throw new Errno(EINVAL);
    const isStrict = (flags & MPOL_MF_STRICT) !== 0 && plain !== MPOL_DEFAULT;
    if (end === addr) return { misplaced: [], isStrict };
    const policy = newPolicy(plain, modeFlags, user, this.#allowed());
    const [first, last] = [pageOf(addr), pageOf(end)];
    this.#checkHoles(first, last, policy === undefined);
    // By the user's mask as it is, also where it is relative: so the kernel compares.
    const misplaced = this.process.populated(first, last).filter((page) => !hasNode(user, this.process.nodeOf(page)));
    if (isStrict && (flags & MPOL_MF_MOVES) === 0 && misplaced.length > 0) throw new Errno(EIO);
    this.process.changePolicies(this.process.isolate(first, last), () => policy);
    return { misplaced, isStrict };
  }

  /** The default may be set across holes, though not in nothing but a hole. */
  #checkHoles(first: number, end: number, holesAllowed: boolean): void {
    const mappings = this.process.mappingsIn(first, end);
    const gaps = [first, ...mappings.map((mapping) => mapping.end)].some((from, i) => from < (mappings[i]?.first ?? end));
    if (mappings.length === 0 || (gaps && !holesAllowed)) throw new Errno(EFAULT);
  }

  /** Moves pages to where the policies in force would put them now. How many could not. */
  async #moveByPolicy(pages: readonly number[], shared: boolean): Promise<number> {
    let failed = 0;
    const advice = new Map<number, number[]>();
    for (const page of pages) {
      const policy = this.#linux.policyOf(this.task, this.process.mappingAt(page)!);
      const { nodes, otherwise } = this.#linux.choose(this.task, policy, page);
      const order = [...nodes, ...otherwise];
      const here = this.process.nodeOf(page);
      // It is in the right place already, or would be after all better ones.
      const better = order.includes(here) ? order.slice(0, order.indexOf(here)) : order;
      if (better.length === 0) continue;
      if (this.process.frameOf(page) !== page) {
        if (!this.process.migratePage(page, better, this.task.vcpu) && better.length === order.length) ++failed;
      } else if (shared || mapCount(this.#linux, page) === 1) {
        advice.set(better[0]!, [...(advice.get(better[0]!) ?? []), page]);
      }
    }
    for (const [node, frames] of advice) failed += await this.#linux.advise(frames, node);
    return failed;
  }

  move_pages(
    pid: number,
    count: number,
    pages: ArrayLike<number> | null,
    nodes: ArrayLike<number> | null,
    status: Int32Array | null,
    flags: number,
  ): Promise<number> {
    return movePages(this.#linux, this.task, { pid, count, pages, nodes, status, flags });
  }

  migrate_pages(pid: number, maxnode: number, oldNodes: Uint32Array | null, newNodes: Uint32Array | null): Promise<number> {
    return migratePages(this.#linux, this.task, { pid, maxnode, oldNodes, newNodes });
  }

  #policy(mode: number, nodemask: Uint32Array | null, maxnode: number): Mempolicy | undefined {
    const { mode: plain, flags } = splitMode(mode);
    return newPolicy(plain, flags, readNodes(nodemask, maxnode), this.#allowed());
  }

  #allowed(): { mems: Nodemask; withMemory: Nodemask } {
    return { mems: this.#linux.memsOf(this.process), withMemory: this.#linux.topology.withMemory };
  }
}

/** Processes that have the frame of a heap mapped. */
export function mapCount(linux: Linux, page: number): number {
  let count = 0;
  for (const process of linux.processes.values()) if (process.frameOf(page) === page) ++count;
  return count;
}
