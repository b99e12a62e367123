// Which words matter. Only accesses to words that threads really contend for need be places where the scheduler may
// switch; the others are learned to be independent. The rule:
//
//   A thread runs from one stop to the next. What it did after the stop's own operation is its tail. Until it goes on,
//   another thread may have done its own things before parts of that tail. So if another thread's access conflicts with
//   the tail (same word, one of them writes), the order matters: the word is contended, and its accesses become stops.
//
// When an exhaustive search ends without learning a word, it has missed nothing (selftest.mjs compares it with stops everywhere).

import { ADD, Kind, READ, WRITE, effectsOf } from "./linear.mjs";

/** The size of the memory counts as one word; no scenario uses the memory's first. */
const SIZE_WORD = 0;

export class Contention {
  /** For a memory of `bytes` bytes. */
  constructor(bytes, { everywhere = false } = {}) {
    this.everywhere = everywhere;
    this.contended = new Uint8Array(bytes >>> 2);
    /** How many words are contended. */
    this.count = 0;
    /** A word was learned: what was explored so far may be incomplete. */
    this.learned = false;
    /** Per word, a bit for each thread that has ever touched it, and written to it. */
    this.touched = new Uint8Array(bytes >>> 2);
    this.written = new Uint8Array(bytes >>> 2);
    this.tails = new Map();
    this.tailList = [];
  }

  /** Whether an operation is a place to switch. */
  stops(op) {
    if (this.everywhere || op.kind === Kind.Wait || op.kind === Kind.Notify) return true;
    const { contended } = this;
    if (op.kind === Kind.Size || op.kind === Kind.Grow) return contended[SIZE_WORD] !== 0;
    for (let word = op.address >>> 2, last = (op.address + op.size - 1) >>> 2; word <= last; ++word) if (contended[word]) return true;
    if (op.source < 0) return false;
    for (let word = op.source >>> 2, last = (op.source + op.size - 1) >>> 2; word <= last; ++word) if (contended[word]) return true;
    return false;
  }

  /** Notes who touches the words of an operation; whether others ever have, and one of them or this thread writes. */
  isShared(op, thread) {
    const me = 1 << thread;
    let shared = false;
    this.eachWord(op, (word, effect) => {
      if (effect !== READ) this.written[word] |= me;
      this.touched[word] |= me;
      const others = effect === READ ? this.written[word] : this.touched[word];
      if (others & ~me) shared = true;
      return false;
    });
    return shared;
  }

  /** Learns from an operation of one thread and the tail of another that lives. True: learned something. */
  meet(op, tail) {
    if (tail.isEmpty) return false;
    return this.eachWord(op, (word, effect) => {
      const seen = tail.seen(word);
      const conflict = effect & WRITE ? seen !== 0 : effect & ADD ? (seen & ~ADD) !== 0 : (seen & ~READ) !== 0;
      return conflict && this.learn(word);
    });
  }

  /** True if the word was not known to be contended. */
  learn(word) {
    if (this.contended[word]) return false;
    this.contended[word] = 1;
    ++this.count;
    return (this.learned = true);
  }

  /** A thread went round and round reading this word: it waits for somebody to write it. */
  waitedFor(op) {
    this.eachWord(op, (word) => void this.learn(word));
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

  /** Addresses of the contended words. */
  addresses() {
    return [...this.contended.keys()].filter((word) => this.contended[word]).map((word) => word * 4);
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
