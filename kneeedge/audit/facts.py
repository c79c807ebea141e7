"""What can be known of an image file without looking at the bone: header, brightness, bars and
writing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.pixels.picture import WholeFile

BORDER = 0.05
"share of each side that counts as the border"
WHITE, BLACK = 232, 20
"""grey levels from which, and up to which, a row belongs to a white or a black bar; JPEG leaves
ripples in both
"""
LEAST_BAR = 0.02
"share of the side that a bar takes at least; thinner ones are frames"
STROKE = 140
"a step between neighbouring pixels, in grey levels, that writing has and anatomy does not"
STROKES_IN_ROW, ROWS_OF_TEXT = 6, 5


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a file and the lightness of its pixels tell."""

    format: str
    "JPEG, PNG, TIFF, BMP or WEBP"
    mode: str
    "Pillow's name for the pixels' layout"
    bit_depth: int
    "bits a channel"
    width: int
    "pixels, upright"
    height: int
    n_bytes: int
    "of the file"
    border: float
    "mean grey level of the outer 5 % on each side, 0 to 255"
    mean: float
    "grey level, 0 to 255"
    contrast: float
    "standard deviation of the grey levels"
    white: float
    "share of pixels at 255"
    black: float
    "share of pixels at 0"
    white_bar: float
    "the widest white bar along an edge, as a share of that side; 0 where there is none"
    black_bar: float
    text: bool
    "rows of hard, bright strokes, as burned-in writing has; a marker alone is seldom enough"

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    @property
    def bytes_per_pixel(self) -> float:
        return self.n_bytes / (self.width * self.height)


def facts_of(file: WholeFile) -> Facts:
    """The facts of one file that has been read."""
    header = file.header
    grey = file.grey
    height, width = grey.shape
    share = np.array(Image.fromarray(grey).histogram()) / grey.size
    levels = np.arange(256)
    mean = float(share @ levels)
    return Facts(
        format=header.format,
        mode=header.mode,
        bit_depth=header.bit_depth,
        width=width,
        height=height,
        n_bytes=header.n_bytes,
        border=_border(grey),
        mean=mean,
        contrast=float(np.sqrt(share @ (levels - mean) ** 2)),
        white=float(share[255]),
        black=float(share[0]),
        white_bar=_bar(grey.min(axis=1) >= WHITE, grey.min(axis=0) >= WHITE),
        black_bar=_bar(grey.max(axis=1) <= BLACK, grey.max(axis=0) <= BLACK),
        text=_has_text(grey),
    )


def _border(grey: NDArray[np.uint8]) -> float:
    """Mean grey level of the frame whose width is BORDER of each side, a pixel at least."""
    rows, columns = (max(1, round(BORDER * side)) for side in grey.shape)
    parts = (grey[:rows], grey[-rows:], grey[rows:-rows, :columns], grey[rows:-rows, -columns:])
    return float(
        sum(int(part.sum(dtype=np.int64)) for part in parts)
        / max(1, sum(part.size for part in parts))
    )


def _bar(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> float:
    """The widest run of True from either end of either vector, as a share of it; 0 where all is one
    bar.
    """
    if rows.all() or columns.all():
        return 0.0
    runs = (
        int(side.argmin()) / len(side) for line in (rows, columns) for side in (line, line[::-1])
    )
    widest = max(runs)
    return widest if widest >= LEAST_BAR else 0.0


def _has_text(grey: NDArray[np.uint8]) -> bool:
    """Whether ROWS_OF_TEXT neighbouring rows each hold STROKES_IN_ROW hard steps to bright pixels."""
    steps = np.zeros(grey.shape[0], dtype=np.int64)
    left = grey[:, :-1]
    right = grey[:, 1:]
    np.sum(np.maximum(left, right) - np.minimum(left, right) >= STROKE, axis=1, out=steps)
    rows = (steps >= STROKES_IN_ROW).astype(np.int64)
    return bool(
        len(rows) >= ROWS_OF_TEXT
        and np.convolve(rows, np.ones(ROWS_OF_TEXT, np.int64)).max() == ROWS_OF_TEXT
    )
