// A worker of the browser tests: allocates and frees, then detaches unless told to stay.
import { type HeapHandle, NumaHeap } from "../../dist/index.js";

interface Order {
  handle: HeapHandle;
  operations: number;
  stay?: boolean;
}

self.onmessage = async ({ data }: MessageEvent<Order>) => {
  const heap = await NumaHeap.attach(data.handle);
  const live: number[] = [];
  for (let i = 0; i < data.operations; ++i) {
    live.push(heap.malloc((i * 31) % 40_000));
    if (live.length > 300) heap.free(live.splice((i * 11) % live.length, 1)[0]!);
  }
  for (const ptr of live) heap.free(ptr);
  if (!data.stay) heap.detach();
  self.postMessage("done");
};
