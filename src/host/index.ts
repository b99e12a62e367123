// The public interface of numaheap/host: a host with a hypervisor, guests and heaps, each in its thread.

export * as freebsd from "./freebsd-constants.js";
export * as linux from "./linux-constants.js";
export type { Delivery } from "../guest/drivers/driver.js";
export type { CpusetCalls } from "../guest/freebsd/cpuset.js";
export { GuestError, type GuestErrorCode } from "../guest/errors.js";
export type { Libnuma } from "../guest/linux/libnuma.js";
export type { Syscalls } from "../guest/linux/syscalls.js";
export type { PlacementPolicy } from "../guest/platform.js";
export { HypervisorError, type HypervisorErrorCode } from "../hypervisor/errors.js";
export type { PageMigration, PlatformDescription } from "../hypervisor/hypervisor.js";
export type { MigrationReport, MigrationRound } from "../hypervisor/live-migration.js";
export type { BootMode } from "../hypervisor/modes.js";
export type { Destination, VcpuMove } from "../hypervisor/scheduler.js";
export { differences, type Truth } from "../hypervisor/truth.js";
export { attachHeap, type AttachHeapOptions } from "./attach.js";
export type { GuestKind, GuestView, TaskOptions } from "./guest-service.js";
export { Host, type HostOptions, type VmBootOptions } from "./host.js";
export type { HypervisorKind } from "./hypervisor-service.js";
export { type FreeBsdTask, Kernel, type LinuxTask, type Task } from "./kernel.js";
export type { KernelCalls } from "./kernel-calls.js";
export type { LiveMigrationOptions } from "./migration.js";
export { type HeapOptions, type Room, Vm } from "./vm.js";
