// A thread and the kernel find each other by channels that either may open first.
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../core/eventually.js";
import { NumaHeap, type TopologyChange } from "../../dist/index.js";
import { heapChannel, openChannel } from "../../dist/notify/channel.js";
import { subscribe } from "../../dist/notify/subscription.js";
import { Switchboard } from "../../dist/notify/switchboard.js";

const change = (epoch: number): TopologyChange => ({ epoch, nodeCount: 4, nodes: false, vcpus: [], ranges: [] });
const stopped: { stop(): void }[] = [];
let heap: NumaHeap;

beforeEach(async () => void (heap = await NumaHeap.create()));
afterEach(() => {
  for (const switchboard of stopped.splice(0)) switchboard.stop();
  heap.detach();
});

function kernel(): Switchboard {
  const switchboard = new Switchboard(heap.handle(), { since: () => undefined });
  stopped.push(switchboard);
  return switchboard;
}

/** Of a thread that subscribes. */
const mine = () => heap.handle();

test("a hello that nobody has heard is said again", async () => {
  const handle = mine();
  const subscribed = subscribe(handle, () => {});
  await new Promise((resolve) => setTimeout(resolve, 250));
  const switchboard = kernel();
  const subscription = await subscribed;
  expect(switchboard.keys).toEqual([handle.key]);
  subscription.close();
  await eventually(() => expect(switchboard.keys).toEqual([]));
});

test("nothing is said any more once it was answered, or nobody has", async () => {
  const hellos: unknown[] = [];
  const channel = openChannel(heapChannel(mine()));
  channel.addEventListener("message", ({ data }) => void hellos.push(data));
  await expect(subscribe(mine(), () => {}, { patience: 150 })).rejects.toMatchObject({ code: "NUMAHEAP_INVALID_ARGUMENT" });
  await eventually(() => expect(hellos.at(-1)).toMatchObject({ is: "leave" }));
  kernel();
  const subscription = await subscribe(mine(), () => {});
  const said = hellos.length;
  await new Promise((resolve) => setTimeout(resolve, 250));
  expect(hellos.length).toBe(said);
  subscription.close();
  channel.close();
});

test("who says hello once more than needed misses nothing that is under way", async () => {
  const switchboard = kernel();
  const handle = mine();
  const subscription = await subscribe(handle, () => {});
  subscription.attached(heap);
  const told: number[] = [];
  heap.addEventListener("topologychange", ({ epoch }) => void told.push(epoch));
  const channel = openChannel(heapChannel(handle));
  for (let epoch = 1; epoch <= 3; ++epoch) switchboard.notify(change(epoch));
  // The kernel hears it before any answer.
  channel.postMessage({ is: "hello", key: handle.key, epoch: undefined });
  await eventually(() => expect(told.at(-1)).toBe(3));
  expect(switchboard.keys).toEqual([handle.key]);
  channel.close();
});
