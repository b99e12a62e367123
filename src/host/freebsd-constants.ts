// Numbers a program of a FreeBSD guest passes to its kernel, and gets from it.

export {
  CPU_LEVEL_CPUSET,
  CPU_LEVEL_ROOT,
  CPU_LEVEL_WHICH,
  CPU_WHICH_CPUSET,
  CPU_WHICH_DOMAIN,
  CPU_WHICH_PID,
  CPU_WHICH_TID,
  CPU_WHICH_TIDPID,
} from "../guest/freebsd/cpuset.js";
export {
  DOMAINSET_POLICY_FIRSTTOUCH,
  DOMAINSET_POLICY_INTERLEAVE,
  DOMAINSET_POLICY_PREFER,
  DOMAINSET_POLICY_ROUNDROBIN,
} from "../guest/freebsd/domainset.js";
export * from "../guest/freebsd/errno.js";
