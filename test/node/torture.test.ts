// Workers that call everything there is, on a memory that is often exhausted, some of which may not sleep; and the same with workers that
// are terminated at random. What is left is exact, and in the end nothing is.
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { moduleOf, randomFrom, Rig } from "../support/rig.js";

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const phases = Number(process.env["TORTURE_PHASES"] ?? 1);
console.log(`torture: SEED=${seed}`);

const SLOTS = 256;
const NODES = 4;
const WORKERS = 4;
const OPERATIONS = 3000;

class Torture {
  readonly rig: Rig;
  readonly main: Rig["threads"][0];
  mailbox: number;
  readonly random: (below: number) => number;
  private keys = 1000;

  constructor(
    seed: number,
    readonly build: string,
  ) {
    this.random = randomFrom(seed);
    this.rig = new Rig({ threads: 1, nodes: NODES, maximumPages: 64 + this.random(200), build, mayBlock: false });
    this.main = this.rig.threads[0]!;
    this.mailbox = this.main.calloc(SLOTS, 4) >>> 0;
  }

  start(operations: number): { worker: Worker; key: number; done: Promise<void> } {
    const key = ++this.keys;
    const worker = new Worker(new URL("../support/torture-worker.mjs", import.meta.url), {
      workerData: {
        memory: this.rig.memory,
        module: moduleOf(this.build),
        base: this.rig.base,
        mailbox: this.mailbox,
        slots: SLOTS,
        seed: 1 + this.random(2 ** 31),
        flags: this.random(2),
        key,
        operations,
        nodes: NODES,
      },
    });
    const done = new Promise<void>((resolve, reject) => {
      worker.once("message", () => resolve());
      worker.once("error", reject);
    });
    return { worker, key, done };
  }

  /** Looks at the heap, which is still; how many blocks nobody has. Then frees the others. */
  settle(): number {
    const { rig, main } = this;
    expect(main.rebind(0, 0, 0)).toBe(0); // finishes what was told EBUSY
    main.setNodes(NODES);
    const letters = new Uint32Array(rig.memory.buffer, this.mailbox, SLOTS);
    const live = [...letters].filter((ptr) => ptr !== 0);
    const { problems, unaccounted } = rig.walk([this.mailbox, ...live]);
    expect(problems).toEqual([]);
    for (const ptr of live) main.free(ptr);
    letters.fill(0);
    main.malloc_trim(0);
    const lost = unaccounted.map(({ ptr }) => ptr);
    for (const ptr of lost) main.free(ptr);
    main.free(this.mailbox);
    main.malloc_trim(0);
    expect(rig.walk([])).toEqual({ ok: true, problems: [], unaccounted: [] });
    const stats = rig.inspector.stats();
    expect(stats.inUseBytes).toBe(0);
    expect(stats.pageHeapFreeBytes + stats.metadataBytes).toBe(stats.committedBytes);
    expect(Object.values(stats.badCalls).every((count) => count === 0)).toBe(true);
    this.mailbox = main.calloc(SLOTS, 4) >>> 0;
    return lost.length;
  }
}

test.each(["heap", "heap.debug"])("%s: workers that do everything lose nothing", { timeout: 3_600_000 }, async (build) => {
  for (let phase = 0; phase < phases; ++phase) {
    const torture = new Torture(seed + phase, build);
    const crew = Array.from({ length: WORKERS }, () => torture.start(OPERATIONS));
    await Promise.all(crew.map(({ done }) => done));
    expect(torture.settle(), `SEED=${seed + phase}`).toBe(0);
  }
});

test("workers that do everything are terminated anywhere, and reaped", { timeout: 3_600_000 }, async () => {
  for (let phase = 0; phase < phases; ++phase) {
    const torture = new Torture(seed + phase, "heap");
    const crew = Array.from({ length: WORKERS }, () => torture.start(Infinity));
    const failures: unknown[] = [];
    const watch = ({ done }: { done: Promise<void> }): unknown => done.catch((error: unknown) => failures.push(error));
    crew.forEach(watch);
    let killed = 0;
    const kill = async (): Promise<void> => {
      const [{ worker, key }] = crew.splice(torture.random(crew.length), 1) as [(typeof crew)[0]];
      await worker.terminate();
      ++killed;
      while (torture.main.reap(key) === -1) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    for (let i = 0; i < 8; ++i) {
      await new Promise((resolve) => setTimeout(resolve, 20 + torture.random(100)));
      await kill();
      crew.push(torture.start(Infinity));
      watch(crew.at(-1)!);
    }
    while (crew.length) await kill();
    expect(failures, `SEED=${seed + phase}`).toEqual([]);
    // A worker holds one block that it took out or has not put in yet, and its call in flight one more.
    expect(torture.settle(), `SEED=${seed + phase}`).toBeLessThanOrEqual(2 * killed);
  }
});
