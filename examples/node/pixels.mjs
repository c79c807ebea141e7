// From grey pixels of any size to the network's input, to the bit, as kneeedge/model/spec.py has it under RESIZE.
// A picture is { pixels: Uint8Array, width, height }: grey levels in rows from the top.

export const RESIZE = 'triangle-22bit-across-then-down';
const UNIT = 2 ** 22; // weights are whole multiples of 1 / UNIT

/** A binary PGM of 8 bits: "P5", width, height, 255, one white space, then the pixels. */
export function readPgm(bytes) {
  const header = /^P5(?:\s+#[^\n]*)*\s+(\d+)(?:\s+#[^\n]*)*\s+(\d+)(?:\s+#[^\n]*)*\s+(\d+)\s/;
  const match = header.exec(bytes.toString('latin1', 0, 4096));
  if (!match) throw new Error('it is no binary PGM (P5)');
  const [width, height, top] = match.slice(1).map(Number);
  if (top !== 255) throw new Error(`its white is ${top}, not 255: write it with 8 bits`);
  const pixels = new Uint8Array(bytes.subarray(match[0].length));
  if (!pixels.length || pixels.length !== width * height) throw new Error('its pixels are not width × height');
  return { pixels, width, height };
}

/** The network's input, size × size: stretched to it, or its longer side brought to it and centred on black. */
export function toInput(picture, { size, fit, resize }) {
  if (resize !== RESIZE) throw new Error(`the file wants the resize ${resize}, and this program has ${RESIZE}`);
  if (fit === 'stretch') return resized(picture, size, size);
  if (fit !== 'pad') throw new Error(`the file wants the fit ${fit}, which this program has not`);
  const longer = Math.max(picture.width, picture.height);
  const fitted = (length) => Math.max(1, roundHalfToEven((length * size) / longer));
  const small = resized(picture, fitted(picture.width), fitted(picture.height));
  const left = Math.floor((size - small.width) / 2);
  const top = Math.floor((size - small.height) / 2);
  const pixels = new Uint8Array(size * size);
  for (let y = 0; y < small.height; y++) {
    const row = small.pixels.subarray(y * small.width, (y + 1) * small.width);
    pixels.set(row, (top + y) * size + left);
  }
  return { pixels, width: size, height: size };
}

/** First across and then down; between the two the pixels are rounded to 8 bits. */
function resized({ pixels, width, height }, newWidth, newHeight) {
  const across = new Uint8Array(newWidth * height);
  weightsOf(width, newWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) across[y * newWidth + x] = sumOf(pixels, y * width + first, 1, weights);
  });
  const down = new Uint8Array(newWidth * newHeight);
  weightsOf(height, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) down[y * newWidth + x] = sumOf(across, first * newWidth + x, newWidth, weights);
  });
  return { pixels: down, width: newWidth, height: newHeight };
}

/** For each output pixel the first input pixel that counts, and the weights from there on, in units of 1 / UNIT. */
function weightsOf(nIn, nOut) {
  const scale = nIn / nOut;
  const support = Math.max(1, scale); // half the width of the triangle
  return Array.from({ length: nOut }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const end = Math.min(nIn, Math.floor(centre + support + 0.5));
    const triangle = [];
    for (let j = first; j < end; j++) triangle.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) * (1 / support))));
    const total = triangle.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: triangle.map((weight) => Math.floor((weight / total) * UNIT + 0.5)) };
  });
}

/** The weighted sum of pixels that lie `step` apart, rounded half up to a grey level. */
function sumOf(pixels, start, step, weights) {
  let sum = UNIT / 2;
  for (let k = 0; k < weights.length; k++) sum += pixels[start + k * step] * weights[k];
  return Math.min(255, Math.floor(sum / UNIT));
}

function roundHalfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
