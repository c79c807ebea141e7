"""An image file to grey pixels.

It is read whole and handed to the Pillow plugin for its content, or to pydicom.
"""

import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from kneeedge.errors import ImageError, TooLargeError
from kneeedge.pixels.dicom import decode_dicom, is_dicom
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.pixels.headers import (
    BITS_TAG,
    PHOTOMETRIC_TAG,
    PLUGINS,
    Header,
    Tiff,
    WebP,
    header_of,
    n_frames,
    orientation_of,
    tiff_pages,
    webp_size,
)
from kneeedge.system.own import HEAD_BYTES, is_own_picture
from kneeedge.system.stamps import FileStamp, stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PIXELS = 2**26
"67 million: twice a stitched full-leg radiograph; 256 MB as RGBA; below Pillow's own warning"
MAX_BYTES = 2**30
"a file of MAX_PIXELS is smaller in every usual layout"
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
"photometric interpretations of TIFF 6.0"

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


@dataclass(frozen=True)
class Picture:
    """The pixels of one image file, and what the file says of itself."""

    grey: NDArray[np.uint8]
    "(H, W), upright"
    header: Header
    dicom: DicomFacts | None = None
    "absent for other formats"
    study: DicomStudy | None = None
    "absent for other formats"


@dataclass(frozen=True)
class WholeFile:
    """One image file, read and decoded once."""

    header: Header
    sha256: str
    "of the file's bytes"
    grey: NDArray[np.uint8]
    "(H, W) at full size, upright"


@dataclass(frozen=True)
class FileContent:
    """A file's bytes, and what it was when they were read."""

    status: os.stat_result
    "taken after the file was opened and before it was read"
    data: bytes

    def stamp(self) -> FileStamp:
        """Size, times and hash; the hash takes about a millisecond a megabyte."""
        return stamp_of(self.status, self.data)


def read_grey(path: Path, size: int, window: int = 0) -> NDArray[np.uint8]:
    """Grey pixels (H, W) uint8 as `read_picture` gives them."""
    return read_picture(path, size, window).grey


def read_picture(path: Path, size: int, window: int = 0, max_pixels: int = MAX_PIXELS) -> Picture:
    """The grey pixels of a JPEG, PNG, TIFF, BMP, WebP or DICOM file, turned upright by its EXIF.

    Colour becomes ITU-R 601 luma; transparent pixels lie on black; 16- and 32-bit pixels follow
    `_narrow`, DICOM its own grey scale (`kneeedge.pixels.dicom`; `window` picks among several
    windows). A JPEG much larger than `size` is decoded at reduced scale, both sides at least 2 ×
    `size`. Raises ImageError for a file that gives no pixels, or more than `max_pixels`; those
    are never decoded.
    """
    return decode_picture(read_bytes(path).data, path, size, window, max_pixels)


def picture_of_image(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """The grey pixels of an image in memory, by the rules of `read_picture` for its mode.

    It is turned upright by the EXIF that it carries, in a copy. Raises ImageError, which calls it
    `name`, for an image of several frames, or of more than `max_pixels`.
    """
    path = Path(name)
    try:
        if getattr(image, "n_frames", 1) > 1:
            problem = "holds more than one picture (pages or frames)"
            raise ImageError(name, problem, "give a copy of the one that is meant: image.copy()")
        _check_size(path, image.width, image.height, max_pixels)
        image.load()
        # a copy is no TiffImageFile, whose tags `_narrow` needs
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        wide = image.mode[0] in "IF"
        grey = _narrow(upright, path) if wide else _grey(upright)
        return Picture(grey, header_of(image, 0))
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(name, f"damaged or unsupported image ({detail})") from error


def read_file(path: Path) -> WholeFile:
    """What a file says of itself, its hash and its grey pixels at full size.

    Raises ImageError for a file that gives no pixels, or more than MAX_PIXELS.
    """
    content = read_bytes(path)
    picture = decode_picture(content.data, path, MAX_PIXELS, 0, MAX_PIXELS)
    return WholeFile(picture.header, content.stamp().sha256, picture.grey)


def decode_picture(data: bytes, path: Path, size: int, window: int, max_pixels: int) -> Picture:
    """What `read_picture` gives for a file of these bytes; `path` is named in what it raises."""
    if is_dicom(data):
        grey, facts, study = decode_dicom(data, path, window, max_pixels)
        header = Header("DICOM", facts.photometric, facts.bits_stored, len(data))
        return Picture(grey, header, facts, study)
    try:
        with _open(data, path, max_pixels) as image:
            header = header_of(image, len(data))
            image.draft("L", (2 * size, 2 * size))  # only JPEG heeds it
            ImageOps.exif_transpose(image, in_place=True)
            wide = image.mode[0] in "IF"
            return Picture(_narrow(image, path) if wide else _grey(image), header)
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(path, f"damaged or unsupported image ({detail})") from error


def read_bytes(path: Path) -> FileContent:
    """All of a regular file of 1 to MAX_BYTES bytes; raises ImageError for any other."""
    try:
        status = path.stat()
        # a pipe or a device is never opened
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_BYTES:
            with path.open("rb") as file:
                return FileContent(os.fstat(file.fileno()), file.read())
    except FileNotFoundError as error:
        raise ImageError(path, "is not there", "check the path") from error
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file")
    raise ImageError(path, f"is larger than {MAX_BYTES} bytes" if status.st_size else "is empty")


def _open(data: bytes, path: Path, max_pixels: int) -> ImageFile.ImageFile:
    """The one picture in `data`, header read and pixels not yet decoded."""
    if is_own_picture(data[:HEAD_BYTES]):
        problem = "is a picture that kneeedge made, and no radiograph"
        raise ImageError(path, problem, "take it out of the folder")
    plugin = next((plugin for magic, plugin in PLUGINS if magic.match(data)), None)
    if plugin is None:
        raise ImageError(path, "is not a JPEG, PNG, TIFF, BMP, WebP or DICOM image")
    # before Pillow looks at it: Pillow only warns of what this refuses
    n_pages = tiff_pages(data) if plugin is Tiff else 1
    # Pillow takes the memory for a WebP at once
    if plugin is WebP:
        _check_size(path, *webp_size(data), max_pixels)
    # no file name: Pillow 13 would map a raw TIFF and mix up its turned sides
    image = plugin(io.BytesIO(data))
    if n_pages > 1 or n_frames(image) > 1:
        problem = "holds more than one picture (pages or frames)"
        raise ImageError(path, problem, "save the one that is meant")
    _check_size(path, image.width, image.height, max_pixels)
    return image


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise ImageError(path, "holds no pixels")
    if width * height > max_pixels:
        raise TooLargeError(path, width, height, max_pixels)


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
    """Grey levels (H, W) uint8 of wider pixels; the image's own maximum is never looked at.

    Integers run from 0 to 65535 (to 4095 in a 12-bit TIFF) whatever they are stored in, floats from
    0 to 1; that range maps to 0…255, rounded. Anything outside it, NaN included, raises ImageError.
    """
    values = np.array(image, dtype=np.float32)  # exact: 65535 × 255 < 2**24
    tags: Mapping[int, Any] = {PHOTOMETRIC_TAG: _BLACK_IS_ZERO}
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
    kind = "integer"
    top = 4095 if tags.get(BITS_TAG) == (12,) else 65535
    if image.mode == "F":
        kind = "floating-point"
        top = 1
    if not (values.min() >= 0 and values.max() <= top):
        raise ImageError(path, f"{kind} pixels outside 0 to {top}")
    # the one level that a 16-bit PNG calls transparent
    if "transparency" in image.info:
        values[values == image.info["transparency"]] = 0
    # Pillow turns these over up to 8 bits only
    if tags.get(PHOTOMETRIC_TAG, _WHITE_IS_ZERO) == _WHITE_IS_ZERO:
        values = top - values
    return np.rint(values * 255 / top).astype(np.uint8)
