// Machines to begin with. Distances are of the kind firmware states for such machines; memory is 4 GiB a node, enough for any heap and little
// enough to be modelled frame by frame.

import { parseTopology, type Topology } from "./topology.js";

const NODE_BYTES = 4 * 2 ** 30;
const CPUS = 4;

export interface Preset {
  /** What it is, in a few words. */
  readonly summary: string;
  readonly topology: Topology;
}

/** Node i has CPUs from 4i on and bytes from 4i GiB on, so that numbers and addresses ascend with nodes. */
function machine(distances: number[][], without: { cpus?: number; memory?: number } = {}): Topology {
  let cpus = 0;
  let bytes = 0;
  const nodes = distances.map((_, id) => {
    const [cpu, start] = [cpus, bytes];
    if (id !== without.cpus) cpus += CPUS;
    if (id !== without.memory) bytes += NODE_BYTES;
    return { id, cpus: Array.from({ length: cpus - cpu }, (_, k) => cpu + k), memory: bytes > start ? [{ start, end: bytes }] : [] };
  });
  return parseTopology({ nodes, distances });
}

/** Distances of `count` nodes by a rule for two that differ. */
function square(count: number, rule: (a: number, b: number) => number): number[][] {
  return Array.from({ length: count }, (_, a) => Array.from({ length: count }, (_, b) => (a === b ? 10 : rule(a, b))));
}

const PRESETS = {
  uma: { summary: "one node", topology: machine([[10]]) },
  "2-socket": { summary: "two sockets, one link", topology: machine(square(2, () => 21)) },
  "4-socket-ring": {
    summary: "four sockets in a ring: the one across is two hops away",
    topology: machine(square(4, (a, b) => ((a + b) % 2 === 0 ? 31 : 21))),
  },
  "4-socket-mesh": { summary: "four sockets, a link between any two", topology: machine(square(4, () => 21)) },
  "8-node-glued": {
    summary: "two quads of four nodes, glued by node controllers; nodes come in pairs",
    topology: machine(square(8, (a, b) => (a >> 1 === b >> 1 ? 12 : a >> 2 === b >> 2 ? 16 : 32))),
  },
  "memoryless-node": {
    summary: "three nodes, the one in the middle without memory",
    topology: machine(
      [
        [10, 15, 25],
        [15, 10, 17],
        [25, 17, 10],
      ],
      { memory: 1 },
    ),
  },
  "cpuless-node": {
    summary: "two sockets, and a third node of memory only, near the first",
    topology: machine(
      [
        [10, 21, 14],
        [21, 10, 24],
        [14, 24, 10],
      ],
      { cpus: 2 },
    ),
  },
} satisfies Record<string, Preset>;

export type PresetName = keyof typeof PRESETS;

/** All presets by name. */
export const presets: Readonly<Record<PresetName, Preset>> = PRESETS;
