// Moving pages that are there already (Linux: mm/migrate.c, do_migrate_pages of mm/mempolicy.c; move_pages(2), migrate_pages(2)).
//
// Pages of heaps are moved by the hypervisor, on advice. Those it does not move count as pages that could not be moved for a reason that is
// not fatal. An anonymous page fails only where its node is full, which is fatal: ENOMEM.

import { pageOf } from "../process.js";
import { EACCES, answerLater, EFAULT, EINVAL, ENODEV, ENOENT, ENOMEM, EPERM, Errno, ESRCH } from "./errno.js";
import type { Linux, LinuxProcess, Task } from "./linux.js";
import { both, hasNode, isSubset, NO_NODES, type Nodemask, nodesOf, remapNode, weight } from "./nodemask.js";
import { mapCount, mayAccess, maySysNice, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, readNodes } from "./syscalls.js";

export interface MovePagesArguments {
  readonly pid: number;
  readonly count: number;
  readonly pages: ArrayLike<number> | null;
  readonly nodes: ArrayLike<number> | null;
  readonly status: Int32Array | null;
  readonly flags: number;
}

export interface MigratePagesArguments {
  readonly pid: number;
  readonly maxnode: number;
  readonly oldNodes: Uint32Array | null;
  readonly newNodes: Uint32Array | null;
}

/** @throws {Errno} ESRCH, EPERM */
function findProcess(linux: Linux, task: Task, pid: number): LinuxProcess {
  const own = linux.processOf(task);
  const process = pid === 0 ? own : linux.processes.get(pid);
  if (!process) throw new Errno(ESRCH);
  if (!mayAccess(own, process)) throw new Errno(EPERM);
  return process;
}

/** Element of a user's array. */
function read(array: ArrayLike<number> | null, i: number): number {
  if (array === null || !(i < array.length)) throw new Errno(EFAULT);
  return array[i]!;
}

function write(status: Int32Array | null, i: number, value: number): void {
  if (!(status instanceof Int32Array) || i >= status.length) throw new Errno(EFAULT);
  status[i] = value;
}

export function movePages(linux: Linux, task: Task, asked: MovePagesArguments): Promise<number> {
  return answerLater(async () => {
    const { pid, count, pages, nodes, status, flags } = asked;
    if ((flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) !== 0) throw new Errno(EINVAL);
    if ((flags & MPOL_MF_MOVE_ALL) !== 0 && !maySysNice(linux.processOf(task))) throw new Errno(EPERM);
    const process = findProcess(linux, task, pid);
    if (nodes !== null) return new Mover(linux, task, process, asked).run();
    for (let i = 0; i < count; ++i) write(status, i, nodeStatus(process, pageOf(read(pages, i))));
    return 0;
  });
}

/** Node of a page, or the negative errno of one that has none. */
function nodeStatus(process: LinuxProcess, page: number): number {
  if (!process.mappingAt(page)) return -EFAULT;
  const node = process.nodeOf(page);
  return node < 0 ? -ENOENT : node;
}

/** do_pages_move: pages that go to the same node one after the other are moved together, and their status is written after that. */
class Mover {
  /** Pages gathered, of the elements [start, ..) of the arrays, for `node`. */
  #batch: number[] = [];
  #start = 0;
  #node = -1;

  constructor(
    readonly linux: Linux,
    readonly task: Task,
    readonly process: LinuxProcess,
    readonly asked: MovePagesArguments,
  ) {}

  async run(): Promise<number> {
    let i = 0;
    try {
      for (; i < this.asked.count; ++i) {
        const failed = await this.#element(i);
        if (failed > 0) return failed;
      }
      return await this.#flush(i);
    } catch (error) {
      // What was gathered before is moved nevertheless; the first error is the one that is told.
      await answerLater(() => this.#flush(i));
      throw error;
    }
  }

  async #element(i: number): Promise<number> {
    const page = pageOf(read(this.asked.pages, i));
    const node = this.#target(read(this.asked.nodes, i));
    if (node !== this.#node) {
      const failed = await this.#flush(i);
      if (failed > 0) return failed;
      [this.#start, this.#node] = [i, node];
    }
    const problem = this.#problem(page, node);
    if (problem === undefined) {
      this.#batch.push(page);
      return 0;
    }
    write(this.asked.status, i, problem);
    const failed = await this.#flush(i);
    this.#node = -1;
    // This element has been dealt with.
    return failed > 0 ? failed - 1 : 0;
  }

  #target(node: number): number {
    const { linux, process } = this;
    if (!hasNode(linux.topology.withMemory, node)) throw new Errno(ENODEV);
    if (!hasNode(linux.memsOf(process), node)) throw new Errno(EACCES);
    return node;
  }

  /** Status of a page that is not to be moved: the node where it is already, or why it cannot be. */
  #problem(page: number, node: number): number | undefined {
    const { linux, process, asked } = this;
    const here = nodeStatus(process, page);
    if (here < 0 || here === node) return here;
    const isShared = process.frameOf(page) === page && mapCount(linux, page) > 1;
    return isShared && (asked.flags & MPOL_MF_MOVE_ALL) === 0 ? -EACCES : undefined;
  }

  /** Moves what was gathered before element `end`. Pages that were not moved, and all that come after, which are not tried. */
  async #flush(end: number): Promise<number> {
    const batch = this.#batch;
    if (batch.length === 0) return 0;
    this.#batch = [];
    const { full, refused } = await this.linux.movePages(this.process, batch, this.#node, this.task.vcpu);
    if (full > 0) throw new Errno(ENOMEM);
    if (refused > 0) return refused + this.asked.count - end;
    for (let i = this.#start; i < end; ++i) write(this.asked.status, i, this.#node);
    return 0;
  }
}

export function migratePages(linux: Linux, task: Task, asked: MigratePagesArguments): Promise<number> {
  return answerLater(async () => {
    const from = readNodes(asked.oldNodes, asked.maxnode);
    const wanted = readNodes(asked.newNodes, asked.maxnode);
    const own = linux.processOf(task);
    const process = findProcess(linux, task, asked.pid);
    const nice = maySysNice(own);
    if (!isSubset(wanted, linux.memsOf(process)) && !nice) throw new Errno(EPERM);
    const to = both(wanted, linux.memsOf(own));
    if (to === NO_NODES) throw new Errno(EINVAL);
    let failed = 0;
    for (const [source, destination] of pairs(from, to)) {
      const pages = process.populated(0, Infinity).filter((page) => process.nodeOf(page) === source);
      // Shared pages move only for those who may move everything.
      const movable = pages.filter((page) => nice || process.frameOf(page) !== page || mapCount(linux, page) === 1);
      const { full, refused } = await linux.movePages(process, movable, destination, task.vcpu);
      if (full > 0) throw new Errno(ENOMEM);
      failed += refused;
    }
    return failed;
  });
}

/**
 * From which node to which pages move, in order. Relations between nodes are kept: the n-th of one set goes to the n-th of the other, and a
 * node is emptied before others move to it, as far as can be. Where the sets differ in size, nodes that are in both stay as they are.
 */
export function pairs(from: Nodemask, to: Nodemask): [source: number, destination: number][] {
  const found: [number, number][] = [];
  const left = new Set(nodesOf(from));
  const sameSize = weight(from) === weight(to);
  for (;;) {
    let next: [number, number] | undefined;
    for (const source of left) {
      if (!sameSize && hasNode(to, source)) continue;
      const destination = remapNode(source, from, to);
      if (source === destination) continue;
      next = [source, destination];
      if (!left.has(destination)) break;
    }
    if (!next) return found;
    left.delete(next[0]);
    found.push(next);
  }
}
