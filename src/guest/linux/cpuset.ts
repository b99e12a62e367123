// Which nodes the tasks of a group may have memory on (Linux: kernel/cgroup/cpuset.c, cpuset(7)): of what a group is configured with, what
// its parent has; all its parent has where that leaves nothing. Only the memory side, and groups hold processes.

import { NO_NODES, both, type Nodemask } from "./nodemask.js";

export class Cpuset {
  readonly parent: Cpuset | undefined;
  readonly children: Cpuset[] = [];
  #configured: Nodemask | undefined;
  #effective: Nodemask = NO_NODES;

  /** @param configured cpuset.mems; undefined: empty, as all the parent has */
  constructor(parent: Cpuset | undefined, configured?: Nodemask) {
    this.parent = parent;
    this.#configured = configured;
    parent?.children.push(this);
    if (parent) this.update(parent.effective);
  }

  /** cpuset.mems.effective */
  get effective(): Nodemask {
    return this.#effective;
  }

  configure(mems: Nodemask | undefined): void {
    this.#configured = mems;
    if (this.parent) this.update(this.parent.effective);
  }

  /** The parent has these nodes now; the root group, the machine. */
  update(available: Nodemask): void {
    const wanted = this.#configured === undefined ? available : both(this.#configured, available);
    this.#effective = wanted === NO_NODES ? available : wanted;
    for (const child of this.children) child.update(this.#effective);
  }
}
