"""An image file to grey pixels.

It is read whole and handed to the Pillow plugin for its content, or to pydicom.
"""

import io
import os
import re
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from kneeedge.errors import ImageError, TooLargeError
from kneeedge.pixels.dicom import decode_dicom, is_dicom
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.pixels.headers import PLUGINS, Header, header_of
from kneeedge.pixels.plugin import UnreadableError, orientation_of
from kneeedge.pixels.tiff import Tiff
from kneeedge.pixels.webp import WebP, webp_size
from kneeedge.system.own import HEAD_BYTES, is_own_picture
from kneeedge.system.stamps import FileStamp, stamp_of

MAX_PIXELS = 2**26
"67 million: twice a stitched full-leg radiograph; 256 MB as RGBA; below Pillow's own warning"
MAX_BYTES = 2**30
"a file of MAX_PIXELS is smaller in every usual layout"
FULL_DEPTH = 16
"bits of integer pixels that are wider than a byte, where nobody says that fewer are used"
_USUAL_DEPTHS = (8, 10, 12, 14)
"bits that detectors give, in files of 16"
_INTEGER = "integer"
_PHOTOMETRIC_TAG = 262
"PhotometricInterpretation: TIFF 6.0, section 8"
_WHITE_IS_ZERO = 0
"photometric interpretation of TIFF 6.0"

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
_HEADER_ERRORS = (TypeError, LookupError, OverflowError, EOFError, AssertionError, struct.error)
"of which the text is Python's, about a value that no sound header has"
_WORDS = (
    (r"image file is truncated|truncated PNG|Truncated File|truncated TIFF|not enough image data",
     "it is truncated: its pixels end too early"),
    (r"broken data stream|decoder error|cannot decode image data|unrecognized data stream",
     "its compressed pixels are corrupt"),
    (r"codec configuration error|unknown raw mode|cannot load this image|not identified",
     "its pixels are stored in a way that is not read, or not at all"),
    (r"bad header checksum|incomplete checksum", "the checksum of one of its chunks fails"),
    (r"could not create decoder object|failed to decode next frame",
     "its compressed pixels are corrupt or end too early"),
)  # fmt: skip
"what Pillow says, and what it means"


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
    depth_suspect: int = 0
    """bits that 16-bit pixels seem to use, 8 to 14, so that the picture came out dark; 0 where they
    use more, or where their depth was told"""
    n_pixels: int = 0
    "of the picture in its file, whatever scale it was decoded at"


@dataclass(frozen=True)
class WholeFile:
    """One image file, read and decoded once."""

    header: Header
    sha256: str
    "of the file's bytes"
    grey: NDArray[np.uint8]
    "(H, W) at full size, upright"
    depth_suspect: int = 0
    "as of `Picture`"


@dataclass(frozen=True)
class FileContent:
    """A file's bytes, and what it was when they were read."""

    status: os.stat_result
    "taken after the file was opened and before it was read"
    data: bytes

    def stamp(self) -> FileStamp:
        """Size, times and hash; the hash takes about a millisecond a megabyte."""
        return stamp_of(self.status, self.data)


def read_grey(path: Path, size: int, window: int = 0, grey_bits: int = 0) -> NDArray[np.uint8]:
    """Grey pixels (H, W) uint8 as `read_picture` gives them."""
    return read_picture(path, size, window, grey_bits=grey_bits).grey


def read_picture(
    path: Path,
    size: int,
    window: int = 0,
    max_pixels: int = MAX_PIXELS,
    grey_bits: int = 0,
) -> Picture:
    """The grey pixels of a JPEG, PNG, TIFF, BMP, WebP or DICOM file, turned upright by its EXIF.

    Colour becomes ITU-R 601 luma; transparent pixels lie on black; 16- and 32-bit pixels follow
    `_narrow`, where `grey_bits` says how many bits they use, DICOM its own grey scale
    (`kneeedge.pixels.dicom`; `window` picks among several windows). A JPEG much larger than `size`
    is decoded at reduced scale, both sides at least 2 × `size`. Raises ImageError for a file that
    does not give all its pixels, or more than `max_pixels`; those are never decoded.
    """
    content = read_bytes(path).data
    return decode_picture(content, path, size, window, max_pixels, grey_bits)


def picture_of_image(
    image: Image.Image, name: str, max_pixels: int = MAX_PIXELS, grey_bits: int = 0
) -> Picture:
    """The grey pixels of an image in memory, by the rules of `read_picture` for its mode.

    It is turned upright by the EXIF that it carries, in a copy. Raises ImageError, which calls it
    `name`, for an image of several frames, or of more than `max_pixels`.
    """
    path = Path(name)
    try:
        if getattr(image, "n_frames", 1) > 1:
            what = "pages" if isinstance(image, TiffImageFile) else "frames"
            problem = f"holds more than one picture ({what})"
            raise ImageError(name, problem, "give a copy of the one that is meant: image.copy()")
        _check_size(path, image.width, image.height, max_pixels)
        image.load()
        # a copy is no TiffImageFile, whose tags `_to_grey` needs
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        header = header_of(image, 0)
        grey, depth_suspect = _to_grey(upright, header, grey_bits)
        return Picture(grey, header, depth_suspect=depth_suspect, n_pixels=grey.size)
    except ImageError:
        raise
    except UnreadableError as error:
        raise ImageError(name, error.reason, error.remedy or ImageError.REMEDY) from error
    except _DECODER_ERRORS as error:
        raise ImageError(name, f"damaged or unsupported image ({_in_words(error)})") from error


def read_file(path: Path, grey_bits: int = 0) -> WholeFile:
    """What a file says of itself, its hash and its grey pixels at full size.

    Raises ImageError for a file that gives no pixels, or more than MAX_PIXELS.
    """
    content = read_bytes(path)
    picture = decode_picture(content.data, path, MAX_PIXELS, 0, MAX_PIXELS, grey_bits)
    sha256 = content.stamp().sha256
    return WholeFile(picture.header, sha256, picture.grey, picture.depth_suspect)


def decode_picture(
    data: bytes, path: Path, size: int, window: int, max_pixels: int, grey_bits: int = 0
) -> Picture:
    """What `read_picture` gives for a file of these bytes; `path` is named in what it raises."""
    if is_dicom(data):
        grey, facts, study = decode_dicom(data, path, window, max_pixels)
        header = Header("DICOM", facts.photometric, facts.bits_stored, len(data))
        return Picture(grey, header, facts, study, n_pixels=grey.size)
    try:
        with _open(data, path, max_pixels) as image:
            header = header_of(image, len(data))
            n_pixels = image.width * image.height
            image.draft("L", (2 * size, 2 * size))  # only JPEG heeds it
            ImageOps.exif_transpose(image, in_place=True)
            grey, depth_suspect = _to_grey(image, header, grey_bits)
            return Picture(grey, header, depth_suspect=depth_suspect, n_pixels=n_pixels)
    except ImageError:
        raise
    except UnreadableError as error:
        raise ImageError(path, error.reason, error.remedy or ImageError.REMEDY) from error
    except _DECODER_ERRORS as error:
        raise ImageError(path, f"damaged or unsupported image ({_in_words(error)})") from error


def _in_words(error: BaseException) -> str:
    """What is wrong with a file, where a plugin says it in terms of its own code."""
    detail = " ".join(str(error).split())
    for pattern, words in _WORDS:
        if re.search(pattern, detail):
            return words
    # Pillow hands on what went wrong in reading a header as a SyntaxError that holds it
    inner = error.args[0] if error.args else None
    if isinstance(error, _HEADER_ERRORS) or isinstance(inner, Exception) or not detail:
        return "its header is cut off or makes no sense"
    return detail


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
    # Pillow takes the memory for a WebP at once
    if plugin is WebP:
        _check_size(path, *webp_size(data), max_pixels)
    # no file name: Pillow 13 would map a raw TIFF and mix up its turned sides
    image = plugin(io.BytesIO(data))
    _check_size(path, image.width, image.height, max_pixels)
    return image


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise ImageError(path, "holds no pixels")
    if width * height > max_pixels:
        raise TooLargeError(path, width, height, max_pixels)


def _to_grey(image: Image.Image, header: Header, grey_bits: int) -> tuple[NDArray[np.uint8], int]:
    """Grey levels (H, W) uint8, and the depth that they seem to have (`Picture.depth_suspect`)."""
    if image.mode == "F":
        return _narrow(image, 1, "floating-point")[0], 0
    if image.mode[0] == "I":
        # a TIFF of 12-bit pixels says so itself
        told = header.bit_depth if header.bit_depth < FULL_DEPTH else grey_bits
        grey, largest = _narrow(image, 2 ** (told or FULL_DEPTH) - 1, _INTEGER)
        return grey, 0 if told else _seeming_depth(int(largest))
    if header.bit_depth < FULL_DEPTH:
        return _grey(image), 0
    # of 16-bit colour, Pillow keeps the upper 8 bits
    if grey_bits not in (0, FULL_DEPTH):
        problem = f"16-bit colour cannot be read as {grey_bits} bits"
        raise UnreadableError(problem, "save it in grey, or leave --grey-bits out")
    grey = _grey(image)
    return grey, 0 if grey_bits else _seeming_depth(int(grey.max()) << 8)


def _seeming_depth(top: int) -> int:
    """The depth that the largest value fits, where it is small for 16 bits; 0 where it is not.

    A dark picture has small values too, so this is a remark, and no value is changed by it.
    """
    return next((bits for bits in _USUAL_DEPTHS if 0 < top < 2**bits), 0)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels (H, W) uint8 of 1- or 8-bit pixels."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if not image.getchannel("A").getextrema()[1]:
            raise UnreadableError("is transparent everywhere", "save it without its alpha channel")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    elif image.mode not in ("1", "L"):
        image = image.convert("RGB")
    # of a grey image this would be a copy
    return np.array(image if image.mode == "L" else image.convert("L"))


def _narrow(image: Image.Image, top: int, kind: str) -> tuple[NDArray[np.uint8], float]:
    """Grey levels (H, W) uint8 of wider pixels, and their largest value, which changes none.

    Integers run from 0 to 65535 whatever they are stored in (to 4095 in a 12-bit TIFF, and as far
    as `grey_bits` says), floats from 0 to 1; that range maps to 0…255, rounded. Anything outside
    it, NaN included, raises UnreadableError.
    """
    values = np.array(image, dtype=np.float32)  # exact: 65535 × 255 < 2**24
    largest = float(values.max())
    if not (values.min() >= 0 and largest <= top):
        or_bits = ", or say with --grey-bits how far they go" if kind == _INTEGER else ""
        remedy = f"scale them to that range{or_bits}"
        raise UnreadableError(f"{kind} pixels outside 0 to {top}", remedy)
    # the one level that a 16-bit PNG calls transparent
    if "transparency" in image.info:
        values[values == image.info["transparency"]] = 0
    # Pillow turns these over up to 8 bits only
    if isinstance(image, TiffImageFile) and _photometric(image) == _WHITE_IS_ZERO:
        values = top - values
    return np.rint(values * 255 / top).astype(np.uint8), largest


def _photometric(image: TiffImageFile) -> int:
    """What a TIFF says its levels mean; white is zero where it says nothing."""
    if isinstance(image, Tiff):
        return image.layout.photometric
    return int(image.tag_v2.get(_PHOTOMETRIC_TAG, _WHITE_IS_ZERO))
