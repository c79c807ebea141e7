// Elements that are numbers or text: what they hold, nothing, or why they are none
// (kneeedge/pixels/dicom_numbers.py).

import { DamagedError, itemsOf } from "./dicom_elements.js";

const MAX_DECIMAL = 1e9;
const DECIMAL = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const TAGS = {
  SOPClassUID: [0x00080016, "UI"],
  SOPInstanceUID: [0x00080018, "UI"],
  ViewPosition: [0x00185101, "CS"],
  Laterality: [0x00200060, "CS"],
  ImageLaterality: [0x00200062, "CS"],
  PresentationLUTSequence: [0x20500010, "SQ"],
  PresentationLUTShape: [0x20500020, "CS"],
  PixelPresentation: [0x00089205, "CS"],
  SamplesPerPixel: [0x00280002, "US"],
  PhotometricInterpretation: [0x00280004, "CS"],
  PlanarConfiguration: [0x00280006, "US"],
  NumberOfFrames: [0x00280008, "IS"],
  Rows: [0x00280010, "US"],
  Columns: [0x00280011, "US"],
  BitsAllocated: [0x00280100, "US"],
  BitsStored: [0x00280101, "US"],
  HighBit: [0x00280102, "US"],
  PixelRepresentation: [0x00280103, "US"],
  PixelPaddingValue: [0x00280120, "US or SS"],
  PixelPaddingRangeLimit: [0x00280121, "US or SS"],
  WindowCenter: [0x00281050, "DS"],
  WindowWidth: [0x00281051, "DS"],
  RescaleIntercept: [0x00281052, "DS"],
  RescaleSlope: [0x00281053, "DS"],
  VOILUTFunction: [0x00281056, "CS"],
  RedPaletteColorLookupTableDescriptor: [0x00281101, "US or SS"],
  GreenPaletteColorLookupTableDescriptor: [0x00281102, "US or SS"],
  BluePaletteColorLookupTableDescriptor: [0x00281103, "US or SS"],
  RedPaletteColorLookupTableData: [0x00281201, "OW"],
  GreenPaletteColorLookupTableData: [0x00281202, "OW"],
  BluePaletteColorLookupTableData: [0x00281203, "OW"],
  SegmentedRedPaletteColorLookupTableData: [0x00281221, "OW"],
  SegmentedGreenPaletteColorLookupTableData: [0x00281222, "OW"],
  SegmentedBluePaletteColorLookupTableData: [0x00281223, "OW"],
  ModalityLUTSequence: [0x00283000, "SQ"],
  LUTDescriptor: [0x00283002, "US or SS"],
  LUTData: [0x00283006, "US or OW"],
  VOILUTSequence: [0x00283010, "SQ"],
  PixelValueTransformationSequence: [0x00289145, "SQ"],
  FrameVOILUTSequence: [0x00289132, "SQ"],
  SharedFunctionalGroupsSequence: [0x52009229, "SQ"],
  PerFrameFunctionalGroupsSequence: [0x52009230, "SQ"],
  PixelData: [0x7fe00010, "OW"],
};
// by value representation: how a number is read, and its bytes
const NUMBERS = {
  US: ["getUint16", 2],
  SS: ["getInt16", 2],
  UL: ["getUint32", 4],
  SL: ["getInt32", 4],
  FL: ["getFloat32", 4],
  FD: ["getFloat64", 8],
};
const PACKED = ["OB", "OW", "UN", "US or OW", "US or SS"];
const TEXT = [
  "AE",
  "AS",
  "CS",
  "DA",
  "DS",
  "DT",
  "IS",
  "LO",
  "LT",
  "PN",
  "SH",
  "ST",
  "TM",
  "UC",
  "UI",
  "UR",
  "UT",
];

/** A data set, or an item of a sequence in it; `little` is the byte order of its numbers. */
export class DataSet {
  constructor(elements, little) {
    this.elements = elements;
    this.little = little;
  }

  has(keyword) {
    return this.elements.has(TAGS[keyword][0]);
  }

  /** The packed value of an element; nothing where it is absent. */
  bytes(keyword) {
    return this.elements.get(TAGS[keyword][0])?.bytes ?? new Uint8Array(0);
  }

  /** Its value representation: the file's, or the standard's where the file tells none. */
  vr(keyword) {
    const [tag, standard] = TAGS[keyword];
    const told = this.elements.get(tag)?.vr;
    return !told || told === "UN" ? standard : told;
  }

  /** Text of one value without what pads it; empty where it is absent. */
  text(keyword) {
    if (!this.bytes(keyword).length) return "";
    if (!TEXT.includes(this.vr(keyword))) throw new DamagedError(`${keyword} is no text`);
    return asText(this.bytes(keyword));
  }

  /** All its numbers; null for an empty value before others. */
  decimals(keyword) {
    const numbers = this.values(keyword).map((value) => asNumber(value, this.vr(keyword), keyword));
    while (numbers.length && numbers.at(-1) === null) numbers.pop();
    return numbers;
  }

  /** Its one number; null where it is absent or empty. */
  decimal(keyword) {
    const numbers = this.decimals(keyword);
    if (numbers.length > 1) throw new DamagedError(`${keyword} has ${numbers.length} values`);
    return numbers[0] ?? null;
  }

  /** Its one whole number; null where it is absent or empty. */
  whole(keyword) {
    const number = this.decimal(keyword);
    if (number !== null && !Number.isInteger(number)) {
      throw new DamagedError(`${keyword} is ${number}, no whole number`);
    }
    return number;
  }

  /** Whether its representation is one of whole numbers. */
  isWhole(keyword) {
    return ["US", "SS", "UL", "SL", "IS"].includes(this.vr(keyword));
  }

  isPacked(keyword) {
    return ["OB", "OW", "OL", "OV"].includes(this.vr(keyword));
  }

  /** The 16-bit words of an element, whether it is of US, SS, OW or UN. */
  words(keyword) {
    const bytes = this.bytes(keyword);
    const known = [...PACKED, "US", "SS"].includes(this.vr(keyword));
    if (bytes.length % 2 || (bytes.length && !known)) {
      throw new DamagedError(`${keyword} does not hold words of 16 bits`);
    }
    const view = viewOf(bytes);
    const n = bytes.length / 2;
    return Uint16Array.from({ length: n }, (_, i) => view.getUint16(2 * i, this.little));
  }

  /** The items of a sequence; none where it is absent. */
  items(keyword) {
    const element = this.elements.get(TAGS[keyword][0]);
    if (!element || !(element.items ?? element.bytes).length) return [];
    if (!["SQ", ""].includes(element.vr)) throw new DamagedError(`${keyword} is no sequence`);
    return itemsOf(element).map((elements) => new DataSet(elements, this.little));
  }

  /** Values that can be compared: numbers, or text where they are none. */
  values(keyword) {
    const bytes = this.bytes(keyword);
    if (!bytes.length) return [];
    const vr = this.vr(keyword);
    if (TEXT.includes(vr)) {
      const text = asText(bytes);
      return text ? text.split("\\").map((value) => value.trim()) : [];
    }
    // whatever pydicom makes of it by the other elements
    const signed = vr === "US or SS" && this.representation === 1;
    const [read, nBytes] = NUMBERS[vr === "US or SS" ? (signed ? "SS" : "US") : vr] ?? [];
    if (!read || bytes.length % nBytes) throw new DamagedError(`${keyword} is no number`);
    const view = viewOf(bytes);
    const n = bytes.length / nBytes;
    return Array.from({ length: n }, (_, i) => view[read](i * nBytes, this.little));
  }

  get representation() {
    return this.has("PixelRepresentation") ? this.whole("PixelRepresentation") : 0;
  }
}

function asNumber(value, vr, keyword) {
  if (value === "") return null;
  const isSound = typeof value === "number" ? Number.isFinite(value) : DECIMAL.test(value);
  const number = Number(value);
  if (!isSound || (vr === "IS" && !Number.isInteger(number))) {
    throw new DamagedError(`${keyword} is no number`);
  }
  if (Math.abs(number) > MAX_DECIMAL) {
    throw new DamagedError(`${keyword} is ${number}, no number of grey values`);
  }
  return number;
}

function asText(bytes) {
  return new TextDecoder("latin1").decode(bytes).replace(/[ \0]+$/, "");
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
