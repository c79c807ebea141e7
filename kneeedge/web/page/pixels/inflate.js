// zlib and deflate by the platform's DecompressionStream, never to more than is asked for.

const PIECE_BYTES = 1 << 14;
// what one stored byte can unpack to at most
const MOST_RATIO = 1032;

/**
 * The `nBytes` bytes that a zlib stream unpacks to.
 * Throws RangeError where they are more or fewer, TypeError where the stream is damaged or cut.
 */
export async function inflated(packed, nBytes) {
  if (nBytes > MOST_RATIO * (packed.length + 16)) throw new RangeError("fewer");
  const bytes = new Uint8Array(nBytes);
  let n = 0;
  for await (const piece of unpackedPieces(packed, "deflate")) {
    if (n + piece.length > nBytes) throw new RangeError("more");
    bytes.set(piece, n);
    n += piece.length;
  }
  if (n < nBytes) throw new RangeError("fewer");
  return bytes;
}

/** What a raw deflate stream unpacks to; throws RangeError where that is more than `maxBytes`. */
export async function inflatedUpTo(packed, maxBytes) {
  const pieces = [];
  let n = 0;
  for await (const piece of unpackedPieces(packed, "deflate-raw")) {
    n += piece.length;
    if (n > maxBytes) throw new RangeError("more");
    pieces.push(piece);
  }
  return joined(pieces);
}

/** The pieces one behind the other. */
export function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

async function* unpackedPieces(packed, format) {
  const stream = new DecompressionStream(format);
  // its failure is the reader's too
  feed(stream.writable.getWriter(), packed).catch(() => {});
  const reader = stream.readable.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A piece at a time, once the last is read: a file may unpack to a thousand times its size. */
async function feed(writer, packed) {
  for (let at = 0; at < packed.length; at += PIECE_BYTES) {
    await writer.ready;
    await writer.write(packed.subarray(at, at + PIECE_BYTES));
  }
  await writer.close();
}
