// Whether a compressed frame is whole, by what its own bytes say (kneeedge/pixels/dicom_frames.py
// and dicom_limits.py): its decoders fill in what is missing and go on.

import { DamagedError } from "./dicom_elements.js";

const SOC_SIZ = [0xff, 0x4f, 0xff, 0x51];
// markers: T.800, table A.2
const SIZ = 0xff51;
const COD = 0xff52;
const COC = 0xff53;
const SOT = 0xff90;
const EOC = 0xffd9;
// of code-blocks that are arithmetic codes alone, no raw bits (T.800, table A.19)
const SOUND_STYLES = 0b111110;
// arithmetic coding leaves data as good as random
const LONGEST_ZEROS = 64;
const RLE_HEADER_BYTES = 64;
const MAX_BITS = 16;

/** What the frame header of a JPEG-LS says (T.87, C.2.2); DamagedError unless it ends once. */
export function checkJpegLs(stream) {
  const end = find(stream, [0xff, 0xd9], 0);
  if (end < 0) throw new DamagedError("a JPEG-LS without its end");
  if (find(stream, [0xff, 0xd8], end + 2) >= 0) throw new DamagedError("more than one frame");
  const view = viewOf(stream);
  for (let at = 2; at + 10 <= stream.length && stream[at] === 0xff;) {
    const marker = stream[at + 1];
    if (marker === 0xda) break;
    if (marker === 0xf7) {
      const [bits, rows, columns] = [
        stream[at + 4],
        view.getUint16(at + 5),
        view.getUint16(at + 7),
      ];
      return { columns, rows, components: stream[at + 9], bits };
    }
    if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd9)) break;
    at += 2 + view.getUint16(at + 2);
  }
  throw new DamagedError("no sound frame header");
}

/** Throws DamagedError where a frame is not of the size and depth that the data set says. */
export function checkDeclared(frame, { columns, rows, stored }) {
  if (frame.columns !== columns || frame.rows !== rows || frame.components !== 1) {
    const found = `${frame.columns} × ${frame.rows} × ${frame.components}`;
    throw new DamagedError(`a frame of ${found}, not of ${columns} × ${rows} × 1`);
  }
  if (frame.bits > MAX_BITS) {
    throw new DamagedError(
      `DICOM frames of ${frame.bits} bits for ${stored} stored are not supported`,
    );
  }
}

/**
 * The words of an RLE frame of one sample a pixel (PS3.5, annex G): a segment a byte, the highest
 * first. Throws DamagedError unless each unpacks to `nWords` bytes.
 */
export function decodeRle(frame, nBytesAWord, nWords) {
  if (frame.length < RLE_HEADER_BYTES) throw new DamagedError("an RLE frame without its header");
  const view = viewOf(frame);
  const n = view.getUint32(0, true);
  if (n !== nBytesAWord)
    throw new DamagedError(`an RLE frame of ${n} segments, not ${nBytesAWord}`);
  const begins = Array.from({ length: n }, (_, i) => view.getUint32(4 + 4 * i, true));
  const bounds = [...begins, frame.length];
  if (bounds[0] < RLE_HEADER_BYTES || bounds.some((bound, i) => bound > (bounds[i + 1] ?? bound))) {
    throw new DamagedError("RLE segments out of order");
  }
  const words = new Uint16Array(nWords);
  begins.forEach((begin, i) => {
    const bytes = unpackedSegment(frame.subarray(begin, bounds[i + 1]), nWords);
    const shift = 8 * (n - 1 - i);
    for (let k = 0; k < nWords; k++) words[k] |= bytes[k] << shift;
  });
  return words;
}

/** A segment unpacked to `nBytes` (PS3.5, G.3.2); there may be padding behind it. */
function unpackedSegment(packed, nBytes) {
  // a run of 128 takes two
  if (nBytes > 64 * packed.length)
    throw new DamagedError(`an RLE segment of fewer than ${nBytes} bytes`);
  const bytes = new Uint8Array(nBytes);
  let at = 0;
  let n = 0;
  while (at + 1 < packed.length && n < nBytes) {
    const count = packed[at];
    if (count === 128) {
      at++;
      continue;
    }
    const length = count < 128 ? Math.min(count + 1, packed.length - at - 1) : 257 - count;
    if (n + length > nBytes) throw new DamagedError(`an RLE segment of more than ${nBytes} bytes`);
    if (count < 128) bytes.set(packed.subarray(at + 1, at + 1 + length), n);
    else bytes.fill(packed[at + 1], n, n + length);
    n += length;
    at += count < 128 ? count + 2 : 2;
  }
  if (n < nBytes) throw new DamagedError(`an RLE segment of ${n} bytes, not ${nBytes}`);
  // zeros pad, and 128 stands for nothing
  if (packed.subarray(at).some((byte) => byte !== 0 && byte !== 128)) {
    throw new DamagedError(`an RLE segment of more than ${nBytes} bytes`);
  }
  return bytes;
}

/**
 * Throws DamagedError where a JPEG 2000 codestream lacks tiles or its end, or has a hole; says what
 * its SIZ marker does (T.800, A.5.1). Each tile-part gives its length, and one of a tile how many
 * there are (A.4.2).
 */
export function checkJpeg2000(stream) {
  try {
    return checkCodestream(stream, viewOf(stream));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new DamagedError("a JPEG 2000 codestream whose header is cut off");
  }
}

function checkCodestream(stream, view) {
  const begin = find(stream, SOC_SIZ, 0);
  if (begin < 0) throw new DamagedError("no sound frame header");
  const segments = new Map();
  let at = begin + 2;
  while (view.getUint16(at) !== SOT) {
    const size = view.getUint16(at + 2);
    if (size < 2) throw new RangeError("a segment of no length");
    segments.set(
      view.getUint16(at),
      new DataView(stream.buffer, stream.byteOffset + at + 4, size - 2),
    );
    at += 2 + size;
  }
  const { header, nTiles, longestZeros } = tilesOf(segments);
  at = checkTileParts(stream, view, at, { nTiles, longestZeros });
  if (at + 2 > stream.length || view.getUint16(at) !== EOC) {
    throw new DamagedError("a JPEG 2000 codestream without its end");
  }
  if (find(stream, SOC_SIZ, at) >= 0) throw new DamagedError("more than one frame");
  return header;
}

/** Where the last tile-part ends. */
function checkTileParts(stream, view, start, { nTiles, longestZeros }) {
  const parts = new Map();
  const declared = new Map();
  let at = start;
  while (at + 2 <= stream.length && view.getUint16(at) === SOT) {
    const tile = view.getUint16(at + 4);
    const size = view.getUint32(at + 6);
    const part = view.getUint8(at + 10);
    const end = size ? at + size : lastEnd(stream);
    if (at + 14 > end || end > stream.length) {
      throw new DamagedError(`a JPEG 2000 codestream whose tile ${tile} is cut off`);
    }
    if (longestZeros && hasZeros(stream, at, end, Math.min(longestZeros, stream.length))) {
      throw new DamagedError(`a JPEG 2000 codestream with a hole of zeros in tile ${tile}`);
    }
    // parts come in turn
    if (part === (parts.get(tile) ?? 0)) parts.set(tile, part + 1);
    // some encoders declare one too few
    declared.set(tile, Math.max(view.getUint8(at + 11), part + 1, declared.get(tile) ?? 0));
    at = end;
  }
  if (parts.size !== nTiles || [...parts.keys()].some((tile) => tile >= nTiles)) {
    throw new DamagedError(`a JPEG 2000 codestream of ${parts.size} tiles, not ${nTiles}`);
  }
  if ([...declared].some(([tile, n]) => parts.get(tile) !== n)) {
    throw new DamagedError("a JPEG 2000 codestream without all parts of its tiles");
  }
  return at;
}

function tilesOf(segments) {
  const siz = segments.get(SIZ);
  const style = segments.get(COD);
  if (!siz || !style) throw new RangeError("no SIZ or COD");
  const [right, bottom, left, top, width, height, tileLeft, tileTop] = Array.from(
    { length: 8 },
    (_, i) => siz.getUint32(2 + 4 * i),
  );
  const components = siz.getUint16(34);
  const depths = Array.from({ length: components }, (_, i) => 1 + (siz.getUint8(36 + 3 * i) & 127));
  if (!width || !height || !components) throw new RangeError("no tiles");
  const header = {
    columns: right - left,
    rows: bottom - top,
    components,
    bits: Math.max(...depths),
    signed: siz.getUint8(36) > 127,
  };
  const nTiles = Math.ceil((right - tileLeft) / width) * Math.ceil((bottom - tileTop) / height);
  const sides = [Math.min(width, right - left), Math.min(height, bottom - top)];
  const isKnown = !(style.getUint8(8) & ~SOUND_STYLES) && !segments.has(COC);
  const longestZeros = isKnown ? LONGEST_ZEROS + components * headerZeros(style, ...sides) : 0;
  return { header, nTiles, longestZeros };
}

/**
 * Zero bytes that the packet headers of one component of a tile may hold in a row, at most: an
 * empty packet is one of them (T.800, B.10.3), in others a code-block that adds nothing is a bit.
 */
function headerZeros(style, width, height) {
  const layers = style.getUint16(2);
  const levels = style.getUint8(5);
  const across = Math.ceil(width / (4 * 2 ** style.getUint8(6)));
  const down = Math.ceil(height / (4 * 2 ** style.getUint8(7)));
  let n = Math.floor((2 * across * down) / 8);
  for (let level = 0; level <= levels; level++) {
    const precinct = style.getUint8(0) & 1 ? style.getUint8(10 + level) : 0xff;
    const columns = Math.ceil(width / 2 ** (levels - level + (precinct & 15))) + 1;
    const rows = Math.ceil(height / 2 ** (levels - level + (precinct >> 4))) + 1;
    n += layers * columns * rows;
  }
  return n;
}

function lastEnd(stream) {
  let at = stream.length - 2;
  while (at >= 0 && !(stream[at] === 0xff && stream[at + 1] === 0xd9)) at--;
  return at;
}

/** Whether there are `n` zeros in a row. */
function hasZeros(stream, from, to, n) {
  let run = 0;
  for (let i = from; i < to && run < n; i++) run = stream[i] === 0 ? run + 1 : 0;
  return run >= n;
}

/** Where these bytes are first; -1 where they are not. */
export function find(stream, pattern, from) {
  for (
    let at = stream.indexOf(pattern[0], from);
    at >= 0;
    at = stream.indexOf(pattern[0], at + 1)
  ) {
    if (pattern.every((byte, i) => stream[at + i] === byte)) return at;
  }
  return -1;
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
