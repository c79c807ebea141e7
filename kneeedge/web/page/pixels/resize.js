// The one resize and the square input: kneeedge/pixels/pixel_path.py and RESIZE of
// kneeedge/model/spec.py, which is "triangle-22bit-across-then-down".

import { roundHalfEven } from "./rounding.js";

const WEIGHT_BITS = 22;
const HALF = 1 << (WEIGHT_BITS - 1);

/**
 * The network's input (size × size, row-major) for grey pixels (height × width).
 * "stretch" brings both sides to `size`; "pad" keeps the aspect, longer side `size`, centred on
 * black.
 */
export function networkInput(grey, width, height, size, fit = "stretch") {
  if (fit !== "stretch" && fit !== "pad") throw new TypeError(`no such fit: ${fit}`);
  const longer = Math.max(width, height);
  const columns = fit === "pad" ? fittedSide(width, size, longer) : size;
  const rows = fit === "pad" ? fittedSide(height, size, longer) : size;
  const across = resizedAcross(grey, width, height, columns);
  const resized = resizedDown(across, columns, height, rows);
  return rows === size && columns === size ? resized : onBlack(resized, columns, rows, size);
}

function fittedSide(side, size, longer) {
  return Math.max(1, roundHalfEven((side * size) / longer));
}

function onBlack(pixels, width, height, size) {
  const square = new Uint8Array(size * size);
  const top = Math.floor((size - height) / 2);
  const left = Math.floor((size - width) / 2);
  for (let y = 0; y < height; y++) {
    square.set(pixels.subarray(y * width, (y + 1) * width), (top + y) * size + left);
  }
  return square;
}

function resizedAcross(pixels, width, height, columns) {
  if (columns === width) return pixels;
  const out = new Uint8Array(columns * height);
  const parts = triangles(width, columns);
  // by rows, as they lie in memory
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      const { first, weights } = parts[x];
      const begin = y * width + first;
      let sum = HALF;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * pixels[begin + k];
      out[y * columns + x] = Math.min(255, sum >> WEIGHT_BITS);
    }
  }
  return out;
}

function resizedDown(pixels, width, height, rows) {
  if (rows === height) return pixels.slice();
  const out = new Uint8Array(width * rows);
  const sums = new Int32Array(width);
  triangles(height, rows).forEach(({ first, weights }, y) => {
    sums.fill(HALF);
    for (let k = 0; k < weights.length; k++) {
      const begin = (first + k) * width;
      const weight = weights[k];
      for (let x = 0; x < width; x++) sums[x] += weight * pixels[begin + x];
    }
    for (let x = 0; x < width; x++) out[y * width + x] = Math.min(255, sums[x] >> WEIGHT_BITS);
  });
  return out;
}

/**
 * The first input pixel and the weights, in multiples of 2^-22, of each of `nOut` output pixels.
 * Doubles are added and divided in the order of Pillow's precompute_coeffs: the last bit hangs on
 * it.
 */
function triangles(nIn, nOut) {
  const scale = nIn / nOut;
  const reach = Math.max(1, scale);
  const perReach = 1 / reach;
  return Array.from({ length: nOut }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(nIn, Math.trunc(centre + reach + 0.5));
    const shares = new Float64Array(end - first);
    let sum = 0;
    for (let j = first; j < end; j++) {
      const share = Math.max(0, 1 - Math.abs((j - centre + 0.5) * perReach));
      shares[j - first] = share;
      sum += share;
    }
    const weights = Int32Array.from(shares, (share) => 0.5 + (share / sum) * 2 ** WEIGHT_BITS);
    return { first, weights };
  });
}
