// A task of a Linux guest and its calls, made anew before each test of the file that asks for it.
import { beforeEach } from "vitest";
import { OWNER_KERNEL } from "../../src/guest/frame-table.js";
import type { Linux, LinuxProcess, Task } from "../../src/guest/linux/linux.js";
import { maskOf } from "../../src/guest/linux/nodemask.js";
import type { Syscalls } from "../../src/guest/linux/syscalls.js";
import { pageOf } from "../../src/guest/process.js";
import { type FakePlatform, FRAME } from "./fake-platform.js";
import { bootLinux } from "./guests.js";

export const [EPERM, ESRCH, EIO, ENOMEM, EACCES, EFAULT, ENODEV, EINVAL, ENOENT] = [-1, -3, -5, -12, -13, -14, -19, -22, -2] as const;

export let linux: Linux;
export let platform: FakePlatform;
export let process: LinuxProcess;
export let task: Task;
export let calls: Syscalls;

/** To be called once in a file: before each of its tests, a guest boots. */
export function bootBeforeEach(): void {
  beforeEach(async () => {
    ({ guest: linux, platform } = await bootLinux());
    process = linux.spawn({ uid: 1000 });
    task = process.newThread(0);
    calls = linux.syscalls(task);
  });
}

export const word = (...nodes: number[]): Uint32Array => Uint32Array.of(maskOf(nodes));
/** Those of a process of another user, or of root. */
export const callsOf = (uid: number, sysNice = false): Syscalls => linux.syscalls(linux.spawn({ uid, sysNice }).newThread(0));

export function populate(pages: number, by = calls): number {
  const address = by.process.mmap(pages * FRAME);
  for (let i = 0; i < pages; ++i) linux.access(by.task, address + i * FRAME);
  return address;
}
export const nodesAt = (address: number, pages: number, of = process): number[] =>
  Array.from({ length: pages }, (_, i) => of.nodeOf(pageOf(address) + i));
export const addresses = (address: number, pages: number): number[] => Array.from({ length: pages }, (_, i) => address + i * FRAME);

export function exhaust(node: number, left = 0): void {
  while (linux.lists.freeOn(node) > left) linux.lists.alloc(0, [node], OWNER_KERNEL);
}

/** Gives the process a heap of `count` frames. */
export function mapHeap(count: number, of = process): number {
  const { owner, first } = linux.grantHeap(count, 0);
  of.mapHeap(owner, first * FRAME, 1024 * FRAME);
  return first * FRAME;
}
