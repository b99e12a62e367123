// Errors after a hop: class, code, fields and cause.
import { MessageChannel } from "node:worker_threads";
import * as Comlink from "comlink";
import { afterAll, describe, expect, test } from "vitest";
import { GuestError } from "../../src/guest/errors.js";
import { Errno } from "../../src/guest/linux/errno.js";
import { HeapError } from "../../src/heap/errors.js";
import { carryErrors } from "../../src/host/error-transfer.js";
import { HypervisorError } from "../../src/hypervisor/errors.js";
import { AcpiError } from "../../src/topology/acpi/errors.js";
import { TopologyError } from "../../src/topology/errors.js";

carryErrors();
const { port1, port2 } = new MessageChannel();
const service = {
  throws: undefined as unknown,
  fail(): never {
    throw this.throws;
  },
  async failLater(): Promise<never> {
    await Promise.resolve();
    throw this.throws;
  },
};
Comlink.expose(service, port1 as unknown as Comlink.Endpoint);
const remote = Comlink.wrap<typeof service>(port2 as unknown as Comlink.Endpoint);
afterAll(() => port1.close());

async function afterHop(thrown: unknown, later = false): Promise<Error & Record<string, unknown>> {
  service.throws = thrown;
  const call: Promise<unknown> = later ? remote.failLater() : remote.fail();
  return call.then(
    () => expect.fail("it was to be thrown"),
    (error: unknown) => error as Error & Record<string, unknown>,
  );
}

const ERRORS: [Error, new (...args: never[]) => Error][] = [
  [new HeapError("NUMAHEAP_BUSY", "busy"), HeapError],
  [new HypervisorError("NUMAHEAP_PLATFORM_REFUSED", "no", { errno: 95 }), HypervisorError],
  [new GuestError("NUMAHEAP_OUT_OF_MEMORY", "none"), GuestError],
  [new TopologyError("NUMAHEAP_TOPOLOGY_VALUE", "nodes[1].cpus", "bad"), TopologyError],
  [new AcpiError("NUMAHEAP_ACPI_LENGTH", "SRAT", 48, "length", "short"), AcpiError],
  [new Errno(22), Errno],
  [new TypeError("not a function"), TypeError],
  [new RangeError("too long"), RangeError],
];

describe.each([false, true])("thrown later: %s", (later) => {
  test.each(ERRORS)("%s", async (error, kind) => {
    const arrived = await afterHop(error, later);
    expect(arrived).toBeInstanceOf(kind);
    expect(arrived).not.toBe(error);
    expect(Object.prototype.toString.call(arrived)).toBe("[object Error]");
    expect(arrived.message).toBe(error.message);
    expect(arrived.name).toBe(error.name);
    expect(arrived.stack).toBe(error.stack);
    expect({ ...arrived }).toEqual({ ...error });
  });
});

test("causes come along, as far as they are no circle", async () => {
  const arrived = await afterHop(
    new HypervisorError("NUMAHEAP_MIGRATION_ABORTED", "given up", { cause: new GuestError("NUMAHEAP_CANNOT_STOP", "no") }),
  );
  expect(arrived.cause).toBeInstanceOf(GuestError);
  expect(arrived.cause).toMatchObject({ code: "NUMAHEAP_CANNOT_STOP", message: "no" });
  const circle = new Error("round");
  circle.cause = circle;
  let depth = 0;
  for (let error: unknown = await afterHop(circle); error instanceof Error; error = error.cause) ++depth;
  expect(depth).toBe(9);
});

test("an error of another class keeps its name and code, and what is no error becomes one", async () => {
  class ForeignError extends Error {
    override readonly name = "ForeignError";
    readonly code = "E_FOREIGN";
    readonly handle = { fd: 3 };
  }
  const arrived = await afterHop(new ForeignError("abroad"));
  expect(arrived).toBeInstanceOf(Error);
  expect(arrived).toMatchObject({ name: "ForeignError", code: "E_FOREIGN", message: "abroad" });
  expect(arrived["handle"]).toBeUndefined();
  const named = Object.assign(new Error("odd"), { name: "constructor" });
  expect(await afterHop(named)).toMatchObject({ name: "constructor", message: "odd" });
  for (const thrown of ["text", 7, undefined, null, { code: "x" }]) expect((await afterHop(thrown)).message).toBe(String(thrown));
});
