// Lossless JPEG of one component (ITU-T T.81, annex H), as DICOM has it.

import { Bits, codeTable } from "./jpeg_bits.js";
import { JpegError } from "./jpeg_segments.js";

// that an encoder may flush beyond its last bit
const SPARE_BYTES = 4;

/** The samples (height × width) in words of 16 bits; throws JpegError for a damaged scan. */
export function decodeLossless({ frame, scans }, nBytes) {
  const { width, height, precision } = frame;
  const [scan] = scans;
  const low = scan?.low ?? 0;
  if (scans.length !== 1 || frame.components.length !== 1 || low >= precision || precision > 16) {
    throw new JpegError("a lossless scan that is not read");
  }
  if (scan.first < 1 || scan.first > 7) throw new JpegError(`a predictor of ${scan.first}`);
  if (width * height > 8 * nBytes) throw new JpegError("its pixels end too early");
  const rowsAnInterval = scan.restartInterval ? scan.restartInterval / width : height;
  const nIntervals = Math.ceil(height / rowsAnInterval);
  if (!Number.isInteger(rowsAnInterval)) throw new JpegError("restarts within a line");
  if (scan.intervals.length !== nIntervals) {
    throw new JpegError(`${scan.intervals.length} segments between restarts, not ${nIntervals}`);
  }
  const points = new Uint16Array(width * height);
  const codes = codeTable(scan.components[0].dc, 16);
  const middle = 1 << (precision - low - 1);
  scan.intervals.forEach((coded, i) => {
    const bits = new Bits(coded);
    const top = i * rowsAnInterval;
    const bottom = Math.min(height, top + rowsAnInterval);
    for (let y = top; y < bottom; y++) {
      decodeLine(bits, codes, points, {
        width,
        y,
        isFirst: y === top,
        middle,
        predictor: scan.first,
      });
      bits.checkEnd();
    }
    if (bits.nLeft > SPARE_BYTES) throw new JpegError("a lossless scan with a hole");
  });
  return low > 0 ? points.map((point) => point << low) : points;
}

function decodeLine(bits, codes, points, { width, y, isFirst, middle, predictor }) {
  const begin = y * width;
  points[begin] = (isFirst ? middle : points[begin - width]) + difference(bits, codes);
  for (let at = begin + 1; at < begin + width; at++) {
    const left = points[at - 1];
    const prediction = isFirst
      ? left
      : predicted(predictor, left, points[at - width], points[at - width - 1]);
    points[at] = prediction + difference(bits, codes);
  }
}

function difference(bits, codes) {
  const size = bits.symbol(codes);
  // 32,768 is told by its category alone (H.1.2.2)
  return size === 16 ? 32768 : bits.difference(size);
}

/** Table H.1. */
function predicted(predictor, left, above, corner) {
  switch (predictor) {
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return corner;
    case 4:
      return left + above - corner;
    case 5:
      return left + ((above - corner) >> 1);
    case 6:
      return above + ((left - corner) >> 1);
    default:
      return (left + above) >> 1;
  }
}
