// The data elements of a DICOM file (PS3.5, section 7, and PS3.10, section 7.1), as pydicom reads
// them. Stricter than it: an element that is cut off is an error.

import { ImageError } from "./errors.js";
import { inflatedUpTo, joined } from "./inflate.js";

export const PIXEL_DATA = 0x7fe00010;
export const SYNTAX = {
  implicit: "1.2.840.10008.1.2",
  explicit: "1.2.840.10008.1.2.1",
  bigEndian: "1.2.840.10008.1.2.2",
  deflated: "1.2.840.10008.1.2.1.99",
};
const TRANSFER_SYNTAX = 0x00020010;
const PREAMBLE_BYTES = 128;
const UNDEFINED = 0xffffffff;
const ITEM = 0xfffee000;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;
const SHORT_LENGTHS = [
  "AE",
  "AS",
  "AT",
  "CS",
  "DA",
  "DS",
  "DT",
  "FD",
  "FL",
  "IS",
  "LO",
  "LT",
  "PN",
  "SH",
  "SL",
  "SS",
  "ST",
  "TM",
  "UI",
  "UL",
  "US",
];
const LONG_LENGTHS = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];
const MAX_DEPTH = 16;
const BYTES_PER_PIXEL = 6;
const BARE_TAG = /^(?:[\x02\x08]\0[^]\0(?:[A-Z]{2}|[^]{2}\0\0)|\0[\x02\x08]\0[^][A-Z]{2})/;

/** What is wrong with a file's elements; no text of the file is repeated in it. */
export class DamagedError extends Error {}

/** Whether a file begins as DICOM does: with a preamble, or a tag of one of its first groups. */
export function isDicom(bytes) {
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  return text(PREAMBLE_BYTES, PREAMBLE_BYTES + 4) === "DICM" || BARE_TAG.test(text(0, 8));
}

/**
 * The data set of a file: { syntax, littleEndian, elements }, where elements are by tag, each with
 * `vr` ("" where the file tells none) and `bytes`; `itemsOf` gives those of a sequence.
 * Throws DamagedError, and ImageError where it unpacks to more than `maxPixels` could take.
 */
export async function readDataSet(file, maxPixels) {
  const hasPreamble = String.fromCharCode(...file.subarray(128, 132)) === "DICM";
  const meta = readMeta(new Reader(file, hasPreamble ? PREAMBLE_BYTES + 4 : 0));
  const told = meta.elements.get(TRANSFER_SYNTAX);
  let syntax = told ? String.fromCharCode(...told.bytes).replace(/[ \0]+$/, "") : "";
  let rest = file.subarray(meta.end);
  if (syntax === SYNTAX.deflated)
    rest = await unpacked(rest, BYTES_PER_PIXEL * maxPixels + 2 ** 20);
  const reader = new Reader(rest, 0);
  reader.little = syntax ? syntax !== SYNTAX.bigEndian : reader.guessesLittle();
  reader.explicit = reader.looksExplicit();
  // PS3.5, section 10.1: what it was read by
  if (!syntax && !reader.little) syntax = SYNTAX.bigEndian;
  else if (!syntax) syntax = reader.explicit ? SYNTAX.explicit : SYNTAX.implicit;
  const elements = reader.elements(rest.length, 0);
  return { syntax, littleEndian: reader.little, elements };
}

/** The elements of group 2, and where they end. */
function readMeta(reader) {
  reader.explicit = reader.looksExplicit();
  const elements = new Map();
  while (reader.at + 8 <= reader.bytes.length && reader.peekGroup() === 2) {
    const element = reader.element(0);
    elements.set(element.tag, element);
  }
  return { elements, end: reader.at };
}

/**
 * A deflated data set may be made even by a zero behind it, which is no part of the stream. Some
 * browsers refuse that, and all else behind it.
 */
async function unpacked(packed, maxBytes) {
  try {
    return await inflatedUpTo(packed, maxBytes);
  } catch (error) {
    if (error instanceof RangeError || packed.at(-1) !== 0) throw refusal(error, maxBytes);
  }
  try {
    return await inflatedUpTo(packed.subarray(0, -1), maxBytes);
  } catch (error) {
    throw refusal(error, maxBytes);
  }
}

function refusal(error, maxBytes) {
  if (error instanceof RangeError) {
    return new ImageError(`its deflated data set unpacks to more than ${maxBytes} bytes`);
  }
  const reason = "its deflated data set is damaged, or followed by something that is not read here";
  return new ImageError(reason, "save it uncompressed");
}

/** Reads elements one behind the other. */
class Reader {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.little = true;
    this.explicit = true;
  }

  /** Whether the element here has its value representation in two capitals. */
  looksExplicit() {
    const text = String.fromCharCode(...this.bytes.subarray(this.at + 4, this.at + 6));
    return /^[A-Z]{2}$/.test(text);
  }

  /** Of a data set that tells no transfer syntax: its first group is small. */
  guessesLittle() {
    return !this.looksExplicit() || this.bytes.length < 2 || this.peekGroup() < 1024;
  }

  peekGroup() {
    return this.view.getUint16(this.at, this.little);
  }

  tag() {
    this.need(4);
    const group = this.view.getUint16(this.at, this.little);
    const element = this.view.getUint16(this.at + 2, this.little);
    this.at += 4;
    return group * 65536 + element;
  }

  number(read, nBytes) {
    this.need(nBytes);
    this.at += nBytes;
    return this.view[read](this.at - nBytes, this.little);
  }

  need(nBytes) {
    if (this.at + nBytes > this.bytes.length) throw new DamagedError("it ends within an element");
  }

  take(nBytes) {
    this.need(nBytes);
    this.at += nBytes;
    return this.bytes.subarray(this.at - nBytes, this.at);
  }

  elements(end, depth) {
    const elements = new Map();
    while (this.at < end) {
      const element = this.element(depth);
      elements.set(element.tag, element);
    }
    if (this.at > end) throw new DamagedError("an element is longer than what holds it");
    return elements;
  }

  element(depth) {
    const tag = this.tag();
    const { vr, length } = this.header();
    const element = { tag, vr, bytes: new Uint8Array(0), items: null };
    if (length === UNDEFINED && isPacked(tag, vr)) return { ...element, bytes: this.fragments() };
    if (length === UNDEFINED) return { ...element, vr: "SQ", items: this.nested(vr, depth) };
    const { explicit, little } = this;
    return { ...element, bytes: this.take(length), explicit, little, depth };
  }

  header() {
    if (!this.explicit) return { vr: "", length: this.number("getUint32", 4) };
    const vr = String.fromCharCode(...this.take(2));
    if (SHORT_LENGTHS.includes(vr)) return { vr, length: this.number("getUint16", 2) };
    if (!LONG_LENGTHS.includes(vr)) throw new DamagedError("an element of no value representation");
    this.take(2);
    return { vr, length: this.number("getUint32", 4) };
  }

  /**
   * The items of a sequence of undefined length; of an unknown representation it is in implicit
   * little endian (PS3.5, 6.2.2).
   */
  nested(vr, depth) {
    const { explicit, little } = this;
    if (vr === "UN") Object.assign(this, { explicit: false, little: true });
    const items = this.items(this.bytes.length, depth, true);
    Object.assign(this, { explicit, little });
    return items;
  }

  items(end, depth, isClosed) {
    if (depth >= MAX_DEPTH) throw new DamagedError("its sequences are too deep");
    const items = [];
    while (isClosed || this.at < end) {
      const tag = this.tag();
      const length = this.number("getUint32", 4);
      if (isClosed && tag === SEQUENCE_END) return items;
      if (tag !== ITEM) throw new DamagedError("a sequence of no items");
      items.push(length === UNDEFINED ? this.openItem(depth) : this.item(length, depth));
    }
    return items;
  }

  item(length, depth) {
    this.need(length);
    return this.elements(this.at + length, depth + 1);
  }

  openItem(depth) {
    const elements = new Map();
    for (;;) {
      const begin = this.at;
      if (this.tag() === ITEM_END) break;
      this.at = begin;
      const element = this.element(depth + 1);
      elements.set(element.tag, element);
    }
    this.take(4);
    return elements;
  }

  /** Fragments up to their delimiter, as they stand, or to the end of a file that has none. */
  fragments() {
    const begin = this.at;
    for (;;) {
      const end = this.at;
      if (end + 8 > this.bytes.length) return this.allFrom(begin);
      const tag = this.tag();
      const length = this.number("getUint32", 4);
      if (tag === SEQUENCE_END) return this.bytes.subarray(begin, end);
      if (tag !== ITEM || this.at + length > this.bytes.length) return this.allFrom(begin);
      this.at += length;
    }
  }

  allFrom(begin) {
    this.at = this.bytes.length;
    return this.bytes.subarray(begin);
  }
}

/** The items of a sequence, each its elements by tag; read only where they are asked for. */
export function itemsOf({ bytes, items, explicit, little, depth }) {
  if (items) return items;
  const reader = new Reader(bytes, 0);
  Object.assign(reader, { explicit, little });
  return reader.items(bytes.length, depth, false);
}

function isPacked(tag, vr) {
  return tag === PIXEL_DATA || ["OB", "OW"].includes(vr);
}

/** All fragments but the first, which is the offset table; throws DamagedError where any is cut. */
export function frameOf(pixelData) {
  const view = new DataView(pixelData.buffer, pixelData.byteOffset, pixelData.byteLength);
  const fragments = [];
  let at = 0;
  while (at + 8 <= pixelData.length && view.getUint32(at, true) !== 0xe0ddfffe) {
    const size = view.getUint32(at + 4, true);
    const fragment = pixelData.subarray(at + 8, at + 8 + size);
    if (view.getUint32(at, true) !== 0xe000fffe || fragment.length !== size) {
      throw new DamagedError("its fragments are cut off or damaged");
    }
    fragments.push(fragment);
    at += 8 + size;
  }
  // a file may end within its delimiter
  const delimiter = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
  const rest = pixelData.subarray(at);
  const isEnd = rest.length <= 8 && rest.every((byte, i) => byte === delimiter[i]);
  const frame = joined(fragments.slice(1));
  if (!isEnd || !frame.length) throw new DamagedError("its fragments are cut off or damaged");
  return frame;
}
