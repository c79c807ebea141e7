// Coefficients to samples: the integer transforms of libjpeg, bit for bit, at full size
// (jidctint.c) and at 1/2, 1/4 and 1/8 of it (jidctred.c), which Pillow's draft mode asks for.
// Constants are multiples of 2^-13.

import { ZIGZAG } from "./jpeg_blocks.js";
import { JpegError } from "./jpeg_segments.js";

const CONST_BITS = 13;
// times half the range of a sample: no picture has so large a coefficient, and beyond it libjpeg's
// answer hangs on the processor
const MOST = 64;

/**
 * The samples (height × width, each 0 to 2^precision - 1) of a component's blocks, each of which
 * becomes `side` × `side` of them: 8, 4, 2 or 1. Of more than 8 bits only 8 × 8 is known.
 * Throws JpegError for coefficients that no picture has.
 */
export function samplesOf(plane, width, height, side, precision) {
  const samples = precision > 8 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  const steps = new Int32Array(64);
  ZIGZAG.forEach((place, k) => (steps[place] = plane.steps[k]));
  const block = new Int32Array(64);
  const transform = { 8: full, 4: half, 2: quarter, 1: eighth }[side];
  // libjpeg keeps fewer bits between the passes where samples have more
  const extraBits = precision > 8 ? 1 : 2;
  const middle = 1 << (precision - 1);
  const top = (1 << precision) - 1;
  for (let blockY = 0; blockY * side < height; blockY++) {
    for (let blockX = 0; blockX * side < width; blockX++) {
      const begin = 64 * (blockY * plane.stride + blockX);
      let largest = 0;
      for (let k = 0; k < 64; k++) {
        block[k] = plane.coefficients[begin + k] * steps[k];
        largest = Math.max(largest, Math.abs(block[k]));
      }
      if (largest > MOST * middle) throw new JpegError("its compressed pixels are corrupt");
      transform(block, extraBits);
      const rows = Math.min(side, height - blockY * side);
      const columns = Math.min(side, width - blockX * side);
      for (let y = 0; y < rows; y++) {
        const to = (blockY * side + y) * width + blockX * side;
        for (let x = 0; x < columns; x++) {
          samples[to + x] = Math.max(0, Math.min(top, block[8 * y + x] + middle));
        }
      }
    }
  }
  return samples;
}

function full(block, extraBits) {
  for (let x = 0; x < 8; x++) fullLine(block, x, 8, CONST_BITS - extraBits);
  for (let y = 0; y < 8; y++) fullLine(block, 8 * y, 1, CONST_BITS + extraBits + 3);
}

/** Eight values at `at`, `step` apart; sums are descaled by `bits`. */
function fullLine(block, at, step, bits) {
  const a0 = block[at];
  const a1 = block[at + step];
  const a2 = block[at + 2 * step];
  const a3 = block[at + 3 * step];
  const a4 = block[at + 4 * step];
  const a5 = block[at + 5 * step];
  const a6 = block[at + 6 * step];
  const a7 = block[at + 7 * step];
  const even = (a2 + a6) * 4433;
  const even2 = even - a6 * 15137;
  const even3 = even + a2 * 6270;
  const even0 = (a0 + a4) * 8192;
  const even1 = (a0 - a4) * 8192;
  const odd = (a7 + a3 + a5 + a1) * 9633;
  const z1 = (a7 + a1) * -7373;
  const z2 = (a5 + a3) * -20995;
  const z3 = (a7 + a3) * -16069 + odd;
  const z4 = (a5 + a1) * -3196 + odd;
  const odd0 = a7 * 2446 + z1 + z3;
  const odd1 = a5 * 16819 + z2 + z4;
  const odd2 = a3 * 25172 + z2 + z3;
  const odd3 = a1 * 12299 + z1 + z4;
  const half = 1 << (bits - 1);
  block[at] = (even0 + even3 + odd3 + half) >> bits;
  block[at + 7 * step] = (even0 + even3 - odd3 + half) >> bits;
  block[at + step] = (even1 + even2 + odd2 + half) >> bits;
  block[at + 6 * step] = (even1 + even2 - odd2 + half) >> bits;
  block[at + 2 * step] = (even1 - even2 + odd1 + half) >> bits;
  block[at + 5 * step] = (even1 - even2 - odd1 + half) >> bits;
  block[at + 3 * step] = (even0 - even3 + odd0 + half) >> bits;
  block[at + 4 * step] = (even0 - even3 - odd0 + half) >> bits;
}

function half(block, extraBits) {
  for (let x = 0; x < 8; x++) {
    if (x !== 4) halfLine(block, x, 8, CONST_BITS - extraBits + 1);
  }
  for (let y = 0; y < 4; y++) halfLine(block, 8 * y, 1, CONST_BITS + extraBits + 3 + 1);
}

function halfLine(block, at, step, bits) {
  const a1 = block[at + step];
  const a3 = block[at + 3 * step];
  const a5 = block[at + 5 * step];
  const a7 = block[at + 7 * step];
  const mean = block[at] * 16384;
  const even = block[at + 2 * step] * 15137 - block[at + 6 * step] * 6270;
  const odd0 = a7 * -1730 + a5 * 11893 + a3 * -17799 + a1 * 8697;
  const odd2 = a7 * -4176 + a5 * -4926 + a3 * 7373 + a1 * 20995;
  const round = 1 << (bits - 1);
  block[at] = (mean + even + odd2 + round) >> bits;
  block[at + 3 * step] = (mean + even - odd2 + round) >> bits;
  block[at + step] = (mean - even + odd0 + round) >> bits;
  block[at + 2 * step] = (mean - even - odd0 + round) >> bits;
}

function quarter(block, extraBits) {
  for (const x of [0, 1, 3, 5, 7]) quarterLine(block, x, 8, CONST_BITS - extraBits + 2);
  for (const y of [0, 1]) quarterLine(block, 8 * y, 1, CONST_BITS + extraBits + 3 + 2);
}

function quarterLine(block, at, step, bits) {
  const mean = block[at] * 32768;
  const odd =
    block[at + 7 * step] * -5906 +
    block[at + 5 * step] * 6967 +
    block[at + 3 * step] * -10426 +
    block[at + step] * 29692;
  const round = 1 << (bits - 1);
  block[at] = (mean + odd + round) >> bits;
  block[at + step] = (mean - odd + round) >> bits;
}

function eighth(block) {
  block[0] = (block[0] + 4) >> 3;
}
