"""What a Python caller holds – a path, an array, a Pillow image, a file's bytes – to an input.

All of them take the one pixel path, by the rules for a file of the same pixels. What may be meant
in two ways is refused, by a line that says how to write what is meant.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from kneeedge.errors import ImageError, InputError
from kneeedge.pixels.headers import PLUGINS
from kneeedge.pixels.picture import MAX_BYTES, Picture, picture_of_image
from kneeedge.pixels.pixel_path import Input, input_of_bytes, input_of_picture, load_with_facts
from kneeedge.pixels.reader import UNREAD, ReadFile, ReadOptions, why_unread

ImageLike: TypeAlias = (
    str
    | os.PathLike[str]
    | NDArray[np.uint8]
    | NDArray[np.uint16]
    | Image.Image
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
)
"what is answered as one image; see `take`"

KINDS = "a path, an array, a Pillow image, a file's bytes, or a file opened with 'rb'"
IMAGE_MODES = (
    "1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr",
    "I", "I;16", "I;16L", "I;16B", "I;16N", "F",
)  # fmt: skip
"Pillow's modes that an image file may have"
INTEGER_REMEDY = "give array.astype(np.uint8) if its values are 0 to 255, np.uint16 if 0 to 65535"
ARRAY_REMEDIES = {
    "b": "give array.astype(np.uint8) * 255",
    "f": "give np.rint(array * 255).astype(np.uint8) if its values are 0 to 1, "
    "or without the factor if they are 0 to 255",
    "i": INTEGER_REMEDY,
    "u": INTEGER_REMEDY,
    "O": "give a list of images",
    "U": "give a list of paths: array.tolist()",
}
"what to write in place of an array of another type, by the kind of its dtype"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One image to be answered: what was given, as it was then; its owner may go on to change it.

    Only a file that was given by its path is read later.
    """

    name: str
    "the path as it was given, the name of a file object, else <array>, <image>, <bytes> or <file>"
    content: Path | bytes | Picture | ImageError
    "a path, the bytes of a file, pixels, or why there are none"


def is_several(given: object) -> TypeGuard[Iterable[object]]:
    """Whether this is a list of images, or any other iterable that has an order.

    Raises InputError for a set or a dict.
    """
    # a pydicom data set is iterable too
    if hasattr(given, "SOPClassUID"):
        problem = f"is of type {type(given).__name__}"
        raise InputError("the input", problem, "give the path or the bytes of its DICOM file")
    one = (str, os.PathLike, np.ndarray, Image.Image, bytes, bytearray, memoryview)
    if isinstance(given, one) or _is_stream(given) or not isinstance(given, Iterable):
        return False
    if isinstance(given, Set | Mapping):
        problem = f"is of type {type(given).__name__}, whose items have no order"
        raise InputError("the input", problem, "give a list")
    return True


def take_all(images: Iterable[object], options: ReadOptions) -> Iterator[Source]:
    """Each of the images as `take` gives it; an InputError says which one it is, from 0."""
    for i, image in enumerate(images):
        yield take(image, options, f"input {i}")


def take(given: object, options: ReadOptions, which: str = "the input") -> Source:
    """One image as it is now, whatever it is given as:

    - a path;
    - an array, (H, W) or (H, W, 1) grey, or (H, W, 3) RGB; uint8, or uint16 by the rule for 16-bit
      files: 65535 is white, unless `options` say that fewer bits are used;
    - a Pillow image of a mode that files have, turned upright by its EXIF; one that is opened and
      not decoded yet is its file;
    - the bytes of an image file, DICOM too;
    - a file opened in binary mode, read from its beginning where it can seek.

    Raises InputError for anything else. An image that cannot be read, or has more pixels than
    allowed, is a source that says so.
    """
    name = name_of(given)
    try:
        return Source(name, _content(given, name, options, which))
    except ImageError as error:
        return Source(name, error)


def name_of(given: object) -> str:
    """What stands for the image in a prediction and in errors."""
    if isinstance(given, str | os.PathLike):
        return os.fsdecode(given)
    if isinstance(given, Image.Image):
        return os.fsdecode(getattr(given, "filename", "") or "<image>")
    if isinstance(given, np.ndarray):
        return "<array>"
    if isinstance(given, bytes | bytearray | memoryview):
        return "<bytes>"
    name = getattr(given, "name", None)
    return name if isinstance(name, str) else "<file>"


def read_source(source: Source, options: ReadOptions) -> ReadFile:
    """What becomes of an image, which is taken for a file."""
    start = time.thread_time()
    result: Input | ImageError
    try:
        result = load_source(source, options)
    except UNREAD as error:
        result = why_unread(source.name, error)
    return ReadFile(result, seconds=time.thread_time() - start)


def load_source(source: Source, options: ReadOptions) -> Input:
    """The network's input for an image; raises ImageError where it gives no pixels."""
    content = source.content
    path = options.pixel_path
    if isinstance(content, ImageError):
        raise content
    if isinstance(content, Path):
        return load_with_facts(content, path, options.max_pixels)
    if isinstance(content, bytes):
        return input_of_bytes(content, Path(source.name), path, options.max_pixels)
    return input_of_picture(content, path)


def image_of_array(array: NDArray[Any], which: str = "the input") -> Image.Image:
    """An array as Pillow's image; raises InputError for one that is not as `take` says."""
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(which, "is a masked array", "give array.filled(0)")
    if array.dtype.type not in (np.uint8, np.uint16):
        remedy = ARRAY_REMEDIES.get(array.dtype.kind, "give an array of uint8 or uint16")
        raise InputError(which, f"is an array of {array.dtype}, not uint8 or uint16", remedy)
    _check_shape(array.shape, which)
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    # as Pillow reads 16-bit colour: the high byte
    if array.ndim == 3 and array.dtype.type is np.uint16:
        array = (array >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _check_shape(shape: tuple[int, ...], which: str) -> None:
    """Raise InputError for a shape that is neither (H, W), nor (H, W, 1), nor (H, W, 3)."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        return
    remedy = "give grey (H, W) or RGB (H, W, 3)"
    if len(shape) == 3 and shape[2] == 4:
        remedy = "give array[:, :, :3], or Image.fromarray(array) where its alpha matters"
    elif len(shape) == 3 and shape[0] == 1:
        remedy = "give array[0]"
    elif len(shape) == 3 and shape[0] in (3, 4):
        remedy = "give array.transpose(1, 2, 0)[:, :, :3] if channels come first"
        remedy += ", or list(array) if it holds several images"
    elif len(shape) in (3, 4):
        remedy = "give list(array) if it holds several images"
    raise InputError(which, f"is an array of shape {shape}, not of one image", remedy)


def _content(
    given: object, name: str, options: ReadOptions, which: str
) -> Path | bytes | Picture | ImageError:
    if isinstance(given, str | os.PathLike):
        if not name or "\0" in name:
            raise ImageError(name, "is no path", "check the path")
        if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir may raise
            raise ImageError(name, "is a folder", "give it to predict_folder")
        return Path(name)
    if isinstance(given, np.ndarray):
        if not given.size and given.ndim:
            raise ImageError(name, "holds no pixels", "give one that does")
        return _picture(image_of_array(given, which), name, options)
    if isinstance(given, Image.Image):
        data = _undecoded(given, name)
        return _sized(data, name) if data else _decoded(given, name, options, which)
    if isinstance(given, bytes | bytearray | memoryview):
        return _sized(bytes(given), name)
    if _is_stream(given):
        return _sized(_read_stream(given, name, which), name)
    raise InputError(which, f"is of type {type(given).__name__}", f"give {KINDS}")


def _sized(data: bytes, name: str) -> bytes:
    """The bytes of a file; raises ImageError where there are none, or more than MAX_BYTES."""
    if not data:
        raise ImageError(name, "is empty")
    if len(data) > MAX_BYTES:
        raise ImageError(name, f"is larger than {MAX_BYTES} bytes")
    return data


def _undecoded(image: Image.Image, name: str) -> bytes:
    """The file of an image that Pillow has opened and not decoded; nothing where there is none.

    A JPEG is decoded to grey at reduced scale, and only its file still can be.
    """
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None:
        return b""
    try:
        position = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read(MAX_BYTES + 1)
        image.fp.seek(position)
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be read ({error})", "open it again") from error
    return data if any(magic.match(data) for magic, _ in PLUGINS) else b""


def _decoded(image: Image.Image, name: str, options: ReadOptions, which: str) -> Picture:
    if image.mode not in IMAGE_MODES:
        problem = f"is an image of mode {image.mode}"
        raise InputError(which, problem, 'give image.convert("L"), or "RGB"')
    return _picture(image, name, options)


def _picture(image: Image.Image, name: str, options: ReadOptions) -> Picture:
    return picture_of_image(image, name, options.max_pixels, options.pixel_path.grey_bits)


def _is_stream(given: object) -> TypeGuard[IO[Any]]:
    return callable(getattr(given, "read", None)) and callable(getattr(given, "readable", None))


def _read_stream(stream: IO[Any], name: str, which: str) -> bytes:
    """All of a binary file, at most one chunk more than MAX_BYTES."""
    data = bytearray()
    try:
        if isinstance(stream.read(0), str):
            raise InputError(which, "is a file opened as text", "open it with 'rb'")
        if stream.seekable():
            stream.seek(0)
        while len(data) <= MAX_BYTES and (chunk := stream.read(CHUNK_BYTES)):
            data += chunk
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be read ({error})", "open it again with 'rb'") from error
    return bytes(data)
