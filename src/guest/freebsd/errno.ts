/** Error numbers as FreeBSD has them. Its kernel answers with one of them, or with 0. */
export const EPERM = 1;
export const ESRCH = 3;
export const EDEADLK = 11;
export const EFAULT = 14;
export const EINVAL = 22;
export const ERANGE = 34;
