// The grey level of every word that the pixels may be (kneeedge/pixels/dicom_grey.py; sections are
// of PS3.3): stored values → modality LUT or rescale → VOI LUT or window → inversion of
// MONOCHROME1, each in doubles, as there.

import { DamagedError } from "./dicom_elements.js";
import { greyTable, palette } from "./dicom_tables.js";
import { ImageError } from "./errors.js";
import { luma } from "./levels.js";
import { roundHalfEven } from "./rounding.js";

const SHAPES = { MONOCHROME1: "INVERSE", MONOCHROME2: "IDENTITY" };
const FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"];
const RESCALE = ["RescaleSlope", "RescaleIntercept"];
const WINDOW = ["WindowCenter", "WindowWidth", "VOILUTFunction"];
// functional groups of enhanced images: C.7.6.16.2.9 and C.7.6.16.2.10
const RESCALE_GROUP = "PixelValueTransformationSequence";
const WINDOW_GROUP = "FrameVOILUTSequence";
const GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"];

/** How the stored values lie in the words of the pixels. */
export class Layout {
  constructor({ allocated, stored, signed }) {
    this.allocated = allocated;
    this.stored = stored;
    this.signed = signed;
    this.nWords = 2 ** allocated;
    this.low = signed ? -(2 ** (stored - 1)) : 0;
    this.high = signed ? 2 ** (stored - 1) - 1 : 2 ** stored - 1;
  }

  /** The stored value of a word; older files keep overlays above it (PS3.5, section 8.1.1). */
  value(word) {
    const low = word % 2 ** this.stored;
    return low > this.high ? low - 2 ** this.stored : low;
  }

  /** A word with all its bits, as a signed number. */
  asSigned(word) {
    return word >= this.nWords / 2 ? word - this.nWords : word;
  }

  /** A word as the unsigned number that its value is written by. */
  asUnsigned(word) {
    return this.signed ? this.value(word) & (this.nWords - 1) : word;
  }
}

/** The luma of the colours of PALETTE COLOR: { levels, padding, greyScale }, by word. */
export function paletteLevels(dataSet, layout) {
  const channels = named("damaged DICOM palette", () => palette(dataSet, layout.signed));
  const planes = channels.map((channel) =>
    Uint8Array.from(
      { length: layout.nWords },
      (_, word) => channel.of(layout.value(word)) >> (channel.bits - 8),
    ),
  );
  const share = ({ largest, top }) => largest / top;
  const brightest = channels.reduce((most, channel) =>
    share(channel) > share(most) ? channel : most,
  );
  const padding = new Uint8Array(layout.nWords);
  return { levels: luma(planes), padding, greyScale: `luma of PALETTE COLOR${brightest.remark}` };
}

/**
 * The levels of MONOCHROME1 or MONOCHROME2 by VOI LUT or window number `window`:
 * { levels (Uint8Array by word), padding (which words are padding, and dark), greyScale }.
 * Throws ImageError for a grey scale that cannot be followed.
 */
export function monochromeLevels(dataSet, layout, window) {
  checkPolarity(dataSet);
  return named("damaged DICOM grey scale", () => {
    const { brightness, greyScale } = brightnessOf(dataSet, layout, window);
    const isPadding = paddingOf(dataSet, layout);
    const inverted = dataSet.text("PhotometricInterpretation") === "MONOCHROME1";
    const padding = Uint8Array.from({ length: layout.nWords }, (_, word) => isPadding(word));
    const levels = Uint8Array.from(padding, (hidden, word) => {
      if (hidden) return 0;
      const share = brightness(layout.value(word));
      return roundHalfEven(255 * (inverted ? 1 - share : share));
    });
    return { levels, padding, greyScale: inverted ? `${greyScale}, inverted` : greyScale };
  });
}

function named(what, make) {
  try {
    return make();
  } catch (error) {
    if (error instanceof DamagedError) throw new ImageError(`${what} (${error.message})`);
    throw error;
  }
}

/** Throws ImageError where the file says twice what is dark, and not the same (C.11.8.3.1.2). */
function checkPolarity(dataSet) {
  if (dataSet.items("PresentationLUTSequence").some((item) => item.has("LUTData"))) {
    throw new ImageError("a Presentation LUT is not supported", "apply it and save the image");
  }
  if (["COLOR", "MIXED"].includes(dataSet.text("PixelPresentation"))) {
    throw new ImageError(
      "grey pixels with colours among them are not supported",
      "save it as grey or as colour",
    );
  }
  const shape = dataSet.text("PresentationLUTShape").trim().toUpperCase();
  const photometric = dataSet.text("PhotometricInterpretation");
  if (Object.values(SHAPES).includes(shape) && shape !== SHAPES[photometric]) {
    throw new ImageError(
      `is ${photometric} with the Presentation LUT Shape ${shape}, which contradict each other`,
      "find out which is true and set the other by it",
    );
  }
}

/** The brightness of a stored value, 0 to 1, and by which grey scale that is. */
function brightnessOf(dataSet, layout, index) {
  const modality = modalityOf(dataSet, layout);
  const tables = dataSet.items("VOILUTSequence");
  const holder = holderOf(dataSet, WINDOW_GROUP, WINDOW);
  const windows = windowsOf(holder);
  const nWindows = tables.length || windows.length;
  if (index && index >= nWindows) {
    const reason = `has ${nWindows} windows, and --dicom-window asks for number ${index}`;
    throw new ImageError(reason, "ask for a smaller one");
  }
  const followed = (brightness, greyScale) => ({
    brightness: (value) => brightness(modality.of(value)),
    greyScale: greyScale + modality.remark,
  });
  if (tables.length) {
    const table = greyTable(tables[index], modality.low < 0);
    return followed((value) => table.of(value) / table.top, `VOI LUT${table.remark}`);
  }
  if (nWindows) {
    const { centre, width } = windows[index];
    if (centre === null || width === null) {
      throw new DamagedError(`window ${index} has no ${centre === null ? "centre" : "width"}`);
    }
    const name = (holder.text("VOILUTFunction") || "LINEAR").trim().toUpperCase();
    return followed(windowFunction(centre, width, name), `window ${index} (${name})`);
  }
  const range = modality.high - modality.low;
  const full = (value) => (value - modality.low) / range;
  return followed(full, `full range of ${modality.bits} bits`);
}

/** What stored values mean once the modality LUT or the rescale is applied. */
function modalityOf(dataSet, layout) {
  const tables = dataSet.items("ModalityLUTSequence");
  if (tables.length) {
    const table = greyTable(tables[0], layout.signed);
    const remark = table.remark ? ` of a modality LUT${table.remark}` : "";
    return { of: (value) => table.of(value), low: 0, high: table.top, bits: table.bits, remark };
  }
  const { slope, intercept } = rescaleOf(dataSet);
  const of = (value) => value * slope + intercept;
  const ends = [of(layout.low), of(layout.high)];
  if (ends[0] === ends[1]) {
    throw new DamagedError(`a rescale of slope ${slope} and intercept ${intercept}`);
  }
  return { of, low: Math.min(...ends), high: Math.max(...ends), bits: layout.stored, remark: "" };
}

/** Slope and intercept (C.11.1.1.2); 1 and 0 where the file has neither. */
function rescaleOf(dataSet) {
  const holder = holderOf(dataSet, RESCALE_GROUP, RESCALE);
  const slope = holder.decimal("RescaleSlope");
  const intercept = holder.decimal("RescaleIntercept");
  if (slope === null && intercept === null) return { slope: 1, intercept: 0 };
  if (slope === null || intercept === null) {
    throw new DamagedError(`a rescale without its ${slope === null ? "slope" : "intercept"}`);
  }
  return { slope, intercept };
}

/** Centre and width of each window; null for one that is not there. */
function windowsOf(holder) {
  const centres = holder.decimals("WindowCenter");
  const widths = holder.decimals("WindowWidth");
  const length = Math.max(centres.length, widths.length);
  return Array.from({ length }, (_, i) => ({
    centre: centres[i] ?? null,
    width: widths[i] ?? null,
  }));
}

/** What holds these elements: the data set, or one of its functional groups (C.7.6.16). */
function holderOf(dataSet, group, keywords) {
  const holders = [dataSet, ...functionalGroups(dataSet, group)];
  const filled = holders.filter((item) => keywords.some((keyword) => item.values(keyword).length));
  const differs = (item) => keywords.some((keyword) => !isAlike(item, filled[0], keyword));
  if (filled.some(differs)) {
    throw new DamagedError(`${keywords.join(", ")} stand in several places, and differ`);
  }
  return filled[0] ?? dataSet;
}

function isAlike(one, other, keyword) {
  const values = one.values(keyword);
  const others = other.values(keyword);
  const same = (a, b) => a === b || (a !== "" && b !== "" && Number(a) === Number(b));
  return values.length === others.length && values.every((value, i) => same(value, others[i]));
}

/** The items of a functional group, of all frames and of the one. */
function functionalGroups(dataSet, group) {
  return GROUPS.flatMap((sequence) => {
    const frames = dataSet.items(sequence);
    if (frames.length > 1) {
      throw new DamagedError(`${sequence} has ${frames.length} items for one frame`);
    }
    return frames.flatMap((frame) => frame.items(group));
  });
}

/** The window that makes 0 to 1 of a value (C.11.2.1.2 and C.11.2.1.3). */
function windowFunction(centre, width, name) {
  const clipped = (share) => Math.max(0, Math.min(1, share));
  if (name === "SIGMOID" && width > 0) {
    const exponent = (value) => Math.max(-700, Math.min(700, (-4 * (value - centre)) / width));
    return (value) => 1 / (1 + Math.exp(exponent(value)));
  }
  if (name === "LINEAR_EXACT" && width > 0) {
    return (value) => clipped((value - centre) / width + 0.5);
  }
  if (name === "LINEAR" && width >= 1) {
    // the formula's limit is a step
    if (width === 1) return (value) => (value > centre - 0.5 ? 1 : 0);
    return (value) => clipped((value - (centre - 0.5)) / (width - 1) + 0.5);
  }
  const known = FUNCTIONS.includes(name) ? name : "that is not known";
  throw new DamagedError(`a window of width ${width} and a function ${known}`);
}

/**
 * Whether a word is padding (C.7.5.1.1.2): one value, or a range of them. A value that the pixels
 * cannot have is of the other value representation: those words are meant that are written alike.
 */
function paddingOf(dataSet, layout) {
  const first = paddingValue(dataSet, "PixelPaddingValue");
  const last = paddingValue(dataSet, "PixelPaddingRangeLimit");
  if (first === null) {
    if (last !== null)
      throw new DamagedError("a PixelPaddingRangeLimit without its PixelPaddingValue");
    return () => false;
  }
  const low = Math.min(first, last ?? first);
  const high = Math.max(first, last ?? first);
  const isWithin = (number) => number >= low && number <= high;
  if (low >= layout.low && high <= layout.high) return (word) => isWithin(layout.value(word));
  return (word) => isWithin(low < 0 ? layout.asSigned(word) : layout.asUnsigned(word));
}

function paddingValue(dataSet, keyword) {
  if (!dataSet.isPacked(keyword)) return dataSet.whole(keyword);
  const words = dataSet.words(keyword);
  if (words.length !== 1) throw new DamagedError(`${keyword} has ${words.length} values`);
  return words[0];
}
