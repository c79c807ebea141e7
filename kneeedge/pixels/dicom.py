"""A DICOM file to grey levels, dark where the radiograph is dark, and what it says of itself.

The order is the standard's grey-scale pipeline (PS3.4, section N.2): stored values → modality LUT
or rescale → VOI LUT or window → inversion of MONOCHROME1. Sections below are of PS3.3 and PS3.5.
pydicom parses; GDCM decompresses.
"""

import io
import logging
import re
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.errors import ImageError, MissingExtraError, TooLargeError
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy, facts_of, study_of
from kneeedge.pixels.dicom_frames import DELIMITER
from kneeedge.pixels.dicom_grey import GreyLevels, Layout, monochrome_levels, palette_levels
from kneeedge.pixels.dicom_limits import check_inflated
from kneeedge.pixels.dicom_numbers import DamagedError, whole
from kneeedge.pixels.dicom_pixels import is_compressed, words_of

if TYPE_CHECKING:
    from pydicom import Dataset


_INSTALL = "pip install 'kneeedge[dicom]'"
PREAMBLE_BYTES = 128
_BARE = re.compile(
    rb"[\x02\x08]\0[\0-\xff]\0(?:[A-Z]{2}|[\0-\xff]{2}\0\0)|\0[\x02\x08]\0[\0-\xff][A-Z]{2}",
    re.DOTALL,
)
"a first tag of group 2 or 8 without the preamble: an explicit VR, or a length below 65,536"
_NUMBERS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation",
)  # fmt: skip
"without which there is no image: PS3.3, C.7.6.3"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_SAMPLED = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_COLOUR = ("PALETTE COLOR", *_SAMPLED)
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def is_dicom(data: bytes) -> bool:
    """Whether a file begins as DICOM does: with a preamble, or a tag of one of its first groups."""
    magic = data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4]
    return magic == b"DICM" or _BARE.match(data) is not None


def decode_dicom(
    data: bytes, path: Path, window: int, max_pixels: int
) -> tuple[NDArray[np.uint8], DicomFacts, DicomStudy]:
    """Grey levels (H, W) uint8 of the one image in `data`, and what it says of itself.

    `window` picks among several VOI LUTs or windows. Raises ImageError for what is no single image
    of at most `max_pixels`, MissingExtraError without pydicom.
    """
    try:
        return _decode(data, path, window, max_pixels)
    except (ImageError, MissingExtraError):
        raise
    except _failures() as error:  # an element is parsed when it is asked for, and may be anything
        raise ImageError(path, f"damaged DICOM ({_one_line(error)})") from error


def _decode(
    data: bytes, path: Path, window: int, max_pixels: int
) -> tuple[NDArray[np.uint8], DicomFacts, DicomStudy]:
    dataset = _parse(data, path, max_pixels)
    layout = _check(dataset, path, max_pixels)
    words = _pixels(dataset, path)
    photometric = dataset.PhotometricInterpretation
    if photometric in _SAMPLED:
        grey = _luma(words, layout)
        grey_scale = f"luma of {photometric}"
    else:
        levels = _levels(dataset, layout, path, window)
        grey = levels.levels[words]
        grey_scale = levels.grey_scale
        _check_contrast(grey, words, levels, path)
    return grey, facts_of(dataset, grey_scale), study_of(dataset)


def _levels(dataset: "Dataset", layout: Layout, path: Path, window: int) -> GreyLevels:
    if dataset.PhotometricInterpretation in _GREY:
        return monochrome_levels(dataset, layout, path, window)
    return palette_levels(dataset, layout, path)


def _check_contrast(
    grey: NDArray[np.uint8],
    words: NDArray[np.unsignedinteger[Any]],
    levels: GreyLevels,
    path: Path,
) -> None:
    """Raise ImageError where pixels that differ are no more than one level apart, padding aside.

    An image that is blank from the start is told later on.
    """
    if not levels.padding.any() and grey.max() - grey.min() > 1:
        return
    occurs = np.bincount(words.ravel(), minlength=len(levels.levels)) > 0
    shown = levels.levels[occurs & ~levels.padding]
    if not len(shown):
        raise ImageError(path, "all its pixels are padding")
    if shown.max() - shown.min() <= 1 and len(np.unique(shown)) < len(shown):
        problem = f"its grey scale makes all pixels alike ({levels.grey_scale})"
        remedy = "ask for another --dicom-window, or save it with a sound one"
        raise ImageError(path, problem, remedy)


def _parse(data: bytes, path: Path, max_pixels: int) -> "Dataset":
    try:
        import pydicom
        from pydicom import config
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading DICOM", "pydicom", _INSTALL) from error
    # odd names and dates are none of our business
    config.settings.reading_validation_mode = config.IGNORE
    quiet()
    check_inflated(data, path, max_pixels)
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "PixelData" not in dataset and is_compressed(dataset):
        # pydicom passes over fragments that nothing closes
        dataset = pydicom.dcmread(io.BytesIO(data + DELIMITER), force=True)
    return dataset


@cache
def quiet() -> None:
    """Keep pydicom's remarks on odd files out of every log.

    Such a file is read, or is a row with its reason.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def _check(dataset: "Dataset", path: Path, max_pixels: int) -> Layout:
    """How the pixels lie; raises ImageError, before any is decoded, for what we do not read."""
    _check_kind(dataset, path)
    numbers = {name: whole(dataset, name) for name in _NUMBERS}
    lacking = [name for name, number in numbers.items() if number is None]
    if not dataset.get("PhotometricInterpretation"):
        lacking.append("PhotometricInterpretation")
    if lacking:
        raise ImageError(path, f"damaged DICOM (no {', '.join(lacking)})")
    odd = [name for name in _NUMBERS if not isinstance(dataset.get(name), int)]
    if odd:
        raise ImageError(path, f"damaged DICOM ({', '.join(odd)} of a wrong value representation)")
    n_pixels = dataset.Rows * dataset.Columns
    if not n_pixels:
        raise ImageError(path, "holds no pixels")
    if n_pixels > max_pixels:
        raise TooLargeError(path, dataset.Columns, dataset.Rows, max_pixels)
    _check_samples(dataset, path)
    return _layout(dataset, path)


def _check_kind(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where this holds no picture, or several."""
    if dataset.get("SOPClassUID") == _PDF:
        raise ImageError(path, "is a PDF in a DICOM file", "export the image that it shows")
    if "PixelData" not in dataset:
        kind = getattr(dataset.get("SOPClassUID"), "name", None) or "DICOM object"
        raise ImageError(path, f"is a {kind} without integer pixels", "give the image itself")
    if not dataset.PixelData:
        raise ImageError(path, "holds no pixels")
    n_frames = whole(dataset, "NumberOfFrames") or 1
    if n_frames > 1:
        raise ImageError(path, f"holds {n_frames} frames", "save the one that is meant")


def _check_samples(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where the pixels are laid out in a way that we do not read."""
    photometric = dataset.PhotometricInterpretation
    if photometric not in (*_GREY, *_COLOUR) or dataset.BitsAllocated not in (8, 16):
        problem = f"{photometric} pixels of {dataset.BitsAllocated} bits are not supported"
        raise ImageError(path, problem, "export it with 8 or 16 bits, grey or colour")
    n_samples = 3 if photometric in _SAMPLED else 1
    if n_samples != dataset.SamplesPerPixel:
        mismatch = f"{dataset.SamplesPerPixel} samples a pixel, {photometric} has {n_samples}"
        raise ImageError(path, f"damaged DICOM ({mismatch})")
    if n_samples > 1 and whole(dataset, "PlanarConfiguration") not in (0, 1):
        raise ImageError(path, "damaged DICOM (no PlanarConfiguration of 0 or 1)")


def _layout(dataset: "Dataset", path: Path) -> Layout:
    """How the stored values lie in their words; raises ImageError for what we do not read."""
    bits = dataset.BitsStored
    allocated = dataset.BitsAllocated
    highest = whole(dataset, "HighBit")
    if not 1 <= bits <= allocated or highest not in (None, bits - 1):
        depth = f"{bits} bits stored of {allocated}, the highest {highest}"
        raise ImageError(path, f"pixels of {depth} are not supported")
    if dataset.PixelRepresentation not in (0, 1):
        problem = f"a PixelRepresentation of {dataset.PixelRepresentation}"
        raise ImageError(path, f"damaged DICOM ({problem})")
    signed = dataset.PixelRepresentation == 1
    photometric = dataset.PhotometricInterpretation
    if photometric in _SAMPLED and (bits < 8 or signed or (bits > 8 and "YBR_FULL" in photometric)):
        depth = f"{photometric} pixels of {bits} {'signed ' if signed else ''}bits"
        raise ImageError(path, f"{depth} are not supported", "export it with 8 bits")
    return Layout(
        allocated=allocated,
        stored=bits,
        signed=signed,
        little_endian=dataset.original_encoding[1] is not False,
    )


def _pixels(dataset: "Dataset", path: Path) -> NDArray[np.unsignedinteger[Any]]:
    """The words of the pixels; raises ImageError where they are not whole."""
    try:
        return words_of(dataset)
    except DamagedError as error:
        raise ImageError(path, f"damaged DICOM pixels ({error})") from error
    except _failures() as error:
        problem = f"damaged or unsupported DICOM pixels ({_why(error)})"
        raise ImageError(path, problem) from error


def _luma(words: NDArray[np.unsignedinteger[Any]], layout: Layout) -> NDArray[np.uint8]:
    """ITU-R 601 luma (H, W) uint8 of colours (H, W, 3)."""
    rgb = (words >> (layout.stored - 8)).astype(np.uint8)
    return np.array(Image.fromarray(rgb).convert("L"))


def _failures() -> tuple[type[Exception], ...]:
    """What pydicom and its decoders raise for a damaged file; it promises no class of its own."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        InvalidDicomError,
        BytesLengthException,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        EOFError,
        ArithmeticError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
        Warning,
    )


def _why(error: Exception) -> str:
    """Why there are no pixels; what each of pydicom's decoders raises is no reason."""
    text = _one_line(error)
    return "a frame that does not decode" if "by all available plugins" in text else text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
