"""JPEG frames made bit by bit, for the tests: lossless ones, and sequential ones of flat blocks.

Written from ITU-T T.81 alone, so that neither GDCM nor kneeedge is held against itself.
"""

import struct

import numpy as np

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
CATEGORIES = range(17)
"bits of a difference, each with a code of 5 bits"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def table(selector: int, length: int, symbols: bytes) -> bytes:
    """A Huffman table whose codes are all of one length, in turn."""
    counts = bytes(len(symbols) if bits == length else 0 for bits in range(1, 17))
    return segment(0xC4, bytes([selector]) + counts + symbols)


def entropy_coded(bits: str) -> bytes:
    """The bits, padded with ones and stuffed (F.1.2.3)."""
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return data.replace(b"\xff", b"\xff\0")


def coded(difference: int) -> str:
    """Its category and, of 1 to 15, the bits that follow it (F.1.2.1, H.1.2.2)."""
    category = abs(difference).bit_length()
    code = format(category, "05b")
    if category in (0, 16):
        return code
    extra = difference if difference > 0 else difference + (1 << category) - 1
    return code + format(extra, f"0{category}b")


def predicted(predictor: int, left: int, above: int, corner: int) -> int:
    """Table H.1."""
    return (
        0,
        left,
        above,
        corner,
        left + above - corner,
        left + ((above - corner) >> 1),
        above + ((left - corner) >> 1),
        (left + above) >> 1,
    )[predictor]


def lossless(
    samples: np.ndarray, bits: int, predictor: int = 1, rows_per_restart: int = 0, shift: int = 0
) -> bytes:
    """A lossless frame (process 14) of samples (H, W)."""
    rows, columns = samples.shape
    points = samples.astype(int) >> shift
    interval = rows_per_restart or rows
    parts = []
    for begin in range(0, rows, interval):
        lines = points[begin : begin + interval].tolist()
        parts.append(entropy_coded(_differences(lines, predictor, 1 << (bits - shift - 1))))
    frame = SOI + segment(0xC3, struct.pack(">BHHB", bits, rows, columns, 1) + b"\1\x11\0")
    frame += table(0, 5, bytes(CATEGORIES))
    if rows_per_restart:
        frame += segment(0xDD, struct.pack(">H", rows_per_restart * columns))
    return frame + segment(0xDA, bytes([1, 1, 0, predictor, 0, shift])) + joined(parts) + EOI


def _differences(lines: list[list[int]], predictor: int, middle: int) -> str:
    bits = ""
    for y, line in enumerate(lines):
        for x, point in enumerate(line):
            if y == 0:
                prediction = line[x - 1] if x else middle
            elif x == 0:
                prediction = lines[y - 1][0]
            else:
                above = lines[y - 1]
                prediction = predicted(predictor, line[x - 1], above[x], above[x - 1])
            difference = (point - prediction) % 65536
            bits += coded(difference - 65536 if difference > 32768 else difference)
    return bits


def joined(parts: list[bytes]) -> bytes:
    """Entropy-coded segments with restart markers between them (E.1.4)."""
    data = parts[0]
    for number, part in enumerate(parts[1:]):
        data += bytes([0xFF, 0xD0 + number % 8]) + part
    return data


def flat_blocks(levels: np.ndarray, bits: int, blocks_per_restart: int = 0) -> bytes:
    """A sequential frame of flat blocks of 8 × 8, of these levels (H, W), exactly.

    The first coefficient is 8 × the level, which a quantisation of 8 divides by 8 again.
    """
    rows, columns = levels.shape
    offsets = (levels.astype(int) - (1 << (bits - 1))).ravel().tolist()
    interval = blocks_per_restart or len(offsets)
    parts = []
    for begin in range(0, len(offsets), interval):
        inside = offsets[begin : begin + interval]
        steps = np.diff([0, *inside]).tolist()
        # the end of the block has the one code "0"
        parts.append(entropy_coded("".join(coded(step) + "0" for step in steps)))
    marker = 0xC0 if bits == 8 else 0xC1
    frame = SOI + segment(0xDB, b"\0" + bytes([8] * 64))
    frame += segment(marker, struct.pack(">BHHB", bits, 8 * rows, 8 * columns, 1) + b"\1\x11\0")
    frame += table(0, 5, bytes(range(12 if bits == 8 else 16))) + table(0x10, 1, b"\0")
    if blocks_per_restart:
        frame += segment(0xDD, struct.pack(">H", blocks_per_restart))
    return frame + segment(0xDA, b"\1\1\0\0\x3f\0") + joined(parts) + EOI
