"""Files and folders to grey pixels: what kneeedge takes for an image, and how it is read.

A file is read whole and handed to the Pillow plugin for its content. `Image.open` and Pillow's EXIF reader are
not used: they warn (of large images, of damaged tags), and warning filters are shared by all threads.
"""

import hashlib
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from kneeedge.dicom import PREAMBLE, DicomFacts, decode_dicom, is_dicom
from kneeedge.errors import DataError, ImageError, NotFoundError, TooLargeError

MAX_PIXELS = 2**26  # 67 million: twice a stitched full-leg radiograph; 256 MB as RGBA; below Pillow's own warning
MAX_BYTES = 2**30  # a file of MAX_PIXELS is smaller in every usual layout
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".dcm", ".dicom")
_NO_SUFFIX = re.compile(r"[^.]*|.*\.\d+", re.DOTALL)  # DICOM files are often named by nothing, or by their UID
_DIRECTORY = "DICOMDIR"  # an index of a medium, and no image

_ORIENTATION, _BITS, _PHOTOMETRIC, _MPF_PICTURES = 0x0112, 0x0102, 0x0106, 0xB001
_TIFF_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # by type code; TIFF 6.0 and BigTIFF

_MODE_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}

_DECODER_ERRORS = (
    OSError,  # truncated or damaged pixels, and what a plugin does not support
    SyntaxError,  # Pillow's word for a header that is not of its format
    ValueError,  # a mode with no way to grey; text chunks that unpack to too much
    TypeError,  # a tag whose value is of another type than the plugin expects
    LookupError,  # a code that a plugin's table does not hold
    OverflowError,  # a size that does not fit the decoder
    EOFError,  # a file that ends inside a frame
    AssertionError,  # a PNG of colours without its palette
    struct.error,  # a file that ends inside a header
    zlib.error,  # a damaged compressed chunk
    Image.DecompressionBombError,  # Pillow's own limit, where a plugin applies it
    Warning,  # Pillow's remarks on odd headers, where the caller has made warnings errors
)


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A file to be read as an image; small, since a folder may hold 100,000: one string of its own."""

    folder: str
    "the folder given, or empty for a file given"
    below: str
    "POSIX path relative to the folder, or the file as given"
    prefix: str = ""
    "what the name has before it: the folder, where several paths are given"

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.folder, self.below)

    @property
    def name(self) -> str:
        """POSIX path relative to the folder given; as given for a file, and behind its folder where several are."""
        return self.prefix + self.below


@dataclass(frozen=True)
class Listing:
    """What the paths given hold; hidden files are in neither."""

    images: tuple[FoundImage, ...]
    others: tuple[Path, ...]
    "files of another suffix, and whatever is not a regular file; never opened"


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded."""

    format: str
    "JPEG, PNG, TIFF, BMP, WEBP or DICOM"
    mode: str
    "Pillow's name for the pixels' layout, such as L, RGB or I;16; DICOM's photometric interpretation"
    bit_depth: int
    "bits a channel"
    n_bytes: int
    "of the file"


@dataclass(frozen=True)
class Picture:
    """The pixels of one image file, and what the file says of itself."""

    grey: NDArray[np.uint8]
    "(H, W), upright"
    header: Header
    dicom: DicomFacts | None = None
    "absent for other formats"


@dataclass(frozen=True)
class WholeFile:
    """One image file, read and decoded once."""

    header: Header
    sha256: str
    "of the file's bytes"
    grey: NDArray[np.uint8]
    "(H, W) at full size, upright"


def find_images(paths: Sequence[Path], least: int = 1) -> Listing:
    """The images of the files and folders given, in that order and by name inside a folder.

    A file given is an image whatever its suffix; a folder is read recursively, but for hidden files and linked
    folders. Raises NotFoundError for a missing path; DataError for fewer images than `least`, or a
    folder that cannot be listed.
    """
    images: list[FoundImage] = []
    others: list[FoundImage] = []
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path} is not there", "check the path")
        if path.is_dir():
            folder, prefix = os.fspath(path), f"{path.as_posix().rstrip('/')}/" if len(paths) > 1 else ""
            for below, good in sorted(_walk(folder)):
                (images if good else others).append(FoundImage(folder, below, prefix))
        else:
            (images if path.is_file() else others).append(FoundImage("", path.as_posix()))
    if len(images) < least:
        where = ", ".join(map(str, paths)) or "no path given"
        raise DataError(where, "no images found", f"give files, or folders with {' '.join(IMAGE_SUFFIXES)}")
    if len(paths) > 1:  # one of them may be inside another
        images = list({image.name: image for image in images}.values())
    return Listing(tuple(images), tuple(dict.fromkeys(other.path for other in others)))


def _walk(folder: str) -> Iterator[tuple[str, bool]]:
    """Relative POSIX path of each file under `folder`, and whether it is an image; in no order."""
    pending = [("", folder)]
    while pending:
        prefix, here = pending.pop()
        try:
            with os.scandir(here) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(here, f"cannot be listed ({error.strerror})", "make the folder readable") from error
        for entry in visible:
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{prefix}{entry.name}/", entry.path))
            else:
                yield prefix + entry.name, _is_image(entry)


def _is_image(entry: os.DirEntry[str]) -> bool:
    try:
        if entry.name.lower().endswith(IMAGE_SUFFIXES):
            return entry.is_file()
        return bool(_NO_SUFFIX.fullmatch(entry.name)) and entry.name != _DIRECTORY and _begins_as_dicom(entry)
    except OSError:  # a link in a circle, through a folder or to a file that may not be read
        return False


def _begins_as_dicom(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file():  # a pipe or a device is never opened
        return False
    with open(entry.path, "rb") as file:  # noqa: PTH123 - 100,000 paths need no Path each
        return is_dicom(file.read(PREAMBLE + 4))


def read_grey(path: Path, size: int, window: int = 0) -> NDArray[np.uint8]:
    """Grey pixels (H, W) uint8 as `read_picture` gives them."""
    return read_picture(path, size, window).grey


def read_picture(path: Path, size: int, window: int = 0, max_pixels: int = MAX_PIXELS) -> Picture:
    """The grey pixels of a JPEG, PNG, TIFF, BMP, WebP or DICOM file, upright by its EXIF orientation.

    Colour becomes ITU-R 601 luma; transparent pixels lie on black; 16- and 32-bit pixels follow `_narrow`, DICOM its
    own grey scale (`kneeedge.dicom`; `window` picks among several windows). A JPEG much larger than `size` is decoded
    at reduced scale, both sides at least 2 × `size`. Else raises ImageError; for more than `max_pixels` undecoded.
    """
    return _decode(_read_bytes(path), path, size, window, max_pixels)


def read_file(path: Path) -> WholeFile:
    """What one file says of itself, its hash and its grey pixels at full size; raises ImageError as `read_grey`."""
    data = _read_bytes(path)
    picture = _decode(data, path, MAX_PIXELS, 0, MAX_PIXELS)
    return WholeFile(picture.header, hashlib.sha256(data).hexdigest(), picture.grey)


def _decode(data: bytes, path: Path, size: int, window: int, max_pixels: int) -> Picture:
    if is_dicom(data):
        grey, facts = decode_dicom(data, path, window, max_pixels)
        return Picture(grey, Header("DICOM", facts.photometric, facts.bits_stored, len(data)), facts)
    try:
        with _open(data, path, max_pixels) as image:
            header = Header(image.format or "", image.mode, _bit_depth(image), len(data))
            image.draft("L", (2 * size, 2 * size))  # only JPEG heeds it
            ImageOps.exif_transpose(image, in_place=True)
            return Picture(_narrow(image, path) if image.mode[0] in "IF" else _grey(image), header)
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(path, f"damaged or unsupported image ({detail})") from error


def _bit_depth(image: ImageFile.ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2.get(_BITS, (1,))[0])  # TIFF 6.0: one bit where the tag is absent
    return _MODE_BITS.get(image.mode, 8)


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_BYTES:
            return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(path, "is not there", "check the path") from error
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    raise ImageError(path, f"is larger than {MAX_BYTES} bytes" if status.st_size else "is empty")


def _open(data: bytes, path: Path, max_pixels: int) -> ImageFile.ImageFile:
    """The one picture in `data`, header read and pixels not yet decoded."""
    plugin = next((plugin for magic, plugin in _PLUGINS if magic.match(data)), None)
    if plugin is None:
        raise ImageError(path, "is not a JPEG, PNG, TIFF, BMP, WebP or DICOM image")
    n_pages = _tiff_pages(data) if plugin is _Tiff else 1  # first: Pillow only warns of what this refuses
    if plugin is _WebP:  # Pillow takes the memory for it at once
        _check_size(path, *_webp_size(data), max_pixels)
    image = plugin(io.BytesIO(data))  # no file name: Pillow 13 would map a raw TIFF and mix up its turned sides
    if n_pages > 1 or _n_frames(image) > 1:
        raise ImageError(path, "holds more than one picture (pages or frames)", "save the one that is meant")
    _check_size(path, image.width, image.height, max_pixels)
    return image


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise ImageError(path, "holds no pixels")
    if width * height > max_pixels:
        raise TooLargeError(path, width, height, max_pixels)


def _n_frames(image: ImageFile.ImageFile) -> int:
    """Frames of a PNG or WebP; pictures in a JPEG's multi-picture index, where an HDR gain map is not one."""
    if isinstance(image, JpegImageFile):
        gain_map = any(b"hdrgm:Version" in content for _, content in image.applist)
        return 1 if gain_map else _embedded_tags(image.info.get("mp", b"")).get(_MPF_PICTURES, 1)
    return int(image.n_frames) if isinstance(image, PngImageFile | WebPImageFile) else 1


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels (H, W) uint8 of 1- or 8-bit pixels."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    elif image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.array(image.convert("L"))


def _narrow(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Grey levels (H, W) uint8 of wider pixels, by a rule that never looks at the image's own maximum.

    Integers run from 0 to 65535 (to 4095 in a 12-bit TIFF) whatever they are stored in, floats from 0 to 1; that
    range maps to 0…255, rounded. Anything outside it, NaN included, raises ImageError.
    """
    values = np.array(image, dtype=np.float32)  # exact: 65535 × 255 < 2**24
    tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImageFile) else {_PHOTOMETRIC: 1}
    top = 1 if image.mode == "F" else 4095 if tags.get(_BITS) == (12,) else 65535
    if not (values.min() >= 0 and values.max() <= top):
        raise ImageError(path, f"{'floating-point' if top == 1 else 'integer'} pixels outside 0 to {top}")
    if "transparency" in image.info:  # the one level that a 16-bit PNG calls transparent
        values[values == image.info["transparency"]] = 0
    if tags.get(_PHOTOMETRIC, 0) == 0:  # MinIsWhite, which Pillow turns over up to 8 bits only
        values = top - values
    return np.rint(values * 255 / top).astype(np.uint8)


class _QuietMetadata(ImageFile.ImageFile):
    """A plugin whose EXIF is the orientation alone, read without warnings."""

    _quiet: Image.Exif | None = None

    def getexif(self) -> Image.Exif:
        """The orientation, kept once read: `exif_transpose` takes it out when it has turned the image."""
        if self._quiet is None:
            self._quiet = Image.Exif()
            block = self.info.get("exif", b"").removeprefix(b"Exif\0\0")
            tags = self.tag_v2 if isinstance(self, TiffImageFile) else _embedded_tags(block)
            self._quiet[_ORIENTATION] = tags.get(_ORIENTATION, 1)
        return self._quiet


class _Jpeg(_QuietMetadata, JpegImageFile): ...


class _Png(_QuietMetadata, PngImageFile): ...


class _Tiff(_QuietMetadata, TiffImageFile): ...


class _WebP(_QuietMetadata, WebPImageFile): ...


_PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _Png),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _Tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _WebP),
    (re.compile(rb"BM"), BmpImageFile),
)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk (RFC 9649, sections 2.5 to 2.7); raises struct.error where it is cut off."""
    if data[12:16] == b"VP8X":
        low, high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + low + (high << 16), 1 + height_low + (height_high << 16)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    width, height = struct.unpack_from("<HH", data, 26)
    return width % 2**14, height % 2**14


def _tiff_pages(data: bytes) -> int:
    """1, or 2 where more pages follow; raises ValueError where the first directory is not all in the file."""
    _, reach, following = _directory(data)
    if max(reach, following) > len(data):
        raise ValueError("truncated TIFF")
    return 2 if following else 1


def _embedded_tags(block: bytes) -> dict[int, int]:
    """Numbers by tag of the TIFF directory in an EXIF or multi-picture block; none where it is damaged."""
    try:
        return _directory(block + bytes(8))[0]  # cameras leave out the offset that closes a directory
    except ValueError:
        return {}


def _directory(block: bytes) -> tuple[dict[int, int], int, int]:
    """A TIFF's first directory: whole numbers by tag, where its values end, and the next directory's offset.

    TIFF 6.0, section 2; BigTIFF (version 43) has wider counts and offsets. Raises ValueError where it is cut off.
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
    reach, total = end, 0
    for tag, kind, count, value in struct.iter_unpack(order + entry_format, block[begin:end]):
        size = count * (_TIFF_TYPE_BYTES[kind] if kind < len(_TIFF_TYPE_BYTES) else 0)
        if size > len(value):
            total += size  # Pillow counts like this too: values that overlap are suspect
            reach = max(reach, total, size + struct.unpack(order + offset_format, value)[0])
        elif kind in (3, 4) and count == 1:
            tags.setdefault(tag, struct.unpack_from(order + "HI"[kind - 3], value)[0])
    return tags, reach, following
