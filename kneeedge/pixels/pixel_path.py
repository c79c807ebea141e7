"""The one pixel path: a grey radiograph of any size to the network's square input.

Training, validation, calibration, verification, inference and benchmarks all call it; there is no
other resize.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.model.spec import PixelPath
from kneeedge.pixels.dicom_facts import DicomFacts, DicomStudy
from kneeedge.pixels.picture import MAX_PIXELS, Picture, decode_picture, read_bytes


@dataclass(frozen=True)
class Input:
    """An image file, ready for the network."""

    pixels: NDArray[np.uint8]
    "(S, S)"
    dicom: DicomFacts | None
    "what a DICOM file says of itself; absent for other formats"
    blank: bool = False
    "all pixels of the file are alike"
    study: DicomStudy | None = None
    "of which study a DICOM file is, and whose"
    depth_suspect: int = 0
    "bits that 16-bit pixels fit, 8 to 14, where so few and nobody said so; else 0"
    n_pixels: int = 0
    "of the picture in its file"
    shown: NDArray[np.uint8] | None = None
    "(H, W), the picture itself, for people; absent where it was not asked for"


def load_input(path: Path, pixel_path: PixelPath) -> NDArray[np.uint8]:
    """The network's input (S, S) uint8 for an image file; raises ImageError if it has no pixels."""
    return load_with_facts(path, pixel_path).pixels


def load_with_facts(path: Path, pixel_path: PixelPath, max_pixels: int = MAX_PIXELS) -> Input:
    """The network's input for an image file, and what the file says of itself.

    Raises ImageError for a file that gives no pixels, or more than `max_pixels`.
    """
    return input_of_bytes(read_bytes(path).data, path, pixel_path, max_pixels)


def input_of_bytes(
    data: bytes,
    path: Path,
    pixel_path: PixelPath,
    max_pixels: int = MAX_PIXELS,
    shown_side: int = 0,
) -> Input:
    """What `load_with_facts` gives for a file of these bytes; `path` is named in what it raises.

    With a `shown_side` above 0 the picture itself is given too, no side of it longer.
    """
    picture = decode_picture(
        data, path, pixel_path.size, pixel_path.dicom_window, max_pixels, pixel_path.grey_bits
    )
    return input_of_picture(picture, pixel_path, shown_side)


def input_of_picture(picture: Picture, pixel_path: PixelPath, shown_side: int = 0) -> Input:
    """The network's input for a picture, and what its file says of itself."""
    blank = bool(picture.grey.min() == picture.grey.max())
    square = to_input(picture.grey, pixel_path)
    return Input(
        square,
        picture.dicom,
        blank,
        picture.study,
        picture.depth_suspect,
        n_pixels=picture.n_pixels,
        shown=at_most(picture.grey, shown_side) if shown_side else None,
    )


def at_most(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Grey pixels (H, W) uint8 as they are, or made smaller so that no side is longer."""
    if max(grey.shape) <= side:
        return grey
    return _resized(grey, *_fitted(grey.shape, side))


def picture_box(shape: tuple[int, ...], pixel_path: PixelPath) -> tuple[float, float, float, float]:
    """Where in the network's input a picture of (H, W) lies: left, top, right, bottom, 0 to 1."""
    if pixel_path.fit == "stretch":
        return 0.0, 0.0, 1.0, 1.0
    side = pixel_path.size
    height, width = _fitted(shape, side)
    top = (side - height) // 2
    left = (side - width) // 2
    return left / side, top / side, (left + width) / side, (top + height) / side


def to_input(grey: NDArray[np.uint8], pixel_path: PixelPath) -> NDArray[np.uint8]:
    """The network's input (S, S) uint8 for grey pixels (H, W) uint8.

    "stretch" brings both sides to S; "pad" keeps the aspect, longer side S, centred on black. S × S
    pixels come back as they are. How they are resized is `PixelPath.resize`, to the bit.
    """
    side = pixel_path.size
    height, width = (side, side) if pixel_path.fit == "stretch" else _fitted(grey.shape, side)
    resized = _resized(grey, height, width)
    if resized.shape == (side, side):
        return resized
    square = np.zeros((side, side), dtype=np.uint8)
    top = (side - height) // 2
    left = (side - width) // 2
    square[top : top + height, left : left + width] = resized
    return square


def _resized(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Grey pixels (height, width) uint8 of any (H, W), by `kneeedge.model.spec.RESIZE`.

    Each axis has a call of its own: which of the two comes first in a single call depends on the
    version of Pillow, and between them the pixels are rounded.
    """
    image = Image.fromarray(grey)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.array(across.resize((width, height), Image.Resampling.BILINEAR))


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width with the aspect kept and the longer one at `side`."""
    longer = max(shape)
    return max(1, round(shape[0] * side / longer)), max(1, round(shape[1] * side / longer))
