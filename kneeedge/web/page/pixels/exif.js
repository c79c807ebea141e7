// The one thing that is heeded of EXIF: how the rows lie (kneeedge/pixels/tags.py).

const ORIENTATION_TAG = 0x0112;
const PREFIX = "Exif\0\0";
const TYPE_BYTES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4];
const WHOLE_NUMBERS = { 1: "getUint8", 3: "getUint16", 4: "getUint32", 13: "getUint32" };
// columns and rows of the picture are exchanged from here on: EXIF 2.3, table 6
const FIRST_TURNED = 5;

/** 1 to 8 of an EXIF block; 1 where it says nothing, or is damaged. */
export function exifOrientation(block) {
  const prefixed = String.fromCharCode(...block.subarray(0, 6)) === PREFIX;
  const entry = readDirectory(block.subarray(prefixed ? 6 : 0)).get(ORIENTATION_TAG);
  return entry?.numbers.length === 1 ? entry.numbers[0] : 1;
}

/**
 * The entries by tag of the first directory of a TIFF block (TIFF 6.0, section 2), each with its
 * `bytes` and, where they are whole numbers without a sign, `numbers`. None where it is damaged.
 */
export function readDirectory(block) {
  // cameras leave out the offset that closes a directory
  const bytes = new Uint8Array(block.length + 8);
  bytes.set(block);
  try {
    return directoryOf(bytes, new DataView(bytes.buffer), isLittleEndian(block));
  } catch (error) {
    if (error instanceof RangeError) return new Map();
    throw error;
  }
}

/** Whether numbers of a TIFF block have their low byte first. */
export function isLittleEndian(block) {
  return block[0] === 0x49 && block[1] === 0x49;
}

function directoryOf(bytes, view, little) {
  const entries = new Map();
  const version = view.getUint16(2, true);
  // BigTIFF, which no camera writes into a picture
  if (version === 43 || version === 43 << 8) return entries;
  const begin = view.getUint32(4, little);
  const count = view.getUint16(begin, little);
  const end = begin + 2 + 12 * count;
  view.getUint32(end, little);
  let nOutside = 0;
  for (let at = begin + 2; at < end; at += 12) {
    const code = view.getUint16(at + 2, little);
    const size = view.getUint32(at + 4, little) * (TYPE_BYTES[code] ?? 0);
    const from = size > 4 ? view.getUint32(at + 8, little) : at + 8;
    nOutside += size > 4 ? size : 0;
    if (Math.max(nOutside, from + size) > bytes.length) throw new RangeError("truncated TIFF");
    const tag = view.getUint16(at, little);
    const data = bytes.subarray(from, from + size);
    if (!entries.has(tag))
      entries.set(tag, { bytes: data, numbers: numbersOf(data, code, little) });
  }
  return entries;
}

function numbersOf(data, code, little) {
  const read = WHOLE_NUMBERS[code];
  if (!read) return [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const step = TYPE_BYTES[code];
  return Array.from({ length: data.length / step }, (_, i) => view[read](i * step, little));
}

/** The picture with its rows as `orientation` says that they lie (EXIF 2.3, table 6). */
export function upright(grey, width, height, orientation) {
  if (!(orientation > 1 && orientation <= 8)) return { grey, width, height };
  const turned = orientation >= FIRST_TURNED;
  const columns = turned ? height : width;
  const rows = turned ? width : height;
  const out = new Uint8Array(grey.length);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const [fromX, fromY] = source(orientation, x, y, columns, rows);
      out[y * columns + x] = grey[fromY * width + fromX];
    }
  }
  return { grey: out, width: columns, height: rows };
}

/** Where the pixel at x, y of the upright picture is stored. */
function source(orientation, x, y, columns, rows) {
  const right = columns - 1 - x;
  const bottom = rows - 1 - y;
  switch (orientation) {
    case 2:
      return [right, y];
    case 3:
      return [right, bottom];
    case 4:
      return [x, bottom];
    case 5:
      return [y, x];
    case 6:
      return [y, right];
    case 7:
      return [bottom, right];
    default:
      return [bottom, x];
  }
}
