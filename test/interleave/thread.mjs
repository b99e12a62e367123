// One simulated thread: an instance of the instrumented module, run as a coroutine. Between two stops it is plain bytes
// (asyncify's saved frames) and its instance's globals, so it can be copied, compared and put back.

import { Kind } from "./linear.mjs";
import { Log } from "./contention.mjs";

export const Status = { Ready: 0, Blocked: 1, Done: 2, Dead: 3, Dormant: 4 };
export const statusNames = Object.keys(Status);

/** Bytes of asyncify's saved frames of a thread. */
export const STACK_BYTES = 16384;

const newOperation = () => ({ kind: Kind.Call, address: 0, size: 0, point: -1, source: -1 });

export class Thread {
  /**
   * `spec` = { steps, dormant?, immortal? }: the calls it makes, whether it sleeps until somebody dies, whether it may die.
   * A step is [export, ...arguments], or a function of (own results, machine) that answers one or null (nothing to do), or
   * { make, when?(machine), again?(result) } with such a step as `make`, which waits until `when` holds and is made again
   * while `again` holds of what it returned.
   */
  constructor(machine, id, spec) {
    this.machine = machine;
    this.id = id;
    this.spec = spec;
    this.frames = machine.stackBase + id * STACK_BYTES;
    this.words = new Int32Array(machine.memory.buffer);
    this.log = new Log();
    this.noTail = machine.contention.tailOf(new Log());
    this.blobs = [];
    this.numbers = new Map();
    this.instantiate();
    this.initialGlobals = this.globals();
    this.reset();
  }

  instantiate() {
    const { machine } = this;
    this.source = -1;
    this.exports = new WebAssembly.Instance(machine.built.module, {
      env: { memory: machine.memory },
      loom: {
        at: (kind, address, size, point) => {
          if (this.rewinding) {
            this.rewinding = false;
            this.exports.asyncify_stop_rewind();
          } else if (machine.direct) {
            machine.passDirectly();
          } else if (machine.arrive(this, kind, address >>> 0, size, point)) {
            this.suspend();
          }
        },
        source: (address) => void (this.source = address >>> 0),
        wait: (address, expected, timeout) => {
          if (this.rewinding) {
            this.rewinding = false;
            this.exports.asyncify_stop_rewind();
            return this.waitResult;
          }
          return machine.wait(this, address >>> 0, expected, timeout);
        },
        notify: (address, count) => machine.notify(this, address >>> 0, count >>> 0),
        size: () => machine.pages,
        grow: (pages) => machine.grow(pages >>> 0),
      },
    }).exports;
  }

  /** As it was before its first step. */
  reset() {
    const { spec } = this;
    this.status = spec.dormant ? Status.Dormant : spec.steps.length ? Status.Ready : Status.Done;
    this.op = newOperation(); // it stands before this one
    this.spare = newOperation();
    this.current = this.op; // the last one that took effect
    this.started = this.rewinding = this.suspended = false;
    this.waitAddress = 0;
    this.timed = false;
    this.waitResult = 0;
    this.next = 0; // step
    this.history = []; // calls that have returned: [export, ...arguments], null = nothing was to do
    this.results = []; // what they returned
    this.call = null; // [export, ...arguments] under way
    this.tail = this.noTail;
    this.log.clear();
    this.number = -1;
    this.setGlobals(this.initialGlobals);
  }

  globals() {
    return this.machine.built.globals.map(({ name }) => this.exports[name].value);
  }

  setGlobals(values) {
    this.machine.built.globals.forEach(({ name }, i) => {
      if (this.exports[name].value !== values[i]) this.exports[name].value = values[i];
    });
  }

  /** Starts leaving the module; the caller must return into it at once. */
  suspend() {
    this.suspended = true;
    this.words[this.frames >> 2] = this.frames + 8;
    this.words[(this.frames >> 2) + 1] = this.frames + STACK_BYTES;
    this.exports.asyncify_start_unwind(this.frames);
  }

  /** The step it would begin now if it is between calls: [export, ...arguments], null = nothing to do, undefined = must wait. */
  upcoming() {
    let step = this.spec.steps[this.next];
    if (step?.make) {
      if (step.when && !step.when(this.machine)) return undefined;
      step = step.make;
    }
    return typeof step === "function" ? step(this.results, this.machine) : (step ?? null);
  }

  get isBetweenCalls() {
    return this.op.kind === Kind.Call && !this.started;
  }

  get isRunnable() {
    return this.status === Status.Ready && (!this.isBetweenCalls || this.upcoming() !== undefined);
  }

  /** Whether its death now would leave a call unfinished. */
  get isInCall() {
    return this.call !== null;
  }

  /** Runs to its next stop. Returns true when a call has returned. Throws if it traps. */
  enter() {
    let result;
    if (this.started) {
      this.rewinding = true;
      this.exports.asyncify_start_rewind(this.frames);
      result = this.exports[this.call[0]](...this.call.slice(1));
    } else {
      this.call = this.upcoming();
      if (this.call === null) return this.returned(0);
      this.started = true;
      result = this.exports[this.call[0]](...this.call.slice(1));
    }
    if (this.suspended) {
      this.suspended = false;
      this.exports.asyncify_stop_unwind();
      return false;
    }
    this.started = false;
    return this.returned(typeof result === "number" ? result >>> 0 : 0);
  }

  returned(result) {
    this.history.push(this.call);
    this.results.push(result);
    this.call = null;
    return true;
  }

  /** The call has returned: on to the next step, unless it is to be made again. */
  finishStep() {
    if (this.spec.steps[this.next].again?.(this.results.at(-1))) {
      this.history.pop();
      this.results.pop();
    } else {
      ++this.next;
    }
  }

  // ---- saved states: numbers of byte strings

  /** Number of its state now. */
  save() {
    if (this.number >= 0) return this.number;
    const key = this.bytes();
    let number = this.numbers.get(key);
    if (number === undefined) {
      number = this.blobs.push(key) - 1;
      this.numbers.set(key, number);
    }
    return (this.number = number);
  }

  bytes() {
    const { scratch } = this.machine;
    const { op } = this;
    let at = 0;
    const put = (value) => void (at = scratch.writeInt32LE(value | 0, at));
    const putCall = (call) => {
      put(call ? call.length : 0);
      call?.forEach((part, i) => put(i ? part : this.machine.exportNumber(part)));
    };
    const lives = this.status === Status.Ready || this.status === Status.Blocked;
    put(this.status | (lives && this.started ? 16 : 0) | (lives && this.timed ? 32 : 0) | (this.next << 8));
    put(this.tail.id);
    put(this.results.length);
    this.results.forEach(put);
    this.history.forEach(putCall);
    putCall(this.call);
    if (lives) {
      for (const field of [op.kind, op.address, op.size, op.point, op.source, this.waitAddress, this.waitResult]) put(field);
      for (const value of this.globals())
        at = typeof value === "bigint" ? scratch.writeBigInt64LE(value, at) : scratch.writeDoubleLE(value, at);
      const length = this.started ? this.words[this.frames >> 2] - this.frames : 0;
      put(length);
      scratch.set(new Uint8Array(this.words.buffer, this.frames, length), at);
      at += length;
    }
    return scratch.latin1Slice(0, at);
  }

  restore(number) {
    if (this.number === number) return;
    const { machine } = this;
    const blob = Buffer.from(this.blobs[number], "latin1");
    let at = 0;
    const take = () => {
      const value = blob.readInt32LE(at);
      at += 4;
      return value;
    };
    const head = take();
    this.status = head & 15;
    this.started = (head & 16) !== 0;
    this.timed = (head & 32) !== 0;
    this.next = head >>> 8;
    this.tail = machine.contention.tail(take());
    const takeCall = () => {
      const length = take();
      return length ? [machine.exportName(take()), ...Array.from({ length: length - 1 }, () => take() >>> 0)] : null;
    };
    this.results = Array.from({ length: take() }, () => take() >>> 0);
    this.history = this.results.map(takeCall);
    this.call = takeCall();
    if (this.status === Status.Ready || this.status === Status.Blocked) {
      this.op = { kind: take(), address: take(), size: take(), point: take(), source: take() };
      this.waitAddress = take();
      this.waitResult = take();
      this.setGlobals(
        this.initialGlobals.map((initial) => {
          const value = typeof initial === "bigint" ? blob.readBigInt64LE(at) : blob.readDoubleLE(at);
          at += 8;
          return value;
        }),
      );
      const length = take();
      if (length) new Uint8Array(this.words.buffer, this.frames, length).set(blob.subarray(at, at + length));
    } else {
      this.op = newOperation();
      if (this.status === Status.Dormant) this.setGlobals(this.initialGlobals);
    }
    this.rewinding = this.suspended = false;
    this.log.clear();
    this.number = number;
  }
}
