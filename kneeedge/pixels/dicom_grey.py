"""The grey level of every word that a DICOM file's pixels may be, by its own grey scale.

A word of 8 or 16 bits is one of 256 or 65,536, so that the whole pipeline (PS3.4, section N.2) is
followed once for each and then looked up for each pixel. Sections below are of PS3.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.errors import ImageError
from kneeedge.pixels.dicom_numbers import (
    DamagedError,
    decimal,
    decimals,
    items_of,
    values_of,
    whole,
    words,
)
from kneeedge.pixels.dicom_tables import grey_table, palette

if TYPE_CHECKING:
    from pydicom import Dataset


Values = NDArray[np.float64]

_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
"the Presentation LUT Shape that says the same: C.8.11.3.1.2"
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_RESCALE_GROUP = "PixelValueTransformationSequence"
_WINDOW_GROUP = "FrameVOILUTSequence"
"functional groups of enhanced images: C.7.6.16.2.9 and C.7.6.16.2.10"


@dataclass(frozen=True)
class GreyLevels:
    """What each word of the pixels becomes."""

    levels: NDArray[np.uint8]
    "(2**BitsAllocated,), by word"
    padding: NDArray[np.bool_]
    "(2**BitsAllocated,), which words are padding, and dark"
    grey_scale: str
    "how the levels are made"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the stored values lie in the words of the pixels."""

    allocated: int
    "bits a word, 8 or 16"
    stored: int
    "bits of it that are the value, the lowest ones"
    signed: bool
    little_endian: bool
    "how the file's words are read"

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest stored value."""
        if self.signed:
            return -(2 ** (self.stored - 1)), 2 ** (self.stored - 1) - 1
        return 0, 2**self.stored - 1

    @property
    def words(self) -> NDArray[np.int64]:
        """Every word there is (2**allocated,), as an unsigned number."""
        return np.arange(2**self.allocated, dtype=np.int64)

    @property
    def values(self) -> NDArray[np.int64]:
        """The stored value of every word (2**allocated,).

        Older files keep overlays in the bits above it (PS3.5, section 8.1.1).
        """
        low: NDArray[np.int64] = self.words % 2**self.stored
        return np.where(low > self.ends[1], low - 2**self.stored, low)

    @property
    def as_signed(self) -> NDArray[np.int64]:
        """Every word (2**allocated,) with all its bits, as a signed number."""
        top = 2 ** (self.allocated - 1)
        return np.where(self.words >= top, self.words - 2 * top, self.words)

    @property
    def as_unsigned(self) -> NDArray[np.int64]:
        """Every word (2**allocated,) as the unsigned number that its value is written by."""
        unsigned: NDArray[np.int64] = self.values & (2**self.allocated - 1)
        return unsigned if self.signed else self.words


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What every word means once the modality LUT or the rescale is applied."""

    values: Values
    "(2**allocated,), by word"
    low: float
    "the smallest value that there could be"
    high: float
    bits: int
    "of that range: those stored, or those of the table's entries"
    remark: str = ""


def monochrome_levels(dataset: "Dataset", layout: Layout, path: Path, window: int) -> GreyLevels:
    """The levels of MONOCHROME1 or MONOCHROME2 by VOI LUT or window number `window`.

    Raises ImageError for a grey scale that cannot be followed.
    """
    _check_polarity(dataset, path)
    try:
        brightness, grey_scale = _brightness(dataset, layout, path, window)
        padding = _padding(dataset, layout)
    except DamagedError as error:
        raise ImageError(path, f"damaged DICOM grey scale ({error})") from error
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        brightness = 1.0 - brightness
        grey_scale = f"{grey_scale}, inverted"
    brightness[padding] = 0.0
    return GreyLevels(np.rint(255.0 * brightness).astype(np.uint8), padding, grey_scale)


def palette_levels(dataset: "Dataset", layout: Layout, path: Path) -> GreyLevels:
    """The luma (ITU-R 601) of the colours of PALETTE COLOR; raises ImageError for a damaged one."""
    try:
        channels = palette(dataset, layout.signed, layout.little_endian)
    except DamagedError as error:
        raise ImageError(path, f"damaged DICOM palette ({error})") from error
    values = layout.values
    colours = [channel.of(values) >> (channel.bits - 8) for channel in channels]
    rgb = np.stack(colours, axis=-1).astype(np.uint8)
    luma = np.array(Image.fromarray(rgb[np.newaxis]).convert("L"))[0]
    brightest = max(channels, key=lambda channel: int(channel.entries.max()) / channel.top)
    no_padding = np.zeros(luma.shape, dtype=np.bool_)
    return GreyLevels(luma, no_padding, f"luma of PALETTE COLOR{brightest.remark}")


def _check_polarity(dataset: "Dataset", path: Path) -> None:
    """Raise ImageError where the file says twice what is dark, and not the same.

    The standard binds the shape to the interpretation (C.8.11.3.1.2); where they differ DCMTK and
    dcm4che follow the shape, most other readers the interpretation.
    """
    if any("LUTData" in item for item in items_of(dataset, "PresentationLUTSequence")):
        raise ImageError(path, "a Presentation LUT is not supported", "apply it and save the image")
    if dataset.get("PixelPresentation") in ("COLOR", "MIXED"):
        problem = "grey pixels with colours among them are not supported"
        raise ImageError(path, problem, "save it as grey or as colour")
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    photometric = dataset.PhotometricInterpretation
    if shape in _SHAPES.values() and shape != _SHAPES[photometric]:
        problem = f"is {photometric} with the Presentation LUT Shape {shape}, which contradict"
        remedy = "find out which is true and set the other by it"
        raise ImageError(path, f"{problem} each other", remedy)


def _brightness(dataset: "Dataset", layout: Layout, path: Path, index: int) -> tuple[Values, str]:
    """The brightness of every word, 0 to 1, and by which grey scale that is."""
    modality = _modality(dataset, layout)
    tables = items_of(dataset, "VOILUTSequence")
    holder = _holder(dataset, _WINDOW_GROUP, _WINDOW)
    windows = _windows(holder)
    n_windows = len(tables) or len(windows)
    if index and index >= n_windows:
        problem = f"has {n_windows} windows, and --dicom-window asks for number {index}"
        raise ImageError(path, problem, "ask for a smaller one")
    if tables:
        table = grey_table(tables[index], modality.low < 0, layout.little_endian)
        brightness = table.of(modality.values) / table.top
        return brightness, f"VOI LUT{table.remark}{modality.remark}"
    if n_windows:
        centre, width = windows[index]
        if centre is None or width is None:
            raise DamagedError(f"window {index} has no {'centre' if centre is None else 'width'}")
        function = str(holder.get("VOILUTFunction") or "LINEAR").strip().upper()
        brightness = windowed(modality.values, centre, width, function)
        return brightness, f"window {index} ({function}){modality.remark}"
    brightness = (modality.values - modality.low) / (modality.high - modality.low)
    return brightness, f"full range of {modality.bits} bits{modality.remark}"


def _modality(dataset: "Dataset", layout: Layout) -> Modality:
    tables = items_of(dataset, "ModalityLUTSequence")
    if tables:
        table = grey_table(tables[0], layout.signed, layout.little_endian)
        values: Values = table.of(layout.values).astype(np.float64)
        remark = f" of a modality LUT{table.remark}" if table.remark else ""
        return Modality(values=values, low=0, high=table.top, bits=table.bits, remark=remark)
    slope, intercept = _rescale(dataset)
    ends = [end * slope + intercept for end in layout.ends]
    if ends[0] == ends[1]:
        raise DamagedError(f"a rescale of slope {slope:g} and intercept {intercept:g}")
    values = layout.values.astype(np.float64) * slope + intercept
    return Modality(values=values, low=min(ends), high=max(ends), bits=layout.stored)


def _rescale(dataset: "Dataset") -> tuple[float, float]:
    """Slope and intercept (C.11.1.1.2); 1 and 0 where the file has neither."""
    holder = _holder(dataset, _RESCALE_GROUP, _RESCALE)
    slope = decimal(holder, "RescaleSlope")
    intercept = decimal(holder, "RescaleIntercept")
    if slope is None and intercept is None:
        return 1.0, 0.0
    if slope is None or intercept is None:
        lacking = "slope" if slope is None else "intercept"
        raise DamagedError(f"a rescale without its {lacking}")
    return slope, intercept


def _windows(holder: "Dataset") -> list[tuple[float | None, float | None]]:
    """Centre and width of each window; None for one that is not there."""
    centres = decimals(holder, "WindowCenter")
    widths = decimals(holder, "WindowWidth")
    n = max(len(centres), len(widths))
    centres += [None] * (n - len(centres))
    widths += [None] * (n - len(widths))
    return list(zip(centres, widths, strict=True))


def _holder(dataset: "Dataset", group: str, keywords: tuple[str, ...]) -> "Dataset":
    """What holds these elements: the data set, or one of its functional groups.

    A one-frame image of an enhanced class keeps them there (C.7.6.16). Raises DamagedError where
    several places hold them and differ.
    """
    holders = [dataset, *_functional_groups(dataset, group)]
    contents = [[values_of(item, keyword) for keyword in keywords] for item in holders]
    filled = [at for at, content in enumerate(contents) if any(content)]
    if any(contents[at] != contents[filled[0]] for at in filled):
        raise DamagedError(f"{', '.join(keywords)} stand in several places, and differ")
    return holders[filled[0]] if filled else dataset


def _functional_groups(dataset: "Dataset", group: str) -> "list[Dataset]":
    """The items of a functional group, of all frames and of the one."""
    items: list[Dataset] = []
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        frames = items_of(dataset, sequence)
        if len(frames) > 1:
            raise DamagedError(f"{sequence} has {len(frames)} items for one frame")
        for frame in frames:
            items += items_of(frame, group)
    return items


def windowed(values: Values, centre: float, width: float, function: str) -> Values:
    """The values as 0 to 1 by a window (C.11.2.1.2 and C.11.2.1.3).

    Raises DamagedError for a width or a function that makes no window.
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
    known = function if function in _FUNCTIONS else "that is not known"
    raise DamagedError(f"a window of width {width:g} and a function {known}")


def _padding(dataset: "Dataset", layout: Layout) -> NDArray[np.bool_]:
    """Which words are padding (C.7.5.1.1.2): one value, or a range of them.

    A value that the pixels cannot have is of the other value representation, as 63536 is of signed
    pixels: those words are meant that are written alike.
    """
    first = _padding_value(dataset, "PixelPaddingValue", layout)
    last = _padding_value(dataset, "PixelPaddingRangeLimit", layout)
    if first is None:
        if last is not None:
            raise DamagedError("a PixelPaddingRangeLimit without its PixelPaddingValue")
        return np.zeros(2**layout.allocated, dtype=np.bool_)
    low = min(first, first if last is None else last)
    high = max(first, first if last is None else last)
    values = layout.values
    if low < layout.ends[0] or high > layout.ends[1]:
        values = layout.as_signed if low < 0 else layout.as_unsigned
    padding: NDArray[np.bool_] = (values >= low) & (values <= high)
    return padding


def _padding_value(dataset: "Dataset", keyword: str, layout: Layout) -> int | None:
    """The padding's number, in whatever value representation it is; None where it has none."""
    if not any(isinstance(value, bytes) for value in values_of(dataset, keyword)):
        return whole(dataset, keyword)
    packed = words(dataset, keyword, layout.little_endian)
    if len(packed) != 1:
        raise DamagedError(f"{keyword} has {len(packed)} values")
    return int(packed[0])
