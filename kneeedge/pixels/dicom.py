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
from kneeedge.pixels.dicom_limits import check_inflated, check_stream

if TYPE_CHECKING:
    from pydicom import Dataset


Values = NDArray[np.float64]

_INSTALL = "pip install 'kneeedge[dicom]'"
PREAMBLE_BYTES = 128
_BARE = re.compile(
    rb"[\x02\x08]\0[\0-\xff]\0(?:[A-Z]{2}|[\0-\xff]{2}\0\0)|\0[\x02\x08]\0[\0-\xff][A-Z]{2}",
    re.DOTALL,
)
"a first tag of group 2 or 8 without the preamble: an explicit VR, or a length below 65,536"
_REQUIRED = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation",
    "SamplesPerPixel",
)  # fmt: skip
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
    _check(dataset, path, max_pixels)
    stored = _pixels(dataset, path)
    if dataset.PhotometricInterpretation in _COLOUR:
        grey = _luma(stored, dataset, path)
        grey_scale = f"luma of {dataset.PhotometricInterpretation}"
    else:
        grey, grey_scale = _grey(stored, dataset, path, window)
    return grey, facts_of(dataset, grey_scale), study_of(dataset)


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
    return pydicom.dcmread(io.BytesIO(data), force=True)


@cache
def quiet() -> None:
    """Keep pydicom's remarks on odd files out of every log.

    Such a file is read, or is a row with its reason.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def _check(dataset: "Dataset", path: Path, max_pixels: int) -> None:
    """Raise ImageError, before anything is decoded, where this is not one image that we read."""
    _check_kind(dataset, path)
    lacking = [name for name in _REQUIRED if dataset.get(name) is None]
    if lacking:
        raise ImageError(path, f"damaged DICOM (no {', '.join(lacking)})")
    n_pixels = dataset.Rows * dataset.Columns
    if not n_pixels:
        raise ImageError(path, "holds no pixels")
    if n_pixels > max_pixels:
        raise TooLargeError(path, dataset.Columns, dataset.Rows, max_pixels)
    _check_layout(dataset, path)


def _check_kind(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where this holds no picture, or several."""
    if dataset.get("SOPClassUID") == _PDF:
        raise ImageError(path, "is a PDF in a DICOM file", "export the image that it shows")
    if "PixelData" not in dataset:
        kind = getattr(dataset.get("SOPClassUID"), "name", None) or "DICOM object"
        raise ImageError(path, f"is a {kind} without integer pixels", "give the image itself")
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if n_frames > 1:
        raise ImageError(path, f"holds {n_frames} frames", "save the one that is meant")


def _check_layout(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where the pixels are laid out in a way that we do not read."""
    photometric = dataset.PhotometricInterpretation
    if photometric not in (*_GREY, *_COLOUR) or dataset.BitsAllocated not in (8, 16):
        problem = f"{photometric} pixels of {dataset.BitsAllocated} bits are not supported"
        raise ImageError(path, problem, "export it with 8 or 16 bits, grey or colour")
    n_samples = 3 if photometric in _SAMPLED else 1
    if n_samples != dataset.SamplesPerPixel:
        mismatch = f"{dataset.SamplesPerPixel} samples a pixel, {photometric} has {n_samples}"
        raise ImageError(path, f"damaged DICOM ({mismatch})")


def _pixels(dataset: "Dataset", path: Path) -> NDArray[np.integer]:
    """The stored values (H, W), or (H, W, 3) with YBR made RGB, of BitsStored bits each."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import JPEGBaseline8Bit

    _ensure_syntax(dataset)
    try:
        check_stream(dataset, path)
        # GDCM ends the process at a mere warning of its libjpeg, such as a JFIF header of another
        # version.
        baseline = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
        stored = pixel_array(dataset, decoding_plugin="pillow" if baseline else "")
        # pydicom takes more bytes for more frames
        if stored.shape[:2] != (dataset.Rows, dataset.Columns):
            problem = f"damaged DICOM pixels (more than {dataset.Columns} × {dataset.Rows})"
            raise ImageError(path, problem)
        return _without_overlays(stored, dataset, path)
    except ImageError:
        raise
    except _failures() as error:
        problem = f"damaged or unsupported DICOM pixels ({_one_line(error)})"
        raise ImageError(path, problem) from error


def _ensure_syntax(dataset: "Dataset") -> None:
    """Give a data set without a transfer syntax the one that it was read by (PS3.5, section 10.1).

    Such a data set is not compressed.
    """
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(dataset, "file_meta", None) and "TransferSyntaxUID" in dataset.file_meta:
        return
    dataset.ensure_file_meta()
    implicit = dataset.original_encoding[0]
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax


def _without_overlays(
    stored: NDArray[np.integer], dataset: "Dataset", path: Path
) -> NDArray[np.integer]:
    """The values without what older files keep in the bits above them (PS3.5, section 8.1.1)."""
    bits = int(dataset.BitsStored)
    allocated = int(dataset.BitsAllocated)
    if not 1 <= bits <= allocated or dataset.get("HighBit", bits - 1) != bits - 1:
        highest = dataset.get("HighBit")
        depth = f"{bits} bits stored of {dataset.BitsAllocated}, the highest {highest}"
        raise ImageError(path, f"pixels of {depth} are not supported")
    n_above = stored.dtype.itemsize * 8 - bits
    if not n_above or dataset.SamplesPerPixel != 1:
        return stored
    return (stored << n_above) >> n_above


def _luma(stored: NDArray[np.integer], dataset: "Dataset", path: Path) -> NDArray[np.uint8]:
    """ITU-R 601 luma (H, W) uint8 of colour pixels."""
    from pydicom.pixels.processing import apply_color_lut

    shift = int(dataset.BitsStored) - 8
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        try:
            stored = apply_color_lut(stored, dataset)
        except _failures() as error:
            raise ImageError(path, f"damaged DICOM palette ({_one_line(error)})") from error
        shift = stored.dtype.itemsize * 8 - 8
    rgb = (stored >> max(shift, 0)).astype(np.uint8)[..., :3]
    return np.array(Image.fromarray(rgb).convert("L"))


def _grey(
    stored: NDArray[np.integer], dataset: "Dataset", path: Path, window: int
) -> tuple[NDArray[np.uint8], str]:
    """Grey levels (H, W) uint8, and how they were made."""
    from pydicom.pixels.processing import apply_modality_lut

    ends = _ends_of_range(dataset, stored.dtype)
    try:
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
        low, high = np.asarray(apply_modality_lut(ends, dataset), dtype=np.float64)
        full_range = (min(low, high), max(low, high))
        brightness, grey_scale = _voi(values, full_range, dataset, path, window)
    except ImageError:
        raise
    except _failures() as error:
        raise ImageError(path, f"damaged DICOM grey scale ({_one_line(error)})") from error
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        brightness = 1.0 - brightness
        grey_scale = f"{grey_scale}, inverted"
    brightness[_padding(stored, dataset)] = 0.0
    return np.rint(255.0 * brightness).astype(np.uint8), grey_scale


def _ends_of_range(dataset: "Dataset", dtype: np.dtype[Any]) -> NDArray[np.integer]:
    """The smallest and the largest value (2,) that BitsStored bits hold."""
    bits = int(dataset.BitsStored)
    if dataset.get("PixelRepresentation", 0):
        return np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], dtype=dtype)
    return np.array([0, 2**bits - 1], dtype=dtype)


def _voi(
    values: Values, full_range: tuple[float, float], dataset: "Dataset", path: Path, index: int
) -> tuple[Values, str]:
    """The values of interest as brightness, 0 to 1, and by which grey scale that is.

    That is VOI LUT number `index`, else window `index`, else the full range of BitsStored.
    """
    tables = dataset.get("VOILUTSequence") or ()
    centres = _numbers(dataset.get("WindowCenter"))
    widths = _numbers(dataset.get("WindowWidth"))
    n_windows = len(tables) or min(len(centres), len(widths))
    if index and index >= n_windows:
        problem = f"has {n_windows} windows, and --dicom-window asks for number {index}"
        raise ImageError(path, problem, "ask for a smaller one")
    if tables:
        return _looked_up(values, dataset, index), "VOI LUT"
    if n_windows:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        brightness = windowed(values, centres[index], widths[index], function)
        return brightness, f"window {index} ({function})"
    low, high = full_range
    brightness = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return brightness, f"full range of {dataset.BitsStored} bits"


def _looked_up(values: Values, dataset: "Dataset", index: int) -> Values:
    """The values as 0 to 1 by VOI LUT number `index`."""
    from pydicom.pixels.processing import apply_voi

    bits = int(dataset.VOILUTSequence[index].LUTDescriptor[2])
    levels = np.asarray(apply_voi(values.astype(np.int32), dataset, index), np.float64)
    brightness: Values = np.clip(levels / (2**bits - 1), 0, 1)
    return brightness


def windowed(values: Values, centre: float, width: float, function: str) -> Values:
    """The values as 0 to 1 by a window (PS3.3, C.11.2.1.2 and C.11.2.1.3).

    Raises ValueError for a width or a function that makes no window.
    """
    if function == "SIGMOID" and width > 0:
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "LINEAR" and width >= 1:
        # the formula's limit is a step
        if width == 1:
            return (values > centre - 0.5).astype(np.float64)
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    raise ValueError(f"a window of width {width:g} and function {function}")


def _padding(stored: NDArray[np.integer], dataset: "Dataset") -> NDArray[np.bool_]:
    """Where the stored values are padding (C.7.5.1.1.2): one value, or a range of them."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    last = dataset.get("PixelPaddingRangeLimit", first)
    padding: NDArray[np.bool_] = (stored >= min(first, last)) & (stored <= max(first, last))
    return padding


def _numbers(value: Any) -> list[float]:
    """The numbers of an element of one value or several."""
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return []
    numbers = value if isinstance(value, MultiValue) else [value]
    return [float(number) for number in numbers]


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
