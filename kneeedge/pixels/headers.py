"""What image files say before their pixels: sizes, pages and tags, read without Pillow's warnings.

`Image.open` and Pillow's EXIF reader are not used: they warn (of large images, of damaged tags),
and warning filters are shared by all threads.
"""

import re
import struct

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

ORIENTATION, BITS, PHOTOMETRIC, MPF_PICTURES = 0x0112, 0x0102, 0x0106, 0xB001
_TIFF_TYPE_BYTES = (
    0,
    1,
    1,
    2,
    4,
    8,
    1,
    1,
    2,
    4,
    8,
    4,
    8,
    4,
    0,
    0,
    8,
    8,
    8,
)  # by type code; TIFF 6.0 and BigTIFF


class QuietMetadata(ImageFile.ImageFile):
    """A plugin whose EXIF is the orientation alone, read without warnings."""

    _quiet: Image.Exif | None = None

    def getexif(self) -> Image.Exif:
        """The orientation, kept once read: `exif_transpose` takes it out when it has turned the
        image.
        """
        if self._quiet is None:
            self._quiet = Image.Exif()
            block = self.info.get("exif", b"").removeprefix(b"Exif\0\0")
            tags = self.tag_v2 if isinstance(self, TiffImageFile) else embedded_tags(block)
            self._quiet[ORIENTATION] = tags.get(ORIENTATION, 1)
        return self._quiet


class Jpeg(QuietMetadata, JpegImageFile): ...


class Png(QuietMetadata, PngImageFile): ...


class Tiff(QuietMetadata, TiffImageFile): ...


class WebP(QuietMetadata, WebPImageFile): ...


PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), Png),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), Tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebP),
    (re.compile(rb"BM"), BmpImageFile),
)


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk (RFC 9649, sections 2.5 to 2.7); raises struct.error
    where it is cut off.
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
    """1, or 2 where more pages follow; raises ValueError where the first directory is not all in
    the file.
    """
    _, reach, following = _directory(data)
    if max(reach, following) > len(data):
        raise ValueError("truncated TIFF")
    return 2 if following else 1


def embedded_tags(block: bytes) -> dict[int, int]:
    """Numbers by tag of the TIFF directory in an EXIF or multi-picture block; none where it is
    damaged.
    """
    try:
        return _directory(block + bytes(8))[
            0
        ]  # cameras leave out the offset that closes a directory
    except ValueError:
        return {}


def _directory(block: bytes) -> tuple[dict[int, int], int, int]:
    """A TIFF's first directory: whole numbers by tag, where its values end, and the next
    directory's offset.

    TIFF 6.0, section 2; BigTIFF (version 43) has wider counts and offsets. Raises ValueError where
    it is cut off.
    """
    order = "<" if block[:2] == b"II" else ">"
    big = block[2:4] in (b"+\0", b"\0+")
    count_format, entry_format, offset_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    try:
        (begin,) = struct.unpack_from(order + offset_format, block, 8 if big else 4)
        (n_entries,) = struct.unpack_from(order + count_format, block, begin)
        begin += struct.calcsize(order + count_format)
        end = begin + n_entries * struct.calcsize(order + entry_format)
        (following,) = struct.unpack_from(order + offset_format, block, end)
    except (struct.error, OverflowError) as error:
        raise ValueError("truncated TIFF") from error
    tags: dict[int, int] = {}
    reach = end
    total = 0
    for tag, kind, count, value in struct.iter_unpack(order + entry_format, block[begin:end]):
        size = count * (_TIFF_TYPE_BYTES[kind] if kind < len(_TIFF_TYPE_BYTES) else 0)
        if size > len(value):
            total += size  # Pillow counts like this too: values that overlap are suspect
            reach = max(reach, total, size + struct.unpack(order + offset_format, value)[0])
        elif kind in (3, 4) and count == 1:
            tags.setdefault(tag, struct.unpack_from(order + "HI"[kind - 3], value)[0])
    return tags, reach, following
