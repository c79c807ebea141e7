"""What image files say before their pixels, and the plugin of each format."""

import re
from dataclasses import dataclass

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from kneeedge.pixels.bmp import Bmp
from kneeedge.pixels.jpeg import Jpeg
from kneeedge.pixels.png import Png
from kneeedge.pixels.tiff import Tiff
from kneeedge.pixels.webp import WebP

_BITS_TAG = 258
"BitsPerSample: TIFF 6.0, section 8"
_MODE_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded."""

    format: str
    "JPEG, PNG, TIFF, BMP, WEBP or DICOM"
    mode: str
    "layout of the pixels: Pillow's name, as L, RGB or I;16; DICOM's photometric interpretation"
    bit_depth: int
    "bits a channel"
    n_bytes: int
    "of the file; 0 for an image that is in memory"


PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), Png),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), Tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebP),
    (re.compile(rb"BM"), Bmp),
)
"the plugin of each format, by how its files begin"


def header_of(image: Image.Image, n_bytes: int) -> Header:
    """What an image says of itself, best before it is decoded; its file has `n_bytes`."""
    return Header(image.format or "", image.mode, _bit_depth(image), n_bytes)


def _bit_depth(image: Image.Image) -> int:
    """Bits a channel; one where a TIFF has no tag for them (TIFF 6.0)."""
    if isinstance(image, Tiff):
        return image.layout.bits[0]
    if isinstance(image, TiffImageFile):  # opened by Pillow alone, and decoded since
        return int(image.tag_v2.get(_BITS_TAG, (1,))[0])
    if isinstance(image, Png) and image.mode != "P":
        return image.bit_depth
    return _MODE_BITS.get(image.mode, 8)
