// Which words matter. Only accesses to words that threads really contend for need be places where the scheduler may
// switch; the others are learned to be independent. The rule:
//
//   A thread runs from one stop to the next. What it did after the stop's own operation is its tail. Until it goes on,
//   another thread may have done its own things before parts of that tail. So if another thread's access conflicts with
//   the tail (same word, one of them writes), the order matters: the word is contended, and its accesses become stops.
//
// Likewise for deaths: a thread may have died before any store of the tail. That is another outcome only if somebody
// reads the word after the death: then the word is vital, and its stores become places to die.
//
// When an exhaustive search ends without learning a word, it has missed nothing (selftest.mjs compares it with stops everywhere).

import { Kind, isRead, isWrite } from "./linear.mjs";

const READ = 1;
const WRITE = 2;
/** The size of the memory counts as one word. */
const SIZE_WORD = -1;

export class Contention {
  constructor({ everywhere = false, dieEverywhere = false } = {}) {
    this.everywhere = everywhere;
    this.dieEverywhere = dieEverywhere;
    this.contended = new Set();
    this.vital = new Set();
    /** A word was learned: what was explored so far may be incomplete. */
    this.learned = false;
    this.tails = new Map();
    this.tailList = [];
  }

  /** Whether an operation is a place to switch. */
  stops(op) {
    if (this.everywhere || op.kind === Kind.Wait || op.kind === Kind.Notify) return true;
    return this.contended.size > 0 && someWord(op, (word) => this.contended.has(word));
  }

  /** Whether its thread may die just before an operation that is no stop. */
  mayDie(op) {
    if (!isWrite(op.kind)) return false;
    return this.dieEverywhere || (this.vital.size > 0 && someWord(op, (word) => this.vital.has(word)));
  }

  /** Learns from an operation of one thread and the tail of another that lives. True: learned something. */
  meet(op, tail) {
    const wrote = isWrite(op.kind);
    return this.learn(op, tail, this.contended, (seen) => (wrote ? seen !== 0 : (seen & WRITE) !== 0));
  }

  /** Learns from an operation of one thread and the stores since the last place to die of another that is dead. */
  outlive(op, tail) {
    return isRead(op.kind) && this.learn(op, tail, this.vital, (seen) => (seen & WRITE) !== 0);
  }

  learn(op, tail, words, conflict) {
    let learned = false;
    if (tail.words.size || tail.ranges.length) {
      someWord(op, (word) => {
        if (words.has(word) || !conflict(tail.seen(word))) return false;
        words.add(word);
        return (learned = this.learned = true);
      });
    }
    return learned;
  }

  /** A thread went round and round reading this word: it waits for somebody to write it. */
  waitedFor(op) {
    someWord(op, (word) => void this.contended.add(word));
    this.learned = true;
  }

  /** The tail a log describes, one object for equal logs. */
  tailOf(log) {
    let tail = this.tails.get(log.hash);
    if (!tail) {
      tail = new Tail(this.tailList.length, log);
      this.tailList.push(tail);
      this.tails.set(log.hash, tail);
    }
    return tail;
  }

  /** Tail number `id`. */
  tail(id) {
    return this.tailList[id];
  }
}

/** Whether `test` holds for some word an operation touches, its source (of a copy) included. */
function someWord(op, test) {
  if (op.kind === Kind.Size || op.kind === Kind.Grow) return test(SIZE_WORD);
  if (op.size === 0) return false;
  for (let word = op.address >>> 2, last = (op.address + op.size - 1) >>> 2; word <= last; ++word) if (test(word)) return true;
  if (op.source < 0) return false;
  for (let word = op.source >>> 2, last = (op.source + op.size - 1) >>> 2; word <= last; ++word) if (test(word)) return true;
  return false;
}

/** Accesses of one thread since a stop, as they happen. */
export class Log {
  constructor() {
    this.entries = [];
    this.clear();
  }

  clear() {
    this.entries.length = 0;
    this.low = 0;
    this.high = 0;
    this.hash = 0;
  }

  add(op) {
    const { kind, size, source } = op;
    const whole = kind === Kind.Size || kind === Kind.Grow;
    const flags = kind === Kind.Size ? READ : kind === Kind.Bulk ? WRITE : (isRead(kind) ? READ : 0) | (isWrite(kind) ? WRITE : 0);
    this.put(whole ? -4 : op.address, whole ? 4 : size, flags);
    if (kind === Kind.Bulk && source >= 0) this.put(source, size, READ);
  }

  put(address, size, flags) {
    this.entries.push(address, size, flags);
    this.low = (Math.imul(this.low ^ address, 0x9e3779b1) + size + flags) | 0;
    this.high = (Math.imul(this.high ^ this.low, 0x85ebca6b) + address) | 0;
    // 53 bits: a collision could only hide that a word is contended
    this.hash = (this.high & 0x1fffff) * 0x100000000 + (this.low >>> 0);
  }
}

/** What a log touched, by word. */
class Tail {
  constructor(id, { entries }) {
    this.id = id;
    this.words = new Map();
    this.ranges = [];
    for (let i = 0; i < entries.length; i += 3) {
      const [address, size, flags] = [entries[i], entries[i + 1], entries[i + 2]];
      const first = address >>> 2;
      const last = (address + size - 1) >>> 2;
      if (address < 0) this.words.set(SIZE_WORD, (this.words.get(SIZE_WORD) ?? 0) | flags);
      else if (size > 16) this.ranges.push([first, last, flags]);
      else for (let word = first; word <= last; ++word) this.words.set(word, (this.words.get(word) ?? 0) | flags);
    }
  }

  seen(word) {
    let flags = this.words.get(word) ?? 0;
    for (const [first, last, more] of this.ranges) if (word >= first && word <= last) flags |= more;
    return flags;
  }
}
