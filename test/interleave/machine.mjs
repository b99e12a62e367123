// Several instances of one instrumented module over one memory are several threads, run one at a time in this one
// JavaScript thread. The machine is their memory, their wait queue and their clock; who goes on is decided outside
// (search.mjs explores every order, sample.mjs random ones).

import { Kind, isRead, isWrite } from "./linear.mjs";
import { Contention } from "./contention.mjs";
import { SparseMemory } from "./sparse-memory.mjs";
import { STACK_BYTES, Status, Thread, statusNames } from "./thread.mjs";

/** Accesses between two stops after which a thread is taken to go round in circles. */
const CIRCLE = 5_000;
/** Accesses between two stops that no correct call needs; and in all the calls before the threads start. */
const RUNAWAY = 2_000_000;
const RUNAWAY_SETUP = 50_000_000;

export class Machine {
  /**
   * scenario = { memoryPages: most Wasm pages there are, initialPages?, setup(machine), threads: [spec of Thread], check(machine)?,
   * timeouts?: timed waits may run out at any time }. `setup` makes calls with `machine.call`, undisturbed. `check` answers what is
   * wrong at an end, or nothing.
   */
  constructor(built, scenario, options) {
    this.built = built;
    this.scenario = scenario;
    this.stackBase = scenario.memoryPages * 65536;
    this.contention = new Contention(this.stackBase, options);
    const pages = scenario.memoryPages + Math.ceil((scenario.threads.length * STACK_BYTES) / 65536);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.words = new Int32Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.scratch = Buffer.alloc(1 << 16);
    this.exportNames = [];
    this.miscellany = [];
    this.miscellanyNumbers = new Map();
    this.direct = true;
    this.directCount = 0;
    this.pages = scenario.initialPages ?? scenario.memoryPages;
    this.queue = [];
    this.threads = scenario.threads.map((spec, id) => new Thread(this, id, spec));
    scenario.setup?.(this);
    this.direct = false;
    this.initialPages = this.pages;
    for (const thread of this.threads) {
      thread.initialGlobals = thread.globals();
      thread.reset();
    }
    this.state = new SparseMemory(this.memory, this.stackBase);
    /** Called when a thread, between two stops, comes to a write: it may die there. */
    this.onMayDie = null;
    /** Called at a stop: the thread to go on with. Returning the one that stopped costs no switch. null: leave it to the caller of `run`. */
    this.choose = null;
    /** Replaces the contention's opinion of where to stop. */
    this.stopsAt = null;
    this.onAccess = null;
    this.detector = null;
    this.clear();
  }

  clear() {
    this.queue = [];
    this.deaths = [];
    /** A death may have taken a wake-up with it that nobody else knows of. */
    this.mayOversleep = false;
    this.outcome = null;
    this.pages = this.initialPages;
    /** Accesses the running thread has come to since it was last switched to. */
    this.count = 0;
    this.wrote = false;
  }

  /** Back to where `setup` left it. */
  reset() {
    this.state.restore(0);
    this.clear();
    for (const thread of this.threads) thread.reset();
  }

  /** A call on the instance of thread `id`, undisturbed (setup only). */
  call(id, name, ...args) {
    return this.threads[id].exports[name](...args) >>> 0;
  }

  /** An operation of such a call. */
  passDirectly() {
    if (++this.directCount > RUNAWAY_SETUP) throw new Error("a call of the setup does not end");
  }

  // ---- operations

  /** A thread comes to an operation. True: it must be suspended before it. */
  arrive(thread, kind, address, size, point) {
    const op = thread.spare;
    op.kind = kind;
    op.address = address;
    op.size = size;
    op.point = point;
    op.source = thread.source;
    thread.source = -1;
    ++this.count;
    if (!(this.stopsAt ? this.stopsAt(thread, op) : this.contention.stops(op))) {
      if (isWrite(kind)) this.onMayDie?.(thread);
      this.perform(thread, op);
      thread.log.add(op);
      return this.outcome !== null || this.isCircling(thread, op);
    }
    thread.spare = thread.op;
    thread.op = op;
    this.endSegment(thread);
    if (this.choose && this.outcome === null) {
      this.next = this.choose(thread);
      if (this.next === thread) {
        this.beginSegment(thread);
        return false;
      }
    }
    return true;
  }

  /** The thread stands at a stop: what it did since the last one is its tail. */
  endSegment(thread) {
    thread.tail = this.contention.tailOf(thread.log);
    thread.number = -1;
  }

  /** The thread goes on with the operation it stopped at. */
  beginSegment(thread) {
    thread.log.clear();
    thread.tail = thread.noTail;
    thread.number = -1;
    this.circle = 0;
    if (thread.op.point < 0 || thread.op.kind === Kind.Wake) return;
    this.perform(thread, thread.op);
  }

  /** Everything there is to know about an operation that is about to take effect. */
  perform(thread, op) {
    const { kind, address, size, source } = op;
    thread.current = op;
    if (size && (address + size > this.pages * 65536 || source + size > this.pages * 65536)) {
      throw new WebAssembly.RuntimeError(`access at ${address} beyond ${this.pages} pages`);
    }
    if (size && isWrite(kind)) this.state.touch(address, size);
    if (isWrite(kind)) this.wrote = true;
    this.onAccess?.(thread, op);
    this.detector?.access(thread, op);
    if (!this.contention.isShared(op, thread.id) || this.contention.learned) return;
    for (const other of this.threads) {
      if (other !== thread && other.status !== Status.Dead && !other.tail.isEmpty && this.contention.meet(op, other.tail)) return;
    }
  }

  /** A thread that reads the same word over and over, and stores nothing, waits for somebody to write it. True: it was found out. */
  isCircling(thread, op) {
    if (++this.circle < CIRCLE) return false;
    if (this.circle === CIRCLE) this.visits = new Map();
    if (this.circle > RUNAWAY) return this.fail(`thread ${thread.id} runs without end in ${thread.call[0]}`);
    if (!isRead(op.kind)) this.visits.clear();
    const key = op.point * 0x100000000 + op.address;
    const visits = (this.visits.get(key) ?? 0) + 1;
    this.visits.set(key, visits);
    if (!isRead(op.kind) || visits < CIRCLE / 10) return false;
    this.contention.waitedFor(op);
    return this.fail("learned");
  }

  fail(why) {
    this.outcome ??= why;
    this.next = null;
    return true;
  }

  wait(thread, address, expected, timeout) {
    const { size } = thread.current;
    const value = size === 8 ? this.view.getBigInt64(address, true) : BigInt(this.words[address >> 2]);
    if (value !== expected) return 1; // "not-equal"
    if (this.direct) throw new Error("a call of the setup sleeps");
    thread.op = { ...thread.current };
    thread.status = Status.Blocked;
    thread.waitAddress = address;
    thread.timed = timeout >= 0n;
    this.queue.push(thread);
    this.endSegment(thread);
    this.next = this.choose ? this.choose(thread) : null;
    thread.suspend();
    return 0;
  }

  notify(thread, address, count) {
    const woken = this.queue.filter((waiter) => waiter.waitAddress === address).slice(0, count);
    for (const waiter of woken) {
      this.wake(waiter, 0);
      this.detector?.woke(thread, waiter);
    }
    return woken.length;
  }

  wake(waiter, result) {
    this.queue.splice(this.queue.indexOf(waiter), 1);
    waiter.status = Status.Ready;
    waiter.waitResult = result;
    waiter.op = { ...waiter.op, kind: Kind.Wake };
    waiter.number = -1;
    this.woken?.push(waiter);
  }

  /** memory.grow within the scenario's limit. */
  grow(pages) {
    const before = this.pages;
    if (before + pages > this.scenario.memoryPages) return -1;
    this.pages += pages;
    return before;
  }

  kill(thread) {
    const asleep = thread.status === Status.Blocked || thread.op.kind === Kind.Wake;
    if (thread.status === Status.Blocked) this.queue.splice(this.queue.indexOf(thread), 1);
    thread.status = Status.Dead;
    thread.tail = thread.noTail;
    thread.number = -1;
    this.deaths.push(thread.id);
    this.detector?.died(thread);
    if (!asleep) this.mayOversleep = true;
    const next = this.threads.find((other) => other.status === Status.Dormant);
    if (next) {
      next.status = Status.Ready;
      next.number = -1;
    }
  }

  // ---- running

  /** Runs one thread from its stop to its next one (or on, as `choose` says). */
  run(thread) {
    this.count = 0;
    this.wrote = false;
    try {
      if (thread.status === Status.Blocked) this.wake(thread, 2); // timed out
      this.beginSegment(thread);
      if (thread.isBetweenCalls && thread.spec.steps[thread.next]?.when) this.detector?.heard(thread);
      if (thread.enter()) {
        thread.finishStep();
        thread.op = { kind: Kind.Call, address: 0, size: 0, point: -1, source: -1 };
        if (thread.next >= thread.spec.steps.length) thread.status = Status.Done;
        this.endSegment(thread);
        this.next = this.choose && !this.outcome ? this.choose(thread) : null;
      }
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.fail(`trap in thread ${thread.id}, ${thread.call?.join(" ")}: ${error.message}`);
      thread.instantiate();
      thread.number = -1;
    }
  }

  /**
   * Threads that may go on. A timed wait may run out at any time if the scenario says so; and after a death, which may have taken a
   * wake-up with it, when nobody else can go on. Else never: a wake-up that does not come is a deadlock. The wake-up of one who died
   * asleep must be passed on.
   */
  runnable() {
    const { timeouts } = this.scenario;
    const sleepers = this.queue.filter(({ timed }) => timed);
    const ready = this.threads.filter((thread) => thread.isRunnable || (timeouts && sleepers.includes(thread)));
    return ready.length === 0 && this.mayOversleep ? sleepers : ready;
  }

  /** What is wrong with the machine when nobody can go on; null if nothing is. */
  verdict() {
    const stuck = this.threads.filter(({ status }) => status === Status.Blocked || status === Status.Ready);
    if (stuck.length) return `deadlock: ${this.threads.map(({ status }) => statusNames[status]).join(", ")}`;
    const wrong = this.scenario.check?.(this);
    return wrong ? `check: ${wrong}` : null;
  }

  // ---- saved states

  exportNumber(name) {
    const number = this.exportNames.indexOf(name);
    return number >= 0 ? number : this.exportNames.push(name) - 1;
  }

  exportName(number) {
    return this.exportNames[number];
  }

  /** The whole state as a string; equal states have equal strings. */
  save() {
    const memory = this.state.save();
    const misc = [this.pages, [...this.deaths], this.queue.map(({ id }) => id), this.mayOversleep];
    const text = JSON.stringify(misc);
    let number = this.miscellanyNumbers.get(text);
    if (number === undefined) {
      number = this.miscellany.push(misc) - 1;
      this.miscellanyNumbers.set(text, number);
    }
    const codes = [number];
    for (const thread of this.threads) {
      const part = thread.save();
      codes.push(part & 0xffff, part >>> 16);
    }
    let length = memory.length;
    while (length && memory[length - 1] === 0) --length;
    for (let i = 0; i < length; ++i) {
      if (memory[i] > 0xffff) throw new Error("more than 65536 contents of one granule: the scenario is too large to search");
      codes.push(memory[i]);
    }
    return String.fromCharCode.apply(null, codes);
  }

  restore(key) {
    const [pages, deaths, queue, mayOversleep] = this.miscellany[key.charCodeAt(0)];
    this.pages = pages;
    this.deaths = [...deaths];
    this.mayOversleep = mayOversleep;
    this.threads.forEach((thread, i) => thread.restore(key.charCodeAt(2 * i + 1) | (key.charCodeAt(2 * i + 2) << 16)));
    this.queue = queue.map((id) => this.threads[id]);
    const head = 1 + 2 * this.threads.length;
    this.state.restore(key.length - head, (slot) => key.charCodeAt(head + slot));
    this.outcome = null;
  }
}
