// Where pages come from under a guest kernel (heap.guest.wasm): frames of the virtual machine's memory. Kernel and heaps claim and
// release them by compare-and-swap on a byte a frame, so that nobody has to ask anybody (src/guest/frame-table.ts is the kernel's side).
// All of it under pageHeapLock.
//
//   owner byte = owner << 1 | dirty      dirty: somebody may have written to the frame since it was zero
//
// A claim and a release write the range into Heap.grow* before the first byte changes, and `growGot` once a claim is complete. Who takes
// the lock over from the dead makes a complete claim the heap's; of any other range, what is the heap's by its owner byte is released.

import { Arena, Heap, MAX_NODES, PAGE_OWNED, PAGE_SHIFT, PAGE_TOUCHED } from "./layout";
import { heap, theHeap, theThread, thread } from "./instance";
import { acquirePageHeap, releasePageHeap } from "./lock";
import { arenaOf, hasRoom, setEntry, setFlags, setNodeOfPage } from "./page-map";
import { anyRun, fileFree, freeRunAt, takeRange } from "./free-run";

/** Stands for the nodes of frames that may lie on several. */
const ANY_NODE: u32 = MAX_NODES;
const FREE: u32 = 1;
const DIRTY: u32 = 1;
/** Beside what is wanted, a claim takes 1/2^CLAIM_SHIFT of what the heap owns then, as a growth of the memory does. */
const CLAIM_SHIFT: u32 = 7;
/** Pages released under one hold of the lock. */
const RELEASE_PAGES: u32 = 512;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/** Claims `pages` adjacent frames on `node`, or a few more. False if a limit stands against it or the node has none. */
export function growByFrames(node: u32, pages: u32, needed: bool): bool {
  const generous = pages + ((theHeap().ownedPages + pages) >> CLAIM_SHIFT);
  return claimRun(node, generous, false) || ((needed || generous > pages) && claimRun(node, pages, needed));
}

/** Claims `pages` adjacent frames on whichever nodes, all of which have arenas: where no node has as many in a row. */
export function growByMixedFrames(pages: u32): bool {
  return claimRun(ANY_NODE, pages, true);
}

function claimRun(node: u32, pages: u32, needed: bool): bool {
  const h = theHeap();
  if (h.ownedPages + pages > h.limitPages || (!needed && !hasRoom(arenaOf(node), pages))) return false;
  while (true) {
    const first = findFrames(node, pages);
    if (!first) return false;
    begin(first, pages, node);
    if (claimFrames(first, pages, node)) {
      atomic.store<u32>(heap, first + 1, offsetof<Heap>("growGot"));
      makePages(first, pages, node);
      fileFree(first, pages);
      atomic.store<u32>(heap, h.ownedPages + pages, offsetof<Heap>("ownedPages"));
      end();
      return true;
    }
    // Somebody was faster, and has what this claim has not.
    end();
  }
}

function begin(first: u32, pages: u32, node: u32): void {
  const h = theHeap();
  h.growBefore = first;
  h.growNode = node;
  h.growGot = 0;
  atomic.store<u32>(heap, pages, offsetof<Heap>("growPages"));
}

function end(): void {
  atomic.store<u32>(heap, 0, offsetof<Heap>("growPages"));
}

/** First of `pages` adjacent frames that look free and on `node`, the lowest beyond the heap's head; 0 = none. Eight are looked at together while none will do on a certain node. */
function findFrames(node: u32, pages: u32): u32 {
  const h = theHeap();
  const owners = <usize>h.frameOwners;
  const nodes = <usize>h.frameNodes;
  const wanted = ONES * node;
  let have: u32 = 0;
  for (let frame = <u32>(heap >> PAGE_SHIFT); frame < h.frames;) {
    if (have == 0 && (frame & 7) == 0 && node != ANY_NODE) {
      // A byte of 0 is a frame that will do.
      const unlike = ((load<u64>(owners + frame) & ~ONES) ^ (ONES * (FREE << 1))) | (load<u64>(nodes + frame) ^ wanted);
      if (((unlike - ONES) & ~unlike & HIGH_BITS) == 0) {
        frame += 8;
        continue;
      }
    }
    have = ownerOf(frame) == FREE && isOn(frame, node) ? have + 1 : 0;
    ++frame;
    if (have == pages) return frame - pages;
  }
  return 0;
}

function ownerByte(frame: u32): usize {
  return <usize>theHeap().frameOwners + frame;
}

function ownerOf(frame: u32): u32 {
  return (<u32>atomic.load<u8>(ownerByte(frame))) >> 1;
}

function nodeOfFrame(frame: u32): u32 {
  return atomic.load<u8>(<usize>theHeap().frameNodes + frame);
}

/** Whether a frame will do where one on `node` is wanted. */
function isOn(frame: u32, node: u32): bool {
  const on = nodeOfFrame(frame);
  return node == ANY_NODE ? arenaOf(on) != 0 : on == node;
}

/** Gives a frame of `from` to `to`; false if it is not `from`'s. What is dirty stays so. */
function transfer(frame: u32, from: u32, to: u32, dirty: u32): bool {
  const at = ownerByte(frame);
  while (true) {
    const seen = atomic.load<u8>(at);
    if ((<u32>seen) >> 1 != from) return false;
    if (atomic.cmpxchg<u8>(at, seen, <u8>((to << 1) | (seen & DIRTY) | dirty)) == seen) return true;
  }
}

/** Takes the frames, all or none. Their node is read once they are the heap's: who changes it later tells the heap, which then has them. */
function claimFrames(first: u32, pages: u32, node: u32): bool {
  const me = theHeap().frameOwner;
  for (let i: u32 = 0; i < pages; ++i) {
    const mine = transfer(first + i, FREE, me, 0);
    if (mine && isOn(first + i, node)) continue;
    for (let j: u32 = 0; j < i + <u32>mine; ++j) transfer(first + j, me, FREE, 0);
    return false;
  }
  return true;
}

/** Makes claimed frames pages of the heap, and counts them. This thread touches them: a fault would come from its vCPU. */
function makePages(first: u32, pages: u32, node: u32): void {
  const h = theHeap();
  const toucher: u8 = 1 + load<u8>(<usize>(h.vcpuTruth + (thread ? theThread().vcpu : 0)));
  for (let page = first; page < first + pages; ++page) {
    const on = node == ANY_NODE ? nodeOfFrame(page) : node;
    setNodeOfPage(page, on);
    changetype<Arena>(arenaOf(on)).ownedPages += 1;
    setFlags(page, atomic.load<u8>(ownerByte(page)) & DIRTY ? PAGE_OWNED | PAGE_TOUCHED : PAGE_OWNED);
    atomic.cmpxchg<u8>(<usize>h.frameTouchers + page, 0, toucher);
  }
}

/** Releases free pages until the heap has no more than `keep` of them; how many. Stops where the lock is out of reach. */
export function releaseFrames(keep: u32): u32 {
  const h = theHeap();
  let released: u32 = 0;
  for (let node: u32 = 0; node < h.nodes;) {
    if (!acquirePageHeap()) break;
    const first = h.freePages > keep ? anyRun(node) : 0;
    if (first) {
      const pages = min<u32>(min<u32>(freeRunAt(first), h.freePages - keep), RELEASE_PAGES);
      takeRange(first, pages);
      begin(first, pages, node);
      giveBack(first, pages);
      atomic.store<u32>(heap, h.ownedPages - pages, offsetof<Heap>("ownedPages"));
      changetype<Arena>(arenaOf(node)).ownedPages -= pages;
      end();
      released += pages;
    } else {
      ++node;
    }
    releasePageHeap();
  }
  return released;
}

/** What of the range is the heap's by its owner bytes is free, and no page of the heap. */
function giveBack(first: u32, pages: u32): void {
  const me = theHeap().frameOwner;
  for (let page = first; page < first + pages; ++page) {
    if (ownerOf(page) != me) continue;
    setEntry(page, 0);
    setFlags(page, 0);
    transfer(page, me, FREE, DIRTY);
  }
}

/** After the death of a thread that claimed or released frames. Counts and lists are rebuilt after it. */
export function recoverFrames(): void {
  const h = theHeap();
  if (h.growPages == 0) return;
  if (h.growGot) makePages(h.growBefore, h.growPages, h.growNode);
  else giveBack(h.growBefore, h.growPages);
  end();
}
