// A guest in a worker, in Node and in browsers: keeps a map of what its platform tells it, and does what it is asked to.
import { connectPort, openPlatform } from "../../dist/guest/drivers/connect.js";

const port = globalThis.process?.getBuiltinModule("node:worker_threads").parentPort ?? globalThis;
const NOWHERE = -1;
let platform;
let vcpus;
let frames;

const handler = {
  topologyChanged(changes) {
    for (const change of changes) {
      if (change.kind === "vcpu") vcpus[change.vcpu] = change.node;
      else if (change.kind === "frames") frames.fill(change.node, change.first, change.first + change.count);
    }
  },
  balloonTargetChanged() {},
};

const orders = {
  async boot({ port: line }) {
    const connection = await connectPort(line);
    platform = openPlatform(connection);
    vcpus = new Int8Array(connection.vcpus).fill(NOWHERE);
    frames = new Int8Array(connection.frames).fill(NOWHERE);
    const topology = await platform.readTopology();
    vcpus.set(topology.vcpuNode);
    for (const { first, count, node } of topology.ranges) frames.fill(node, first, first + count);
    await platform.start(handler);
  },
  async inflate({ gfns }) {
    await platform.inflate(gfns);
    for (const gfn of gfns) frames[gfn] = NOWHERE;
  },
  deflate: ({ gfns }) => platform.deflate(gfns),
  async settle() {
    await platform.settled();
    return { vcpus, frames };
  },
  suspend: () => platform.suspend(),
  resume: async ({ port: line }) => platform.resume(await connectPort(line)),
};

port.onmessage = async ({ data }) => {
  try {
    port.postMessage({ value: await orders[data.order](data) });
  } catch (error) {
    port.postMessage({ error: String(error) });
  }
};
