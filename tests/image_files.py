"""Image files made by code, for the tests: sound ones by Pillow, the others byte by byte."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
WIDE_RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
CORNERS = np.array([[10, 60, 110], [160, 210, 250]], dtype=np.uint8)
"no symmetry: every turn differs"


def colour(height: int = 6, width: int = 8) -> Image.Image:
    levels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 in double precision, (H, W) float64."""
    return rgb @ np.array([0.299, 0.587, 0.114])


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes that Pillow writes for a format."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def encode_frames(kind: str) -> bytes:
    """A file of three pages, frames or pictures."""
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 120, 240)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def png_header(width: int, height: int, bits: int = 8, colour_type: int = 0) -> bytes:
    """IHDR; colour type 0 is grey, 3 a palette, 6 RGBA."""
    return struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks between its header and its end."""
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in parts)


def tiff(pixels: np.ndarray, order: str = "<", deflate: bool = False, **tags: int) -> bytes:
    """A grey TIFF of a single strip.

    `tags` are photometric (0 is white-is-zero), sample_format (3 is float), bits and width.
    """
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    if deflate:
        data = zlib.compress(data)
    values = {
        256: tags.get("width", width),
        257: height,
        258: tags.get("bits", pixels.dtype.itemsize * 8),
        259: 8 if deflate else 1,
        262: tags.get("photometric", 1),
        273: 8,
        277: 1,
        278: height,
        279: len(data),
        339: tags.get("sample_format", 1),
    }
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(values)) + b"".join(entries) + bytes(4)


def tiff_of(
    strips: list[bytes], tags: dict[int, object], order: str = "<", closing: int = 0
) -> bytes:
    """A TIFF of any layout: strips or tiles, then one directory (TIFF 6.0, section 2).

    A tag's value is a whole number (SHORT, or LONG where it is large), a tuple of them, or bytes
    (ASCII); a tag of None is left out. `closing` is the offset of a further directory.
    """
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    lengths = [len(strip) for strip in strips]
    values = {273: tuple(offsets), 279: tuple(lengths)} | tags
    begin = 8 + sum(lengths)
    after = begin + 2 + 12 * len(values) + 4
    entries = b""
    outside = b""
    for tag, value in sorted((tag, value) for tag, value in values.items() if value is not None):
        code, count, packed = _packed(value, order)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", after + len(outside))
            outside += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, code, count) + place
    magic = b"II*\0" if order == "<" else b"MM\0*"
    n_entries = struct.pack(f"{order}H", len(entries) // 12)
    end = struct.pack(f"{order}I", closing)
    head = magic + struct.pack(f"{order}I", begin) + b"".join(strips)
    return head + n_entries + entries.ljust(12 * len(values), b"\0") + end + outside


def _packed(value: object, order: str) -> tuple[int, int, bytes]:
    """Type code, count and bytes of a tag's value."""
    if isinstance(value, bytes):
        return 2, len(value) + 1, value + b"\0"
    numbers = value if isinstance(value, tuple) else (value,)
    code, letter = (4, "I") if max(numbers) > 65535 else (3, "H")
    return code, len(numbers), struct.pack(f"{order}{len(numbers)}{letter}", *numbers)


def grey_tags(height: int, width: int, bits: int = 8, **more: object) -> dict[int, object]:
    """The tags of a grey TIFF in one strip; `more` by the names of TIFF 6.0."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height}
    return tags | {TIFF_TAGS[name]: value for name, value in more.items()}


TIFF_TAGS = {
    "subfile": 254, "old_subfile": 255, "compression": 259, "photometric": 262, "fill_order": 266,
    "description": 270, "samples": 277, "rows": 278, "planar": 284, "predictor": 317,
    "colours": 320, "tile_width": 322, "tile_length": 323, "tile_offsets": 324,
    "tile_lengths": 325, "ink_set": 332, "extra": 338, "format": 339, "subsampling": 530,
    "bits": 258, "offsets": 273, "lengths": 279, "depth": 32997, "stack": 33629,
    "width": 256, "height": 257,
}  # fmt: skip


def bmp(
    rows: bytes,
    width: int,
    height: int,
    bits: int,
    palette: bytes = b"",
    compression: int = 0,
    masks: tuple[int, ...] = (),
    n_colours: int = 0,
    header_size: int = 40,
) -> bytes:
    """A BMP with rows as they are stored: bottom up, or top down where the height is negative.

    `masks` are of red, green, blue and alpha: behind a header of 40 bytes, inside a larger one.
    """
    head = struct.pack("<IiiHHIIiiII", header_size, width, height, 1, bits, compression, len(rows),
                       2835, 2835, n_colours, 0)  # fmt: skip
    head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(header_size, b"\0") + palette
    offset = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + rows
