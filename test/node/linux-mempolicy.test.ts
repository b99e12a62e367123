// Linux's sets of nodes and memory policies, as values: bitmaps, rebinding, interleaving, zonelists, cpusets.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ActualTopology } from "../../src/guest/actual-topology.js";
import { Cpuset } from "../../src/guest/linux/cpuset.js";
import { Errno } from "../../src/guest/linux/errno.js";
import * as M from "../../src/guest/linux/mempolicy.js";
import { fold, maskOf, nextNodeIn, nodesOf, onto, remap, remapNode, weight } from "../../src/guest/linux/nodemask.js";
import { NumaStat } from "../../src/guest/linux/numastat.js";
import { buildZonelists } from "../../src/guest/linux/zonelist.js";
import { ring } from "../support/fake-platform.js";
import { bareMemory } from "../support/frames.js";

const anyMask = fc.integer({ min: 0, max: 0xffff_ffff });

describe("sets of nodes", () => {
  test("nodes to a mask and back, all 32 of them", () => {
    fc.assert(fc.property(anyMask, (mask) => maskOf(nodesOf(mask)) === mask));
    expect(maskOf([31])).toBe(2 ** 31);
    expect(nodesOf(0xffff_ffff)).toEqual([...Array(32).keys()]);
  });

  test("the next node in a set, round its end", () => {
    const mask = maskOf([0, 3, 31]);
    expect([0, 1, 3, 30, 31].map((node) => nextNodeIn(node, mask))).toEqual([3, 3, 31, 31, 0]);
    expect(nextNodeIn(5, 0)).toBe(32);
    expect(nextNodeIn(4, maskOf([4]))).toBe(4);
  });

  test("as the comments of bitmap.c have them", () => {
    // bitmap_onto: the n-th bit goes to the n-th set bit of the other.
    expect(nodesOf(onto(maskOf([0, 1, 3]), maskOf([4, 6, 7, 9])))).toEqual([4, 6, 9]);
    // bitmap_fold: bit n goes to n mod size.
    expect(nodesOf(fold(maskOf([5, 9, 16]), 4))).toEqual([0, 1]);
    // bitmap_remap: 4-7 are mapped to 12-15 place by place, what is not of the first stays.
    expect(nodesOf(remap(maskOf([1, 5, 7]), maskOf([4, 5, 6, 7]), maskOf([12, 13, 14, 15])))).toEqual([1, 13, 15]);
    expect(remapNode(6, maskOf([4, 5, 6, 7]), maskOf([1, 2]))).toBe(1);
    expect(remapNode(6, maskOf([4, 5, 6, 7]), 0)).toBe(6);
  });

  test("remapping onto a set as large keeps how many there are", () => {
    fc.assert(
      fc.property(anyMask, anyMask, (mask, from) => {
        const inside = (mask & from) >>> 0;
        const to = ((from << 3) | (from >>> 29)) >>> 0;
        expect(weight(remap(inside, from, to))).toBe(weight(inside));
      }),
    );
  });
});

describe("mode arguments", () => {
  const errnoOf = (call: () => unknown): number => {
    try {
      call();
    } catch (error) {
      if (error instanceof Errno) return error.errno;
      throw error;
    }
    return 0;
  };

  test("modes and flags that go together", () => {
    expect(M.splitMode(M.MPOL_INTERLEAVE | M.MPOL_F_STATIC_NODES)).toEqual({ mode: M.MPOL_INTERLEAVE, flags: M.MPOL_F_STATIC_NODES });
    expect(M.splitMode(M.MPOL_BIND | M.MPOL_F_NUMA_BALANCING)).toEqual({ mode: M.MPOL_BIND, flags: M.MPOL_F_NUMA_BALANCING });
    for (const bad of [
      7,
      -1,
      1.5,
      64,
      1 << 12,
      M.MPOL_BIND | M.MPOL_F_STATIC_NODES | M.MPOL_F_RELATIVE_NODES,
      M.MPOL_INTERLEAVE | M.MPOL_F_NUMA_BALANCING,
    ]) {
      expect([bad, errnoOf(() => M.splitMode(bad))]).toEqual([bad, 22]);
    }
  });

  const allowed = { mems: maskOf([0, 1, 2, 3]), withMemory: maskOf([0, 1, 2, 3]) };

  test.each([
    ["default with nodes", M.MPOL_DEFAULT, 0, [1]],
    ["local with nodes", M.MPOL_LOCAL, 0, [1]],
    ["local, static", M.MPOL_LOCAL, M.MPOL_F_STATIC_NODES, []],
    ["preferred without nodes, relative", M.MPOL_PREFERRED, M.MPOL_F_RELATIVE_NODES, []],
    ["bind without nodes", M.MPOL_BIND, 0, []],
    ["interleave without nodes", M.MPOL_INTERLEAVE, 0, []],
    ["weighted interleave without nodes", M.MPOL_WEIGHTED_INTERLEAVE, 0, []],
    ["preferred-many without nodes", M.MPOL_PREFERRED_MANY, 0, []],
    ["bind to nodes that are not there", M.MPOL_BIND, 0, [7]],
    ["static on nodes that are not there", M.MPOL_INTERLEAVE, M.MPOL_F_STATIC_NODES, [4, 5]],
  ])("%s is EINVAL", (_, mode, flags, nodes) => expect(errnoOf(() => M.newPolicy(mode, flags, maskOf(nodes), allowed))).toBe(22));

  test("what a policy is made of", () => {
    const made = (mode: number, flags: number, nodes: number[]) => {
      const policy = M.newPolicy(mode, flags, maskOf(nodes), allowed);
      return policy && [policy.mode, nodesOf(policy.nodes), nodesOf(policy.reference)];
    };
    expect(made(M.MPOL_DEFAULT, 0, [])).toBeUndefined();
    expect(made(M.MPOL_PREFERRED, 0, [])).toEqual([M.MPOL_LOCAL, [], []]);
    expect(made(M.MPOL_PREFERRED, 0, [3, 2])).toEqual([M.MPOL_PREFERRED, [2], [0, 1, 2, 3]]);
    expect(made(M.MPOL_BIND, 0, [2, 9])).toEqual([M.MPOL_BIND, [2], [0, 1, 2, 3]]);
    expect(made(M.MPOL_BIND, M.MPOL_F_STATIC_NODES, [2, 9])).toEqual([M.MPOL_BIND, [2], [2, 9]]);
    expect(made(M.MPOL_BIND, M.MPOL_F_RELATIVE_NODES, [5])).toEqual([M.MPOL_BIND, [1], [5]]);
  });

  test("only nodes with memory count, of those that are allowed", () => {
    const policy = M.newPolicy(M.MPOL_INTERLEAVE, 0, maskOf([0, 1, 2]), { mems: maskOf([0, 1]), withMemory: maskOf([1, 2]) });
    expect(nodesOf(policy!.nodes)).toEqual([1]);
    const relative = M.newPolicy(M.MPOL_INTERLEAVE, M.MPOL_F_RELATIVE_NODES, maskOf([0]), {
      mems: maskOf([0, 1]),
      withMemory: maskOf([1, 2]),
    });
    expect(nodesOf(relative!.nodes)).toEqual([1]);
  });
});

describe("rebinding", () => {
  /** Nodes in force as a policy made under `mems[0]` is rebound to each of the others. */
  const history = (mode: number, flags: number, nodes: number[], ...mems: number[][]): number[][] => {
    let policy = M.newPolicy(mode, flags, maskOf(nodes), { mems: maskOf(mems[0]!), withMemory: 0xffff_ffff })!;
    return [
      nodesOf(policy.nodes),
      ...mems.slice(1).map((next) => {
        policy = M.rebind(policy, maskOf(next));
        return nodesOf(policy.nodes);
      }),
    ];
  };

  test("cpuset 1-3 becomes 3-5: an interleaving of all follows it, node by node", () => {
    expect(history(M.MPOL_INTERLEAVE, 0, [1, 2, 3], [1, 2, 3], [3, 4, 5])).toEqual([
      [1, 2, 3],
      [3, 4, 5],
    ]);
    expect(history(M.MPOL_BIND, 0, [1, 3], [1, 2, 3], [3, 4, 5])).toEqual([
      [1, 3],
      [3, 5],
    ]);
  });

  test("static nodes stay what they are, as far as they are allowed", () => {
    expect(history(M.MPOL_INTERLEAVE, M.MPOL_F_STATIC_NODES, [1, 2, 3], [1, 2, 3], [3, 4, 5], [0, 1, 2, 3])).toEqual([
      [1, 2, 3],
      [3],
      [1, 2, 3],
    ]);
    // Nothing of them is allowed: all that is.
    expect(history(M.MPOL_BIND, M.MPOL_F_STATIC_NODES, [1], [0, 1], [2, 3], [1, 2])).toEqual([[1], [2, 3], [1]]);
  });

  test("relative nodes are places among those allowed, as the kernel's document has it", () => {
    expect(history(M.MPOL_INTERLEAVE, M.MPOL_F_RELATIVE_NODES, [2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5, 6, 7], [0, 2, 3, 5])).toEqual([
      [2, 3, 4, 5],
      [3, 5, 6, 7],
      [0, 2, 3, 5],
    ]);
  });

  test("4 nodes, then 2, then 4: what was folded together stays so, unless it is static or relative", () => {
    const all = [0, 1, 2, 3];
    expect(history(M.MPOL_INTERLEAVE, 0, all, all, [0, 1], all)).toEqual([all, [0, 1], [0, 1]]);
    expect(history(M.MPOL_INTERLEAVE, M.MPOL_F_STATIC_NODES, all, all, [0, 1], all)).toEqual([all, [0, 1], all]);
    expect(history(M.MPOL_WEIGHTED_INTERLEAVE, M.MPOL_F_RELATIVE_NODES, all, all, [0, 1], all)).toEqual([all, [0, 1], all]);
  });

  test("what is preferred is not rebound", () => {
    expect(history(M.MPOL_PREFERRED, 0, [2], [0, 1, 2], [0, 1])).toEqual([[2], [2]]);
    expect(history(M.MPOL_PREFERRED_MANY, M.MPOL_F_STATIC_NODES, [1, 2], [0, 1, 2], [0, 1])).toEqual([
      [1, 2],
      [1, 2],
    ]);
    expect(M.rebind(M.SYSTEM_POLICY, 1)).toBe(M.SYSTEM_POLICY);
  });
});

describe("interleaving", () => {
  const policy = (mode: number, ...nodes: number[]): M.Mempolicy => ({ mode, flags: 0, nodes: maskOf(nodes), reference: 0 });
  const weights = Uint8Array.from({ length: 32 }, (_, node) => [3, 1, 2, 1][node] ?? 1);
  const steps = (of: M.Mempolicy, count: number, state = M.freshInterleave()): number[] =>
    Array.from({ length: count }, () => {
      const expected = M.interleavePeek(of, state);
      const node = M.interleaveNext(of, state, weights);
      expect(node).toBe(expected);
      return node;
    });

  test("a task's goes from node to node, from the lowest on", () => {
    expect(steps(policy(M.MPOL_INTERLEAVE, 0, 2, 3), 7)).toEqual([0, 2, 3, 0, 2, 3, 0]);
    expect(steps(policy(M.MPOL_INTERLEAVE, 31, 5), 3)).toEqual([5, 31, 5]);
  });

  test("with weights, as many pages as a node weighs before the next", () => {
    expect(steps(policy(M.MPOL_WEIGHTED_INTERLEAVE, 0, 1, 2), 8)).toEqual([0, 0, 0, 1, 2, 2, 0, 0]);
  });

  test("a node that is in it no more gets nothing of what it had left", () => {
    const state = M.freshInterleave();
    expect(steps(policy(M.MPOL_WEIGHTED_INTERLEAVE, 0, 1), 2, state)).toEqual([0, 0]);
    expect(state.left).toBe(1);
    expect(M.interleaveNext(policy(M.MPOL_WEIGHTED_INTERLEAVE, 1, 2), state, weights)).toBe(1);
  });

  test("a page's place in its mapping says its node", () => {
    const at = (of: M.Mempolicy) => [0, 1, 2, 3, 4, 5, 6, 7].map((index) => M.interleaveAt(of, index, weights));
    expect(at(policy(M.MPOL_INTERLEAVE, 1, 2, 3))).toEqual([1, 2, 3, 1, 2, 3, 1, 2]);
    expect(at(policy(M.MPOL_WEIGHTED_INTERLEAVE, 0, 1, 2))).toEqual([0, 0, 0, 1, 2, 2, 0, 0]);
  });
});

describe("zonelists", () => {
  /** Lists of nodes at these distances; those of `without` have no memory. */
  function lists(distances: number[][], ...without: number[]): number[][] {
    const { table } = bareMemory(64);
    const topology = new ActualTopology(table, { distances, vcpuNode: [0], ranges: [] });
    distances.forEach((_, node) => {
      if (without.includes(node)) return;
      table.setNode(node, node);
      topology.frameCame(node);
    });
    return buildZonelists(topology);
  }

  test("go by distance, from the node itself on", () => {
    expect(
      lists([
        [10, 30, 20],
        [30, 10, 25],
        [20, 25, 10],
      ]),
    ).toEqual([
      [0, 2, 1],
      [1, 2, 0],
      [2, 0, 1],
    ]);
  });

  test("of nodes as far, the next one up comes first, and not all nodes fall upon the same", () => {
    expect(lists(ring(4))).toEqual([
      [0, 1, 3, 2],
      [1, 2, 0, 3],
      [2, 3, 1, 0],
      [3, 0, 2, 1],
    ]);
    const even = Array.from({ length: 4 }, (_, a) => Array.from({ length: 4 }, (_, b) => (a === b ? 10 : 20)));
    expect(lists(even)).toEqual([
      [0, 1, 2, 3],
      [1, 2, 3, 0],
      [2, 3, 0, 1],
      [3, 0, 1, 2],
    ]);
    expect(
      lists(even)
        .map(([, second]) => second)
        .sort(),
    ).toEqual([0, 1, 2, 3]);
  });

  test("leave out nodes without memory, and serve those, too", () => {
    expect(lists(ring(4), 1)).toEqual([
      [0, 3, 2],
      [2, 0, 3],
      [2, 3, 0],
      [3, 0, 2],
    ]);
  });
});

describe("cpusets", () => {
  test("have what they are configured with, of what their parents have, or all of that", () => {
    const root = new Cpuset(undefined);
    root.update(0b1111);
    const child = new Cpuset(root, 0b0110);
    const grandchild = new Cpuset(child, 0b1100);
    const free = new Cpuset(child);
    expect([child, grandchild, free].map(({ effective }) => effective)).toEqual([0b0110, 0b0100, 0b0110]);
    root.update(0b0011);
    expect([child, grandchild, free].map(({ effective }) => effective)).toEqual([0b0010, 0b0010, 0b0010]);
    root.update(0b1001);
    expect([child, grandchild].map(({ effective }) => effective)).toEqual([0b1001, 0b1000]);
    root.update(0b1111);
    child.configure(0b1000);
    expect([child, grandchild, free].map(({ effective }) => effective)).toEqual([0b1000, 0b1000, 0b1000]);
    child.configure(undefined);
    expect([child, grandchild].map(({ effective }) => effective)).toEqual([0b1111, 0b1100]);
    root.configure(0b11);
    expect(root.effective).toBe(0b1111);
  });
});

test("numastat counts hits, misses and whom they were meant for", () => {
  const stat = new NumaStat();
  stat.count(0, 0, 0);
  stat.count(1, 1, 0);
  stat.count(2, 3, 2);
  stat.count(2, 3, 3);
  stat.countInterleaved(1);
  const zero = { numa_hit: 0, numa_miss: 0, numa_foreign: 0, interleave_hit: 0, local_node: 0, other_node: 0 };
  expect([0, 1, 2, 3].map((node) => stat.of(node))).toEqual([
    { ...zero, numa_hit: 1, local_node: 1 },
    { ...zero, numa_hit: 1, interleave_hit: 1, other_node: 1 },
    { ...zero, numa_foreign: 2 },
    { ...zero, numa_miss: 2, local_node: 1, other_node: 1 },
  ]);
});
