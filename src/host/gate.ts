// Keeps what is called on a machine apart from the time it stands still between two hosts: calls pass while the gate is open; closing it waits
// for those under way, and whoever comes later waits until it is open again.

export class Gate {
  #passing = 0;
  /** Nobody is passing any more. */
  #empty: (() => void) | undefined;
  #opened: Promise<void> | undefined;
  #open: (() => void) | undefined;

  async pass<T>(call: () => T | PromiseLike<T>): Promise<T> {
    while (this.#opened) await this.#opened;
    ++this.#passing;
    try {
      return await call();
    } finally {
      if (--this.#passing === 0) this.#empty?.();
    }
  }

  /** Resolves when nobody passes. To be opened before it is closed again. */
  async close(): Promise<void> {
    this.#opened = new Promise((resolve) => (this.#open = resolve));
    if (this.#passing > 0) await new Promise<void>((resolve) => (this.#empty = resolve));
    this.#empty = undefined;
  }

  open(): void {
    this.#opened = undefined;
    this.#open?.();
  }
}

/**
 * A service whose methods pass a gate, but for those of `free`. `closing` closes it, and leaves it closed if it succeeds; `opening` opens it.
 */
export function gated<Service extends object>(
  service: Service,
  gate: Gate,
  { closing, opening, free }: { closing: keyof Service; opening: keyof Service; free: ReadonlySet<PropertyKey> },
): Service {
  return new Proxy(service, {
    get(target, name) {
      const method = Reflect.get(target, name, target) as unknown;
      if (typeof method !== "function") return method;
      const call = (args: unknown[]): unknown => Reflect.apply(method, target, args);
      if (name === closing) {
        return async (...args: unknown[]) => {
          await gate.close();
          try {
            return await call(args);
          } catch (error) {
            gate.open();
            throw error;
          }
        };
      }
      if (name === opening) {
        return async (...args: unknown[]) => {
          try {
            return await call(args);
          } finally {
            gate.open();
          }
        };
      }
      return free.has(name) ? (...args: unknown[]) => call(args) : (...args: unknown[]) => gate.pass(() => call(args));
    },
  });
}
