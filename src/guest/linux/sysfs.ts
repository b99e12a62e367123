// /sys/devices/system/node (Linux: drivers/base/node.c, Documentation/ABI/stable/sysfs-devices-node). It is of the unmodified part of the
// kernel: it shows the machine of the firmware's tables, flat as a rule, whatever the actual topology is. numastat counts as that part
// would: of a flat machine, every page is a hit.
//
// Beside it the weights of interleaving (/sys/kernel/mm/mempolicy/weighted_interleave), which belong to the NUMA API: of actual nodes.

import { formatCpuList } from "../../topology/cpu-list.js";
import { OWNER_BALLOON } from "../frame-table.js";
import { PAGE_BYTES } from "../process.js";
import { EINVAL, ENOENT } from "./errno.js";
import type { Linux } from "./linux.js";

const NODES = "/sys/devices/system/node";
const WEIGHTS = "/sys/kernel/mm/mempolicy/weighted_interleave";

type Files = ReadonlyMap<string, () => string>;

export class Sysfs {
  readonly #linux: Linux;

  constructor(linux: Linux) {
    this.#linux = linux;
  }

  /** Content of a file, undefined if there is none of that name. */
  read(path: string): string | undefined {
    return this.#files().get(path)?.();
  }

  /** Paths of all files. */
  list(): string[] {
    return [...this.#files().keys()];
  }

  /** Writes a file: 0, or the negative errno. Only the weights can be written; none or 0 is the default, which is 1. */
  write(path: string, text: string): number {
    const node = Number(/^\/node(\d+)$/.exec(path.startsWith(WEIGHTS) ? path.slice(WEIGHTS.length) : "")?.[1] ?? -1);
    if (node < 0 || node >= this.#linux.topology.nodes) return -ENOENT;
    const weight = text.trim();
    if (!/^\d*$/.test(weight) || Number(weight) > 255) return -EINVAL;
    this.#linux.weights[node] = Number(weight) || 1;
    return 0;
  }

  #files(): Files {
    const { nodes, distances } = this.#linux.flat;
    const ids = nodes.map(({ id }) => id);
    const listOf = (having: "cpus" | "memory") => (): string =>
      `${formatCpuList(nodes.filter((node) => node[having].length > 0).map(({ id }) => id))}\n`;
    const all = (): string => `${formatCpuList(ids)}\n`;
    const files = new Map<string, () => string>([
      [`${NODES}/possible`, all],
      [`${NODES}/online`, all],
      [`${NODES}/has_cpu`, listOf("cpus")],
      [`${NODES}/has_memory`, listOf("memory")],
      [`${NODES}/has_normal_memory`, listOf("memory")],
    ]);
    nodes.forEach(({ id, cpus }, i) => {
      const folder = `${NODES}/node${id}`;
      files.set(`${folder}/cpulist`, () => `${formatCpuList(cpus)}\n`);
      files.set(`${folder}/distance`, () => `${distances[i]!.join(" ")}\n`);
      files.set(`${folder}/meminfo`, () => this.#meminfo(id));
      files.set(`${folder}/numastat`, () => this.#numastat(id));
    });
    this.#linux.weights
      .subarray(0, this.#linux.topology.nodes)
      .forEach((weight, node) => files.set(`${WEIGHTS}/node${node}`, () => `${weight}\n`));
    return files;
  }

  #meminfo(node: number): string {
    const { table, boot, layout } = this.#linux;
    let [total, free] = [0, 0];
    for (let gfn = 0; gfn < layout.frames; ++gfn) {
      if (boot.nodeOfFrame(gfn) !== node || table.ownerOf(gfn) === OWNER_BALLOON) continue;
      ++total;
      if (table.isFree(gfn)) ++free;
    }
    const line = (name: string, frames: number): string =>
      `Node ${node} ${`${name}:`.padEnd(15)} ${`${(frames * PAGE_BYTES) / 1024}`.padStart(8)} kB\n`;
    return line("MemTotal", total) + line("MemFree", free) + line("MemUsed", total - free);
  }

  #numastat(node: number): string {
    const stat = this.#linux.bootNumastat.of(node);
    return Object.entries(stat)
      .map(([name, value]) => `${name} ${value}\n`)
      .join("");
  }
}
