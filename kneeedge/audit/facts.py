"""What is known of an image file without a look at the bone: header, brightness, bars, writing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.pixels.picture import WholeFile

BORDER = 0.05
"share of each side that counts as the border"
WHITE = 232
"grey level from which a row belongs to a white bar; JPEG leaves ripples in it"
BLACK = 20
"grey level up to which a row belongs to a black bar"
MIN_BAR = 0.02
"share of the side that a bar takes; thinner ones are frames"
STROKE = 140
"a step between neighbouring pixels, in grey levels, that writing has and anatomy does not"
MIN_STROKES = 6
"in a row of pixels that writing crosses"
MIN_TEXT_ROWS = 5
"rows of pixels, one below the other, that writing crosses"


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
    "the widest black bar along an edge, as a share of that side; 0 where there is none"
    text: bool
    "rows of hard, bright strokes, as burned-in writing has; a marker alone is seldom enough"

    @property
    def n_pixels(self) -> int:
        return self.width * self.height

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    @property
    def bytes_per_pixel(self) -> float:
        return self.n_bytes / self.n_pixels


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
    height, width = grey.shape
    rows = max(1, round(BORDER * height))
    columns = max(1, round(BORDER * width))
    parts = (grey[:rows], grey[-rows:], grey[rows:-rows, :columns], grey[rows:-rows, -columns:])
    total = sum(int(part.sum(dtype=np.int64)) for part in parts)
    n_pixels = sum(part.size for part in parts)
    return total / max(1, n_pixels)


def _bar(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> float:
    """The widest run of True from an end of a vector, as a share of it; 0 where all is one bar."""
    if rows.all() or columns.all():
        return 0.0
    edges = (rows, rows[::-1], columns, columns[::-1])
    widest = max(int(edge.argmin()) / len(edge) for edge in edges)
    return widest if widest >= MIN_BAR else 0.0


def _has_text(grey: NDArray[np.uint8]) -> bool:
    """Whether MIN_TEXT_ROWS neighbouring rows each hold MIN_STROKES hard steps."""
    left = grey[:, :-1]
    right = grey[:, 1:]
    steps = np.maximum(left, right) - np.minimum(left, right)
    crossed = (steps >= STROKE).sum(axis=1) >= MIN_STROKES
    if len(crossed) < MIN_TEXT_ROWS:
        return False
    n_crossed = np.convolve(crossed.astype(np.int64), np.ones(MIN_TEXT_ROWS, np.int64))
    return bool(n_crossed.max() == MIN_TEXT_ROWS)
