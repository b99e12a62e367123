// The pattern that fills a live block: word i of object n is a hash of n and the round, plus i times an odd constant.
// Two live blocks that overlap, or a block that is moved by a wrong number of bytes, cannot both be right.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/** No damage. */
export const INTACT: u32 = u32.MAX_VALUE;

// @ts-ignore: decorator
@inline
function wordOf(object: u32, round: u32, offset: u32): u64 {
  let h = (((<u64>round) << 32) | object) + 1;
  h = (h ^ (h >> 32)) * 0xd6e8_feb8_6659_fd93;
  return (h ^ (h >> 32)) + <u64>(offset >> 3) * STEP;
}

/** Writes the pattern of `object` to bytes [from, size) of its block; the word that holds `from` is written whole. */
export function fill(block: usize, from: u32, size: u32, object: u32, round: u32): void {
  let offset = from & ~7;
  let word = wordOf(object, round, offset);
  let p = block + offset;
  const last = block + (size & ~7);
  while (p + 32 <= last) {
    store<u64>(p, word);
    store<u64>(p, word + STEP, 8);
    store<u64>(p, word + STEP * 2, 16);
    store<u64>(p, word + STEP * 3, 24);
    word += STEP * 4;
    p += 32;
  }
  while (p < last) {
    store<u64>(p, word);
    word += STEP;
    p += 8;
  }
  for (let left = size & 7; left; --left) {
    store<u8>(p++, <u8>word);
    word >>= 8;
  }
}

/** Offset of the first word of [0, size) that does not hold the pattern of `object`, or INTACT. */
export function damage(block: usize, size: u32, object: u32, round: u32): u32 {
  let word = wordOf(object, round, 0);
  let p = block;
  const last = block + (size & ~7);
  while (p + 32 <= last) {
    const difference =
      (load<u64>(p) ^ word) |
      (load<u64>(p, 8) ^ (word + STEP)) |
      (load<u64>(p, 16) ^ (word + STEP * 2)) |
      (load<u64>(p, 24) ^ (word + STEP * 3));
    if (difference != 0) break;
    word += STEP * 4;
    p += 32;
  }
  while (p < last) {
    if (load<u64>(p) != word) return <u32>(p - block);
    word += STEP;
    p += 8;
  }
  for (let left = size & 7; left; --left) {
    if (load<u8>(p) != <u8>word) return <u32>(p - block);
    ++p;
    word >>= 8;
  }
  return INTACT;
}

/** Offset of the first byte of [0, size) that is not zero (of its word, for whole words), or INTACT. */
export function dirt(block: usize, size: u32): u32 {
  let p = block;
  const last = block + (size & ~7);
  while (p + 32 <= last) {
    if ((load<u64>(p) | load<u64>(p, 8) | load<u64>(p, 16) | load<u64>(p, 24)) != 0) break;
    p += 32;
  }
  while (p < last) {
    if (load<u64>(p) != 0) return <u32>(p - block);
    p += 8;
  }
  for (let left = size & 7; left; --left) {
    if (load<u8>(p) != 0) return <u32>(p - block);
    ++p;
  }
  return INTACT;
}
