// How the walk tells its host what it finds.

import { Problem } from "../src/heap/problem-codes";

export { Place, Problem, Word } from "../src/heap/problem-codes";

/** Marks an address (a multiple of 8) that `size` bytes begin at: 1 the first time in a walk, 0 if it was marked before. */
// @ts-ignore: decorator
@external("inspect", "mark")
export declare function mark(at: usize, size: u32): i32;

// @ts-ignore: decorator
@external("inspect", "problem")
declare function tell(code: u32, a: u32, b: u32, c: u32): void;

/** Problems of this walk. */
export let problems: u32 = 0;

export function forget(): void {
  problems = 0;
}

export function problem(code: Problem, a: u32, b: u32, c: u32): void {
  ++problems;
  tell(code, a, b, c);
}

/** Reports unless `counted` is what the heap has `recorded`. */
export function expectEqual(code: Problem, where: u32, counted: u32, recorded: u32): void {
  if (counted != recorded) problem(code, where, counted, recorded);
}
