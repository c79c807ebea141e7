// The bits of a scan, and the Huffman codes in them (ITU-T T.81, annexes C and F.2).

import { JpegError } from "./jpeg_segments.js";

// more than a block can take beyond the end, which is looked at behind each block
const SPARE_BYTES = 512;

/**
 * What each 16 bits that may come begin with: length × 256 + symbol of a code, or 0 for none.
 * Throws JpegError for a table that has symbols above `highest`, or a code of ones alone.
 */
export function codeTable(table, highest = 255) {
  if (!table) throw new JpegError("a table is missing");
  if (table.symbols.some((symbol) => symbol > highest))
    throw new JpegError("a table makes no sense");
  const codes = new Uint16Array(1 << 16);
  let code = 0;
  let next = 0;
  table.counts.forEach((count, i) => {
    const span = 1 << (15 - i);
    for (let n = 0; n < count; n++) {
      if (code + span >= codes.length) throw new JpegError("a table makes no sense");
      codes.fill(((i + 1) << 8) | table.symbols[next++], code, code + span);
      code += span;
    }
  });
  return codes;
}

/** Reads the coded bytes between two markers. */
export class Bits {
  constructor(coded) {
    this.bytes = new Uint8Array(coded.length + SPARE_BYTES);
    this.nBytes = unstuffed(coded, this.bytes);
    this.bytes.fill(0xff, this.nBytes);
    this.at = 0;
  }

  /** The symbol of the next code; throws JpegError where no code begins so. */
  symbol(codes) {
    const entry = codes[this.peek()];
    if (entry === 0) throw new JpegError("its compressed pixels are corrupt");
    this.at += entry >> 8;
    return entry & 0xff;
  }

  /** The next `n` bits, up to 16, as a number. */
  take(n) {
    const bits = n === 0 ? 0 : this.peek() >> (16 - n);
    this.at += n;
    return bits;
  }

  /** The next `n` bits as a difference (F.2.2.1, EXTEND). */
  difference(n) {
    const bits = this.take(n);
    return n > 0 && bits < 1 << (n - 1) ? bits - (1 << n) + 1 : bits;
  }

  /** Throws JpegError where more was read than there is. */
  checkEnd() {
    if (this.at > 8 * this.nBytes) {
      throw new JpegError("it is truncated or corrupt, and blocks are missing");
    }
  }

  /** Whole bytes that nothing was read of. */
  get nLeft() {
    return this.nBytes - Math.ceil(this.at / 8);
  }

  peek() {
    const bytes = this.bytes;
    const i = this.at >> 3;
    const window = (bytes[i] << 16) | (bytes[i + 1] << 8) | bytes[i + 2];
    return (window >> (8 - (this.at & 7))) & 0xffff;
  }
}

/** Copies without the zeros behind 0xFF, nor what fills up before a marker; says how many. */
function unstuffed(coded, out) {
  let n = 0;
  for (let i = 0; i < coded.length; i++) {
    out[n++] = coded[i];
    if (coded[i] !== 0xff) continue;
    while (coded[i + 1] === 0xff) i++;
    if (coded[++i] !== 0) n--;
  }
  return n;
}
