// How a guest is connected to its hypervisor: the memory both see, an interrupt line to the guest, and what Xen and KVM add to that. In
// one thread a line is a callback; between threads it is a message, which carries nothing: what happened stands in the memory.

import type { Firmware, VirtualMachine } from "./vm.js";

/** Raised to make the other side look. Raised again before it has looked, it is one. */
export interface Line {
  raise(): void;
}

/** How a callback is put off until the one who raised is done; queueMicrotask, unless a simulation has an order of its own. */
export type Defer = (run: () => void) => void;

/** A line within a thread. */
export class LocalLine implements Line {
  readonly #defer: Defer;
  #handler: (() => void) | undefined;
  #raised = false;

  constructor(defer: Defer = (run) => queueMicrotask(run)) {
    this.#defer = defer;
  }

  /** What was raised before there was a handler is raised now. */
  connect(handler: () => void): void {
    this.#handler = handler;
    if (this.#raised) this.#defer(() => this.#call());
  }

  disconnect(): void {
    this.#handler = undefined;
  }

  /** What was raised is heard now. */
  flush(): void {
    this.#call();
  }

  raise(): void {
    if (this.#raised) return;
    this.#raised = true;
    if (this.#handler) this.#defer(() => this.#call());
  }

  #call(): void {
    if (!this.#handler || !this.#raised) return;
    this.#raised = false;
    this.#handler();
  }
}

/** A line to a guest that may connect anew; without one nobody hears, and what happened stands in the memory. */
export class GuestLine implements Line {
  #to: Line | undefined;
  #close: (() => void) | undefined;

  /** The guest is there from now on; where it was before is closed. */
  connect(to: Line, close: () => void): void {
    this.disconnect();
    this.#to = to;
    this.#close = close;
  }

  disconnect(): void {
    this.#close?.();
    this.#to = undefined;
    this.#close = undefined;
  }

  raise(): void {
    this.#to?.raise();
  }
}

/** What a guest finds when it boots. */
export interface BootInfo extends Firmware {
  readonly name: "xen" | "kvm";
  readonly memory: WebAssembly.Memory;
  readonly frames: number;
  readonly vcpus: number;
}

export function bootInfo<Name extends BootInfo["name"]>(name: Name, vm: VirtualMachine): BootInfo & { readonly name: Name } {
  const { srat, slit } = vm.firmware;
  return { name, memory: vm.memory, frames: vm.frames, vcpus: vm.vcpus, srat, slit };
}

/** Time since the epoch in milliseconds, as fine as the platform has it: comparable across workers. */
export const wallClock = (): number => performance.timeOrigin + performance.now();

/** The guest's end. */
export interface GuestConnection extends BootInfo {
  /** Whom the hypervisor interrupts; one handler at a time. */
  onInterrupt(handler: () => void): void;
  /** Whom it tells that the hypervisor has closed the connection: the machine ended, or another guest was connected to it. */
  onClose(handler: () => void): void;
  close(): void;
}

/** A MessagePort, a browser's or Node's. */
export interface Port {
  postMessage(message: unknown): void;
  addEventListener(type: "message" | "close", listener: (event: { readonly data?: unknown }) => void): void;
  start(): void;
  close(): void;
}

/** A line to the thread at the other end of a port. */
export class PortLine implements Line {
  constructor(
    private readonly port: Port,
    private readonly message: unknown,
  ) {}

  raise(): void {
    this.port.postMessage(this.message);
  }
}

/** Messages a port carries, by `is`. */
export const BOOT = "boot";
export const INTERRUPT = "interrupt";
export const DOORBELL = "doorbell";
export const CALL = "call";
export const ANSWER = "answer";
