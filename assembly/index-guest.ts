// The exported ABI of the build for heaps under a guest kernel: pages are frames of a virtual machine, and threads can move to another.

export * from "./index";
export { resume } from "./reap";
