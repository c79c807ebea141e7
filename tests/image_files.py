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
