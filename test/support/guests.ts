// Guests of both systems over a fake platform.
import { expect } from "vitest";
import { FreeBsd } from "../../src/guest/freebsd/freebsd.js";
import type { Guest } from "../../src/guest/guest.js";
import { Linux } from "../../src/guest/linux/linux.js";
import { type FakeOptions, FakePlatform } from "./fake-platform.js";

export interface Rig<G> {
  platform: FakePlatform;
  guest: G;
  /** What the guest got over. */
  problems: unknown[];
}

export const SYSTEMS = ["linux", "freebsd"] as const;
export type System = (typeof SYSTEMS)[number];

async function rig<G>(
  options: FakeOptions,
  boot: (options: { platform: FakePlatform; memory: WebAssembly.Memory; onProblem: (error: unknown) => void }) => Promise<G>,
): Promise<Rig<G>> {
  const platform = new FakePlatform(options);
  const problems: unknown[] = [];
  const guest = await boot({ platform, memory: platform.memory, onProblem: (error) => problems.push(error) });
  return { platform, guest, problems };
}

export const bootLinux = (options: FakeOptions = {}): Promise<Rig<Linux>> => rig(options, (boot) => Linux.boot(boot));
export const bootFreeBsd = (options: FakeOptions = {}): Promise<Rig<FreeBsd>> => rig(options, (boot) => FreeBsd.boot(boot));
export const bootGuest = (system: System, options: FakeOptions = {}): Promise<Rig<Guest>> =>
  rig<Guest>(options, (boot) => (system === "linux" ? Linux.boot(boot) : FreeBsd.boot(boot)));

/** Nothing is wrong in the kernel, and it knows the truth. */
export function expectSound(guest: Guest, platform: FakePlatform): void {
  expect(guest.settle()).toBe(true);
  expect(guest.check()).toEqual([]);
  const { distances, vcpuNode, ranges } = platform.truth();
  expect(guest.topology.distances).toEqual(distances);
  expect(Array.from({ length: guest.vcpus }, (_, vcpu) => guest.topology.runsOn(vcpu))).toEqual(vcpuNode);
  expect(guest.topology.ranges()).toEqual(ranges);
}
