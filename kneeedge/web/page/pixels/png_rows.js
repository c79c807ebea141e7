// The rows of a PNG: filters (section 9) and interlacing (section 8.1).

const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];
const WHOLE = [[0, 0, 1, 1]];

/**
 * The packed rows of a picture, unfiltered, one behind the other without filter bytes.
 * `unpack(n)` gives the `n` bytes of the stream. Throws TypeError for a filter that there is not.
 */
export async function packedRows(header, unpack) {
  const passes = (header.interlaced ? ADAM7 : WHOLE).map((steps) => passOf(header, steps));
  const filtered = passes.filter(({ columns, rows }) => columns > 0 && rows > 0);
  const nBytes = filtered.reduce((n, { rows, rowBytes }) => n + rows * (1 + rowBytes), 0);
  const stream = await unpack(nBytes);
  const bitsAPixel = header.bits * header.channels;
  const apart = Math.max(1, bitsAPixel >> 3);
  let at = 0;
  const parts = filtered.map((pass) => {
    const length = pass.rows * (1 + pass.rowBytes);
    at += length;
    return { ...pass, bytes: unfiltered(stream.subarray(at - length, at), pass, apart) };
  });
  return header.interlaced ? woven(header, parts, bitsAPixel) : parts[0].bytes;
}

function passOf({ width, height, bits, channels }, [left, top, stepX, stepY]) {
  const columns = Math.ceil((width - left) / stepX);
  const rows = Math.ceil((height - top) / stepY);
  const rowBytes = Math.ceil((columns * bits * channels) / 8);
  return { left, top, stepX, stepY, columns, rows, rowBytes };
}

/** The rows with what their filters took from them; `apart` bytes lie between pixels. */
function unfiltered(stream, { rows, rowBytes }, apart) {
  const out = new Uint8Array(rows * rowBytes);
  for (let y = 0; y < rows; y++) {
    const filter = stream[y * (rowBytes + 1)];
    const from = y * (rowBytes + 1) + 1;
    const to = y * rowBytes;
    if (filter > 4) throw new TypeError("no such filter");
    for (let i = 0; i < rowBytes; i++) {
      const left = i < apart ? 0 : out[to + i - apart];
      const above = y === 0 ? 0 : out[to + i - rowBytes];
      const corner = y === 0 || i < apart ? 0 : out[to + i - rowBytes - apart];
      out[to + i] = stream[from + i] + prediction(filter, left, above, corner);
    }
  }
  return out;
}

function prediction(filter, left, above, corner) {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

/** The passes of an interlaced picture put in their places. */
function woven({ width, height }, parts, bitsAPixel) {
  const rowBytes = Math.ceil((width * bitsAPixel) / 8);
  const out = new Uint8Array(height * rowBytes);
  for (const part of parts) {
    for (let row = 0; row < part.rows; row++) {
      const from = part.bytes.subarray(row * part.rowBytes, (row + 1) * part.rowBytes);
      const y = part.top + row * part.stepY;
      const to = out.subarray(y * rowBytes, (y + 1) * rowBytes);
      for (let column = 0; column < part.columns; column++) {
        copyPixel(from, column, to, part.left + column * part.stepX, bitsAPixel);
      }
    }
  }
  return out;
}

function copyPixel(from, i, to, j, bits) {
  if (bits < 8) {
    const pixel = (from[(i * bits) >> 3] >> (8 - bits - ((i * bits) & 7))) & (2 ** bits - 1);
    to[(j * bits) >> 3] |= pixel << (8 - bits - ((j * bits) & 7));
    return;
  }
  const n = bits / 8;
  for (let k = 0; k < n; k++) to[j * n + k] = from[i * n + k];
}
