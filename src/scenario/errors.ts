/** What is wrong with a scenario. */
export type ScenarioErrorCode =
  /** The file cannot be read, or is no file. */
  | "NUMAHEAP_SCENARIO_FILE"
  /** The file is longer than a scenario can be. */
  | "NUMAHEAP_SCENARIO_TOO_LARGE"
  /** The text is not JSON. */
  | "NUMAHEAP_SCENARIO_JSON"
  /** A field that is missing, unknown, or has a value that cannot be; `field` says which. */
  | "NUMAHEAP_SCENARIO_VALUE"
  /** Neither a file nor a scenario that is built in. */
  | "NUMAHEAP_SCENARIO_UNKNOWN"
  /** The trace of its load is not there, or is no file. */
  | "NUMAHEAP_SCENARIO_TRACE"
  /** Something that was begun has not ended in its time. */
  | "NUMAHEAP_SCENARIO_HUNG";

/** A scenario that cannot be played. */
export class ScenarioError extends Error {
  override readonly name = "ScenarioError";
  readonly code: ScenarioErrorCode;
  /** Path of the culprit: `events[3].toNode`; empty where it is the whole. */
  readonly field: string;

  constructor(code: ScenarioErrorCode, field: string, message: string, options?: ErrorOptions) {
    super(field === "" ? message : `${field}: ${message}`, options);
    this.code = code;
    this.field = field;
  }
}
