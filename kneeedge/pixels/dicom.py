"""DICOM files: what one shows, as grey levels that are dark where the radiograph is, and what it
says of itself.

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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.errors import ImageError, MissingExtraError, TooLargeError
from kneeedge.pixels.dicom_limits import check_inflated, check_stream

if TYPE_CHECKING:
    from pydicom import Dataset


INSTALL = "pip install 'kneeedge[dicom]'"
PREAMBLE = 128
_BARE = re.compile(
    rb"[\x02\x08]\0[\0-\xff]\0(?:[A-Z]{2}|[\0-\xff]{2}\0\0)|\0[\x02\x08]\0[\0-\xff][A-Z]{2}",
    re.DOTALL,
)
"a first tag of group 2 or 8 without the preamble: an explicit VR, or a length below 65,536"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_SAMPLED = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_COLOUR = ("PALETTE COLOR", *_SAMPLED)
_UID, _CODE = (
    re.compile(r"[0-9.]{1,64}"),
    re.compile(r"[A-Z0-9_ ]{1,16}"),
)  # PS3.5, section 6.2: UI and CS
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DicomFacts:
    """What a row of predictions may say of a DICOM image; nothing in it names a patient."""

    sop_instance_uid: str
    laterality: str
    "R, L, B (both), U (unpaired), or empty"
    view: str
    "as AP or LATERAL, or empty"
    grey_scale: str
    "how its grey levels were made"
    photometric: str
    bits_stored: int
    patient_id: str = ""
    "empty unless it was asked for"


def patient_id(path: Path) -> str:
    """Who the patient of a DICOM file is, by the id that the file gives, or nothing."""
    import pydicom

    found = pydicom.dcmread(
        path, stop_before_pixels=True, force=True, specific_tags=["PatientID"]
    ).get("PatientID")
    return "".join(char for char in str(found or "") if char.isprintable())


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes begin as DICOM does: behind a preamble, or at once with a tag of its
    first groups.
    """
    return data[PREAMBLE : PREAMBLE + 4] == b"DICM" or _BARE.match(data) is not None


def decode_dicom(
    data: bytes, path: Path, window: int, max_pixels: int
) -> tuple[NDArray[np.uint8], DicomFacts]:
    """Grey levels (H, W) uint8 of the one image in `data`, and what it says of itself.

    `window` picks among several VOI LUTs or windows. Raises ImageError for what is no single image
    of at most `max_pixels`, MissingExtraError without pydicom.
    """
    try:
        return _decode(data, path, window, max_pixels)
    except (ImageError, MissingExtraError):
        raise
    except _failures() as error:  # an element is parsed when it is asked for, and may be anything
        raise ImageError(path, f"damaged DICOM ({_words(error)})") from error


def _decode(
    data: bytes, path: Path, window: int, max_pixels: int
) -> tuple[NDArray[np.uint8], DicomFacts]:
    dataset = _parse(data, path, max_pixels)
    _check(dataset, path, max_pixels)
    stored = _pixels(dataset, path)
    if dataset.PhotometricInterpretation in _COLOUR:
        grey = _luma(stored, dataset, path)
        how = f"luma of {dataset.PhotometricInterpretation}"
    else:
        grey, how = _grey(stored, dataset, path, window)
    facts = DicomFacts(
        sop_instance_uid=_matching(_UID, dataset.get("SOPInstanceUID")),
        laterality=_matching(_CODE, dataset.get("ImageLaterality") or dataset.get("Laterality")),
        view=_matching(_CODE, dataset.get("ViewPosition")),
        grey_scale=how,
        photometric=str(dataset.PhotometricInterpretation),
        bits_stored=int(dataset.BitsStored),
    )
    return grey, facts


def _parse(data: bytes, path: Path, max_pixels: int) -> "Dataset":
    try:
        import pydicom
        from pydicom import config
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading DICOM", "pydicom", INSTALL) from error
    config.settings.reading_validation_mode = (
        config.IGNORE
    )  # odd names and dates are none of our business
    quiet()
    check_inflated(data, path, max_pixels)
    return pydicom.dcmread(io.BytesIO(data), force=True)


@cache
def quiet() -> None:
    """What pydicom remarks of odd files goes into no log: such a file is read, or is a row with its
    reason.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def _check(dataset: "Dataset", path: Path, max_pixels: int) -> None:
    """Raise ImageError, before anything is decoded, where this is not one image that we read."""
    if dataset.get("SOPClassUID") == _PDF:
        raise ImageError(path, "is a PDF in a DICOM file", "export the image that it shows")
    if "PixelData" not in dataset:
        kind = getattr(dataset.get("SOPClassUID"), "name", None) or "DICOM object"
        raise ImageError(path, f"is a {kind} without integer pixels", "give the image itself")
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if n_frames > 1:
        raise ImageError(path, f"holds {n_frames} frames", "save the one that is meant")
    lacking = [
        name
        for name in (
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "PhotometricInterpretation",
            "SamplesPerPixel",
        )
        if dataset.get(name) is None
    ]
    if lacking:
        raise ImageError(path, f"damaged DICOM (no {', '.join(lacking)})")
    if not dataset.Rows * dataset.Columns:
        raise ImageError(path, "holds no pixels")
    if dataset.Rows * dataset.Columns > max_pixels:
        raise TooLargeError(path, dataset.Columns, dataset.Rows, max_pixels)
    if dataset.PhotometricInterpretation not in (*_GREY, *_COLOUR) or dataset.BitsAllocated not in (
        8,
        16,
    ):
        what = f"{dataset.PhotometricInterpretation} pixels of {dataset.BitsAllocated} bits"
        raise ImageError(
            path, f"{what} are not supported", "export it with 8 or 16 bits, grey or colour"
        )
    n_samples = 3 if dataset.PhotometricInterpretation in _SAMPLED else 1
    if n_samples != dataset.SamplesPerPixel:
        what = f"{dataset.SamplesPerPixel} samples a pixel, {dataset.PhotometricInterpretation} has {n_samples}"
        raise ImageError(path, f"damaged DICOM ({what})")


def _pixels(dataset: "Dataset", path: Path) -> NDArray[np.integer]:
    """The stored values (H, W), or (H, W, 3) with YBR made RGB; bits above BitsStored are no part
    of them.
    """
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

    if not getattr(dataset, "file_meta", None) or "TransferSyntaxUID" not in dataset.file_meta:
        dataset.ensure_file_meta()  # PS3.5, section 10.1: without one it is as it was read, uncompressed
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        )
    try:
        check_stream(dataset, path)
        # GDCM ends the process at a mere warning of its libjpeg, such as a JFIF header of another
        # version.
        baseline = dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
        stored = pixel_array(dataset, decoding_plugin="pillow" if baseline else "")
        if stored.shape[:2] != (
            dataset.Rows,
            dataset.Columns,
        ):  # pydicom takes more bytes for more frames
            raise ImageError(
                path, f"damaged DICOM pixels (more than {dataset.Columns} × {dataset.Rows})"
            )
        return _without_overlays(stored, dataset, path)
    except ImageError:
        raise
    except _failures() as error:
        raise ImageError(path, f"damaged or unsupported DICOM pixels ({_words(error)})") from error


def _without_overlays(
    stored: NDArray[np.integer], dataset: "Dataset", path: Path
) -> NDArray[np.integer]:
    """The values without what older files keep in the bits above them (PS3.5, section 8.1.1)."""
    bits = int(dataset.BitsStored)
    width = stored.dtype.itemsize * 8
    if not 1 <= bits <= int(dataset.BitsAllocated) or dataset.get("HighBit", bits - 1) != bits - 1:
        what = (
            f"{bits} bits stored of {dataset.BitsAllocated}, the highest {dataset.get('HighBit')}"
        )
        raise ImageError(path, f"pixels of {what} are not supported")
    free = width - bits
    return (stored << free) >> free if free and dataset.SamplesPerPixel == 1 else stored


def _luma(stored: NDArray[np.integer], dataset: "Dataset", path: Path) -> NDArray[np.uint8]:
    """ITU-R 601 luma (H, W) uint8 of colour pixels."""
    from pydicom.pixels.processing import apply_color_lut

    shift = int(dataset.BitsStored) - 8
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        try:
            stored = apply_color_lut(stored, dataset)
        except _failures() as error:
            raise ImageError(path, f"damaged DICOM palette ({_words(error)})") from error
        shift = stored.dtype.itemsize * 8 - 8
    eight = (stored >> max(shift, 0)).astype(np.uint8)
    return np.array(Image.fromarray(eight[..., :3]).convert("L"))


def _grey(
    stored: NDArray[np.integer], dataset: "Dataset", path: Path, window: int
) -> tuple[NDArray[np.uint8], str]:
    """Grey levels (H, W) uint8, and how they were made."""
    from pydicom.pixels.processing import apply_modality_lut

    bits = int(dataset.BitsStored)
    signed = bool(dataset.get("PixelRepresentation", 0))
    ends = np.array(
        [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1],
        dtype=stored.dtype,
    )
    try:
        values, (low, high) = (
            np.asarray(apply_modality_lut(v, dataset), dtype=np.float64) for v in (stored, ends)
        )
        share, how = _voi(values, (min(low, high), max(low, high)), dataset, path, window)
    except ImageError:
        raise
    except _failures() as error:
        raise ImageError(path, f"damaged DICOM grey scale ({_words(error)})") from error
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        share = 1.0 - share
        how = f"{how}, inverted"
    share[_padding(stored, dataset)] = 0.0
    return np.rint(255.0 * share).astype(np.uint8), how


def _voi(
    values: Values, full: tuple[float, float], dataset: "Dataset", path: Path, index: int
) -> tuple[Values, str]:
    """The values of interest as 0 to 1, and by what: VOI LUT, else window, else the full range of
    BitsStored.
    """
    from pydicom.pixels.processing import apply_voi

    tables = dataset.get("VOILUTSequence") or ()
    centres, widths = (_numbers(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    n = len(tables) or min(len(centres), len(widths))
    if index and index >= n:
        raise ImageError(
            path,
            f"has {n} windows, and --dicom-window asks for number {index}",
            "ask for a smaller one",
        )
    if tables:
        top = 2 ** int(tables[index].LUTDescriptor[2]) - 1
        return np.clip(
            np.asarray(apply_voi(values.astype(np.int32), dataset, index), np.float64) / top, 0, 1
        ), "VOI LUT"
    if n:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        return windowed(
            values, centres[index], widths[index], function
        ), f"window {index} ({function})"
    low, high = full
    return np.clip(
        (values - low) / max(high - low, 1e-12), 0, 1
    ), f"full range of {dataset.BitsStored} bits"


def windowed(values: Values, centre: float, width: float, function: str) -> Values:
    """The values as 0 to 1 by a window (PS3.3, C.11.2.1.2 and C.11.2.1.3); raises ValueError for
    one that is none.
    """
    if function == "SIGMOID" and width > 0:
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "LINEAR" and width >= 1:
        if width == 1:  # the formula's limit: a step
            return (values > centre - 0.5).astype(np.float64)
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    raise ValueError(f"a window of width {width:g} and function {function}")


def _padding(stored: NDArray[np.integer], dataset: "Dataset") -> NDArray[np.bool_]:
    """Where the stored values are padding (C.7.5.1.1.2): the value, or all from it to the range's
    limit.
    """
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    last = dataset.get("PixelPaddingRangeLimit", first)
    found: NDArray[np.bool_] = (stored >= min(first, last)) & (stored <= max(first, last))
    return found


def _matching(pattern: re.Pattern[str], value: object) -> str:
    """The text of an element, or nothing where its own rule forbids it: a hostile file may say
    anything.
    """
    text = str(value or "").strip()
    return text if pattern.fullmatch(text) else ""


def _numbers(value: Any) -> list[float]:
    """The numbers of an element of one value or several."""
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return []
    return [float(part) for part in (value if isinstance(value, MultiValue) else [value])]


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


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
