// Where the shared structures of a virtual machine lie in its memory. The linear memory is the guest-physical memory: address 0 is that
// of frame 0, and frames 0 .. kernelFrames - 1 are the kernel's, where all of this stands. Plain integers and one function, so that
// hypervisor and guest agree without asking each other.

/** Bytes of a frame: a page of the heap, an entry of the p2m. */
export const FRAME_SHIFT = 13;
export const FRAME_BYTES = 1 << FRAME_SHIFT;
/** Most virtual CPUs and nodes: the allocator's own limits. */
export const MAX_VCPUS = 256;
export const MAX_NODES = 32;

/** Frames whose meaning is the platform's: Xen's shared_info, KVM's virtqueues. Frame 0 stays unused, so that no address is near 0. */
export const PLATFORM_FRAME = 1;
export const PLATFORM_FRAMES = 4;

/** Byte addresses and sizes of the tables behind the platform's frames. Frame tables have a byte a frame. */
export interface VmLayout {
  readonly frames: number;
  /** u8[MAX_VCPUS]: node each vCPU really runs on. Written by the hypervisor only; a guest may not read it but where a fault would tell. */
  readonly vcpuTruth: number;
  /**
   * u8 a frame: 1 + node it really lies on, or will when it is touched; 0 = who touches it says, or it is in the balloon. Written by the
   * hypervisor only; for measuring.
   */
  readonly frameTruth: number;
  /** u8 a frame: who has it (src/guest/frame-table.ts). Claimed and released by compare-and-swap. */
  readonly frameOwner: number;
  /** u8 a frame: its node as the guest knows it. Written by the guest's handler of topology changes only. */
  readonly frameNode: number;
  /** u8 a frame: 1 + node of the vCPU that claimed it, at that time: where a fault would have come from. 0 = never touched. */
  readonly frameToucher: number;
  /** First frame that is not the kernel's. */
  readonly kernelFrames: number;
}

/** The layout of a machine of `frames` frames. */
export function vmLayout(frames: number): VmLayout {
  const table = Math.ceil(frames / 64) * 64;
  const vcpuTruth = (PLATFORM_FRAME + PLATFORM_FRAMES) * FRAME_BYTES;
  const frameTruth = vcpuTruth + MAX_VCPUS;
  const frameOwner = frameTruth + table;
  const frameNode = frameOwner + table;
  const frameToucher = frameNode + table;
  const kernelFrames = Math.ceil((frameToucher + table) / FRAME_BYTES);
  return { frames, vcpuTruth, frameTruth, frameOwner, frameNode, frameToucher, kernelFrames };
}
