// What a thread asks of the heap beside memory: who it is, its policy, what went wrong.

import { Heap, MAX_VCPUS, THREAD_WEIGHTS } from "./layout";
import { EBUSY, EINVAL, heap, lastError, self, setError, theHeap, theThread, thread } from "./instance";
import { flagsOf, nodeOfPage, pageOf } from "./page-map";
import { POLICY_DEFAULT, POLICY_LOCAL, POLICY_WEIGHTED_INTERLEAVE, existingNodes } from "./policy";
import { flushCache } from "./thread-cache";
import { enter } from "./malloc";
import { observe } from "./topology";

/** errno of this instance's last failed call, 0 = none since it was asked for. */
export function errno(): i32 {
  const error = lastError;
  setError(0);
  return error;
}

/** Sets this thread's memory policy: a Linux mode and a mask of nodes. What is cached goes back, since the policy might not choose it. */
export function setPolicy(mode: u32, mask: u32): i32 {
  const needsMask = mode != POLICY_DEFAULT && mode != POLICY_LOCAL;
  if (self == 0 || mode > POLICY_WEIGHTED_INTERLEAVE || needsMask != ((mask & existingNodes()) != 0)) return EINVAL;
  const record = theThread();
  record.policy = mode;
  record.mask = needsMask ? mask : 0;
  record.credit = 0;
  observe();
  return flushCache(thread) ? 0 : EBUSY;
}

/** Weight of `node` in this thread's weighted interleave, 1 to 255. */
export function setWeight(node: u32, weight: u32): i32 {
  if (self == 0 || node >= theHeap().nodes || weight == 0 || weight > 255) return EINVAL;
  store<u8>(thread + node, <u8>weight, THREAD_WEIGHTS);
  return 0;
}

/** This thread runs on `vcpu` from now on. */
export function moveThread(vcpu: u32): i32 {
  if (self == 0 || vcpu >= MAX_VCPUS) return EINVAL;
  theThread().vcpu = vcpu;
  observe();
  return 0;
}

/** This thread acts upon topology changes now instead of at its next malloc. */
export function settle(): void {
  enter();
}

/** True node of the page an address lies in, -1 if that is not the heap's. */
export function nodeOf(address: usize): i32 {
  const page = pageOf(address);
  return flagsOf(page) ? <i32>nodeOfPage(page) : -1;
}

/** Node of the vCPU this thread runs on, as it last saw it. */
export function threadNode(): i32 {
  return self ? <i32>theThread().node : -1;
}

/** Slot + 1 of this thread, 0 while not attached. */
export function threadId(): u32 {
  return self;
}

export function epoch(): u32 {
  return atomic.load<u32>(heap, offsetof<Heap>("epoch"));
}
