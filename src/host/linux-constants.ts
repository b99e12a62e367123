// Numbers a program of a Linux guest passes to its kernel, and gets from it.

export { EACCES, EFAULT, EINVAL, EIO, ENODEV, ENOENT, ENOMEM, EPERM, ERANGE, ESRCH } from "../guest/linux/errno.js";
export {
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_F_NUMA_BALANCING,
  MPOL_F_RELATIVE_NODES,
  MPOL_F_STATIC_NODES,
  MPOL_INTERLEAVE,
  MPOL_LOCAL,
  MPOL_PREFERRED,
  MPOL_PREFERRED_MANY,
  MPOL_WEIGHTED_INTERLEAVE,
} from "../guest/linux/mempolicy.js";
export { MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED, MPOL_F_NODE, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT } from "../guest/linux/syscalls.js";
