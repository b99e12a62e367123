// Data races. WebAssembly promises sequential consistency, which is what the simulation has, to programs without races on
// plain accesses. So races are reported, and the ones that are meant stand in a list with their reasons.

import { Kind, isPlain, isRead, isWrite, kindNames } from "./linear.mjs";

/** A race between two operations: { key, word, places }. `key` names it the same in every run. */
export function explain(machine, a, b) {
  const name = machine.scenario.nameOf?.(a.address, machine) ?? `@${a.address}`;
  const places = [a, b].map((op) => place(machine, op)).sort();
  return { key: `${name.replace(/\[[0-9a-f]+\]/g, "[]")}: ${places.join(" / ")}`, word: name, places };
}

function place(machine, op) {
  const { fn, what } = machine.built.points[op.point];
  return `${kindNames[op.kind]} ${what} in ${fn}`;
}

/**
 * Happens-before detector for random runs, which do not stop at every access: a vector clock per thread. An atomic write
 * happens before the atomic reads that follow it, a notify before the wake-up, a death before everything its reaper does.
 * `found` maps keys to races.
 */
export class RaceDetector {
  constructor(machine) {
    this.machine = machine;
    this.found = new Map();
    this.reset();
  }

  reset() {
    const n = this.machine.threads.length;
    this.clocks = this.machine.threads.map((_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
    /** Per word: clock released by atomic writes; last writes and reads. */
    this.released = new Map();
    this.last = new Map();
  }

  join(clock, other) {
    if (other) for (let i = 0; i < clock.length; ++i) clock[i] = Math.max(clock[i], other[i]);
  }

  access(thread, op) {
    if (op.size === 0 || op.kind === Kind.Notify) return;
    const clock = this.clocks[thread.id];
    const atomic = !isPlain(op.kind);
    const end = op.address + op.size;
    for (let word = op.address >>> 2; word << 2 < end; ++word) {
      let seen = this.last.get(word);
      if (!seen) this.last.set(word, (seen = { write: null, reads: new Map() }));
      const me = { thread: thread.id, time: clock[thread.id], op: { ...op }, atomic };
      this.compare(seen.write, me, clock);
      if (isWrite(op.kind)) {
        for (const read of seen.reads.values()) this.compare(read, me, clock);
        seen.write = me;
        seen.reads.clear();
      }
      if (isRead(op.kind)) seen.reads.set(thread.id, me);
      if (!atomic) continue;
      if (isRead(op.kind)) this.join(clock, this.released.get(word));
      if (isWrite(op.kind)) {
        const release = [...clock];
        if (isRead(op.kind)) this.join(release, this.released.get(word));
        this.released.set(word, release);
      }
    }
    if (atomic && isWrite(op.kind)) ++clock[thread.id];
    if (op.kind === Kind.Bulk && op.source >= 0) this.access(thread, { ...op, kind: Kind.PlainLoad, address: op.source, source: -1 });
  }

  compare(earlier, me, clock) {
    if (!earlier || earlier.thread === me.thread || clock[earlier.thread] >= earlier.time || (earlier.atomic && me.atomic)) return;
    const [a, b] = [earlier.op, me.op];
    if (a.address >= b.address + b.size || b.address >= a.address + a.size) return;
    const race = explain(this.machine, a, b);
    if (!this.found.has(race.key)) this.found.set(race.key, race);
  }

  /** The thread was told by the others how far they are. */
  heard(thread) {
    this.clocks.forEach((clock, id) => {
      if (id === thread.id) return;
      this.join(this.clocks[thread.id], clock);
      ++clock[id];
    });
  }

  woke(waker, waiter) {
    this.join(this.clocks[waiter.id], this.clocks[waker.id]);
    ++this.clocks[waker.id][waker.id];
  }

  died(thread) {
    for (const other of this.machine.threads) if (other.spec.dormant) this.join(this.clocks[other.id], this.clocks[thread.id]);
  }
}

/** Races that are meant: what their keys match, and why they do no harm. */
const MEANT = [
  [
    /^tag\[\]: PlainLoad .* in (free|\S*malloc\/\w+) \/ PlainStore .*setTags/,
    "free reads the tag of its page without a lock: a stale one sends the block a longer way home",
  ],
  [
    /^tag\[\]: PlainLoad .*lastOf \/ PlainStore .*setTags/,
    "a list is looked over for blocks of other nodes without a lock: by a stale tag one that has just moved stays; a rebuild writes what stands there",
  ],
  [/^Heap\.epoch: PlainLoad .* in malloc \//, "malloc sees a new epoch at this call or at a later one"],
  [
    /^Heap\.(ownedPages|freePages): PlainLoad .* in \S*(budget|tick|hasTransferRoom|malloc_trim) /,
    "a bound on what may be cached, and trim's answer: any recent value will do",
  ],
  [/^Heap\.rebindPages: PlainLoad .* in reap /, "a reaper looks whether a rebind was left unfinished, and again under topologyLock if so"],
  [
    /^(entry|flags)\[\]: PlainLoad .*page-map\/(entryOf|flagsOf) \/ PlainStore .*(page-map\/set(Entry|Flags)|page-heap\/touch)/,
    "rebind looks for spans without a lock and checks what it finds under their locks; a rebuild after a death writes what stands there already",
  ],
  [
    /^Span\[\]\.(start|pages|label): .*(Plain)?Load .* in \S*(spanStart|spanAt|finishRebind|relabel)/,
    "rebind looks for spans without a lock, at headers that may be made others' meanwhile: it goes forward all the same, a span it misses " +
      "keeps its label, one it finds is checked under its lock",
  ],
];

export const isMeant = (key) => MEANT.some(([pattern]) => pattern.test(key));
