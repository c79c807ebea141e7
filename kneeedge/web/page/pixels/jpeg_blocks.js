// The scans of a sequential or progressive JPEG to coefficients (ITU-T T.81, annexes F.2 and G.2).
// Every scan must hold its blocks, no fewer and no more, as kneeedge/pixels/jpeg.py asks.

import { Bits, codeTable } from "./jpeg_bits.js";
import { JpegError, PROGRESSIVE } from "./jpeg_segments.js";

export const ZIGZAG = Uint8Array.of(
  0,
  1,
  8,
  16,
  9,
  2,
  3,
  10,
  17,
  24,
  32,
  25,
  18,
  11,
  4,
  5,
  12,
  19,
  26,
  33,
  40,
  48,
  41,
  34,
  27,
  20,
  13,
  6,
  7,
  14,
  21,
  28,
  35,
  42,
  49,
  56,
  57,
  50,
  43,
  36,
  29,
  22,
  15,
  23,
  30,
  37,
  44,
  51,
  58,
  59,
  52,
  45,
  38,
  31,
  39,
  46,
  53,
  60,
  61,
  54,
  47,
  55,
  62,
  63,
);
// bytes that may follow the last block of a scan; some cameras leave a few
const SLACK_BYTES = 64;

/**
 * Per component of the frame, { across, down (blocks), coefficients (64 a block, by rows), steps
 * (the quantisation, in zigzag order) }. Those whose index `isWanted` denies have none.
 * Throws JpegError where blocks or scans are missing, or there are more.
 */
export function decodeBlocks(jpeg, nBytes, isWanted) {
  const { frame, scans } = jpeg;
  const progressive = frame.marker === PROGRESSIVE;
  const planes = planesOf(frame, nBytes, (index) => progressive || isWanted(index));
  // by component and coefficient: how many bits are still to come, or -1 before the first scan
  const missing = frame.components.map(() => new Int8Array(64).fill(-1));
  for (const scan of scans) {
    noteCoded(missing, scan, progressive);
    decodeScan(frame, scan, planes, progressive);
  }
  if (!missing.every((bits) => bits.every((n) => n === 0))) {
    throw new JpegError("it is truncated, and scans are missing");
  }
  return planes;
}

function planesOf(frame, nBytes, isKept) {
  const mostAcross = Math.max(...frame.components.map(({ across }) => across));
  const mostDown = Math.max(...frame.components.map(({ down }) => down));
  const unitsAcross = Math.ceil(frame.width / (8 * mostAcross));
  const unitsDown = Math.ceil(frame.height / (8 * mostDown));
  const planes = frame.components.map(({ across, down }, index) => ({
    perUnitAcross: across,
    perUnitDown: down,
    unitsAcross,
    unitsDown,
    across: Math.ceil(Math.ceil((frame.width * across) / mostAcross) / 8),
    down: Math.ceil(Math.ceil((frame.height * down) / mostDown) / 8),
    stride: unitsAcross * across,
    nBlocks: unitsAcross * across * unitsDown * down,
    isKept: isKept(index),
    steps: null,
    coefficients: new Int16Array(64),
  }));
  // a block takes a bit at least
  if (planes.reduce((n, plane) => n + plane.across * plane.down, 0) > 8 * nBytes) {
    throw new JpegError("it is truncated: its pixels end too early");
  }
  for (const plane of planes) {
    if (plane.isKept) plane.coefficients = new Int16Array(64 * plane.nBlocks);
  }
  return planes;
}

/** Notes which bits a scan codes; throws JpegError where it follows none that it could refine. */
function noteCoded(missing, { components, first, last, high, low }, progressive) {
  const from = progressive ? first : 0;
  const to = progressive ? last : 63;
  const isSound = to < 64 && from <= to && (from > 0 || to === 0 || !progressive);
  if (!isSound || (from > 0 && components.length > 1)) {
    throw new JpegError("a scan header makes no sense");
  }
  for (const { index } of components) {
    const bits = missing[index];
    for (let k = from; k <= to; k++) {
      const isNext =
        !progressive || high === 0 ? bits[k] === -1 : bits[k] === high && low === high - 1;
      if (!isNext) throw new JpegError("its scans do not follow from each other");
      bits[k] = progressive ? low : 0;
    }
  }
}

function decodeScan(frame, scan, planes, progressive) {
  const parts = scan.components.map((component) => partOf(component, scan, planes, progressive));
  const [{ plane }] = parts;
  const alone = parts.length === 1;
  const nUnits = alone ? plane.across * plane.down : plane.unitsAcross * plane.unitsDown;
  const perInterval = scan.restartInterval || nUnits;
  const nIntervals = Math.ceil(nUnits / perInterval);
  if (scan.intervals.length !== nIntervals) {
    throw new JpegError(`it has ${scan.intervals.length - 1} of ${nIntervals - 1} restart markers`);
  }
  const decode = progressive ? progressiveDecoder(scan) : decodeSequential;
  scan.intervals.forEach((coded, i) => {
    const begin = i * perInterval;
    const units = { begin, end: Math.min(nUnits, begin + perInterval) };
    decodeInterval(new Bits(coded), parts, units, decode);
  });
}

/** A component of a scan, with the codes that it needs. */
function partOf({ index, dc, ac, steps }, { first, last, high }, planes, progressive) {
  const plane = planes[index];
  plane.steps ??= steps ?? null;
  if (!plane.steps) throw new JpegError("a table is missing");
  const usesDc = !progressive || (first === 0 && high === 0);
  const usesAc = !progressive || last > 0;
  return {
    plane,
    dc: usesDc ? codeTable(dc, 15) : null,
    ac: usesAc ? codeTable(ac) : null,
    predicted: 0,
  };
}

/** The units between two restarts; throws JpegError where there are more or fewer of them. */
function decodeInterval(bits, parts, { begin, end }, decode) {
  const run = { left: 0 };
  for (const part of parts) part.predicted = 0;
  for (let unit = begin; unit < end; unit++) {
    if (parts.length === 1) decodeAlone(bits, parts[0], unit, decode, run);
    else for (const part of parts) decodeUnit(bits, part, unit, decode, run);
    bits.checkEnd();
  }
  if (bits.nLeft > SLACK_BYTES || run.left > 0) {
    throw new JpegError("it holds more blocks than it says, or other ones");
  }
}

/** The block of a scan of one component, which leaves out what only fills up units (A.2.2). */
function decodeAlone(bits, part, i, decode, run) {
  const { plane } = part;
  const block = Math.floor(i / plane.across) * plane.stride + (i % plane.across);
  decode(bits, part, plane.isKept ? 64 * block : 0, run);
}

function decodeUnit(bits, part, unit, decode, run) {
  const { plane } = part;
  const left = (unit % plane.unitsAcross) * plane.perUnitAcross;
  const top = Math.floor(unit / plane.unitsAcross) * plane.perUnitDown;
  for (let y = 0; y < plane.perUnitDown; y++) {
    for (let x = 0; x < plane.perUnitAcross; x++) {
      const block = (top + y) * plane.stride + left + x;
      decode(bits, part, plane.isKept ? 64 * block : 0, run);
    }
  }
}

function decodeSequential(bits, part, at) {
  const { coefficients } = part.plane;
  part.predicted += bits.difference(bits.symbol(part.dc));
  coefficients[at] = part.predicted;
  for (let k = 1; k < 64; k++) {
    const symbol = bits.symbol(part.ac);
    const size = symbol & 15;
    const zeros = symbol >> 4;
    if (size === 0 && zeros < 15) return;
    k += zeros;
    if (k > 63) throw new JpegError("its compressed pixels are corrupt");
    if (size > 0) coefficients[at + ZIGZAG[k]] = bits.difference(size);
  }
}

/** How a block of this scan is decoded (G.1.2). */
function progressiveDecoder(scan) {
  if (scan.first === 0) return scan.high === 0 ? firstOfDc(scan) : refinementOfDc(scan);
  return scan.high === 0 ? firstOfAc(scan) : refinementOfAc(scan);
}

function firstOfDc({ low }) {
  return (bits, part, at) => {
    part.predicted += bits.difference(bits.symbol(part.dc));
    part.plane.coefficients[at] = part.predicted << low;
  };
}

function refinementOfDc({ low }) {
  return (bits, part, at) => {
    if (bits.take(1)) part.plane.coefficients[at] |= 1 << low;
  };
}

function firstOfAc({ first, last, low }) {
  return (bits, part, at, run) => {
    if (run.left > 0) {
      run.left--;
      return;
    }
    for (let k = first; k <= last; k++) {
      const symbol = bits.symbol(part.ac);
      const size = symbol & 15;
      const zeros = symbol >> 4;
      if (size === 0 && zeros < 15) {
        run.left = (1 << zeros) + bits.take(zeros) - 1;
        return;
      }
      k += zeros;
      if (k > last && size > 0) throw new JpegError("its compressed pixels are corrupt");
      if (size > 0) part.plane.coefficients[at + ZIGZAG[k]] = bits.difference(size) << low;
    }
  };
}

function refinementOfAc({ first, last, low }) {
  const one = 1 << low;
  return (bits, part, at, run) => {
    const { coefficients } = part.plane;
    let k = first;
    const refine = (place) => {
      const value = coefficients[place];
      if (bits.take(1) && !(value & one)) coefficients[place] += value > 0 ? one : -one;
    };
    while (run.left === 0 && k <= last) {
      const symbol = bits.symbol(part.ac);
      const size = symbol & 15;
      let zeros = symbol >> 4;
      if (size > 1) throw new JpegError("its compressed pixels are corrupt");
      if (size === 0 && zeros < 15) {
        run.left = (1 << zeros) + bits.take(zeros);
        break;
      }
      const fresh = size === 0 ? 0 : bits.take(1) ? one : -one;
      for (; k <= last; k++) {
        const place = at + ZIGZAG[k];
        if (coefficients[place] !== 0) refine(place);
        else if (--zeros < 0) break;
      }
      if (fresh !== 0 && k > last) throw new JpegError("its compressed pixels are corrupt");
      if (fresh !== 0) coefficients[at + ZIGZAG[k]] = fresh;
      k++;
    }
    if (run.left === 0) return;
    for (; k <= last; k++) {
      const place = at + ZIGZAG[k];
      if (coefficients[place] !== 0) refine(place);
    }
    run.left--;
  };
}
