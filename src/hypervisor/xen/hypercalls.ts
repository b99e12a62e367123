// The hypercalls of a guest, by Xen's numbers: event_channel_op, memory_op, and requests to XenStore, which are none in Xen but messages.
// Nothing a guest passes is trusted: what is unknown is answered with ENOSYS, what is malformed with EINVAL, before anything is changed.
//
// Departures from Xen. Arguments and answers are values instead of guest handles; XENMEM_decrease_reservation takes all extents or none,
// an extent being a frame of 8 KiB; XENMEM_page_mapping, which chooses a placement policy, and XENMEM_advise_node are not upstream's.

import { EINVAL, ENOSYS, EOPNOTSUPP, errnoOf } from "../errors.js";
import type { Hypervisor } from "../hypervisor.js";
import { announces, PLACEMENT_POLICIES } from "../modes.js";
import type { VirtualMachine } from "../vm.js";
import type { EventChannels } from "./event-channel.js";
import { type VnumaCounts, vnumaInfo } from "./vnuma-info.js";
import type { XenStore } from "./xenstore.js";

export const MEMORY_OP = 12;
export const XENMEM_DECREASE_RESERVATION = 1;
export const XENMEM_POPULATE_PHYSMAP = 6;
export const XENMEM_GET_VNUMAINFO = 26;
export const XENMEM_PAGE_MAPPING = 42;
export const XENMEM_ADVISE_NODE = 43;

export const EVENT_CHANNEL_OP = 32;
export const EVTCHNOP_BIND_VIRQ = 1;
export const EVTCHNOP_CLOSE = 3;
export const EVTCHNOP_SEND = 4;
export const EVTCHNOP_UNMASK = 9;
export const EVTCHNOP_RESET = 10;

/** No hypercall of Xen's: stands for the ring that XenStore is asked by. Commands are those of its messages. */
export const XENSTORE_OP = 0x5853;
export const XS_DIRECTORY = 1;
export const XS_READ = 2;
export const XS_WATCH = 4;
export const XS_UNWATCH = 5;
export const XS_WRITE = 11;
export const XS_RM = 13;
/** Takes the watch events that have gathered. */
export const XS_WATCH_EVENT = 15;

export interface Hypercall {
  readonly op: number;
  readonly cmd: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

export interface HypercallAnswer {
  /** 0 or a result; negative: an errno. */
  readonly status: number;
  readonly value?: unknown;
}

/** What a hypercall can reach. */
export interface Domain {
  readonly hypervisor: Hypervisor;
  readonly vm: VirtualMachine;
  readonly channels: EventChannels;
  readonly store: XenStore;
}

type Args = Readonly<Record<string, unknown>>;
/** Arguments by name: n = a number of 32 bits, s = a string, f = a list of frames. */
interface Operation {
  readonly takes: Readonly<Record<string, "n" | "s" | "f">>;
  run(domain: Domain, args: Args): number | HypercallAnswer;
}

const U32 = 0xffff_ffff;
const isNumber = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= U32;
const FITS = {
  n: isNumber,
  s: (value: unknown) => typeof value === "string",
  f: (value: unknown) => Array.isArray(value) && value.every(isNumber),
};

/** A string or list as the answer's value, a negative number as its errno. */
const answer = (result: unknown): HypercallAnswer => (typeof result === "number" ? { status: result } : { status: 0, value: result });

const OPERATIONS: Readonly<Record<number, Readonly<Record<number, Operation>>>> = {
  [MEMORY_OP]: {
    [XENMEM_DECREASE_RESERVATION]: {
      takes: { gfns: "f" },
      run({ hypervisor, vm }, { gfns }) {
        hypervisor.inflate(vm, gfns as number[]);
        return (gfns as number[]).length;
      },
    },
    [XENMEM_POPULATE_PHYSMAP]: { takes: { gfns: "f" }, run: ({ hypervisor, vm }, { gfns }) => hypervisor.deflate(vm, gfns as number[]) },
    [XENMEM_GET_VNUMAINFO]: {
      takes: { nr_vnodes: "n", nr_vcpus: "n", nr_vmemranges: "n" },
      run({ hypervisor, vm }, room) {
        if (!announces(vm.mode)) return -EOPNOTSUPP;
        const { status, info } = vnumaInfo(hypervisor.topology(vm), room as unknown as VnumaCounts);
        return { status, value: info };
      },
    },
    [XENMEM_PAGE_MAPPING]: {
      takes: { policy: "n" },
      run({ hypervisor, vm }, { policy }) {
        hypervisor.setPlacement(vm, PLACEMENT_POLICIES[policy as number]!);
        return 0;
      },
    },
    [XENMEM_ADVISE_NODE]: {
      takes: { first: "n", count: "n", node: "n" },
      run: ({ hypervisor, vm }, { first, count, node }) => hypervisor.advise(vm, first as number, count as number, node as number),
    },
  },
  [EVENT_CHANNEL_OP]: {
    [EVTCHNOP_BIND_VIRQ]: {
      takes: { virq: "n", vcpu: "n" },
      run: ({ channels }, { virq, vcpu }) => channels.bindVirq(virq as number, vcpu as number),
    },
    [EVTCHNOP_CLOSE]: { takes: { port: "n" }, run: ({ channels }, { port }) => channels.close(port as number) },
    [EVTCHNOP_SEND]: { takes: { port: "n" }, run: ({ channels }, { port }) => channels.send(port as number) },
    [EVTCHNOP_UNMASK]: { takes: { port: "n" }, run: ({ channels }, { port }) => channels.unmask(port as number) },
    [EVTCHNOP_RESET]: {
      takes: {},
      run({ channels, store, vm }) {
        channels.reset();
        store.resetWatches(vm.id);
        return 0;
      },
    },
  },
  [XENSTORE_OP]: {
    [XS_DIRECTORY]: { takes: { path: "s" }, run: ({ store, vm }, { path }) => answer(store.directory(vm.id, path as string)) },
    [XS_READ]: { takes: { path: "s" }, run: ({ store, vm }, { path }) => answer(store.read(vm.id, path as string)) },
    [XS_WATCH]: {
      takes: { path: "s", token: "s" },
      run: ({ store, vm }, { path, token }) => store.watch(vm.id, path as string, token as string),
    },
    [XS_UNWATCH]: {
      takes: { path: "s", token: "s" },
      run: ({ store, vm }, { path, token }) => store.unwatch(vm.id, path as string, token as string),
    },
    [XS_WRITE]: {
      takes: { path: "s", value: "s" },
      run: ({ store, vm }, { path, value }) => store.write(vm.id, path as string, value as string),
    },
    [XS_RM]: { takes: { path: "s" }, run: ({ store, vm }, { path }) => store.remove(vm.id, path as string) },
    [XS_WATCH_EVENT]: { takes: {}, run: ({ store, vm }) => ({ status: 0, value: store.takeEvents(vm.id) }) },
  },
};

const isRecord = (value: unknown): value is Args => typeof value === "object" && value !== null;
const own = <T>(table: Readonly<Record<number, T>>, key: unknown): T | undefined =>
  isNumber(key) && Object.hasOwn(table, key) ? table[key] : undefined;

/** Answers a hypercall, whatever it is. */
export function hypercall(domain: Domain, call: unknown): HypercallAnswer {
  if (!isRecord(call)) return { status: -EINVAL };
  const commands = own(OPERATIONS, call["op"]);
  const operation = commands && own(commands, call["cmd"]);
  if (!operation) return { status: -ENOSYS };
  const args = call["args"] ?? {};
  if (!isRecord(args)) return { status: -EINVAL };
  for (const [name, type] of Object.entries(operation.takes)) if (!FITS[type](args[name])) return { status: -EINVAL };
  try {
    const result = operation.run(domain, args);
    return typeof result === "number" ? { status: result } : result;
  } catch (error) {
    return { status: -errnoOf(error) };
  }
}
