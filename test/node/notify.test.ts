// Notifications at each subscriber's pace: joined while it is busy, in order, and nobody waits for one that does not answer.
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { MIXED, type MovedRange, type TopologyChange } from "../../src/heap/topology-event.js";
import { join, MOST_RANGES } from "../../src/notify/join.js";
import { Notifier, type Subscriber } from "../../src/notify/notifier.js";

const change = (epoch: number, rest: Partial<TopologyChange> = {}): TopologyChange => ({
  epoch,
  nodeCount: 4,
  nodes: false,
  vcpus: [],
  ranges: [],
  ...rest,
});

describe("several changes as one", () => {
  test("the last node of each vCPU, the last epoch, and whether nodes changed", () => {
    const first = change(1, { vcpus: [{ vcpu: 2, node: 1 }], nodes: true, nodeCount: 2 });
    const second = change(2, {
      vcpus: [
        { vcpu: 2, node: 3 },
        { vcpu: 0, node: 1 },
      ],
    });
    expect(join(join(undefined, first), second)).toEqual({
      epoch: 2,
      nodeCount: 4,
      nodes: true,
      vcpus: [
        { vcpu: 0, node: 1 },
        { vcpu: 2, node: 3 },
      ],
      ranges: [],
    });
  });

  test("of ranges, what a map painted with them would show", () => {
    const SIZE = 200;
    const range = fc
      .record({ start: fc.nat(SIZE - 1), bytes: fc.integer({ min: 1, max: 40 }), node: fc.nat(3) })
      .map(({ start, bytes, node }): MovedRange => ({ start, end: Math.min(SIZE, start + bytes), node }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), (ranges) => {
        const painted = new Int8Array(SIZE).fill(-2);
        let joined: TopologyChange | undefined;
        for (const moved of ranges) {
          painted.fill(moved.node, moved.start, moved.end);
          joined = join(joined, change(1, { ranges: [moved] }));
        }
        const shown = new Int8Array(SIZE).fill(-2);
        let end = -1;
        for (const part of joined?.ranges ?? []) {
          expect(part.start).toBeGreaterThanOrEqual(end);
          end = part.end;
          shown.fill(part.node, part.start, part.end);
        }
        expect(shown).toEqual(painted);
      }),
    );
  });

  test("more ranges than are worth telling become one of mixed nodes", () => {
    let joined: TopologyChange | undefined;
    for (let i = 0; i < MOST_RANGES; ++i)
      joined = join(joined, change(i, { ranges: [{ start: i * 100, end: i * 100 + 10, node: i % 4 }] }));
    expect(joined!.ranges.length).toBe(MOST_RANGES);
    joined = join(joined, change(100, { ranges: [{ start: 50, end: 60, node: 2 }] }));
    expect(joined.ranges).toEqual([{ start: 0, end: (MOST_RANGES - 1) * 100 + 10, node: MIXED }]);
  });
});

/** A subscriber that answers when it is told to. */
class Slow implements Subscriber {
  readonly told: TopologyChange[] = [];
  closed = 0;
  answer: () => void = () => {};
  fail: (error: Error) => void = () => {};

  changed(what: TopologyChange): Promise<void> {
    this.told.push(what);
    return new Promise((resolve, reject) => {
      this.answer = resolve;
      this.fail = reject;
    });
  }

  close(): void {
    ++this.closed;
  }

  get epochs(): number[] {
    return this.told.map(({ epoch }) => epoch);
  }
}

const turn = async (): Promise<void> => {
  for (let i = 0; i < 5; ++i) await Promise.resolve();
};

describe("subscribers", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const make = (patience = 1000): { notifier: Notifier; dropped: [number, string][] } => {
    const dropped: [number, string][] = [];
    return { notifier: new Notifier((key, why) => dropped.push([key, why]), patience), dropped };
  };

  test("one notification is under way; what happens meanwhile is one more", async () => {
    const { notifier, dropped } = make();
    const [slow, other] = [new Slow(), new Slow()];
    notifier.add(1, slow);
    notifier.add(2, other);
    for (let epoch = 1; epoch <= 1000; ++epoch) {
      notifier.notify(change(epoch, { vcpus: [{ vcpu: epoch % 3, node: epoch % 4 }] }));
      other.answer();
      await turn();
    }
    expect(slow.epochs).toEqual([1]);
    expect(other.epochs).toEqual(Array.from({ length: 1000 }, (_, i) => i + 1));
    slow.answer();
    await turn();
    expect(slow.epochs).toEqual([1, 1000]);
    expect(slow.told[1]!.vcpus).toEqual([
      { vcpu: 0, node: 999 % 4 },
      { vcpu: 1, node: 1000 % 4 },
      { vcpu: 2, node: 998 % 4 },
    ]);
    slow.answer();
    await turn();
    expect(slow.epochs).toEqual([1, 1000]);
    expect(dropped).toEqual([]);
  });

  test("one that does not answer in time is let go, and the others hear on", async () => {
    const { notifier, dropped } = make(1000);
    const [dead, alive] = [new Slow(), new Slow()];
    notifier.add(1, dead);
    notifier.add(2, alive);
    notifier.notify(change(1));
    alive.answer();
    await vi.advanceTimersByTimeAsync(999);
    expect(notifier.keys).toEqual([1, 2]);
    notifier.notify(change(2));
    await vi.advanceTimersByTimeAsync(1);
    expect(notifier.keys).toEqual([2]);
    expect(dropped).toEqual([[1, "no answer in 1000 ms"]]);
    expect(dead.closed).toBe(1);
    expect(alive.epochs).toEqual([1, 2]);
    // Late, and nobody's any more.
    dead.answer();
    await turn();
    notifier.notify(change(3));
    expect(dead.epochs).toEqual([1]);
    alive.answer();
    await turn();
    expect(alive.epochs).toEqual([1, 2, 3]);
  });

  test("one that has nothing to answer is never let go", async () => {
    const { notifier, dropped } = make(10);
    notifier.add(1, new Slow());
    await vi.advanceTimersByTimeAsync(10_000);
    expect(dropped).toEqual([]);
    expect(notifier.keys).toEqual([1]);
  });

  test("one that fails is let go at once", async () => {
    const { notifier, dropped } = make();
    const slow = new Slow();
    notifier.add(1, slow);
    const throws: Subscriber = {
      changed: () => {
        throw new Error("gone");
      },
      close: () => {},
    };
    notifier.add(2, throws);
    notifier.notify(change(1));
    slow.fail(new Error("no more"));
    await turn();
    expect(dropped).toEqual([
      [2, "Error: gone"],
      [1, "Error: no more"],
    ]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("one that comes back under its key is told what it missed, and answers of before count for nothing", async () => {
    const { notifier } = make();
    const [before, after] = [new Slow(), new Slow()];
    notifier.add(1, before);
    notifier.notify(change(1));
    notifier.notify(change(2));
    notifier.add(1, after, change(2, { nodes: true }));
    before.answer();
    await turn();
    expect(before.epochs).toEqual([1]);
    expect(before.closed).toBe(1);
    expect(after.told).toEqual([change(2, { nodes: true })]);
    notifier.stop();
    expect(after.closed).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});
