// What the segments of a JPEG say (ITU-T T.81, annex B), and where its scans have their coded bytes.

export const SEQUENTIAL = [0xc0, 0xc1];
export const PROGRESSIVE = 0xc2;
export const LOSSLESS = 0xc3;
const FRAMES = [...SEQUENTIAL, PROGRESSIVE, LOSSLESS];
const ARITHMETIC = [0xc9, 0xca];
const OTHER_FRAMES = [0xc5, 0xc6, 0xc7, ...ARITHMETIC, 0xcb, 0xcd, 0xce, 0xcf];
const DHT = 0xc4;
const EOI = 0xd9;
const SOS = 0xda;
const DQT = 0xdb;
const DRI = 0xdd;
// without a segment behind them: TEM, RST0 to RST7, SOI
const STANDALONE = (marker) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);

/** What is wrong with a JPEG; whoever reads it names the file's format. */
export class JpegError extends Error {}

/**
 * The parts of a JPEG, from its first byte to its end marker or to where it ends without one:
 * `frame` with its components, `scans` with their tables and coded bytes, `notes` (APPn and COM:
 * marker, data, offset), `isClosed`, and `end`, behind the last byte that was looked at.
 * `strict`: nothing may stand between two segments. Throws JpegError for what is damaged.
 */
export function readSegments(bytes, strict = false) {
  const jpeg = { frame: null, scans: [], notes: [], isClosed: false, end: bytes.length };
  const tables = { huffman: new Map(), quantisation: new Map(), restartInterval: 0 };
  let at = 2;
  for (;;) {
    const place = nextMarker(bytes, at);
    if (place < 0) return jpeg;
    if (strict && !isFill(bytes, at, place)) throw new JpegError("no sound frame header");
    const marker = bytes[place + 1];
    at = place + 2;
    if (marker === EOI) return { ...jpeg, isClosed: true, end: at };
    if (STANDALONE(marker)) continue;
    const segment = segmentAt(bytes, at);
    at += 2 + segment.length;
    if (marker === SOS) {
      const scan = scanOf(jpeg.frame, segment, tables);
      const { intervals, end } = codedIntervals(bytes, at);
      jpeg.scans.push({ ...scan, intervals });
      at = end;
    } else heed(marker, segment, jpeg, tables, at - segment.length);
  }
}

/** Where the next 0xFF is that makes a marker with what follows; -1 where there is none. */
function nextMarker(bytes, from) {
  for (let at = bytes.indexOf(0xff, from); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    if (at + 1 >= bytes.length) return -1;
    if (bytes[at + 1] !== 0 && bytes[at + 1] !== 0xff) return at;
  }
  return -1;
}

/** "width × height" of the frame, by its header alone; empty where there is none. */
export function frameSize(bytes) {
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff;) {
    const kind = bytes[at + 1];
    const number = (place) => bytes[place] * 256 + bytes[place + 1];
    if ([...FRAMES, ...ARITHMETIC].includes(kind)) return `${number(at + 7)} × ${number(at + 5)}`;
    if (kind === SOS) break;
    at += 2 + number(at + 2);
  }
  return "";
}

function isFill(bytes, from, to) {
  return bytes.subarray(from, to).every((byte) => byte === 0xff);
}

function segmentAt(bytes, at) {
  const length = bytes[at] * 256 + bytes[at + 1];
  if (!(length >= 2) || at + length > bytes.length) throw new JpegError("a segment is cut off");
  return bytes.subarray(at + 2, at + length);
}

/** Keeps what a segment says of the scans that follow. */
function heed(marker, segment, jpeg, tables, offset) {
  if (FRAMES.includes(marker)) {
    if (jpeg.frame) throw new JpegError("more than one frame");
    jpeg.frame = frameOf(marker, segment);
  } else if (OTHER_FRAMES.includes(marker)) {
    throw new JpegError("its coding is arithmetic or hierarchical, which is not read");
  } else if (marker === DHT) readHuffman(segment, tables.huffman);
  else if (marker === DQT) readQuantisation(segment, tables.quantisation);
  else if (marker === DRI) tables.restartInterval = restartInterval(segment);
  else if ((marker & 0xf0) === 0xe0 || marker === 0xfe) {
    jpeg.notes.push({ marker, data: segment, offset });
  }
}

function restartInterval(segment) {
  if (segment.length !== 2) throw new JpegError("a restart interval makes no sense");
  return segment[0] * 256 + segment[1];
}

function frameOf(marker, segment) {
  const n = segment[5];
  if (!n || segment.length !== 6 + 3 * n) throw new JpegError("its frame header is cut off");
  const components = Array.from({ length: n }, (_, i) => {
    const [id, sampling, table] = segment.subarray(6 + 3 * i);
    return { id, across: sampling >> 4, down: sampling & 15, table };
  });
  const factors = components.flatMap(({ across, down }) => [across, down]);
  const ids = new Set(components.map(({ id }) => id));
  if (factors.some((factor) => factor < 1 || factor > 4) || ids.size < n) {
    throw new JpegError("its frame header makes no sense");
  }
  return {
    marker,
    precision: segment[0],
    height: segment[1] * 256 + segment[2],
    width: segment[3] * 256 + segment[4],
    components,
  };
}

function readHuffman(segment, tables) {
  for (let at = 0; at < segment.length;) {
    const counts = segment.subarray(at + 1, at + 17);
    const n = counts.reduce((sum, count) => sum + count, 0);
    const symbols = segment.subarray(at + 17, at + 17 + n);
    if (counts.length < 16 || symbols.length < n) throw new JpegError("a table is cut off");
    tables.set(segment[at], { counts, symbols });
    at += 17 + n;
  }
}

function readQuantisation(segment, tables) {
  for (let at = 0; at < segment.length;) {
    const wide = segment[at] >> 4 ? 2 : 1;
    const packed = segment.subarray(at + 1, at + 1 + 64 * wide);
    if (packed.length < 64 * wide) throw new JpegError("a table is cut off");
    const steps = Int32Array.from({ length: 64 }, (_, i) =>
      wide === 2 ? packed[2 * i] * 256 + packed[2 * i + 1] : packed[i],
    );
    tables.set(segment[at] & 15, steps);
    at += 1 + 64 * wide;
  }
}

/** A scan's components with their tables as they are now, and its parameters (B.2.3). */
function scanOf(frame, segment, { huffman, quantisation, restartInterval }) {
  const n = segment[0];
  if (!frame || !n || segment.length !== 4 + 2 * n) throw new JpegError("a scan header is cut off");
  const components = Array.from({ length: n }, (_, i) => {
    const [id, selectors] = segment.subarray(1 + 2 * i);
    const index = frame.components.findIndex((component) => component.id === id);
    if (index < 0) throw new JpegError("a scan of a component that there is not");
    return {
      index,
      dc: huffman.get(selectors >> 4),
      ac: huffman.get(16 + (selectors & 15)),
      steps: quantisation.get(frame.components[index].table),
    };
  });
  if (new Set(components.map(({ index }) => index)).size < n) {
    throw new JpegError("a scan header makes no sense");
  }
  const [first, last, approximation] = segment.subarray(1 + 2 * n);
  return {
    components,
    first,
    last,
    high: approximation >> 4,
    low: approximation & 15,
    restartInterval,
  };
}

/** The coded bytes between restart markers, which must come in turn, and where they end. */
function codedIntervals(bytes, start) {
  const intervals = [];
  for (let from = start; ;) {
    const place = nextMarker(bytes, from);
    const end = place < 0 ? bytes.length : place;
    intervals.push(bytes.subarray(from, end));
    const turn = place < 0 ? -1 : bytes[place + 1] - 0xd0;
    if (turn < 0 || turn > 7) return { intervals, end };
    if (turn !== (intervals.length - 1) % 8) throw new JpegError("restart markers out of turn");
    from = place + 2;
  }
}
