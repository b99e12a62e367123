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

type Signal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } } ? Signal : object;
interface ListenerOptions {
  readonly capture?: boolean;
  readonly once?: boolean;
  readonly signal?: Signal;
}
type Listener = ((event: TopologyChangeEvent) => void) | null;

/** What a heap has of the platform's EventTarget, in words that hold in projects without its types. */
export interface HeapEvents {
  addEventListener(type: "topologychange", listener: Listener, options?: boolean | ListenerOptions): void;
  addEventListener(type: "detach", listener: (() => void) | null, options?: boolean | ListenerOptions): void;
  removeEventListener(type: "topologychange", listener: Listener, options?: boolean | ListenerOptions): void;
  removeEventListener(type: "detach", listener: (() => void) | null, options?: boolean | ListenerOptions): void;
  dispatchEvent(event: { readonly type: string }): boolean;
}
export const HeapEventTarget = EventTarget as unknown as new () => HeapEvents;
const PlatformEvent = Event as unknown as new (type: string) => { readonly type: string };

/** One or several changes, in the order they happened. */
export class TopologyChangeEvent extends PlatformEvent implements TopologyChange {
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
