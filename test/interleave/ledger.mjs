// Which blocks the program holds, from the calls its threads have made: what an allocator must agree with.

import { Status } from "./thread.mjs";

const allocators = new Set(["malloc", "calloc", "memalign", "aligned_alloc", "mallocOnNode", "realloc"]);
const releasers = { free: 1, realloc: 1 };

/**
 * { live: blocks held, inFlight: blocks that a call of a dead thread was given and may or may not have freed, mayLose: how many more blocks
 * such calls may have lost, wrong: what is wrong already, if anything }.
 */
export function unclaimed(machine, { mayFail = false, lossless = false } = {}) {
  const held = new Map();
  const take = (block, by) => void held.set(block, (held.get(block) ?? 0) + by);
  let wrong = null;
  const settle = (call, result) => {
    if (!call) return;
    const [name, ...args] = call;
    if (allocators.has(name)) {
      if (result) take(result, 1);
      else if (!mayFail && !(name === "realloc" && args[1] === 0)) wrong ??= `${call.join(" ")} failed`;
    }
    if (name in releasers && args[0] && (name === "free" || result || args[1] === 0)) take(args[0], -1);
    if (name === "detach" && result !== 0) wrong ??= `detach failed: errno ${result}`;
    if (name === "rebind" && result !== 0 && !mayFail) wrong ??= `rebind failed: errno ${result}`;
  };
  for (const { call, result } of machine.prelude) settle(call, result);
  const inFlight = [];
  let mayLose = 0;
  for (const { history, results, call, status } of machine.threads) {
    history.forEach((finished, i) => settle(finished, results[i]));
    if (status !== Status.Dead || !call) continue;
    const [name, ...args] = call;
    if (name in releasers && args[0]) {
      inFlight.push(args[0]);
      take(args[0], -1);
    }
    if (allocators.has(name) && !lossless) ++mayLose;
  }
  const live = [];
  for (const [block, count] of held) {
    if (count === 1) live.push(block);
    else if (count !== 0) wrong ??= `block ${block} was given out ${count > 0 ? "twice" : "never, and freed"}`;
  }
  return { live, inFlight, mayLose, wrong };
}
