// Calls of a guest's kernel, from another thread. What a program passes by pointer is an array: the kernel's thread gets a copy, and what it
// has written there comes back with the answer, as a kernel copies to its user.

import { GuestError } from "../guest/errors.js";

type Method = (...args: never[]) => unknown;

/** The methods of `T` as they are called from another thread. */
export type KernelCalls<T> = {
  readonly [K in keyof T as T[K] extends Method ? K : never]: T[K] extends (...args: infer A) => infer R
    ? (...args: A) => Promise<Awaited<R>>
    : never;
};

export interface CallAnswer {
  readonly value: unknown;
  /** Arrays of the call as they are now, undefined for other arguments. */
  readonly arrays: readonly (UserArray | undefined)[];
}

type UserArray = Int32Array | Uint32Array | Uint8Array | Float64Array;

const isArray = (value: unknown): value is UserArray => ArrayBuffer.isView(value) && !(value instanceof DataView);

/** Names of the methods that can be called. */
export function callsOf(target: object): string[] {
  const prototype = Object.getPrototypeOf(target) as object;
  const methods = Object.entries(Object.getOwnPropertyDescriptors(prototype)).filter(([, { value }]) => typeof value === "function");
  return methods.map(([name]) => name).filter((name) => name !== "constructor");
}

/**
 * Makes a call in the kernel's thread.
 * @throws {GuestError} NUMAHEAP_INVALID_ARGUMENT where there is no such call, or the kernel can make nothing of its arguments
 */
export async function answerCall(target: object, name: string, args: unknown[]): Promise<CallAnswer> {
  if (!callsOf(target).includes(name)) throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `there is no call ${name}`);
  try {
    const value = await (target as Record<string, (...args: unknown[]) => unknown>)[name]!(...args);
    return { value, arrays: args.map((argument) => (isArray(argument) ? argument : undefined)) };
  } catch (cause) {
    if (cause instanceof GuestError) throw cause;
    throw new GuestError("NUMAHEAP_INVALID_ARGUMENT", `${name}: the kernel can make nothing of its arguments: ${String(cause)}`, { cause });
  }
}

/** An object with the methods `names`, each of which is made elsewhere by `call`. */
export function remoteCalls<T>(names: readonly string[], call: (name: string, args: unknown[]) => Promise<CallAnswer>): KernelCalls<T> {
  const methods = names.map((name) => [
    name,
    async (...args: unknown[]): Promise<unknown> => {
      const { value, arrays } = await call(name, args);
      args.forEach((argument, i) => {
        const written = arrays[i];
        if (isArray(argument) && written && argument.buffer !== written.buffer) argument.set(written);
      });
      return value;
    },
  ]);
  return Object.fromEntries(methods) as KernelCalls<T>;
}
