// Error numbers as Linux has them, and how its calls answer: 0 or more, or the negative of one of these.

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EIO = 5;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const ENODEV = 19;
export const EINVAL = 22;
export const ERANGE = 34;

/** Ends a call with -errno. */
export class Errno extends Error {
  override readonly name = "Errno";

  constructor(readonly errno: number) {
    super(`errno ${errno}`);
  }
}

const negative = (error: unknown): number => {
  if (error instanceof Errno) return -error.errno;
  throw error;
};

export function answer(call: () => number): number {
  try {
    return call();
  } catch (error) {
    return negative(error);
  }
}

export async function answerLater(call: () => Promise<number>): Promise<number> {
  try {
    return await call();
  } catch (error) {
    return negative(error);
  }
}
