// The hypervisor: a machine's frames and pCPUs, the virtual machines on it, and every operation that changes which of them has what.
// Each operation first looks for frames touched meanwhile, changes what it changes through the p2m and the scheduler, whose changes the
// tracker hears of, and lets each tracker publish at its end. Xen and KVM add how a guest is told and asks.

import { shown } from "../shown.js";
import type { PlacementPolicy, PlatformChange, VirtualTopology } from "../guest/platform.js";
import type { Topology } from "../topology/topology.js";
import { ARRIVES_BACKED, ARRIVES_BALLOONED, ARRIVES_UNTOUCHED, type Incoming, type MigrationTarget } from "./arrival.js";
import { wallClock } from "./connection.js";
import { EOPNOTSUPP, HypervisorError, whole } from "./errors.js";
import { firmwareOf } from "./firmware.js";
import { MachineFrames } from "./frames.js";
import { type Machine, machineOf } from "./machine.js";
import { announces, BOOT_MODES, bootEntry, type BootMode, placesAtTouch, PLACEMENT_POLICIES } from "./modes.js";
import { BALLOONED, homeOf, isBacked, onDemand } from "./p2m.js";
import { type Destination, Scheduler, type VcpuMove } from "./scheduler.js";
import { rangesOf, type Truth } from "./truth.js";
import { type GuestPort, VirtualMachine, type VmImage } from "./vm.js";
import { FRAME_BYTES, MAX_VCPUS, vmLayout } from "./vm-layout.js";

const WASM_PAGE = 65536;
const MIB = 2 ** 20;

export interface VmOptions {
  readonly vcpus: number;
  /** Bytes, a multiple of 64 KiB. */
  readonly memory: number;
  /** Default: adaptive. */
  readonly mode?: BootMode;
  readonly name?: string;
}

/** What became of the frames that were to move: all of them, in three parts. */
export interface PageMigration {
  /** Lie on the node that was asked for. */
  readonly moved: number;
  /** Lie on another, nearer to it than before, for it is full. */
  readonly spilled: number;
  /** Stayed: no room nearer, or in the balloon. */
  readonly refused: number;
}

/** How a platform tells its guests, in words. */
export interface PlatformDescription {
  readonly name: string;
  readonly populated: string;
  readonly batched: string;
  readonly acknowledged: string;
  readonly seen: string;
}

export abstract class Hypervisor implements MigrationTarget {
  abstract readonly name: "xen" | "kvm";
  readonly machine: Machine;
  readonly frames: MachineFrames;
  readonly scheduler: Scheduler;
  readonly #vms = new Map<number, VirtualMachine>();
  /** Frames promised to machines that are on their way here. */
  #promised = 0;
  #nextId = 1;
  /** Where policy round-robin goes next. */
  #turn = 0;
  readonly #memoryNodes: readonly number[];

  /** Time stamps of what is raised. */
  protected readonly now: () => number;

  /**
   * @param options.now a clock of one's own; by default one that can be compared across workers
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT for a topology with gaps, without CPUs or without memory
   */
  constructor(topology: Topology, options: { readonly now?: () => number } = {}) {
    const machine = machineOf(topology);
    this.now = options.now ?? wallClock;
    this.machine = machine;
    this.frames = new MachineFrames(machine.nodeFrames, machine.distances);
    this.scheduler = new Scheduler(machine.cpuNode, machine.distances);
    this.#memoryNodes = [...machine.nodeFrames.keys()].filter((node) => machine.nodeFrames[node]! > 0);
  }

  /** How it populates memory, and tells its guests. */
  abstract describe(): PlatformDescription;
  /** Frames are backed before the guest starts, unless their toucher says where. */
  protected abstract readonly populatesAtBuild: boolean;
  protected abstract portOf(vm: VirtualMachine): GuestPort;

  get nodes(): number {
    return this.machine.distances.length;
  }

  get vms(): readonly VirtualMachine[] {
    return [...this.#vms.values()];
  }

  /** @throws {HypervisorError} NUMAHEAP_NO_SUCH_VM */
  vm(id: number): VirtualMachine {
    const vm = this.#vms.get(id);
    if (vm) return vm;
    throw new HypervisorError(
      "NUMAHEAP_NO_SUCH_VM",
      `there is no virtual machine ${id} here: it was destroyed, or has moved to another host`,
    );
  }

  /** Frames neither backed nor promised. */
  get available(): number {
    let waiting = this.#promised;
    for (const vm of this.#vms.values()) waiting += vm.reserved - vm.p2m.backed;
    return this.frames.free - waiting;
  }

  // ---- virtual machines

  /** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_OVERCOMMIT */
  createVm(options: VmOptions): VirtualMachine {
    const { vcpus, memory, mode = "adaptive", name = `vm${this.#nextId}` } = options;
    const frames = memory / FRAME_BYTES;
    checkShape({ vcpus, frames, mode });
    const image: VmImage = { name, vcpus, frames, mode, policy: "round-robin", balloonTarget: frames };
    this.populateTouched();
    this.#admit(image, frames);
    const vm = this.#make(image, this.#memoryOf(image), frames);
    this.#start(vm, new Uint8Array(frames).fill(ARRIVES_UNTOUCHED));
    return vm;
  }

  destroyVm(vm: VirtualMachine): void {
    this.#begin(vm);
    vm.port.close();
    vm.releaseFrames();
    this.scheduler.remove(vm.id);
    this.#vms.delete(vm.id);
  }

  prepare(image: VmImage, reserved: number): Incoming {
    checkShape(image);
    whole(reserved, 0, image.frames, "reserved");
    this.populateTouched();
    this.#admit(image, reserved);
    const memory = this.#memoryOf(image);
    this.#promised += reserved;
    let open = true;
    const end = (): void => {
      if (!open) throw new HypervisorError("NUMAHEAP_NO_SUCH_VM", "this arrival has ended: prepare another");
      open = false;
      this.#promised -= reserved;
    };
    return {
      memory,
      commit: (last, states) => {
        if (last.frames !== image.frames || last.vcpus !== image.vcpus || last.mode !== image.mode || states.length !== image.frames) {
          throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `what arrives as ${last.name} is not what room was made for`);
        }
        const wanted = states.reduce((sum, state) => sum + Number(state !== ARRIVES_BALLOONED), 0);
        this.populateTouched();
        if (wanted > reserved) this.#admit(image, wanted - reserved);
        end();
        const vm = this.#make(last, memory, wanted);
        this.#start(vm, states);
        return vm.id;
      },
      cancel: end,
    };
  }

  /** Refuses what the machine has no room for. */
  #admit(image: VmImage, frames: number): void {
    const { available } = this;
    if (frames <= available) return;
    const reserved = this.frames.free - available;
    throw new HypervisorError(
      "NUMAHEAP_OVERCOMMIT",
      `${image.name} needs ${frames} frames (${Math.ceil((frames * FRAME_BYTES) / MIB)} MiB) and ${available} can be had: ${this.frames.describe()}, ` +
        `${reserved} of them promised; ask for at most ${Math.floor((available * FRAME_BYTES) / MIB)} MiB, inflate balloons or destroy a virtual machine`,
    );
  }

  #memoryOf(image: VmImage): WebAssembly.Memory {
    const pages = (image.frames * FRAME_BYTES) / WASM_PAGE;
    try {
      return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (cause) {
      const message = `the engine has no ${(pages * WASM_PAGE) / MIB} MiB for the memory of ${image.name}: ask for less`;
      throw new HypervisorError("NUMAHEAP_OVERCOMMIT", message, { cause });
    }
  }

  #make(image: VmImage, memory: WebAssembly.Memory, reserved: number): VirtualMachine {
    const publish = (changes: readonly PlatformChange[]): void => {
      if (announces(vm.mode)) vm.port.announce(changes);
    };
    const vm: VirtualMachine = new VirtualMachine(this.#nextId++, image, memory, this.frames, reserved, publish, (it) => this.portOf(it));
    this.#vms.set(vm.id, vm);
    return vm;
  }

  /** Puts vCPUs on pCPUs and frames on nodes. What the kernel image is loaded to is touched by that. */
  #start(vm: VirtualMachine, states: Uint8Array): void {
    vm.cpus = Array.from({ length: vm.vcpus }, (_, index) => this.scheduler.add(vm.id, index, vm.image.loads?.[index]));
    for (const { index, node } of vm.cpus) vm.vcpuMoved(index, node);
    for (let gfn = 0; gfn < vm.frames; ++gfn) {
      if (states[gfn] !== ARRIVES_BALLOONED) this.#fill(vm, gfn, states[gfn] === ARRIVES_BACKED || gfn < vm.layout.kernelFrames);
    }
    vm.tracker.flush();
    if (!vm.image.firmware) vm.firmware = firmwareOf(vm.mode, vm.truth(), this.machine.distances);
  }

  // ---- vCPUs

  /**
   * @returns the move, undefined if it runs there already
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_AFFINITY
   */
  migrateVcpu(vm: VirtualMachine, vcpu: number, to: Destination): VcpuMove | undefined {
    this.#begin(vm);
    return this.#moved(this.scheduler.migrate(vm.cpus[whole(vcpu, 0, vm.vcpus - 1, "vcpu")]!, to));
  }

  /** The vCPU runs on these pCPUs only, undefined = all; it is moved if it has to be. */
  setAffinity(vm: VirtualMachine, vcpu: number, cpus: readonly number[] | undefined): VcpuMove | undefined {
    this.#begin(vm);
    return this.#moved(this.scheduler.setAffinity(vm.cpus[whole(vcpu, 0, vm.vcpus - 1, "vcpu")]!, cpus));
  }

  /** How busy the vCPU is, in per cent of a pCPU; for the balancer. */
  setLoad(vm: VirtualMachine, vcpu: number, load: number): void {
    this.#begin(vm);
    this.scheduler.setLoad(vm.cpus[whole(vcpu, 0, vm.vcpus - 1, "vcpu")]!, load);
  }

  /** The load balancer runs once; the moves it made. */
  balance(): VcpuMove[] {
    this.populateTouched();
    const moves = this.scheduler.balance();
    for (const move of moves) this.vm(move.vm).vcpuMoved(move.vcpu, move.toNode);
    this.#publish();
    return moves;
  }

  #moved(move: VcpuMove | undefined): VcpuMove | undefined {
    if (move) this.vm(move.vm).vcpuMoved(move.vcpu, move.toNode);
    this.#publish();
    return move;
  }

  // ---- frames

  /** Backs the frames that were touched since the last look. Every operation begins with it. */
  populateTouched(): void {
    for (const vm of this.#vms.values()) {
      vm.forEachTouched((gfn, node) => this.#populate(vm, gfn, homeOf(vm.p2m.get(gfn)), node));
      vm.tracker.flush();
    }
  }

  /** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT */
  migratePages(vm: VirtualMachine, first: number, count: number, toNode: number): PageMigration {
    this.#begin(vm);
    this.#range(vm, first, count, toNode);
    const done = { moved: 0, spilled: 0, refused: 0 };
    vm.port.changing(first, count, () => {
      for (let gfn = first; gfn < first + count; ++gfn) ++done[this.#movePage(vm, gfn, toNode, true)];
    });
    this.#publish();
    return done;
  }

  /** Where the frame lies next, or waits to: on `toNode`; if that is full and it may `spill`, nearer to it than now. */
  #movePage(vm: VirtualMachine, gfn: number, toNode: number, spill: boolean): keyof PageMigration {
    const entry = vm.p2m.get(gfn);
    if (entry === BALLOONED) return "refused";
    const here = vm.nodeOf(gfn);
    if (here === toNode) return "moved";
    const away = this.machine.distances[toNode]!;
    const to = this.frames.nearestRoom(toNode);
    // One that waits for its toucher lies nowhere: all nodes are nearer.
    if (to < 0 || (to !== toNode && !spill) || away[to]! >= (away[here] ?? Infinity)) return "refused";
    if (isBacked(entry)) {
      vm.p2m.set(gfn, this.frames.take(to));
      this.frames.release(entry);
    } else vm.p2m.set(gfn, onDemand(to));
    return to === toNode ? "moved" : "spilled";
  }

  /** A frame that had nothing is backed at once, because it is `touched` or because this hypervisor does so, or waits to be. */
  #fill(vm: VirtualMachine, gfn: number, touched: boolean): void {
    const entry = bootEntry(vm.mode, gfn, vm.frames, this.#memoryNodes);
    if (touched || (this.populatesAtBuild && !placesAtTouch(vm.mode))) this.#populate(vm, gfn, homeOf(entry), vm.toucherOf(gfn));
    else vm.p2m.set(gfn, homeOf(entry) < 0 ? entry : onDemand(this.frames.nearestRoom(homeOf(entry))));
  }

  /** Backs a frame on its home, or where its toucher or the policy says. Never fails: what a machine is promised is there, on some node. */
  #populate(vm: VirtualMachine, gfn: number, home: number, toucher: number): void {
    this.back(vm, gfn, home >= 0 ? home : this.#nodeAtTouch(vm, gfn, toucher));
  }

  /** A frame of the machine goes behind the guest frame, of `node` or near it. */
  protected back(vm: VirtualMachine, gfn: number, node: number): void {
    vm.p2m.set(gfn, vm.frameFor(gfn, node));
  }

  #nodeAtTouch(vm: VirtualMachine, gfn: number, toucher: number): number {
    const policy = vm.mode === "first-touch" ? "first-touch" : vm.policy;
    const nodes = this.#memoryNodes;
    if (policy === "interleave") return nodes[gfn % nodes.length]!;
    if (policy === "round-robin") return nodes[this.#turn++ % nodes.length]!;
    // What stands in the toucher's byte is the guest's word, and nobody's for the kernel image.
    return toucher >= 0 && toucher < this.nodes ? toucher : vm.cpus[0]!.node;
  }

  // ---- the balloon

  /**
   * The guest is to do with so many frames: it inflates or deflates its balloon, when it can.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  setBalloonTarget(vm: VirtualMachine, frames: number): void {
    this.#begin(vm);
    vm.balloonTarget = whole(frames, vm.layout.kernelFrames, vm.frames, "the balloon's target");
    vm.port.balloonTarget(frames);
  }

  /**
   * The guest gives frames back: all of these, or none.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  inflate(vm: VirtualMachine, gfns: readonly number[]): void {
    this.#begin(vm);
    this.#distinct(vm, gfns);
    const gone = gfns.find((gfn) => vm.isBallooned(gfn));
    if (gone !== undefined) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `frame ${gone} is in the balloon already`);
    for (const [first, count] of runs(gfns)) {
      vm.port.changing(first, count, () => {
        for (let gfn = first; gfn < first + count; ++gfn) {
          const entry = vm.p2m.get(gfn);
          vm.p2m.set(gfn, BALLOONED);
          if (isBacked(entry)) this.frames.release(entry);
          vm.forgetToucher(gfn);
        }
      });
    }
    vm.reserved -= gfns.length;
    this.#publish();
  }

  /**
   * The guest wants frames of its balloon back. They are zero, and where there is room.
   * @returns how many of them, from the first on, it got
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  deflate(vm: VirtualMachine, gfns: readonly number[]): number {
    this.#begin(vm);
    this.#distinct(vm, gfns);
    const there = gfns.find((gfn) => !vm.isBallooned(gfn));
    if (there !== undefined) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `frame ${there} is not in the balloon`);
    const given = gfns.slice(0, Math.max(0, this.available));
    vm.reserved += given.length;
    for (const gfn of given) {
      vm.clear(gfn);
      this.#fill(vm, gfn, false);
    }
    this.#publish();
    return given.length;
  }

  // ---- what else a guest may ask

  /**
   * Advice: the range would best lie on `node`. Frames move as far as that node has room.
   * @returns how many lie there now
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT
   */
  advise(vm: VirtualMachine, first: number, count: number, node: number): number {
    this.#begin(vm);
    this.#range(vm, first, count, node);
    let there = 0;
    vm.port.changing(first, count, () => {
      for (let gfn = first; gfn < first + count; ++gfn) there += Number(this.#movePage(vm, gfn, node, false) === "moved");
    });
    this.#publish();
    return there;
  }

  /**
   * The guest chooses how frames not yet touched are placed.
   * @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT, NUMAHEAP_PLATFORM_REFUSED unless it is a machine of mode policy-hypercall
   */
  setPlacement(vm: VirtualMachine, policy: PlacementPolicy): void {
    this.#begin(vm);
    if (!PLACEMENT_POLICIES.includes(policy)) {
      throw new HypervisorError(
        "NUMAHEAP_INVALID_ARGUMENT",
        `policy must be one of ${PLACEMENT_POLICIES.join(", ")}, not ${shown(policy)}`,
      );
    }
    if (vm.mode !== "policy-hypercall") {
      const message = `${vm.name} runs in mode ${vm.mode}: only one of mode policy-hypercall chooses`;
      throw new HypervisorError("NUMAHEAP_PLATFORM_REFUSED", message, { errno: EOPNOTSUPP });
    }
    vm.policy = policy;
  }

  /** What really lies where. */
  truth(vm: VirtualMachine): Truth {
    this.#begin(vm);
    return vm.truth();
  }

  /** The actual topology as of now, as the guest is to know it. */
  topology(vm: VirtualMachine): VirtualTopology {
    this.#begin(vm);
    return { distances: this.machine.distances, vcpuNode: vm.tracker.vcpus, ranges: rangesOf(vm.tracker.frames) };
  }

  // ---- the frame of each operation

  #begin(vm: VirtualMachine): void {
    if (this.vm(vm.id) !== vm) throw new HypervisorError("NUMAHEAP_NO_SUCH_VM", `${vm.name} is a virtual machine of another hypervisor`);
    this.populateTouched();
  }

  #publish(): void {
    for (const vm of this.#vms.values()) vm.tracker.flush();
  }

  #range(vm: VirtualMachine, first: number, count: number, node: number): void {
    whole(first, 0, vm.frames - 1, "first");
    whole(count, 1, vm.frames - first, "count");
    whole(node, 0, this.nodes - 1, "toNode");
  }

  /** The kernel's own frames hold what hypervisor and guest share. */
  #distinct(vm: VirtualMachine, gfns: readonly number[]): void {
    for (const gfn of gfns) whole(gfn, vm.layout.kernelFrames, vm.frames - 1, "a frame of the balloon");
    if (new Set(gfns).size !== gfns.length) throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", "a frame is named twice");
  }
}

/** @throws {HypervisorError} NUMAHEAP_INVALID_ARGUMENT */
function checkShape({ vcpus, frames, mode }: Pick<VmImage, "vcpus" | "frames" | "mode">): void {
  whole(vcpus, 1, MAX_VCPUS, "vcpus");
  if (!BOOT_MODES.includes(mode)) {
    throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", `mode must be one of ${BOOT_MODES.join(", ")}, not ${shown(mode)}`);
  }
  const memory = whole(frames * FRAME_BYTES, WASM_PAGE, 2 ** 32, "memory");
  const kernel = vmLayout(frames).kernelFrames * FRAME_BYTES;
  if (memory % WASM_PAGE !== 0 || memory <= kernel) {
    const message = `memory must be a multiple of ${WASM_PAGE} bytes and more than the kernel's ${kernel}, not ${memory}`;
    throw new HypervisorError("NUMAHEAP_INVALID_ARGUMENT", message);
  }
}

/** Ascending adjacent numbers of a list as [first, count]. */
function* runs(gfns: readonly number[]): Generator<[number, number]> {
  for (let i = 0; i < gfns.length;) {
    let count = 1;
    while (gfns[i + count] === gfns[i]! + count) ++count;
    yield [gfns[i]!, count];
    i += count;
  }
}
