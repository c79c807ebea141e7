// The words of a DICOM file's pixels, whole, as they were before they were compressed
// (kneeedge/pixels/dicom_pixels.py).

import { DamagedError, SYNTAX, frameOf } from "./dicom_elements.js";
import { checkDeclared, checkJpeg2000, checkJpegLs, decodeRle, find } from "./dicom_frames.js";
import { ImageError } from "./errors.js";
import { decodeBlocks } from "./jpeg_blocks.js";
import { samplesOf } from "./jpeg_idct.js";
import { decodeLossless } from "./jpeg_lossless.js";
import { JpegError, LOSSLESS, readSegments } from "./jpeg_segments.js";

const JPEG_BASELINE = "1.2.840.10008.1.2.4.50";
const JPEG_EXTENDED = "1.2.840.10008.1.2.4.51";
const JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81";
const JPEG_2000 = "1.2.840.10008.1.2.4.91";
const DECODERS = {
  [JPEG_BASELINE]: decodeDctJpeg,
  [JPEG_EXTENDED]: decodeDctJpeg,
  "1.2.840.10008.1.2.4.57": decodeLosslessJpeg,
  "1.2.840.10008.1.2.4.70": decodeLosslessJpeg,
  "1.2.840.10008.1.2.4.80": decodeJpegLs,
  [JPEG_LS_NEAR]: decodeJpegLs,
  "1.2.840.10008.1.2.4.90": decodeJpeg2000,
  [JPEG_2000]: decodeJpeg2000,
  "1.2.840.10008.1.2.5": decodeRleFrame,
};
// what was lost may lift white beyond the bits that are stored, where it would wrap to black
const LOSSY = [JPEG_EXTENDED, JPEG_LS_NEAR, JPEG_2000];

/**
 * The words of one sample a pixel, with whatever lies above their stored bits, or of three.
 * `shape` is { columns, rows, samples, planar, allocated, stored, signed }. Throws DamagedError for
 * pixels that are not whole, ImageError for a coding that is not read.
 */
export async function wordsOf(dataSet, syntax, shape, codecs) {
  if (Object.values(SYNTAX).includes(syntax)) return storedWords(dataSet, syntax, shape);
  const decode = DECODERS[syntax];
  if (!decode || shape.samples > 1) {
    const what = decode ? "compressed colour" : "this transfer syntax";
    const remedy = "save it uncompressed, or in grey, or give it to `kneeedge infer`";
    throw new ImageError(`DICOM pixels of ${what} are not read here`, remedy);
  }
  const frame = frameOf(dataSet.bytes("PixelData"));
  try {
    return clipped(await decode(frame, { ...shape, syntax }, codecs), syntax, shape);
  } catch (error) {
    if (error instanceof JpegError) throw new DamagedError(`a JPEG: ${error.message}`);
    throw error;
  }
}

function storedWords(dataSet, syntax, { columns, rows, samples, planar, allocated }) {
  const bytes = dataSet.bytes("PixelData");
  const nBytes = (samples * allocated) / 8;
  const surplus = bytes.length - columns * rows * nBytes;
  if (surplus < 0) {
    const expected = columns * rows * nBytes;
    throw new DamagedError(
      `${bytes.length} bytes of pixel data is less than expected, ${expected}`,
    );
  }
  // there are pixels for a line or a column more; of a single byte, padding
  if (surplus > 1 && surplus >= nBytes * Math.min(rows, columns)) {
    throw new DamagedError(`more than ${columns} × ${rows}, by ${surplus} bytes`);
  }
  const n = columns * rows * samples;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = syntax !== SYNTAX.bigEndian;
  // bytes may lie in words, whose order is then the file's
  const swap = allocated === 8 && !little && dataSet.vr("PixelData") === "OW" ? 1 : 0;
  const words = allocated === 8 ? new Uint8Array(n) : new Uint16Array(n);
  for (let i = 0; i < n; i++)
    words[i] = allocated === 8 ? bytes[i ^ swap] : view.getUint16(2 * i, little);
  return planar ? interleaved(words, columns * rows) : words;
}

function interleaved(words, nPixels) {
  return words.map((_, i) => words[(i % 3) * nPixels + Math.floor(i / 3)]);
}

function clipped(words, syntax, { allocated, stored, signed }) {
  if (!LOSSY.includes(syntax) || signed || stored >= allocated) return words;
  const top = 2 ** stored - 1;
  return words.map((word) => Math.min(word, top));
}

function decodeRleFrame(frame, { columns, rows, allocated }) {
  return decodeRle(frame, allocated / 8, columns * rows);
}

/** JPEG of 8 or 12 bits, sequential or progressive. */
function decodeDctJpeg(frame, shape) {
  const jpeg = wholeJpeg(frame, shape);
  const { stored, syntax } = shape;
  const bits = jpeg.frame.precision;
  const wanted = syntax === JPEG_EXTENDED && stored > 8 ? 12 : 8;
  const fits = bits === wanted && (syntax === JPEG_EXTENDED || stored === 8);
  if (!fits)
    throw new DamagedError(`DICOM frames of ${bits} bits for ${stored} stored are not supported`);
  if (jpeg.frame.marker === LOSSLESS) throw new DamagedError("a lossless JPEG of a lossy syntax");
  const [plane] = decodeBlocks(jpeg, frame.length, () => true);
  return samplesOf(plane, shape.columns, shape.rows, 8, bits);
}

function decodeLosslessJpeg(frame, shape) {
  const jpeg = wholeJpeg(frame, shape);
  if (jpeg.frame.marker !== LOSSLESS) throw new DamagedError("a lossy JPEG of a lossless syntax");
  checkSign({ bits: jpeg.frame.precision }, shape);
  const words = decodeLossless(jpeg, frame.length);
  // what no value can be comes of bits that are none of its own
  const top = 2 ** shape.stored - 1;
  const least = shape.signed ? 2 ** 16 - 2 ** (shape.stored - 1) : 2 ** 16;
  if (words.some((word) => word > top && word < least)) {
    throw new DamagedError("a lossless JPEG with a hole");
  }
  return words;
}

function wholeJpeg(frame, shape) {
  if (frame[0] !== 0xff || frame[1] !== 0xd8) throw new DamagedError("no sound frame header");
  const jpeg = readSegments(frame, true);
  if (!jpeg.isClosed) throw new DamagedError("a JPEG without its end");
  if (!jpeg.frame) throw new DamagedError("no sound frame header");
  if (find(frame, [0xff, 0xd8, 0xff], jpeg.end) >= 0) throw new DamagedError("more than one frame");
  const { width, height, components, precision } = jpeg.frame;
  checkDeclared(
    { columns: width, rows: height, components: components.length, bits: precision },
    shape,
  );
  return jpeg;
}

async function decodeJpegLs(frame, shape, codecs) {
  const header = checkJpegLs(frame);
  checkDeclared(header, shape);
  checkSign(header, shape);
  return checkDecoded(await codecs.jpegLs(frame), shape);
}

async function decodeJpeg2000(frame, shape, codecs) {
  const header = checkJpeg2000(frame);
  checkDeclared(header, shape);
  if (header.signed !== shape.signed) checkSign(header, shape);
  return checkDecoded(await codecs.jpeg2000(frame), shape);
}

/** Of fewer bits than are stored, nobody knows which of them is the sign. */
function checkSign({ bits }, { stored, signed }) {
  if (signed && bits < stored) {
    throw new DamagedError(`signed frames of ${bits} bits for ${stored} stored are not supported`);
  }
}

function checkDecoded({ pixels, width, height, channels }, { columns, rows }) {
  if (!pixels || width !== columns || height !== rows || channels !== 1) {
    throw new DamagedError("a frame that does not decode");
  }
  return pixels;
}
