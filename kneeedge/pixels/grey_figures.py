"""A picture's grey levels in four figures, which another source or setting moves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DARK, BRIGHT = 0.05, 0.95
"shares of the pixels below what counts as a picture's black and white"
_LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class GreyFigures:
    """Four figures of one picture, as the network gets it."""

    brightness: float
    "mean grey level, 0 to 255"
    contrast: float
    "standard deviation of the grey levels, 0 to 127.5"
    tone: float
    """0 to 1; where the middle grey level lies between the 5th and the 95th percentile. A window
    moves all three alike, and a gamma the middle one"""
    sharpness: float
    """0 and more; mean square of the Laplacian over the variance: the share of the picture that is
    fine detail, whatever its contrast"""


def grey_figures(pixels: NDArray[np.uint8]) -> GreyFigures:
    """The figures of a picture (S, S) uint8; a blank one has no contrast, tone 0.5, sharpness 0."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    mean = float(counts @ _LEVELS) / pixels.size
    variance = float(counts @ (_LEVELS - mean) ** 2) / pixels.size
    below = counts.cumsum()
    dark, middle, bright = np.searchsorted(below, pixels.size * np.array([DARK, 0.5, BRIGHT]))
    return GreyFigures(
        brightness=mean,
        contrast=variance**0.5,
        tone=float((middle - dark) / (bright - dark)) if bright > dark else 0.5,
        sharpness=_laplacian_energy(pixels) / variance if variance else 0.0,
    )


def _laplacian_energy(pixels: NDArray[np.uint8]) -> float:
    """Mean square of the 5-point Laplacian, which lies within ±1020, over the inner pixels."""
    grey = pixels.astype(np.int16)
    laplacian = 4 * grey[1:-1, 1:-1]
    laplacian -= grey[:-2, 1:-1]
    laplacian -= grey[2:, 1:-1]
    laplacian -= grey[1:-1, :-2]
    laplacian -= grey[1:-1, 2:]
    values = laplacian.astype(np.float32).ravel()
    return float(values @ values) / values.size
