// A DICOM file to grey levels, dark where the radiograph is dark (kneeedge/pixels/dicom.py).

import { DamagedError, SYNTAX, readDataSet } from "./dicom_elements.js";
import { factsOf } from "./dicom_facts.js";
import { Layout, monochromeLevels, paletteLevels } from "./dicom_grey.js";
import { wordsOf } from "./dicom_pixels.js";
import { DataSet } from "./dicom_values.js";
import { ImageError, checkSize } from "./errors.js";
import { luma } from "./levels.js";

const NUMBERS = [
  "Rows",
  "Columns",
  "BitsAllocated",
  "BitsStored",
  "SamplesPerPixel",
  "PixelRepresentation",
];
const GREY = ["MONOCHROME1", "MONOCHROME2"];
const PALETTE = "PALETTE COLOR";
const RGB = "RGB";
const OTHER_COLOURS = ["YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"];
const PDF = "1.2.840.10008.5.1.4.1.1.104.1";

/** The grey picture of a DICOM file; throws ImageError for what is no single image of its kind. */
export async function readDicom(bytes, codecs, { dicomWindow, maxPixels }) {
  try {
    return await decode(bytes, codecs, dicomWindow, maxPixels);
  } catch (error) {
    if (error instanceof DamagedError) throw new ImageError(`damaged DICOM (${error.message})`);
    throw error;
  }
}

async function decode(bytes, codecs, dicomWindow, maxPixels) {
  const { syntax, littleEndian, elements } = await readDataSet(bytes, maxPixels);
  const dataSet = new DataSet(elements, littleEndian);
  const shape = checkedShape(dataSet, maxPixels);
  const photometric = dataSet.text("PhotometricInterpretation");
  const words = await pixelWords(dataSet, syntax, shape, codecs);
  const dicom = factsOf(dataSet);
  const size = { width: shape.columns, height: shape.rows, format: "DICOM", dicom };
  if (photometric === RGB) {
    return { ...size, grey: lumaOf(words, shape.stored), notes: ["grey scale: luma of RGB"] };
  }
  const layout = new Layout(shape);
  const isGrey = GREY.includes(photometric);
  const levels = isGrey
    ? monochromeLevels(dataSet, layout, dicomWindow)
    : paletteLevels(dataSet, layout);
  checkPadding(dataSet, syntax, layout, isGrey);
  // a decoder may give a sign above the bits that are allocated
  const mask = layout.nWords - 1;
  const grey = new Uint8Array(words.length);
  for (let i = 0; i < grey.length; i++) grey[i] = levels.levels[words[i] & mask];
  checkContrast(grey, words, levels, mask);
  return { ...size, grey, notes: [`grey scale: ${levels.greyScale}`] };
}

async function pixelWords(dataSet, syntax, shape, codecs) {
  try {
    return await wordsOf(dataSet, syntax, shape, codecs);
  } catch (error) {
    if (error instanceof DamagedError)
      throw new ImageError(`damaged DICOM pixels (${error.message})`);
    throw error;
  }
}

/** How the pixels lie; throws ImageError, before any is decoded, for what is not read. */
function checkedShape(dataSet, maxPixels) {
  checkKind(dataSet);
  const numbers = Object.fromEntries(NUMBERS.map((name) => [name, dataSet.whole(name)]));
  const lacking = NUMBERS.filter((name) => numbers[name] === null);
  const photometric = dataSet.text("PhotometricInterpretation");
  if (!photometric) lacking.push("PhotometricInterpretation");
  if (lacking.length) throw new DamagedError(`no ${lacking.join(", ")}`);
  const odd = NUMBERS.filter((name) => !dataSet.isWhole(name));
  if (odd.length) throw new DamagedError(`${odd.join(", ")} of a wrong value representation`);
  checkSize(numbers.Columns, numbers.Rows, maxPixels);
  checkSamples(dataSet, numbers, photometric);
  return shapeOf(dataSet, numbers, photometric);
}

/** Throws ImageError where this holds no picture, or several. */
function checkKind(dataSet) {
  if (dataSet.text("SOPClassUID") === PDF) {
    throw new ImageError("is a PDF in a DICOM file", "export the image that it shows");
  }
  if (!dataSet.has("PixelData")) {
    const reason = "is a DICOM object without integer pixels";
    throw new ImageError(reason, "give the image itself");
  }
  if (!dataSet.bytes("PixelData").length) throw new ImageError("holds no pixels");
  const nFrames = dataSet.whole("NumberOfFrames") ?? 1;
  if (nFrames > 1) throw new ImageError(`holds ${nFrames} frames`, "save the one that is meant");
}

/** Throws ImageError where the pixels are laid out in a way that is not read. */
function checkSamples(dataSet, { BitsAllocated, SamplesPerPixel }, photometric) {
  if (OTHER_COLOURS.includes(photometric)) {
    const remedy = "save it in grey or as RGB, or give it to `kneeedge infer`";
    throw new ImageError(`${photometric} pixels are not read here`, remedy);
  }
  const isKnown = [...GREY, PALETTE, RGB].includes(photometric);
  if (!isKnown || ![8, 16].includes(BitsAllocated)) {
    const problem = `${photometric} pixels of ${BitsAllocated} bits are not supported`;
    throw new ImageError(problem, "export it with 8 or 16 bits, grey or colour");
  }
  const nSamples = photometric === RGB ? 3 : 1;
  if (SamplesPerPixel !== nSamples) {
    const mismatch = `${SamplesPerPixel} samples a pixel, ${photometric} has ${nSamples}`;
    throw new DamagedError(mismatch);
  }
  if (nSamples > 1 && ![0, 1].includes(dataSet.whole("PlanarConfiguration"))) {
    throw new DamagedError("no PlanarConfiguration of 0 or 1");
  }
}

function shapeOf(dataSet, numbers, photometric) {
  const { BitsAllocated: allocated, BitsStored: stored, PixelRepresentation } = numbers;
  const highest = dataSet.whole("HighBit");
  if (stored < 1 || stored > allocated || ![null, stored - 1].includes(highest)) {
    const depth = `${stored} bits stored of ${allocated}, the highest ${highest}`;
    throw new ImageError(`pixels of ${depth} are not supported`);
  }
  if (![0, 1].includes(PixelRepresentation)) {
    throw new DamagedError(`a PixelRepresentation of ${PixelRepresentation}`);
  }
  const signed = PixelRepresentation === 1;
  if (photometric === RGB && (stored < 8 || signed)) {
    const depth = `RGB pixels of ${stored} ${signed ? "signed " : ""}bits`;
    throw new ImageError(`${depth} are not supported`, "export it with 8 bits");
  }
  const planar = photometric === RGB && dataSet.whole("PlanarConfiguration") === 1;
  const { Columns: columns, Rows: rows, SamplesPerPixel: samples } = numbers;
  return { columns, rows, samples, planar, allocated, stored, signed };
}

function lumaOf(words, stored) {
  const nPixels = words.length / 3;
  const shift = stored - 8;
  const planes = [0, 1, 2].map((k) => {
    const plane = new Uint8Array(nPixels);
    for (let i = 0; i < nPixels; i++) plane[i] = words[3 * i + k] >> shift;
    return plane;
  });
  return luma(planes);
}

/**
 * Which words a padding value beyond the stored bits means hangs on the bits above them, and those
 * a decoder may have made: such an image is refused.
 */
function checkPadding(dataSet, syntax, layout, isGrey) {
  if (!isGrey || Object.values(SYNTAX).includes(syntax) || layout.stored === layout.allocated)
    return;
  const limits = ["PixelPaddingValue", "PixelPaddingRangeLimit"].filter(
    (name) => dataSet.bytes(name).length,
  );
  const isBeyond = (name) => {
    const value = dataSet.isPacked(name) ? dataSet.words(name)[0] : dataSet.whole(name);
    return value !== null && (value < layout.low || value > layout.high);
  };
  if (limits.some(isBeyond)) {
    throw new ImageError(
      "a padding value beyond the stored bits of compressed pixels is not read here",
    );
  }
}

/** Throws ImageError where pixels that differ are no more than one level apart, padding aside. */
function checkContrast(grey, words, { levels, padding, greyScale }, mask) {
  const occurs = new Uint8Array(levels.length);
  for (let i = 0; i < words.length; i++) occurs[words[i] & mask] = 1;
  const shown = levels.filter((_, word) => occurs[word] && !padding[word]);
  if (!shown.length) throw new ImageError("all its pixels are padding");
  const brightest = shown.reduce((most, level) => Math.max(most, level), 0);
  const darkest = shown.reduce((least, level) => Math.min(least, level), 255);
  if (brightest - darkest <= 1 && new Set(shown).size < shown.length) {
    throw new ImageError(
      `its grey scale makes all pixels alike (${greyScale})`,
      "ask for another --dicom-window, or save it with a sound one",
    );
  }
}
