// Mutants that no scenario can tell from the allocator, by their names, and why.

const EQUIVALENT = [];

/** Why the mutant may survive; undefined if it may not. */
export const reasonFor = (name) => EQUIVALENT.find(([pattern]) => pattern.test(name))?.[1];
