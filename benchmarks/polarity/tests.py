"""Tests of whether a radiograph is inverted: the one before, the one chosen, and others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.polarity.names import BEFORE, CHOSEN
from kneeedge.model.polarity import LEAST_SPREAD, N_CELLS, levels, normalised
from kneeedge.training.polarity import (
    BLANK_RANGE,
    MARGINS,
    SURE,
    logistic,
    mirrored_mean,
    without_margins,
    without_ramp,
)

Array = NDArray[np.float64]
HALF = 0.5
"of the median score: how sure the test was to be before"
MAD = 1.4826
"of a normal distribution's median absolute deviation is its standard deviation"


@dataclass(frozen=True)
class Cells:
    """Mean grey levels of the cells of N images, in order."""

    whole: Array
    "(N, 8, 8)"
    filled: Array
    "(N, 8, 8) with what is blank as the mean of the rest"

    def rows(self, wanted: slice) -> "Cells":
        return Cells(self.whole[wanted], self.filled[wanted])

    def inverse(self) -> "Cells":
        """Those of the inverses of the images."""
        return Cells(255.0 - self.whole, 255.0 - self.filled)


def cells_of(images: Sequence[NDArray[np.uint8]]) -> Cells:
    """The cells of images (S, S) uint8."""
    stack = np.stack(images)
    return Cells(levels(stack, None), levels(stack, BLANK_RANGE))


def joined(parts: Sequence[Cells]) -> Cells:
    whole = np.concatenate([part.whole for part in parts])
    return Cells(whole, np.concatenate([part.filled for part in parts]))


def without(cells: Cells, margins: tuple[int, int]) -> Cells:
    """The cells where so many rows and columns at the ends are blank."""
    framed = without_margins(cells.filled, *margins)
    return Cells(framed, framed)


def of_whole(cells: Cells) -> Array:
    return normalised(cells.whole)


def of_filled(cells: Cells) -> Array:
    return normalised(cells.filled)


def of_inner(n_rows: int, n_columns: int) -> Callable[[Cells], Array]:
    """Features of the cells but for so many rows and columns at the ends, as if no others were."""

    def features(cells: Cells) -> Array:
        rows = slice(n_rows, N_CELLS - n_rows)
        columns = slice(n_columns, N_CELLS - n_columns)
        inner = cells.whole[:, rows, columns]
        all_cells = np.zeros_like(cells.whole)
        all_cells[:, rows, columns] = normalised(inner).reshape(inner.shape)
        return all_cells.reshape(len(inner), -1)

    return features


def of_ranks(cells: Cells) -> Array:
    """The places of the cells in the order of their levels, centred and over their deviation."""
    flat = cells.whole.reshape(len(cells.whole), -1)
    ranks = flat.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return normalised(ranks.astype(np.float64))


def of_robust(cells: Cells) -> Array:
    """Levels less their median, over their median absolute deviation."""
    flat = cells.whole.reshape(len(cells.whole), -1)
    centred = flat - np.median(flat, axis=1, keepdims=True)
    spread = MAD * np.median(np.abs(centred), axis=1, keepdims=True)
    return np.asarray(centred / (spread + LEAST_SPREAD))


@dataclass(frozen=True, kw_only=True)
class Test:
    """One way to tell an inverted image, still to be learnt."""

    __test__ = False  # else pytest takes it for one
    name: str
    features: tuple[Callable[[Cells], Array], ...]
    "(N, 64) of cells; where there are several, all must call an image inverted"
    margins: tuple[tuple[int, int], ...] = ()
    "rows and columns at the ends that images are learnt without as well"
    level: bool = False
    "nothing is learnt of a ramp from top to bottom"
    sure: float = HALF
    "of the median score: how far below 0 the score of an inverted image is"

    def learn(self, cells: Cells) -> "Learnt":
        """The test, learnt from training images."""
        parts = []
        for features in self.features:
            framed = [cells, *(without(cells, margins) for margins in self.margins)]
            shared = np.concatenate([mirrored_mean(features(part)) for part in framed])
            weights = logistic(without_ramp(shared) if self.level else shared)
            weights = weights.astype(np.float32).astype(np.float64)
            limit = -self.sure * float(np.median(features(cells) @ weights))
            parts.append(Part(features, weights, limit))
        return Learnt(self.name, tuple(parts))


@dataclass(frozen=True)
class Part:
    """A linear test of features."""

    features: Callable[[Cells], Array]
    weights: Array
    limit: float


@dataclass(frozen=True)
class Learnt:
    """A test that can be asked."""

    name: str
    parts: tuple[Part, ...]

    def turns(self, cells: Cells) -> NDArray[np.bool_]:
        """Whether each image (N,) is called inverted."""
        called = [part.features(cells) @ part.weights < part.limit for part in self.parts]
        return np.asarray(np.logical_and.reduce(called))


TESTS = (
    Test(name=BEFORE, features=(of_whole,)),
    Test(name="inner six columns", features=(of_inner(0, 1),)),
    Test(name="inner four columns", features=(of_inner(0, 2),)),
    Test(name="inner six by six", features=(of_inner(1, 1),)),
    Test(name="all cells and inner four columns", features=(of_whole, of_inner(0, 2))),
    Test(name="ranks", features=(of_ranks,)),
    Test(name="median and its deviation", features=(of_robust,)),
    Test(name="blank left out", features=(of_filled,)),
    Test(name="blank left out, half as sure", features=(of_filled,), sure=SURE),
    Test(name="the same, and margins", features=(of_filled,), margins=MARGINS, sure=SURE),
    Test(name=CHOSEN, features=(of_filled,), margins=MARGINS, level=True, sure=SURE),
    Test(
        name="the same, and corners",
        features=(of_filled,),
        margins=(*MARGINS, (1, 1), (2, 2)),
        level=True,
        sure=SURE,
    ),
    Test(
        name="without corners, as sure as before",
        features=(of_filled,),
        margins=MARGINS,
        level=True,
    ),
)
"""Margins: each image is learnt from without its outer rows or columns of cells as well; corners:
also without both."""
