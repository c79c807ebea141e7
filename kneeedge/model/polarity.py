"""Whether a radiograph is inverted: the test that the graph makes, for who wants to know of it.

The test is linear in the mean grey of 8 × 8 cells, less their mean and over their deviation.
Inverting an image changes the sign of that. Blank rows and columns, as the bars and borders beside
an exposed field, are not of the radiograph and may have either colour in one that is inverted and
in one that is not: they count as the mean of the rest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_CELLS = 8
"on each side; the sides of inputs are multiples of 32"
LEAST_SPREAD = 2.0
"grey levels; cells that differ by less say nothing"


@dataclass(frozen=True, kw_only=True)
class Polarity:
    """How the graph tells an inverted image, which it turns around before the network sees it."""

    weights: tuple[float, ...]
    "of the means of 8 × 8 cells of the input, row by row; centred, over their deviation"
    limit: float
    "below 0; an image whose weighted sum is less is inverted"
    n: int
    "training images that it was learnt from"
    n_inverted: int
    "of these that it calls inverted"
    blank_range: int | None = None
    """0 to 255; rows and columns of the input whose grey levels differ by no more are blank: they
    count as the mean of the others, and are dark in an image that is turned around; absent: none
    """

    def __post_init__(self) -> None:
        if len(self.weights) != N_CELLS**2:
            raise ValueError(f"polarity has {N_CELLS**2} weights, not {len(self.weights)}")
        if self.blank_range is not None and not 0 <= self.blank_range <= 255:
            raise ValueError(f"blank_range must be from 0 to 255, not {self.blank_range}")

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON, without a range that is absent: earlier versions read that too."""
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    def inverted(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether each image (N, S, S) uint8 is inverted (N,): bone dark.

        That is the graph's own decision but for rounding: it sums in single precision.
        """
        scores = normalised(levels(images, self.blank_range)) @ np.asarray(self.weights)
        return np.asarray(scores < self.limit)


def levels(images: NDArray[np.uint8], blank_range: int | None) -> NDArray[np.float64]:
    """(N, 8, 8): mean grey levels of the cells of images (N, S, S), the blank ones filled."""
    n, side, _ = images.shape
    cell = side // N_CELLS
    rows = _is_shown(images, 2, blank_range)
    columns = _is_shown(images, 1, blank_range)
    shown = images * (rows[:, :, None] & columns[:, None, :])
    sums = shown.reshape(n, N_CELLS, cell, side).sum(axis=2, dtype=np.uint32)
    sums = sums.reshape(n, N_CELLS, N_CELLS, cell).sum(axis=3)
    n_rows = rows.reshape(n, N_CELLS, cell).sum(axis=2)
    n_columns = columns.reshape(n, N_CELLS, cell).sum(axis=2)
    n_shown = n_rows[:, :, None] * n_columns[:, None, :]
    n_pixels = np.maximum(n_shown.sum(axis=(1, 2), keepdims=True), 1)
    mean = sums.sum(axis=(1, 2), keepdims=True) / n_pixels
    return np.asarray((sums + mean * (cell**2 - n_shown)) / cell**2)


def _is_shown(images: NDArray[np.uint8], axis: int, blank_range: int | None) -> NDArray[np.bool_]:
    """(N, S): whether each row or column, along `axis` of images (N, S, S), is not blank."""
    if blank_range is None:
        return np.ones(images.shape[:2], dtype=bool)
    return np.asarray(np.ptp(images, axis=axis) > blank_range)


def normalised(cells: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 64) of the grey levels of cells (N, 8, 8): centred, over their deviation."""
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True))
    return np.asarray(centred / (spread + LEAST_SPREAD))
