// Bytes of an image file → grey picture → network's input, bit for bit as kneeedge's Python makes
// them with libjpeg-turbo, OpenJPEG and GDCM.
//
// Refused, each in one line, though kneeedge reads it: TIFF, BMP and WebP; JPEG of four colours, of
// arithmetic coding or without its tables; DICOM in colours that are compressed or YBR, and JPEG
// 2000 of high throughput; in some browsers, what is deflated and has something behind it.

import { readDicom } from "./dicom.js";
import { isDicom } from "./dicom_elements.js";
import { GIVE_PNG, ImageError, MAX_PIXELS } from "./errors.js";
import { readJpeg } from "./jpeg.js";
import { readPng } from "./png.js";

export { ImageError, MAX_PIXELS } from "./errors.js";
export { networkInput } from "./resize.js";

const MAX_BYTES = 2 ** 30;
const KINDS = [
  [/^\xff\xd8\xff/, readJpeg],
  [/^\x89PNG\r\n\x1a\n/, readPng],
];
const OTHER_KINDS = [
  [/^(?:II[*+]\0|MM\0[*+])/, "TIFF"],
  [/^RIFF[^]{4}WEBP/, "WebP"],
  [/^BM/, "BMP"],
];

/**
 * The grey picture of a PNG, JPEG or DICOM file:
 * { grey (Uint8Array, row-major), width, height, format, notes (remarks, in words) }.
 *
 * `codecs` are those of codecs.js. Options are what the model's spec says in its pixel_path, under
 * other names: `size` (side of the network's input, by which a large JPEG is decoded at reduced
 * scale), `dicomWindow` and `greyBits`; and `maxPixels`. Throws ImageError, in one line that ends
 * in what to do, for a file that does not give all its pixels.
 */
export async function readImage(bytes, codecs, options = {}) {
  const { size = 224, dicomWindow = 0, greyBits = 0, maxPixels = MAX_PIXELS } = options;
  const how = { size, dicomWindow, greyBits, maxPixels };
  if (!bytes.length) throw new ImageError("is empty");
  if (bytes.length > MAX_BYTES) throw new ImageError(`is larger than ${MAX_BYTES} bytes`);
  if (isDicom(bytes)) return readDicom(bytes, codecs, how);
  const head = String.fromCharCode(...bytes.subarray(0, 12));
  const read = KINDS.find(([magic]) => magic.test(head))?.[1];
  if (read) return read(bytes, how);
  const other = OTHER_KINDS.find(([magic]) => magic.test(head))?.[1];
  if (other) throw new ImageError(`is a ${other}, which is not read here`, GIVE_PNG);
  throw new ImageError("is not a JPEG, PNG or DICOM image");
}

/** The SHA-256 of these bytes in hexadecimal. */
export async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
