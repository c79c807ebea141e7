// Look-up tables: modality LUT, VOI LUT and palettes (kneeedge/pixels/dicom_tables.py; PS3.3,
// C.11.1, C.11.2, C.7.6.3.1.5).

import { DamagedError } from "./dicom_elements.js";
import { roundHalfEven } from "./rounding.js";

const MAX_ENTRIES = 2 ** 16;
const COLOURS = ["Red", "Green", "Blue"];
// the segments of a segmented palette: PS3.3, C.7.9.2
const DISCRETE = 0;
const LINEAR = 1;

/** What each of a range of values becomes: `entries` of `bits` bits, from the value `first` on. */
class LookUpTable {
  constructor(first, bits, entries) {
    this.first = first;
    this.bits = bits;
    this.entries = entries;
    this.top = 2 ** bits - 1;
    this.largest = entries.reduce((most, entry) => Math.max(most, entry), 0);
  }

  /** What to say of entries that leave the highest bit unused, and look dark; or nothing. */
  get remark() {
    const isDark = 2 * this.largest < this.top;
    return isDark ? ` (entries end at ${this.largest} of ${this.top})` : "";
  }

  /** The entry for a value; beyond the table its first or last, between two that nearer zero. */
  of(value) {
    const index = Math.trunc(value) - this.first;
    return this.entries[Math.max(0, Math.min(this.entries.length - 1, index))];
  }
}

/** The table of one item of a Modality or VOI LUT Sequence, for `signed` values or not. */
export function greyTable(item, signed) {
  const { n, first, bits } = descriptor(item, "LUTDescriptor", signed);
  return new LookUpTable(first, bits, plainEntries(item, "LUTData", n, bits));
}

/** The tables of red, green and blue, plain or segmented, for `signed` pixels or not. */
export function palette(dataSet, signed) {
  return COLOURS.map((colour) => {
    const keyword = `${colour}PaletteColorLookupTable`;
    const { n, first, bits } = descriptor(dataSet, `${keyword}Descriptor`, signed);
    if (bits !== 8 && bits !== 16) {
      throw new DamagedError(`${keyword}Descriptor has ${bits} bits an entry, not 8 or 16`);
    }
    const segmented = `Segmented${keyword}Data`;
    const isPlain = dataSet.bytes(`${keyword}Data`).length || !dataSet.bytes(segmented).length;
    const entries = isPlain
      ? plainEntries(dataSet, `${keyword}Data`, n, bits)
      : expanded(units(dataSet.words(segmented), bits), n);
    return new LookUpTable(first, bits, entries);
  });
}

/** Entries, the first value that is mapped, and bits an entry (PS3.3, C.11.1.1.1). */
function descriptor(item, keyword, signed) {
  const words = item.words(keyword);
  if (words.length !== 3) throw new DamagedError(`${keyword} has ${words.length} values, not 3`);
  const [n, first, bits] = words;
  if (bits < 8 || bits > 16) {
    throw new DamagedError(`${keyword} has ${bits} bits an entry, not 8 to 16`);
  }
  return { n: n || MAX_ENTRIES, first: signed && first >= 2 ** 15 ? first - 2 ** 16 : first, bits };
}

/** The `n` entries, each in a word, or two of 8 bits in one with the first in its low byte. */
function plainEntries(item, keyword, n, bits) {
  const words = item.words(keyword);
  if (bits === 8 && words.length === (n + 1) >> 1 && n > 1) return units(words, 8).slice(0, n);
  if (words.length !== n) {
    throw new DamagedError(
      `${keyword} has ${2 * words.length} bytes for ${n} entries of ${bits} bits`,
    );
  }
  const largest = words.reduce((most, word) => Math.max(most, word), 0);
  if (largest >= 2 ** bits) {
    throw new DamagedError(`${keyword} has an entry of ${largest}, beyond ${bits} bits`);
  }
  return words;
}

/** Words, or the bytes in them where entries have 8 bits, the low one first. */
function units(words, bits) {
  if (bits !== 8) return words;
  return Uint8Array.from({ length: 2 * words.length }, (_, i) => words[i >> 1] >> (8 * (i & 1)));
}

/** The `n` entries of a segmented table; indirect segments, which repeat others, are not read. */
function expanded(packed, n) {
  const entries = [];
  let at = 0;
  while (at + 2 < packed.length && entries.length < n) {
    const [code, length, next] = packed.subarray(at, at + 3);
    if (code === LINEAR && entries.length) {
      entries.push(...line(entries.at(-1), next, length));
      at += 3;
    } else if (code === DISCRETE) {
      entries.push(...packed.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    } else throw new DamagedError(`a palette segment of kind ${code} is not supported`);
  }
  if (entries.length !== n) {
    throw new DamagedError(`the palette's segments hold ${entries.length} entries, not ${n}`);
  }
  return Uint16Array.from(entries);
}

/** `length` steps from `start`, which is left out, to `stop`; as numpy.linspace has them. */
function line(start, stop, length) {
  const step = (stop - start) / length;
  return Array.from({ length }, (_, i) =>
    i + 1 === length ? stop : roundHalfEven((i + 1) * step + start),
  );
}
