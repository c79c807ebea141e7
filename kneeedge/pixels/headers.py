"""What image files say before their pixels: sizes, pages and tags, read without Pillow's warnings.

`Image.open` and Pillow's EXIF reader are not used: they warn (of large images, of damaged tags),
and warning filters are shared by all threads.
"""

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

# TIFF 6.0, and CIPA DC-007 for JPEGs of several pictures
BITS_TAG = 0x0102
PHOTOMETRIC_TAG = 0x0106
_ORIENTATION_TAG = 0x0112
_N_PICTURES_TAG = 0xB001

_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"of a value by its type code: TIFF 6.0 and BigTIFF"
_SHORT, _LONG = 3, 4
"type codes of whole numbers of 2 and of 4 bytes"
_FORMATS = ("H", "HHI4s", "I")
"how a TIFF directory's count of entries, an entry and an offset are packed"
_BIG_FORMATS = ("Q", "HHQ8s", "Q")
"how BigTIFF (version 43) packs them"

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


class QuietExif(ImageFile.ImageFile):
    """A plugin whose EXIF is the orientation alone, read without warnings."""

    _exif_kept: Image.Exif | None = None

    def getexif(self) -> Image.Exif:
        """The orientation, read once: `exif_transpose` takes it out once the image is turned."""
        if self._exif_kept is None:
            self._exif_kept = Image.Exif()
            if isinstance(self, TiffImageFile):
                orientation = self.tag_v2.get(_ORIENTATION_TAG, 1)
            else:
                orientation = orientation_of(self)
            self._exif_kept[_ORIENTATION_TAG] = orientation
        return self._exif_kept


class Jpeg(QuietExif, JpegImageFile): ...


class Png(QuietExif, PngImageFile): ...


class Tiff(QuietExif, TiffImageFile): ...


class WebP(QuietExif, WebPImageFile): ...


PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), Png),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), Tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebP),
    (re.compile(rb"BM"), BmpImageFile),
)
"the plugin of each format, by how its files begin"


def orientation_of(image: Image.Image) -> int:
    """The orientation in the EXIF block that an image carries; 1 without one, or a damaged one.

    A TIFF has none: Pillow turns it as it decodes it.
    """
    block = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    return _embedded_tags(block).get(_ORIENTATION_TAG, 1)


def header_of(image: Image.Image, n_bytes: int) -> Header:
    """What an image says of itself, best before it is decoded; its file has `n_bytes`."""
    return Header(image.format or "", image.mode, _bit_depth(image), n_bytes)


def _bit_depth(image: Image.Image) -> int:
    """Bits a channel; one where a TIFF has no tag for them (TIFF 6.0)."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2.get(BITS_TAG, (1,))[0])
    return _MODE_BITS.get(image.mode, 8)


def n_frames(image: ImageFile.ImageFile) -> int:
    """Frames of a PNG or WebP, and pictures in a JPEG's index, where an HDR gain map is not one."""
    if isinstance(image, JpegImageFile):
        if any(b"hdrgm:Version" in content for _, content in image.applist):
            return 1
        return _embedded_tags(image.info.get("mp", b"")).get(_N_PICTURES_TAG, 1)
    return int(image.n_frames) if isinstance(image, PngImageFile | WebPImageFile) else 1


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk (RFC 9649, sections 2.5 to 2.7).

    Raises struct.error where it is cut off.
    """
    if data[12:16] == b"VP8X":
        low, high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + low + (high << 16), 1 + height_low + (height_high << 16)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    width, height = struct.unpack_from("<HH", data, 26)
    return width % 2**14, height % 2**14


def tiff_pages(data: bytes) -> int:
    """1, or 2 where more pages follow.

    Raises ValueError where the first directory, or a value that it points to, is cut off.
    """
    directory = _directory(data)
    if max(directory.values_end, directory.next_offset) > len(data):
        raise ValueError("truncated TIFF")
    return 2 if directory.next_offset else 1


def _embedded_tags(block: bytes) -> dict[int, int]:
    """Numbers by tag of the directory in an EXIF or multi-picture block; none if it is damaged."""
    try:
        # cameras leave out the offset that closes a directory
        return _directory(block + bytes(8)).numbers
    except ValueError:
        return {}


class _Directory(NamedTuple):
    """The first directory of a TIFF file or block."""

    numbers: dict[int, int]
    "single whole numbers by tag"
    values_end: int
    "where the last of its values ends, in bytes"
    next_offset: int
    "of the directory that follows, in bytes; 0 where none does"


def _directory(block: bytes) -> _Directory:
    """The first directory (TIFF 6.0, section 2); raises ValueError where it is cut off."""
    order = "<" if block[:2] == b"II" else ">"
    big = block[2:4] in (b"+\0", b"\0+")
    formats = _BIG_FORMATS if big else _FORMATS
    count_format, entry_format, offset_format = (order + letters for letters in formats)
    try:
        (begin,) = struct.unpack_from(offset_format, block, 8 if big else 4)
        (n_entries,) = struct.unpack_from(count_format, block, begin)
        begin += struct.calcsize(count_format)
        end = begin + n_entries * struct.calcsize(entry_format)
        (next_offset,) = struct.unpack_from(offset_format, block, end)
    except (struct.error, OverflowError) as error:
        raise ValueError("truncated TIFF") from error
    numbers: dict[int, int] = {}
    values_end = end
    outside_bytes = 0
    for tag, code, count, value in struct.iter_unpack(entry_format, block[begin:end]):
        size = count * (_TYPE_BYTES[code] if code < len(_TYPE_BYTES) else 0)
        if size > len(value):
            # Pillow adds the sizes up too: values that overlap are suspect
            outside_bytes += size
            (offset,) = struct.unpack(offset_format, value)
            values_end = max(values_end, outside_bytes, offset + size)
        elif code in (_SHORT, _LONG) and count == 1:
            number_format = order + ("H" if code == _SHORT else "I")
            numbers.setdefault(tag, struct.unpack_from(number_format, value)[0])
    return _Directory(numbers, values_end, next_offset)
