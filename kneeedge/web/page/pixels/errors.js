// What is refused, as kneeedge/errors.py and kneeedge/pixels/plugin.py say it.

const REMEDY = "replace the file or take it out";
export const MAX_PIXELS = 2 ** 26;
export const GIVE_PNG = "save it as a PNG or a plain JPEG";

/** A file that gives no pixels; the message is one line that ends in what to do. */
export class ImageError extends Error {
  constructor(reason, remedy = REMEDY) {
    super(`${oneLine(reason)}; ${remedy}`);
    this.name = "ImageError";
    this.reason = oneLine(reason);
    this.remedy = remedy;
  }
}

/** Throws ImageError for a size that holds no pixels, or more than `maxPixels`. */
export function checkSize(width, height, maxPixels) {
  if (!(width * height)) throw new ImageError("holds no pixels");
  if (width * height > maxPixels) {
    const reason = `${width} × ${height} is more than ${maxPixels} pixels`;
    throw new ImageError(reason, "take it out, or give it to `kneeedge infer --max-megapixels`");
  }
}

function oneLine(text) {
  return String(text)
    .replace(/[\p{C}\p{Z}]+/gu, " ")
    .trim()
    .slice(0, 400);
}
