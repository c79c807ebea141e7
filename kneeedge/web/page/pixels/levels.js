// Colours, transparency and wide pixels to grey levels, as Pillow and kneeedge/pixels/picture.py
// make them.

import { ImageError } from "./errors.js";
import { roundHalfEven } from "./rounding.js";

// bits that detectors give, in files of 16
const USUAL_DEPTHS = [8, 10, 12, 14];
// of 16 fractional bits; ITU-R 601
const RED = 19595;
const GREEN = 38470;
const BLUE = 7471;

/** ITU-R 601 luma of three planes. */
export function luma([red, green, blue]) {
  const grey = new Uint8Array(red.length);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (RED * red[i] + GREEN * green[i] + BLUE * blue[i] + 0x8000) >> 16;
  }
  return grey;
}

/** Luma of three planes laid on black; throws ImageError where `alpha` hides all of it. */
export function blackWhereTransparent(channels, alpha) {
  if (!alpha.some((opacity) => opacity)) {
    throw new ImageError("is transparent everywhere", "save it without its alpha channel");
  }
  return luma(channels.map((channel) => channel.map((level, i) => faded(level, alpha[i]))));
}

/** Pillow's alpha_composite on opaque black, whose fixed point has seven bits. */
function faded(level, opacity) {
  const scaled = ((level * opacity) << 7) + (0x80 << 7);
  return (((scaled >> 8) + scaled) >> 8) >> 7;
}

/**
 * Grey levels of pixels of 16 bits that run from 0 to `top`, in Pillow's single precision.
 * Throws ImageError for any beyond it; `hidden` is the level that is transparent, or -1.
 */
export function wideLevels(values, top, toldBits, hidden) {
  const largest = values.reduce((most, value) => Math.max(most, value), 0);
  if (largest > top) {
    throw new ImageError(
      `integer pixels outside 0 to ${top}`,
      "scale them to that range, or say with --grey-bits how far they go",
    );
  }
  const table = Uint8Array.from({ length: largest + 1 }, (_, value) =>
    value === hidden ? 0 : roundHalfEven(Math.fround((value * 255) / top)),
  );
  const grey = new Uint8Array(values.length);
  for (let i = 0; i < grey.length; i++) grey[i] = table[values[i]];
  return { grey, notes: toldBits ? [] : darkNotes(largest) };
}

/** A remark where the largest of 16-bit pixels fits fewer bits, so that the picture is dark. */
export function darkNotes(largest) {
  const bits = USUAL_DEPTHS.find((depth) => largest > 0 && largest < 2 ** depth);
  return bits ? [`dark: its 16-bit pixels use no more than ${bits} bits (--grey-bits)`] : [];
}
