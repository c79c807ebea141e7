"""The compressed frame of a DICOM file: its fragments, joined, and whether it is whole.

Decoders fill in what is missing: half a JPEG 2000 comes out as an image. What each format says of
its own parts and its end is held against what is there (PS3.5, annexes A.4 and G; ITU-T T.800).
"""

import math
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from kneeedge.pixels.dicom_jpeg import Scan, scans_of
from kneeedge.pixels.dicom_numbers import DamagedError

if TYPE_CHECKING:
    from pydicom import Dataset


DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
"closes encapsulated pixel data"
_ITEM = b"\xfe\xff\x00\xe0"
_J2K_BEGIN = b"\xff\x4f\xff\x51"
_SIZ, _COD, _COC = b"\xff\x51", b"\xff\x52", b"\xff\x53"
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"
"markers: T.800, table A.2"
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
"of JPEG-LS, whose scans hold no byte of 0x80 or more behind 0xFF (T.87, annex A)"
_SOUND_STYLES = 0b111110
"of code-blocks that are arithmetic codes alone, no raw bits (T.800, table A.19)"
_LONGEST_ZEROS = 64
"bytes; arithmetic coding leaves data as good as random"
_RLE_HEADER_BYTES = 64


def frame_of(pixel_data: bytes) -> bytes:
    """The one frame of encapsulated pixel data: all its fragments, whatever an offset table says.

    Raises DamagedError for fragments that are cut off, or none.
    """
    fragments = []
    at = 0
    while at + 8 <= len(pixel_data) and pixel_data[at : at + 8] != DELIMITER:
        (size,) = struct.unpack_from("<I", pixel_data, at + 4)
        fragment = pixel_data[at + 8 : at + 8 + size]
        if pixel_data[at : at + 4] != _ITEM or len(fragment) != size:
            raise DamagedError("its fragments are cut off or damaged")
        fragments.append(fragment)
        at += 8 + size
    # a file may end within its delimiter
    if not DELIMITER.startswith(pixel_data[at:]) or not any(fragments[1:]):
        raise DamagedError("its fragments are cut off or damaged")
    return b"".join(fragments[1:])


def check_frame(frame: bytes, dataset: "Dataset") -> list[Scan]:
    """The scans of a JPEG, none of other formats; raises DamagedError where it is not whole."""
    from pydicom.uid import (
        JPEG2000TransferSyntaxes,
        JPEGLSTransferSyntaxes,
        JPEGTransferSyntaxes,
        RLELossless,
    )

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in JPEGTransferSyntaxes:
        return scans_of(frame)
    if syntax in JPEG2000TransferSyntaxes:
        check_j2k(frame)
    if syntax in JPEGLSTransferSyntaxes:
        check_jpeg_ls(frame)
    if syntax == RLELossless:
        n_segments = dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        check_rle(frame, n_segments, dataset.Rows * dataset.Columns)
    return []


def check_jpeg_ls(frame: bytes) -> None:
    """Raise DamagedError unless a JPEG-LS ends once; its decoder itself minds holes."""
    _, end, rest = frame.partition(_EOI)
    if not end:
        raise DamagedError("a JPEG-LS without its end")
    if _SOI in rest:
        raise DamagedError("more than one frame")


def check_rle(frame: bytes, n_segments: int, n_bytes: int) -> None:
    """Raise DamagedError unless there are so many segments and each unpacks to `n_bytes`.

    A segment may have padding behind it (PS3.5, G.3.1).
    """
    if len(frame) < _RLE_HEADER_BYTES:
        raise DamagedError("an RLE frame without its header")
    n, *offsets = struct.unpack_from("<16I", frame)
    if n != n_segments:
        raise DamagedError(f"an RLE frame of {n} segments, not {n_segments}")
    bounds = [*offsets[:n], len(frame)]
    if bounds != sorted(bounds) or bounds[0] < _RLE_HEADER_BYTES:
        raise DamagedError("RLE segments out of order")
    for begin, end in pairwise(bounds):
        _check_segment(frame, begin, end, n_bytes)


def _check_segment(frame: bytes, at: int, end: int, n_bytes: int) -> None:
    """Raise DamagedError unless a segment unpacks to `n_bytes` (PS3.5, G.3.2)."""
    n = 0
    while at + 1 < end and n < n_bytes:
        count = frame[at]
        if count < 128:
            n += min(count + 1, end - at - 1)
            at += count + 2
        elif count > 128:
            n += 257 - count
            at += 2
        else:
            at += 1
    if n < n_bytes:
        raise DamagedError(f"an RLE segment of {n} bytes, not {n_bytes}")
    # zeros pad, and 128 stands for nothing
    if n > n_bytes or frame[at:end].strip(b"\0\x80"):
        raise DamagedError(f"an RLE segment of more than {n_bytes} bytes")


class _Tiles(NamedTuple):
    """The tiles of a codestream, by its main header (T.800, A.5.1 and A.6.1)."""

    n: int
    longest_zeros: int
    "bytes that a sound tile may hold in a row; 0 where that is not known"


def check_j2k(stream: bytes) -> None:
    """Raise DamagedError where a JPEG 2000 codestream lacks tiles or its end, or has a hole.

    Each tile-part gives its length, and one of a tile how many there are (T.800, A.4.2).
    """
    try:
        _check_j2k(stream)
    except (struct.error, LookupError, ZeroDivisionError) as error:
        raise DamagedError("a JPEG 2000 codestream whose header is cut off") from error


def _check_j2k(stream: bytes) -> None:
    segments, at = _main_header(stream)
    tiles = _tiles(segments)
    hole = bytes(min(tiles.longest_zeros, len(stream)))
    n_parts: dict[int, int] = {}
    n_declared: dict[int, int] = {}
    while stream[at : at + 2] == _SOT:
        tile, size, part, declared = struct.unpack_from(">HIBB", stream, at + 4)
        end = at + size if size else stream.rfind(_EOC)
        if not at + 14 <= end <= len(stream):
            raise DamagedError(f"a JPEG 2000 codestream whose tile {tile} is cut off")
        if hole and stream.find(hole, at, end) >= 0:
            raise DamagedError(f"a JPEG 2000 codestream with a hole of zeros in tile {tile}")
        # parts come in turn
        if part == n_parts.get(tile, 0):
            n_parts[tile] = part + 1
        # some encoders declare one too few
        n_declared[tile] = max(declared, part + 1, n_declared.get(tile, 0))
        at = end
    _check_end(stream[at:])
    if len(n_parts) != tiles.n or max(n_parts) >= tiles.n:
        raise DamagedError(f"a JPEG 2000 codestream of {len(n_parts)} tiles, not {tiles.n}")
    if n_parts != n_declared:
        raise DamagedError("a JPEG 2000 codestream without all parts of its tiles")


def _check_end(rest: bytes) -> None:
    if not rest.startswith(_EOC):
        raise DamagedError("a JPEG 2000 codestream without its end")
    if _J2K_BEGIN in rest:
        raise DamagedError("more than one frame")


def _main_header(stream: bytes) -> tuple[dict[bytes, bytes], int]:
    """The segments up to the first tile-part, by marker, and where that begins."""
    at = stream.find(_J2K_BEGIN) + 2
    segments: dict[bytes, bytes] = {}
    while stream[at : at + 2] != _SOT:
        (size,) = struct.unpack_from(">H", stream, at + 2)
        segments[stream[at : at + 2]] = stream[at + 4 : at + 2 + size]
        at += 2 + size
    return segments, at


def _tiles(segments: dict[bytes, bytes]) -> _Tiles:
    right, bottom, left, top, width, height, tile_left, tile_top, components = struct.unpack_from(
        ">8IH", segments[_SIZ], 2
    )
    across = math.ceil((right - tile_left) / width)
    down = math.ceil((bottom - tile_top) / height)
    sides = (min(width, right - left), min(height, bottom - top))
    style = segments[_COD]
    if style[8] & ~_SOUND_STYLES or _COC in segments:
        return _Tiles(across * down, 0)
    return _Tiles(across * down, _LONGEST_ZEROS + components * _header_zeros(style, *sides))


def _header_zeros(style: bytes, width: int, height: int) -> int:
    """Zero bytes that the packet headers of one component of a tile may hold in a row, at most.

    An empty packet is one of them (T.800, B.10.3); in others a code-block that adds nothing is a
    bit, and there are at most twice as many blocks as tile them at full resolution.
    """
    layers, _, levels, block_across, block_down = struct.unpack_from(">HBBBB", style, 2)
    blocks = 2 * math.ceil(width / (4 << block_across)) * math.ceil(height / (4 << block_down))
    n_zeros: int = blocks // 8
    for level in range(levels + 1):
        precinct = style[10 + level] if style[0] & 1 else 0xFF
        columns = math.ceil(width / (1 << (levels - level + (precinct & 15)))) + 1
        rows = math.ceil(height / (1 << (levels - level + (precinct >> 4)))) + 1
        n_zeros += int(layers * columns * rows)
    return n_zeros
