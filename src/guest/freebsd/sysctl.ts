// Variables of the kernel about memory domains (FreeBSD: vm/vm_phys.c, vm/vm_meter.c; sysctl(8), numa(4)). They are of the unmodified part of
// the kernel: they show the machine of the firmware's tables, flat as a rule, whatever the actual topology is.

import { OWNER_BALLOON } from "../frame-table.js";
import { PAGE_BYTES } from "../process.js";
import type { FreeBsd } from "./freebsd.js";

/** Distance where no table says any. */
const NO_LOCALITY = -1;

interface Segment {
  readonly first: number;
  readonly end: number;
  readonly domain: number;
}

export class Sysctl {
  readonly #freebsd: FreeBsd;
  /** Nodes of the tables with memory: domain d is the d-th. */
  readonly #nodes: readonly number[];

  constructor(freebsd: FreeBsd) {
    this.#freebsd = freebsd;
    this.#nodes = freebsd.flat.nodes.filter(({ memory }) => memory.length > 0).map(({ id }) => id);
  }

  /** Value of a variable, undefined if there is none of that name. */
  read(name: string): number | string | undefined {
    return this.#variables().get(name)?.();
  }

  /** Names of all variables. */
  list(): string[] {
    return [...this.#variables().keys()];
  }

  #variables(): ReadonlyMap<string, () => number | string> {
    const variables = new Map<string, () => number | string>([
      ["vm.ndomains", () => this.#nodes.length],
      ["vm.numa.disabled", () => Number(this.#nodes.length === 1)],
      ["vm.phys_locality", () => this.#locality()],
      ["vm.phys_segs", () => this.#segments().map(describe).join("")],
      ["vm.stats.vm.v_page_count", () => this.#count(() => true, false)],
      ["vm.stats.vm.v_free_count", () => this.#count(() => true, true)],
    ]);
    this.#nodes.forEach((node, domain) => {
      const isHere = (gfn: number): boolean => this.#freebsd.boot.nodeOfFrame(gfn) === node;
      variables.set(`vm.domain.${domain}.stats.free_count`, () => this.#count(isHere, true));
    });
    return variables;
  }

  #count(which: (gfn: number) => boolean, freeOnly: boolean): number {
    const { table, layout } = this.#freebsd;
    let count = 0;
    for (let gfn = 0; gfn < layout.frames; ++gfn) {
      if (which(gfn) && (freeOnly ? table.isFree(gfn) : table.ownerOf(gfn) !== OWNER_BALLOON)) ++count;
    }
    return count;
  }

  #locality(): string {
    const { nodes, distances } = this.#freebsd.flat;
    const places = this.#nodes.map((id) => nodes.findIndex((node) => node.id === id));
    const isKnown = this.#freebsd.platform.slit.length > 0 && this.#freebsd.boot.problem === undefined;
    const rows = places.map(
      (from, domain) => `${domain}: ${places.map((to) => `${isKnown ? distances[from]![to] : NO_LOCALITY} `).join("")}\n`,
    );
    return rows.join("");
  }

  /** Memory after the kernel's image, cut where the domain changes. */
  #segments(): Segment[] {
    const { boot, layout } = this.#freebsd;
    const segments: Segment[] = [];
    for (let first = layout.kernelFrames; first < layout.frames;) {
      const node = boot.nodeOfFrame(first);
      let end = first + 1;
      while (end < layout.frames && boot.nodeOfFrame(end) === node) ++end;
      segments.push({ first, end, domain: this.#nodes.indexOf(node) });
      first = end;
    }
    return segments;
  }
}

const describe = ({ first, end, domain }: Segment, i: number): string =>
  `\nSEGMENT ${i}:\n\nstart:     0x${(first * PAGE_BYTES).toString(16)}\nend:       0x${(end * PAGE_BYTES).toString(16)}\ndomain:    ${domain}\n`;
