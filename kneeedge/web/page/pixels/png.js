// PNG files (PNG specification, third edition, W3C 2025) to grey, by the rules of
// kneeedge/pixels/png.py and picture.py.

import { ImageError, checkSize } from "./errors.js";
import { exifOrientation, upright } from "./exif.js";
import { inflated, joined } from "./inflate.js";
import { blackWhereTransparent, darkNotes, luma, wideLevels } from "./levels.js";
import { packedRows } from "./png_rows.js";

const GREY = 0;
const RGB = 2;
const PALETTE = 3;
const GREY_ALPHA = 4;
const RGB_ALPHA = 6;
const CHANNELS = { [GREY]: 1, [RGB]: 3, [PALETTE]: 1, [GREY_ALPHA]: 2, [RGB_ALPHA]: 4 };
const DEPTHS = {
  [GREY]: [1, 2, 4, 8, 16],
  [RGB]: [8, 16],
  [PALETTE]: [1, 2, 4, 8],
  [GREY_ALPHA]: [8, 16],
  [RGB_ALPHA]: [8, 16],
};
const OWN_HEAD_BYTES = 4096;
const CRITICAL = /^[A-Z]/;
const ABOUT_PIXELS = ["tRNS", "eXIf"];
const CRC = Int32Array.from({ length: 256 }, (_, n) => {
  let rest = n;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest;
});

/** The grey picture of a PNG; throws ImageError where it is damaged or of an unknown kind. */
export async function readPng(bytes, { greyBits, maxPixels }) {
  const chunks = readChunks(bytes);
  const header = readHeader(chunks);
  checkSize(header.width, header.height, maxPixels);
  checkKind(header, chunks);
  const rows = await unpacked(header, joined(chunks.get("IDAT") ?? []));
  const { grey, notes } = toGrey(header, chunks, rows, greyBits);
  const orientation = exifOrientation(chunks.get("eXIf")?.at(-1) ?? new Uint8Array(0));
  return { ...upright(grey, header.width, header.height, orientation), format: "PNG", notes };
}

/** Contents by chunk name, up to IEND; throws ImageError where the file is cut or a sum fails. */
function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = new Map();
  let previous = "";
  let name = "";
  for (let begin = 8; name !== "IEND";) {
    if (begin + 12 > bytes.length) throw damaged("it is truncated, and its end (IEND) is missing");
    const content = begin + 8;
    const end = content + view.getUint32(begin) + 4;
    name = String.fromCharCode(...bytes.subarray(begin + 4, content));
    if (!/^\w{4}$/.test(name)) throw damaged("the name of a chunk is none");
    if (end > bytes.length) throw damaged(`it is truncated inside its chunk ${name}`);
    const counts = CRITICAL.test(name) || ABOUT_PIXELS.includes(name) || !chunks.has("IDAT");
    const sum = view.getUint32(end - 4);
    if (counts && crc32(bytes.subarray(begin + 4, end - 4)) !== sum) {
      throw damaged(`the checksum of its chunk ${name} fails`);
    }
    checkOrder(name, previous, chunks);
    const data = bytes.subarray(content, end - 4);
    if (name === "tEXt" && begin < OWN_HEAD_BYTES && !chunks.has("IDAT")) refuseOwn(data);
    if (!chunks.has(name)) chunks.set(name, []);
    chunks.get(name).push(data);
    previous = name;
    begin = end;
  }
  return chunks;
}

function checkOrder(name, previous, chunks) {
  if ((name === "IHDR") !== (previous === "")) {
    throw damaged("it does not begin with its header (IHDR)");
  }
  const isLate = ["PLTE", "tRNS"].includes(name) && (chunks.has(name) || chunks.has("IDAT"));
  if (isLate || (name === "IDAT" && chunks.has("IDAT") && previous !== "IDAT")) {
    throw damaged(`its chunk ${name} is out of order`);
  }
}

function refuseOwn(text) {
  if (!String.fromCharCode(...text.subarray(0, 17)).startsWith("Software\0kneeedge")) return;
  throw new ImageError(
    "is a picture that kneeedge made, and no radiograph",
    "take it out of the folder",
  );
}

function readHeader(chunks) {
  const [data] = chunks.get("IHDR");
  if (data.length !== 13) throw damaged("it does not begin with its header (IHDR)");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [bits, colour, compression, filter, interlace] = data.subarray(8);
  if (!DEPTHS[colour]?.includes(bits) || compression || filter || interlace > 1) {
    throw damaged("its pixels are stored in a way that is not read, or not at all");
  }
  const width = view.getUint32(0);
  const height = view.getUint32(4);
  const channels = CHANNELS[colour];
  return { width, height, bits, colour, channels, interlaced: interlace === 1 };
}

function checkKind({ bits, colour }, chunks) {
  const [animation] = chunks.get("acTL") ?? [];
  if (animation?.subarray(0, 4).some((byte, i) => (i < 3 ? byte : byte > 1))) {
    throw new ImageError("holds more than one picture (frames)", "save the one that is meant");
  }
  if (chunks.has("tRNS") && colour === RGB && bits === 16) {
    throw new ImageError(
      "a PNG of 16-bit colour with a transparent colour is not read",
      "save it with an alpha channel, or in grey",
    );
  }
  const [transparent] = chunks.get("tRNS") ?? [];
  const nBytes = { [GREY]: 2, [RGB]: 6 }[colour] ?? 0;
  if (transparent && transparent.length < nBytes) throw damaged("its chunk tRNS is cut off");
}

/** The rows of the pixels without their filters (height × bytes a row). */
async function unpacked(header, stream) {
  try {
    return await packedRows(header, (nBytes) => inflated(stream, nBytes));
  } catch (error) {
    if (error instanceof RangeError) {
      throw damaged(`it holds ${error.message} pixels than it says`);
    }
    // the platform's word for a damaged stream
    if (error instanceof TypeError || error.code)
      throw damaged("its compressed pixels are corrupt");
    throw error;
  }
}

function toGrey(header, chunks, rows, greyBits) {
  if (header.colour === GREY && header.bits === 16) {
    return wideLevels(words(rows), 2 ** (greyBits || 16) - 1, greyBits, transparentWord(chunks));
  }
  if (header.bits === 16 && ![0, 16].includes(greyBits)) {
    const reason = `16-bit colour cannot be read as ${greyBits} bits`;
    throw new ImageError(reason, "save it in grey, or leave --grey-bits out");
  }
  const samples = header.bits === 16 ? upperBytes(rows) : unpackedSamples(header, rows);
  const grey = COLOURS[header.colour](samples, header, chunks);
  return { grey, notes: header.bits === 16 && !greyBits ? darkNotes(brightest(grey) << 8) : [] };
}

const COLOURS = {
  [GREY](samples, { bits }, chunks) {
    const top = 2 ** bits - 1;
    const hidden = chunks.has("tRNS") ? transparentWord(chunks) & top : -1;
    const alpha = hidden < 0 ? null : samples.map((sample) => (sample === hidden ? 0 : 255));
    const levels = samples.map((sample) => sample * (255 / top));
    return alpha ? blackWhereTransparent([levels, levels, levels], alpha) : levels;
  },
  [RGB](samples, _, chunks) {
    const channels = planes(samples, 3);
    if (!chunks.has("tRNS")) return luma(channels);
    // of each number of 16 bits the low eight count (section 11.3.1.1)
    const [hidden] = chunks.get("tRNS");
    const isHidden = (i) => channels.every((channel, k) => channel[i] === hidden[2 * k + 1]);
    const alpha = channels[0].map((_, i) => (isHidden(i) ? 0 : 255));
    return blackWhereTransparent(channels, alpha);
  },
  [PALETTE](samples, _, chunks) {
    const [colours] = chunks.get("PLTE") ?? [new Uint8Array(0)];
    const nColours = Math.floor(colours.length / 3);
    const largest = brightest(samples);
    if (largest >= nColours) {
      throw damaged(`a pixel has colour ${largest}, and its palette ${nColours} colours`);
    }
    const channels = [0, 1, 2].map((k) => samples.map((sample) => colours[3 * sample + k]));
    if (!chunks.has("tRNS")) return luma(channels);
    const [opacities] = chunks.get("tRNS");
    return blackWhereTransparent(
      channels,
      samples.map((sample) => opacities[sample] ?? 255),
    );
  },
  [GREY_ALPHA](samples) {
    const [levels, alpha] = planes(samples, 2);
    return blackWhereTransparent([levels, levels, levels], alpha);
  },
  [RGB_ALPHA](samples) {
    const [red, green, blue, alpha] = planes(samples, 4);
    return blackWhereTransparent([red, green, blue], alpha);
  },
};

function brightest(levels) {
  return levels.reduce((most, level) => Math.max(most, level), 0);
}

/** The one level that is transparent; -1 where none is. */
function transparentWord(chunks) {
  const [level] = chunks.get("tRNS") ?? [];
  return level ? level[0] * 256 + level[1] : -1;
}

function words(rows) {
  const out = new Uint16Array(rows.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = rows[2 * i] * 256 + rows[2 * i + 1];
  return out;
}

function upperBytes(rows) {
  const out = new Uint8Array(rows.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = rows[2 * i];
  return out;
}

/** Samples of up to eight bits, a byte each: the first is in the highest bits (section 7.2). */
function unpackedSamples({ width, height, bits, channels }, rows) {
  if (bits === 8) return rows;
  const rowBytes = Math.ceil((width * channels * bits) / 8);
  const perByte = 8 / bits;
  const samples = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const byte = rows[y * rowBytes + Math.floor(x / perByte)];
      samples[y * width + x] = (byte >> (8 - bits * (1 + (x % perByte)))) & (2 ** bits - 1);
    }
  }
  return samples;
}

function planes(samples, n) {
  const nPixels = samples.length / n;
  return Array.from({ length: n }, (_, k) => {
    const plane = new Uint8Array(nPixels);
    for (let i = 0; i < nPixels; i++) plane[i] = samples[n * i + k];
    return plane;
  });
}

function crc32(bytes) {
  let sum = -1;
  for (let i = 0; i < bytes.length; i++) sum = CRC[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

function damaged(what) {
  return new ImageError(`damaged PNG: ${what}`);
}
