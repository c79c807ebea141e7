// JPEG files to grey, as kneeedge/pixels/jpeg.py and Pillow's draft mode read them: of a colour
// picture the luma that it stores, of a large one its blocks at reduced scale, by libjpeg's own
// integers.

import { GIVE_PNG, ImageError, checkSize } from "./errors.js";
import { exifOrientation, isLittleEndian, readDirectory, upright } from "./exif.js";
import { joined } from "./inflate.js";
import { decodeBlocks } from "./jpeg_blocks.js";
import { samplesOf } from "./jpeg_idct.js";
import { JpegError, LOSSLESS, frameSize, readSegments } from "./jpeg_segments.js";
import { luma } from "./levels.js";

const APP0 = 0xe0;
const APP1 = 0xe1;
const APP2 = 0xe2;
const ADOBE = 0xee;
const SCALES = [8, 4, 2, 1];
const N_PICTURES = 0xb001;
const MP_ENTRIES = 0xb002;
const ENTRY_BYTES = 16;
// the bits of a picture's type; the class of panoramas, stereo pairs and series (CIPA DC-007, table
// 4); and that of no type
const KIND_BITS = 0xffffff;
const SEVERAL = 0x02;
const UNDEFINED = 0;
const MAX_HEAD = 2 ** 16;
const GAIN_MAP_WORDS = ["hdrgm:", "HDRGainMap", "urn:iso:std:iso:ts:21496:-1"];

/**
 * The grey picture of a JPEG. One much larger than the network's `size` is decoded at 1/2, 1/4 or
 * 1/8, both sides at least 2 × `size`. Throws ImageError where blocks are missing.
 */
export function readJpeg(bytes, { size, maxPixels }) {
  try {
    return decode(bytes, size, maxPixels);
  } catch (error) {
    if (error instanceof JpegError) throw new ImageError(`damaged JPEG: ${error.message}`);
    throw error;
  }
}

function decode(bytes, size, maxPixels) {
  const jpeg = readSegments(bytes);
  const { frame, notes } = jpeg;
  if (!frame) throw new JpegError("its header is cut off or makes no sense");
  checkSize(frame.width, frame.height, maxPixels);
  checkKind(frame, notes);
  if (nPictures(bytes, notes) > 1) {
    throw new ImageError(
      "holds more than one picture (a stereo pair, a panorama or a series)",
      "save the one that is meant",
    );
  }
  if (!jpeg.scans.length) throw new JpegError("it is truncated, and scans are missing");
  const isRgb = storesRgb(frame, notes);
  const planes = decodeBlocks(jpeg, bytes.length, (index) => isRgb || index === 0);
  const scale = scaleFor(frame, size);
  const width = Math.ceil(frame.width / scale);
  const height = Math.ceil(frame.height / scale);
  const wanted = planes.slice(0, isRgb ? 3 : 1);
  const samples = wanted.map((plane) => samplesOf(plane, width, height, 8 / scale, 8));
  const grey = isRgb ? luma(samples) : samples[0];
  const picture = upright(grey, width, height, exifOrientation(exifOf(notes)));
  const reduced = scale > 1 ? [`decoded at 1/${scale} of ${frame.width} × ${frame.height}`] : [];
  return { ...picture, format: "JPEG", notes: reduced };
}

function checkKind(frame, notes) {
  const n = frame.components.length;
  if (frame.marker === LOSSLESS || frame.precision !== 8 || ![1, 3].includes(n)) {
    const kind = frame.marker === LOSSLESS ? "lossless" : `${frame.precision}-bit`;
    throw new ImageError(`is a ${kind} JPEG of ${n} colours, which is not read here`, GIVE_PNG);
  }
  const [first, ...others] = frame.components;
  const exceeds = ({ across, down }) => across > first.across || down > first.down;
  const differs = ({ across, down }) => across !== first.across || down !== first.down;
  if (others.some(storesRgb(frame, notes) ? differs : exceeds)) {
    throw new ImageError("is a JPEG of odd subsampling, which is not read here", GIVE_PNG);
  }
}

/** Whether its three colours are red, green and blue, by libjpeg's rules (jdapimin.c). */
function storesRgb({ components }, notes) {
  if (components.length !== 3 || notes.some(isJfif)) return false;
  const adobe = notes.findLast(({ marker, data }) => marker === ADOBE && startsWith(data, "Adobe"));
  if (adobe && adobe.data.length >= 12) return adobe.data[11] === 0;
  return String.fromCharCode(...components.map(({ id }) => id)) === "RGB";
}

function isJfif({ marker, data }) {
  return marker === APP0 && startsWith(data, "JFIF\0") && data.length >= 14;
}

/** Pillow's choice for a box of twice the network's side. */
function scaleFor({ width, height }, size) {
  const most = Math.min(Math.floor(width / (2 * size)), Math.floor(height / (2 * size)));
  return SCALES.find((scale) => scale <= most) ?? 1;
}

/** All EXIF segments as one block. */
function exifOf(notes) {
  const blocks = notes.filter(
    ({ marker, data }) => marker === APP1 && startsWith(data, "Exif\0\0"),
  );
  return joined(blocks.map(({ data }) => data.subarray(6)));
}

/** Pictures in the multi-picture index (CIPA DC-007, 5.2.3); previews and gain maps are none. */
function nPictures(bytes, notes) {
  const mpf = notes.findLast(({ marker, data }) => marker === APP2 && startsWith(data, "MPF\0"));
  if (!mpf) return 1;
  const block = mpf.data.subarray(4);
  const directory = readDirectory(block);
  const index = directory.get(MP_ENTRIES);
  if (!index) return directory.get(N_PICTURES)?.numbers[0] ?? 1;
  const hasGainMap = notes.some(({ data }) => namesGainMap(data));
  const view = new DataView(index.bytes.buffer, index.bytes.byteOffset, index.bytes.byteLength);
  const little = isLittleEndian(block);
  let n = 1;
  for (let at = ENTRY_BYTES; at + ENTRY_BYTES <= view.byteLength; at += ENTRY_BYTES) {
    const kind = view.getUint32(at, little) & KIND_BITS;
    const begin = mpf.offset + 4 + view.getUint32(at + 8, little);
    const other = bytes.subarray(begin, begin + view.getUint32(at + 4, little));
    if (kind >> 16 === SEVERAL) n++;
    else if (kind === UNDEFINED && !hasGainMap && !namesGainMap(other.subarray(0, MAX_HEAD))) {
      n += frameSize(other) === frameSize(bytes) ? 1 : 0;
    }
  }
  return n;
}

function namesGainMap(data) {
  const text = new TextDecoder("latin1").decode(data);
  return GAIN_MAP_WORDS.some((word) => text.includes(word));
}

function startsWith(data, text) {
  return data.length >= text.length && [...text].every((c, i) => data[i] === c.charCodeAt(0));
}
