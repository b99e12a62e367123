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

import { ADD, Kind, READ, WRITE, effectsOf, isWrite } from "./linear.mjs";

const CONTENDED = 1;
const VITAL = 2;
/** The size of the memory counts as one word; no scenario uses the memory's first. */
const SIZE_WORD = 0;

export class Contention {
  /** For a memory of `bytes` bytes. */
  constructor(bytes, { everywhere = false, dieEverywhere = false } = {}) {
    this.everywhere = everywhere;
    this.dieEverywhere = dieEverywhere;
    this.marks = new Uint8Array(bytes >>> 2);
    /** How many words are contended, and vital. */
    this.contended = 0;
    this.vital = 0;
    /** A contended word was learned: what was explored so far may be incomplete. */
    this.learned = false;
    this.tails = new Map();
    this.tailList = [];
  }

  /** Whether an operation is a place to switch. */
  stops(op) {
    return this.everywhere || op.kind === Kind.Wait || op.kind === Kind.Notify || (this.contended > 0 && this.touches(op, CONTENDED));
  }

  /** Whether its thread may die just before an operation that is no stop. */
  mayDie(op) {
    return isWrite(op.kind) && (this.dieEverywhere || (this.vital > 0 && this.touches(op, VITAL)));
  }

  touches(op, mark) {
    if (op.kind === Kind.Size || op.kind === Kind.Grow) return (this.marks[SIZE_WORD] & mark) !== 0;
    for (let word = op.address >>> 2, last = (op.address + op.size - 1) >>> 2; word <= last; ++word) if (this.marks[word] & mark) return true;
    if (op.source < 0) return false;
    for (let word = op.source >>> 2, last = (op.source + op.size - 1) >>> 2; word <= last; ++word) if (this.marks[word] & mark) return true;
    return false;
  }

  /** Learns from an operation of one thread and the tail of another that lives. True: learned something. */
  meet(op, tail) {
    if (tail.isEmpty) return false;
    return this.eachWord(op, (word, effect) => {
      const seen = tail.seen(word);
      const conflict = effect & WRITE ? seen !== 0 : effect & ADD ? (seen & ~ADD) !== 0 : (seen & ~READ) !== 0;
      if (!conflict || this.marks[word] & CONTENDED) return false;
      this.marks[word] |= CONTENDED;
      ++this.contended;
      return (this.learned = true);
    });
  }

  /** Learns from an operation of one thread and the stores since the last place to die of another that is dead. */
  outlive(op, tail) {
    if (tail.isEmpty) return;
    this.eachWord(op, (word, effect) => {
      if (effect & READ && tail.seen(word) && !(this.marks[word] & VITAL)) {
        this.marks[word] |= VITAL;
        ++this.vital;
      }
      return false;
    });
  }

  /** A thread went round and round reading this word: it waits for somebody to write it. */
  waitedFor(op) {
    this.eachWord(op, (word) => {
      this.marks[word] |= CONTENDED;
      return false;
    });
    ++this.contended;
    this.learned = true;
  }

  /** Calls `visit(word, effect)` until it answers true; whether it did. */
  eachWord(op, visit) {
    const { kind, address, size, source } = op;
    const effect = effectsOf(kind);
    if (kind === Kind.Size || kind === Kind.Grow) return visit(SIZE_WORD, effect);
    for (let word = address >>> 2, last = (address + size - 1) >>> 2; word <= last; ++word) if (visit(word, effect)) return true;
    if (source < 0) return false;
    for (let word = source >>> 2, last = (source + size - 1) >>> 2; word <= last; ++word) if (visit(word, READ)) return true;
    return false;
  }

  /** Addresses of the contended and of the vital words. */
  words() {
    const all = [...this.marks.keys()];
    const marked = (mark) => all.filter((word) => this.marks[word] & mark).map((word) => word * 4);
    return { contended: marked(CONTENDED), vital: marked(VITAL) };
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
    if (kind === Kind.Size || kind === Kind.Grow) this.put(SIZE_WORD << 2, 4, effectsOf(kind));
    else this.put(op.address, size, effectsOf(kind));
    if (source >= 0) this.put(source, size, READ);
  }

  put(address, size, effect) {
    this.entries.push(address, size, effect);
    this.low = (Math.imul(this.low ^ address, 0x9e3779b1) + size + effect) | 0;
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
      const [address, size, effect] = [entries[i], entries[i + 1], entries[i + 2]];
      const first = address >>> 2;
      const last = (address + size - 1) >>> 2;
      if (size > 16) this.ranges.push([first, last, effect]);
      else for (let word = first; word <= last; ++word) this.words.set(word, (this.words.get(word) ?? 0) | effect);
    }
    this.isEmpty = entries.length === 0;
  }

  /** Effects on `word`, 0 = none. */
  seen(word) {
    let effect = this.words.get(word) ?? 0;
    for (const [first, last, more] of this.ranges) if (word >= first && word <= last) effect |= more;
    return effect;
  }
}
