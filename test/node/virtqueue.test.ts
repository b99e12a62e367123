// Virtqueues: the ring between a driver and a device, and what a hostile driver does to it.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HypervisorError } from "../../src/hypervisor/errors.js";
import { DeviceQueue, DriverQueue, MAX_QUEUE_SIZE, queueAt, queueBytes } from "../../src/hypervisor/kvm/virtqueue.js";

/** The error with which something is refused. */
function refusal(run: () => unknown): HypervisorError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(HypervisorError);
    return error as HypervisorError;
  }
  return expect.fail("it was to be refused");
}

describe("virtqueue", () => {
  const rig = (size = 8): { buffer: SharedArrayBuffer; driver: DriverQueue; device: DeviceQueue; view: DataView } => {
    const buffer = new SharedArrayBuffer(65536);
    const address = queueAt(4096, size);
    return { buffer, driver: new DriverQueue(buffer, address), device: new DeviceQueue(buffer, address), view: new DataView(buffer) };
  };
  const segment = (at: number, bytes = 16): { at: number; bytes: number } => ({ at, bytes });

  test("chains come in order, whole, and go back; indices run over 2^16", () => {
    const { driver, device } = rig();
    expect(device.pop()).toBeUndefined();
    for (let i = 0; i < 70_000; ++i) {
      const a = driver.offer([segment(i % 100), segment(200)], [segment(300, i % 7)]);
      const b = driver.offer([], [segment(400)]);
      const chain = device.pop()!;
      if (i % 10_000 === 0) {
        expect(chain).toEqual({ head: a, readable: [segment(i % 100), segment(200)], writable: [segment(300, i % 7)] });
        expect(device.pop()).toEqual(chain);
      }
      device.push(chain, 0);
      device.push(device.pop()!, 16);
      if (driver.take() !== a || driver.take() !== b || driver.take() !== undefined) expect.fail(`round ${i}`);
    }
  });

  test("a queue fits where it says it does", () => {
    for (let size = 1; size <= MAX_QUEUE_SIZE; size *= 2) {
      const { used } = queueAt(1024, size);
      expect(used + 4 + size * 8).toBe(1024 + queueBytes(size));
      new DeviceQueue(new SharedArrayBuffer(1024 + queueBytes(size)), queueAt(1024, size));
    }
  });

  const bad: Readonly<Record<string, (view: DataView, driver: DriverQueue) => void>> = {
    "more chains offered than the queue has": (view) => view.setUint16(4096 + 8 * 16 + 2, 9, true),
    "an index that went backwards": (view) => view.setUint16(4096 + 8 * 16 + 2, 0xffff, true),
    "a head beyond the table": (view) => view.setUint16(4096 + 8 * 16 + 4, 8, true),
    "a chain that bites its tail": (view) => {
      view.setUint16(4096 + 12, 1, true);
      view.setUint16(4096 + 14, 0, true);
    },
    "a next beyond the table": (view) => {
      view.setUint16(4096 + 12, 1, true);
      view.setUint16(4096 + 14, 500, true);
    },
    "an address outside the memory": (view) => view.setUint32(4096, 65536 - 15, true),
    "an address beyond 4 GiB": (view) => view.setUint32(4096 + 4, 1, true),
    "a length beyond the memory": (view) => view.setUint32(4096 + 8, 0xffff_ffff, true),
    "an indirect descriptor": (view) => view.setUint16(4096 + 12, 4, true),
    "a buffer to be read behind one to be written": (view) => {
      view.setUint16(4096 + 12, 1 | 2, true);
      view.setUint16(4096 + 14, 1, true);
      view.setUint16(4096 + 16 + 12, 0, true);
    },
  };
  test.each(Object.keys(bad))("%s: a typed error, and the queue as it was", (name) => {
    const { buffer, driver, device, view } = rig();
    driver.offer([segment(64)], []);
    bad[name]!(view, driver);
    const before = new Uint8Array(buffer).slice();
    expect(refusal(() => device.pop()).code).toBe("NUMAHEAP_DEVICE_NEEDS_RESET");
    expect(new Uint8Array(buffer)).toEqual(before);
  });

  test.each([
    ["size 0", { size: 0 }],
    ["a size that is no power of two", { size: 6 }],
    ["a size beyond the limit", { size: 512 }],
    ["a table outside the memory", { desc: 65536 - 16 }],
    ["a table not aligned", { desc: 4100 }],
    ["an available ring outside", { avail: 65534 }],
    ["a used ring not aligned", { used: 5002 }],
    ["a used ring outside", { used: 65536 - 8 }],
  ])("a queue of %s is refused", (_, wrong) => {
    const buffer = new SharedArrayBuffer(65536);
    expect(refusal(() => new DeviceQueue(buffer, { ...queueAt(4096, 8), ...wrong })).code).toBe("NUMAHEAP_DEVICE_NEEDS_RESET");
  });

  test("whatever stands in the rings, a pop answers or refuses", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(queueBytes(8) - 1), fc.nat(255)), { maxLength: 40 }), (pokes) => {
        const { buffer, driver, device } = rig();
        for (let i = 0; i < 4; ++i) driver.offer([segment(i * 16)], [segment(512)]);
        const bytes = new Uint8Array(buffer);
        for (const [at, byte] of pokes) bytes[4096 + at] = byte;
        try {
          const chain = device.pop();
          for (const { at, bytes: length } of [...(chain?.readable ?? []), ...(chain?.writable ?? [])]) {
            expect(at + length).toBeLessThanOrEqual(65536);
          }
        } catch (error) {
          expect((error as HypervisorError).code).toBe("NUMAHEAP_DEVICE_NEEDS_RESET");
        }
      }),
      { numRuns: 2000, seed: 6 },
    );
  });
});
