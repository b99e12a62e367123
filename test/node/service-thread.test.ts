// A service in a thread of its own, when that thread ends, fails, or is asked what cannot be posted.
import { afterEach, expect, test } from "vitest";
import { ServiceThread, startThread } from "../../dist/host/thread.js";

interface Service {
  add(a: number, b: number): number;
  never(): Promise<void>;
  leave(code: number): void;
  crash(): Promise<void>;
  echo(value: unknown): unknown;
}

const library = new URL("../../dist/host/thread.js", import.meta.url).href;
const script = (body: string): URL => new URL(`data:text/javascript,${encodeURIComponent(body)}`);
const SERVICE = `
  import { serveStarter } from "${library}";
  serveStarter({
    add: (a, b) => a + b,
    never: () => new Promise(() => setInterval(() => {}, 1000)),
    leave: (code) => process.exit(code),
    crash: () => new Promise(() => queueMicrotask(() => { throw new RangeError("crashed"); })),
    echo: (value) => value,
  });`;

const threads: ServiceThread<Service>[] = [];
afterEach(() => Promise.all(threads.splice(0).map((thread) => thread.end())));

function start(body = SERVICE): ServiceThread<Service> {
  const thread = new ServiceThread<Service>(
    "the test",
    startThread(script(body), () => expect.fail("this is no browser")),
  );
  threads.push(thread);
  return thread;
}

const disconnected = (why: RegExp): object =>
  expect.objectContaining({ name: "HypervisorError", code: "NUMAHEAP_DISCONNECTED", message: expect.stringMatching(why) });

test("calls are answered, many at a time", async () => {
  const thread = start();
  const sums = await Promise.all(Array.from({ length: 100 }, (_, i) => thread.call((service) => service.add(i, 1))));
  expect(sums).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
});

test("who waits when the thread exits, crashes or is ended hears of it, and so does who calls later", async () => {
  const endings: [(thread: ServiceThread<Service>) => Promise<unknown>, RegExp][] = [
    [(thread) => thread.call((service) => service.leave(3)), /the thread of the test has ended: it exited with 3/],
    [(thread) => thread.call((service) => service.crash()), /has ended: RangeError: crashed/],
    [(thread) => thread.end(), /has ended: it was ended/],
  ];
  for (const [end, why] of endings) {
    const thread = start();
    await thread.call((service) => service.add(1, 1));
    const waiting = thread.call((service) => service.never()).catch((error: unknown) => error);
    await end(thread).catch((error: unknown) => expect(error).toEqual(disconnected(why)));
    expect(await waiting).toEqual(disconnected(why));
    await expect(thread.call((service) => service.add(1, 1))).rejects.toEqual(disconnected(why));
    await thread.end();
  }
});

test("a script that cannot run ends its thread", async () => {
  const thread = start("import './nothing.js';");
  await expect(thread.call((service) => service.add(1, 1))).rejects.toEqual(disconnected(/has ended/));
});

test("what cannot be posted is an argument that makes no sense, and the thread goes on", async () => {
  const thread = start();
  for (const value of [() => 1, Symbol("x"), { deep: [() => 1] }]) {
    await expect(thread.call((service) => service.echo(value) as Promise<unknown>)).rejects.toMatchObject({
      name: "HypervisorError",
      code: "NUMAHEAP_INVALID_ARGUMENT",
    });
  }
  expect(await thread.call((service) => service.add(2, 3))).toBe(5);
});
