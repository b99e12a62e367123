// What a heap tells the program in its thread of a topology change. The heap itself follows through shared memory, whether or not anybody
// listens, and may already know of later changes.

/** Bytes [start, end) of the memory lie on `node` now. */
export interface MovedRange {
  readonly start: number;
  readonly end: number;
  /** MIXED: on several nodes; nodeOf says where each page lies. */
  readonly node: number;
}

/** Node of a range in which several changes were joined. */
export const MIXED = -1;

export interface TopologyChange {
  /** Epoch of the heap as of the change, for comparison with `heap.epoch`. */
  readonly epoch: number;
  /** How many nodes there are. */
  readonly nodeCount: number;
  /** Nodes or their distances have changed. */
  readonly nodes: boolean;
  /** vCPUs that find their memory on another node now. */
  readonly vcpus: readonly { readonly vcpu: number; readonly node: number }[];
  readonly ranges: readonly MovedRange[];
}

/** One or several changes, in the order they happened. */
export class TopologyChangeEvent extends Event implements TopologyChange {
  readonly epoch: number;
  readonly nodeCount: number;
  readonly nodes: boolean;
  readonly vcpus: TopologyChange["vcpus"];
  readonly ranges: readonly MovedRange[];

  constructor({ epoch, nodeCount, nodes, vcpus, ranges }: TopologyChange) {
    super("topologychange");
    this.epoch = epoch;
    this.nodeCount = nodeCount;
    this.nodes = nodes;
    this.vcpus = vcpus;
    this.ranges = ranges;
  }
}
