/** What is wrong with a topology; `field` of the error says where. */
export type TopologyErrorCode =
  /** A value of the wrong type, out of its range, or out of order. */
  | "NUMAHEAP_TOPOLOGY_VALUE"
  /** A node or a CPU that is there twice. */
  | "NUMAHEAP_TOPOLOGY_DUPLICATE"
  /** Two ranges of memory share bytes. */
  | "NUMAHEAP_TOPOLOGY_OVERLAP"
  /** Distances that are no square with a row for each node, a diagonal that is not 10, or another node as near as the local one. */
  | "NUMAHEAP_TOPOLOGY_DISTANCE"
  /** A node or a CPU beyond what a heap knows. */
  | "NUMAHEAP_TOPOLOGY_LIMIT"
  /** A node that is asked for and is not there. */
  | "NUMAHEAP_TOPOLOGY_UNKNOWN"
  /** A change that does not fit the topology it is applied to. */
  | "NUMAHEAP_TOPOLOGY_CHANGE";

/** A topology that cannot be, or a question about one that has no answer. */
export class TopologyError extends Error {
  override readonly name = "TopologyError";
  readonly code: TopologyErrorCode;
  /** Path of the culprit in the value that was given: `nodes[1].memory[0].end`. */
  readonly field: string;

  constructor(code: TopologyErrorCode, field: string, message: string, options?: ErrorOptions) {
    super(`${field}: ${message}`, options);
    this.code = code;
    this.field = field;
  }
}
