// Brings a guest to its hypervisor: over a port if that is in another thread, and with the driver that fits.

import { ANSWER, BOOT, type BootInfo, CALL, DOORBELL, INTERRUPT, type Port, PortLine } from "../../hypervisor/connection.js";
import { disconnected } from "../../hypervisor/errors.js";
import type { HypercallAnswer } from "../../hypervisor/xen/hypercalls.js";
import type { Connection, Driver, DriverOptions } from "./driver.js";
import { KvmPlatform } from "./kvm.js";
import { XenPlatform } from "./xen.js";

/**
 * A connection to the hypervisor that serves the other end of the port.
 * @throws {HypervisorError} NUMAHEAP_DISCONNECTED
 */
export function connectPort(port: Port): Promise<Connection> {
  let interrupt = (): void => {};
  let told = (): void => {};
  let calls = 0;
  let closed = false;
  const pending = new Map<number, { resolve: (answer: HypercallAnswer) => void; reject: (error: Error) => void }>();
  const end = (): void => {
    closed = true;
    for (const { reject } of pending.values()) reject(disconnected());
    pending.clear();
  };
  return new Promise((booted, failed) => {
    port.addEventListener("close", () => {
      if (closed) return;
      end();
      told();
      failed(disconnected());
    });
    port.addEventListener("message", ({ data }) => {
      const message = data as { is: string; boot: BootInfo; id: number; answer: HypercallAnswer };
      if (message.is === INTERRUPT) interrupt();
      else if (message.is === BOOT) booted(connection(message.boot));
      else if (message.is === ANSWER) {
        pending.get(message.id)?.resolve(message.answer);
        pending.delete(message.id);
      }
    });
    port.start();
  });

  function connection(boot: BootInfo): Connection {
    const base = {
      ...boot,
      onInterrupt: (handler: () => void) => void (interrupt = handler),
      onClose: (handler: () => void) => void (told = handler),
      close: () => {
        end();
        port.close();
      },
    };
    if (boot.name === "kvm") return { ...base, name: "kvm", doorbell: new PortLine(port, { is: DOORBELL }) };
    return {
      ...base,
      name: "xen",
      hypercall: (call) =>
        new Promise((resolve, reject) => {
          if (closed) return reject(disconnected());
          const id = ++calls;
          pending.set(id, { resolve, reject });
          port.postMessage({ is: CALL, id, call });
        }),
    };
  }
}

/** The driver for a connection. */
export function openPlatform(connection: Connection, options?: DriverOptions): Driver {
  return connection.name === "xen" ? new XenPlatform(connection, options) : new KvmPlatform(connection, options);
}
