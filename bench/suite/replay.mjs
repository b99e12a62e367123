// Replays a recorded program on a stage. Runs in a worker of any engine.
import { meet } from "./measure.mjs";

const SLOT_BYTES = 12;
/** Looks at the memory during a replay on one thread. */
const LOOKS = 64;

/**
 * @param trace { streams: one Uint32Array a thread, slots, events, peakLiveBytes }
 * @returns { ms, wrong, committed, series, events, peakLiveBytes } of this thread; series: bytes committed as the replay went on, of one thread alone
 */
export function replay(stage, sync, trace) {
  const { thread, threads, at, memory, driver } = stage;
  const { streams, slots, events, peakLiveBytes } = trace;
  const sizes = streams.map(({ byteLength }) => byteLength);
  const begin = at.events + sizes.slice(0, thread).reduce((sum, bytes) => sum + bytes, 0);
  const table = align(at.events + sizes.reduce((sum, bytes) => sum + bytes, 0));
  if (table + slots * SLOT_BYTES > stage.base + 64 * 2 ** 20) throw new RangeError("the trace has no room in the driver's region");
  new Uint32Array(memory.buffer, begin, streams[thread].length).set(streams[thread]);
  if (thread === 0) new Uint8Array(memory.buffer, table, slots * SLOT_BYTES).fill(0);
  const end = begin + sizes[thread];
  const series = [];
  let wrong = 0;
  meet(sync, threads);
  const start = performance.now();
  if (threads > 1) wrong = driver.replay(begin, end, table);
  else {
    const step = Math.ceil((end - begin) / 8 / LOOKS) * 8;
    for (let from = begin; from < end && !wrong; from += step) {
      wrong += driver.replay(from, Math.min(end, from + step), table);
      series.push(stage.committed);
    }
  }
  const ms = performance.now() - start;
  meet(sync, threads);
  const { committed } = stage;
  stage.end();
  return { ms, wrong, committed, series, events, peakLiveBytes };
}

const align = (address) => (address + 63) & ~63;
