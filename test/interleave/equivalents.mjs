// Mutants that no scenario can tell from the allocator, by their names, and why.

const EQUIVALENT = [
  [
    /^split i32\.atomic\.rmw\.add offset=(28|132|136|224) in (reap\/(attach|reap)|topology\/(beginWrite|endWrite|bumpEpoch)) /,
    "a lock is held wherever these words are written: the page heap's (28, records), the topology's (132, sequence; 136, epoch), the reapers' (224, reaped)",
  ],
  [
    /^swap i32\.store offset=24 with the write after it in (large\/freeDeferred|remote\/\w+|thread-cache\/detach|batches\/\w+) /,
    "the carry heads its list still, and is void; and between moves carryEnd is 0 or the sentinel, where any chain ends",
  ],
  [/^swap i32\.atomic\.store with the write after it in topology\/finishRebind #1/, "a statistic comes before the label"],
  [
    /^swap i32\.atomic\.store with the write after it in topology\/finishRebind #2/,
    "label and tags under the lock of their list: who takes it over writes the tags by the label",
  ],
  [
    /^(split i32\.atomic\.rmw\.add offset=136 in topology\/bumpEpoch #2|skip i32\.atomic\.rmw\.add offset=136 in topology\/bumpEpoch #1)$/,
    "comes once in 2^32 changes",
  ],
  [
    /^swap i32\.atomic\.store offset=20 with the write after it in thread-cache\/giveBack #1/,
    "a count of batches comes before the end of the carry: under the list's lock, and who takes that over counts again",
  ],
  [
    /^swap i32\.(atomic\.store offset=20|store offset=8) with the write after it in page-source\/grow #1/,
    "counts of pages, under the page heap's lock: who takes that over counts again",
  ],
  [
    /^skip i32\.atomic\.store offset=92 in page-source\/grow #3/,
    "a growth refused is refused for ever in a memory with a maximum, so it is never taken for one that came about",
  ],
  [
    /^split i32\.atomic\.rmw\.cmpxchg in reap\/takeFromDead /,
    "only a waiter may write the word of a dead holder's lock meanwhile, to say that it waits: what is written says so in any case",
  ],
  [
    /^swap i32\.(store offset=8|atomic\.store8 offset=6144) with the write after it in page-heap\/placePage #1|^swap i32\.store offset=76 with the write after it in reap\/reap #1/,
    "counts of pages, under the page heap's lock: who takes that over counts again",
  ],
  [
    /^swap i32\.atomic\.store with the write after it in page-heap\/makeSpan #1/,
    "tags come before the label: under the page heap's lock, and who takes that over clears the tags of free pages",
  ],
  [
    /^swap i32\.atomic\.store offset=8 with the write after it in central\/takeBatch #1/,
    "a count of batches: under the list's lock, and who takes that over counts again",
  ],
  [
    /^swap i32\.atomic\.store offset=7680 with the write after it in reap\/attach #1/,
    "a count of records: who takes the page heap's lock over counts again",
  ],
  [
    /^swap i32\.atomic\.store with the write after it in reap\/attach #1/,
    "a new record observes the topology before it is anybody's: it has nothing yet that a reaper would look for",
  ],
  [/^swap i64\.store offset=80 with the write after it in central\/returnBlocks/, "a statistic comes after the carry"],
  [
    /^split i64\.atomic\.rmw\.and offset=5632 in reap\/freeSlot /,
    "nobody writes the word of a taken slot but its thread, or once that is dead its reaper",
  ],
  [/^swap i32\.atomic\.store offset=20 with the write after it in thread-cache\/refill(From)? /, "a statistic comes after the carry"],
  [
    /^skip i32\.atomic\.store offset=20 in thread-cache\/returnCarry #1$/,
    "comes only to a carry that leads nowhere, which takes a program that writes to freed blocks",
  ],
];

/** Why the mutant may survive; undefined if it may not. */
export const reasonFor = (name) => EQUIVALENT.find(([pattern]) => pattern.test(name))?.[1];
