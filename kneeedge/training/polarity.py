"""Which radiographs are inverted, told by their pixels alone and learnt without labels.

A PNG or JPEG does not say whether bone is bright or dark in it, and exports mix the two. The
network is to see one kind: what is inverted is turned around before its first layer, in the graph,
by the test of `kneeedge.model.polarity`. Inverting an image changes the sign of that, so that each
training image stands for its own inverse too, and logistic regression needs no labels; the few
training images that are inverted themselves are outvoted.

Three things keep it from what is not of the knee: blank rows and columns are left out; each image
is learnt from with margins as well, so that the middle can tell alone; and the weights are the same
for an image and its mirror, and say nothing of a ramp from top to bottom.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kneeedge.model.polarity import LEAST_SPREAD, N_CELLS, Polarity, levels, normalised

DARK = 127
"the largest grey level that counts as dark"
BLANK_RANGE = 8
"grey levels; compression and resizing leave less in a bar of one level, anatomy more"
MARGINS = ((0, 1), (0, 2), (1, 0), (2, 0))
"rows and columns of cells at either end that images are learnt without as well"
SURE = 0.25
"of the median score: an image is turned where its score is as far below 0 as this is above"
MOST_BETWEEN = 0.05
"share of the training images between the two limits, above which the test tells too little"
MOST_INVERTED = 0.2
"share of inverted training images, above which it is not known which way is upright"
LEAST_IMAGES = 20
RIDGE = 1e-2
N_STEPS = 400
BATCH = 64


class Upright(nn.Module):
    """Grey levels (N, 1, S, S) float, 0 to 255, with inverted images turned around."""

    weights: Tensor

    def __init__(self, polarity: Polarity) -> None:
        super().__init__()
        weights = torch.tensor(polarity.weights, dtype=torch.float32)
        self.register_buffer("weights", weights, persistent=False)
        self.limit = polarity.limit
        self.blank_range = polarity.blank_range

    def forward(self, grey: Tensor) -> Tensor:
        side = grey.shape[-1] // N_CELLS
        if self.blank_range is None:
            turns = self._is_inverted(F.avg_pool2d(grey, side))
        else:
            rows = _range(grey, 3) > self.blank_range
            columns = _range(grey, 2) > self.blank_range
            is_inverted = self._is_inverted(_filled_means(grey, rows, columns, side))
            # What is blank and dark stays dark, as the margins of any other image are.
            turns = is_inverted & ((rows & columns) | (grey > DARK))
        return torch.where(turns, 255.0 - grey, grey)

    def _is_inverted(self, means: Tensor) -> Tensor:
        """(N, 1, 1, 1): whether the cells of mean levels (N, 1, 8, 8) are those of an inverse."""
        flat = means.flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        spread = (centred * centred).mean(1, keepdim=True).sqrt()
        # No matrix product, which autocast would round to 16 bits.
        scores = (centred / (spread + LEAST_SPREAD) * self.weights).sum(1)
        return (scores < self.limit)[:, None, None, None]


def _range(grey: Tensor, along: int) -> Tensor:
    """The largest grey level less the smallest along an axis of (N, 1, S, S), which stays as 1."""
    return grey.amax(along, keepdim=True) - grey.amin(along, keepdim=True)


def _filled_means(grey: Tensor, rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """Mean levels (N, 1, 8, 8) of cells of this side, with the others' mean for what is blank.

    `rows` (N, 1, S, 1) and `columns` (N, 1, 1, S) say what is not.
    """
    shown_rows = rows.to(grey.dtype)
    shown_columns = columns.to(grey.dtype)
    sums = F.avg_pool2d(grey * (shown_rows * shown_columns), side)
    shares = F.avg_pool2d(shown_rows, (side, 1)) * F.avg_pool2d(shown_columns, (1, side))
    # at least a pixel, so that a blank image divides by something
    least = 1.0 / (N_CELLS * side) ** 2
    mean = sums.mean((2, 3), keepdim=True) / shares.mean((2, 3), keepdim=True).clamp(min=least)
    return sums + mean * (1.0 - shares)


def fit_polarity(images: Iterable[NDArray[np.uint8]]) -> Polarity | None:
    """The test, learnt from training images (S, S) uint8; None where they do not show it.

    That is where they are few, where many of them score near 0, and where many are inverted.
    """
    cells = _levels_of(images)
    if len(cells) < LEAST_IMAGES:
        return None
    framed = [cells, *(without_margins(cells, *margins) for margins in MARGINS)]
    features = np.concatenate([mirrored_mean(normalised(part)) for part in framed])
    weights = logistic(without_ramp(features)).astype(np.float32)
    scores = normalised(cells) @ weights
    limit = -SURE * float(np.median(scores))
    between = float((np.abs(scores) < -limit).mean())
    n_inverted = int((scores < limit).sum())
    if between > MOST_BETWEEN or n_inverted > MOST_INVERTED * len(scores):
        return None
    return Polarity(
        weights=tuple(map(float, weights)),
        limit=limit,
        n=len(scores),
        n_inverted=n_inverted,
        blank_range=BLANK_RANGE,
    )


def _levels_of(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(N, 8, 8), a batch at a time."""
    parts = [np.zeros((0, N_CELLS, N_CELLS))]
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            parts.append(levels(np.stack(batch), BLANK_RANGE))
            batch = []
    if batch:
        parts.append(levels(np.stack(batch), BLANK_RANGE))
    return np.concatenate(parts)


def without_margins(cells: NDArray[np.float64], n_rows: int, n_columns: int) -> NDArray[np.float64]:
    """Levels (N, 8, 8) of images whose outer rows and columns of cells, so many, are blank."""
    rows = slice(n_rows, N_CELLS - n_rows)
    columns = slice(n_columns, N_CELLS - n_columns)
    inner = cells[:, rows, columns]
    framed = np.empty_like(cells)
    framed[:] = inner.mean(axis=(1, 2), keepdims=True)
    framed[:, rows, columns] = inner
    return framed


def mirrored_mean(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """What an image and its mirror have in common (N, 64)."""
    grid = features.reshape(-1, N_CELLS, N_CELLS)
    return ((grid + grid[:, :, ::-1]) / 2.0).reshape(len(features), -1)


def without_ramp(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features (N, 64) less their part that rises evenly from the top to the bottom.

    The anode's heel and a tilted grid add such a ramp; one from side to side has no part in the
    mean with the mirror.
    """
    ramp = np.repeat(np.arange(N_CELLS) - (N_CELLS - 1) / 2.0, N_CELLS)
    ramp /= np.linalg.norm(ramp)
    return features - np.outer(features @ ramp, ramp)


def logistic(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (64,) under which features are positive, and their negatives therefore negative.

    Ridge regression by gradient descent from 0, as many steps as it takes to stand still.
    """
    weights = np.zeros(features.shape[1])
    for _ in range(N_STEPS):
        doubt = 1.0 / (1.0 + np.exp(features @ weights))
        weights += features.T @ doubt / len(features) - RIDGE * weights
    return weights
