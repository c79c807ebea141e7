"""Which radiographs are inverted, told by their pixels alone and learnt without labels.

A PNG or JPEG does not say whether bone is bright or dark in it, and exports mix the two. The
network is to see one kind: what is inverted is turned around before its first layer, in the graph.
The test is linear in the mean grey of 8 × 8 cells, less their mean and over their deviation, and
the same for an image and its mirror. Inverting an image changes the sign of that, so that each
training image stands for its own inverse too, and logistic regression needs no labels; the few
training images that are inverted themselves are outvoted.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kneeedge.model.spec import Polarity

N_CELLS = 8
"on each side; the sides of inputs are multiples of 32"
LEAST_SPREAD = 2.0
"grey levels; cells that differ by less say nothing"
MARGIN = 0.5
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

    def forward(self, grey: Tensor) -> Tensor:
        # No matrix product, which autocast would round to 16 bits.
        scores = (cells(grey) * self.weights).sum(1)
        inverted = (scores < self.limit).to(grey.dtype)[:, None, None, None]
        return grey + inverted * (255.0 - 2.0 * grey)


def cells(grey: Tensor) -> Tensor:
    """(N, 64) of grey levels (N, 1, S, S): means of cells, centred, over their deviation."""
    means = F.avg_pool2d(grey, grey.shape[-1] // N_CELLS).flatten(1)
    centred = means - means.mean(1, keepdim=True)
    spread = (centred * centred).mean(1, keepdim=True).sqrt()
    return centred / (spread + LEAST_SPREAD)


def fit_polarity(images: Iterable[NDArray[np.uint8]]) -> Polarity | None:
    """The test, learnt from training images (S, S) uint8; None where they do not show it.

    That is where they are few, where many of them score near 0, and where many are inverted.
    """
    features = _cells_of(images)
    if len(features) < LEAST_IMAGES:
        return None
    weights = _logistic(_mirrored_mean(features)).astype(np.float32)
    scores = features @ weights
    limit = -MARGIN * float(np.median(scores))
    between = float((np.abs(scores) < -limit).mean())
    n_inverted = int((scores < limit).sum())
    if between > MOST_BETWEEN or n_inverted > MOST_INVERTED * len(scores):
        return None
    return Polarity(
        weights=tuple(map(float, weights)), limit=limit, n=len(scores), n_inverted=n_inverted
    )


def _cells_of(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(N, 64), a batch at a time."""
    parts: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            parts.append(_cells_of_batch(batch))
            batch = []
    if batch:
        parts.append(_cells_of_batch(batch))
    if not parts:
        return np.zeros((0, N_CELLS**2))
    return np.concatenate(parts).astype(np.float64)


def _cells_of_batch(batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = cells(torch.from_numpy(np.stack(batch)[:, None]).float()).numpy()
    return values


def _mirrored_mean(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """What an image and its mirror have in common (N, 64)."""
    grid = features.reshape(-1, N_CELLS, N_CELLS)
    return ((grid + grid[:, :, ::-1]) / 2.0).reshape(len(features), -1)


def _logistic(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (64,) under which features are positive, and their negatives therefore negative.

    Ridge regression by gradient descent from 0, as many steps as it takes to stand still.
    """
    weights = np.zeros(features.shape[1])
    for _ in range(N_STEPS):
        doubt = 1.0 / (1.0 + np.exp(features @ weights))
        weights += features.T @ doubt / len(features) - RIDGE * weights
    return weights
