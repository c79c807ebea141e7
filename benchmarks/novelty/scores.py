"""Scores of how strange an image is, from its features: larger is stranger.

Each is fitted to the training images' features alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.novelty.features import Features
from kneeedge.training.novelty import N_BANDS, RANK, fit_gaussian, quantile_limit

Distances = NDArray[np.float64]
Score = Callable[[Features], Distances]
N_NEIGHBOURS = 10
LEAST = 1e-12
"beside a mean square, so that features that are all 0 divide by something"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What scores are fitted to."""

    views: Features
    "of the fixed views: as they are, mirrored, rotated"
    toned: Features
    "of views whose gamma was drawn too"
    weight: NDArray[np.float32]
    "(K, C) of the head"
    bias: NDArray[np.float32]
    "(K,)"


Pick = Callable[[Features], NDArray[np.floating]]


def block(number: int) -> Pick:
    return lambda features: features.block(number)


def unit(pick: Pick) -> Pick:
    """Features of one length, a mean square of 1, for Mahalanobis++ (Müller & Hein 2025)."""

    def normalised(features: Features) -> NDArray[np.floating]:
        values = pick(features).astype(np.float64)
        return np.asarray(values / np.sqrt((values**2).mean(axis=1, keepdims=True) + LEAST))

    return normalised


def bands(number: int) -> Pick:
    """Roots of the means of block 4 over more or fewer bands than a block's three."""

    def of_bands(features: Features) -> NDArray[np.floating]:
        rows = features.rows4.reshape(len(features.rows4), -1, features.block4.shape[1] // N_BANDS)
        edges = [round(i * rows.shape[1] / number) for i in range(number + 1)]
        parts = [rows[:, top:bottom].mean(axis=1) for top, bottom in pairwise(edges)]
        return np.sqrt(np.concatenate(parts, axis=1))

    return of_bands


def gaussian(pick: Pick, views: Features, rank: int = RANK) -> Score:
    """Mahalanobis distance to a low-rank Gaussian of the picked features."""
    fitted = fit_gaussian(pick(views), rank)
    return lambda features: fitted.distances(pick(features))


def neighbours(pick: Pick, views: Features) -> Score:
    """Distance to the k-th nearest training image in normalised features (Sun et al. 2022)."""
    known = unit(pick)(views).astype(np.float32)

    def score(features: Features) -> Distances:
        cosines = unit(pick)(features).astype(np.float32) @ known.T
        nearest = -np.partition(-cosines, N_NEIGHBOURS - 1, axis=1)[:, N_NEIGHBOURS - 1]
        return np.asarray(
            np.sqrt(np.maximum(1.0 - nearest / known.shape[1], 0.0)), dtype=np.float64
        )

    return score


def virtual_logit(training: Training) -> Score:
    """ViM (Wang et al. 2022): what lies beside the principal space, as a logit among the others."""
    origin = -np.linalg.pinv(training.weight) @ training.bias
    last = training.views.last - origin
    _, vectors = np.linalg.eigh(last.T @ last / len(last))
    residual = vectors[:, : last.shape[1] // 2]  # the smaller half, as for few dimensions there
    beside = np.linalg.norm(last @ residual, axis=1)
    alpha = training.views.logits.max(axis=1).mean() / beside.mean()

    def score(features: Features) -> Distances:
        virtual = alpha * np.linalg.norm((features.last - origin) @ residual, axis=1)
        return np.asarray(virtual - log_sum_exp(features.logits), dtype=np.float64)

    return score


def log_sum_exp(logits: NDArray[np.floating]) -> Distances:
    largest = logits.max(axis=1, keepdims=True)
    total = np.exp(logits - largest).sum(axis=1)
    return np.asarray(np.log(total) + largest[:, 0], dtype=np.float64)


def energy(features: Features) -> Distances:
    return -log_sum_exp(features.logits)


def doubt(features: Features) -> Distances:
    """One less the largest softmax, on a logit scale, which does not tie near 1."""
    ordered = np.sort(features.logits, axis=1).astype(np.float64)
    return np.asarray(ordered[:, -2] - ordered[:, -1])


def largest(parts: list[Score], genuine: Features) -> Score:
    """The largest of several distances, each over the limit that it would have alone."""
    limits = [quantile_limit(part(genuine))[0] for part in parts]

    def score(features: Features) -> Distances:
        scaled = [part(features) / limit for part, limit in zip(parts, limits, strict=True)]
        return np.asarray(np.max(scaled, axis=0))

    return score


def total(parts: list[Score], views: Features) -> Score:
    """The sum of several scores, each in the training images' deviations from their mean."""
    known = [part(views) for part in parts]

    def score(features: Features) -> Distances:
        summands = [
            (part(features) - values.mean()) / values.std()
            for part, values in zip(parts, known, strict=True)
        ]
        return np.asarray(np.sum(summands, axis=0))

    return score


def all_scores(training: Training, genuine: Features) -> dict[str, Score]:
    """Every candidate by its name; the first is what refused before this study."""
    views = training.views
    toned = training.toned
    plain = {k: gaussian(block(k), views) for k in range(1, 6)}
    units = {k: gaussian(unit(block(k)), views) for k in range(1, 6)}
    wide = {k: gaussian(unit(block(k)), toned) for k in (2, 4)}
    texture = gaussian(lambda features: features.texture, views)
    tone = gaussian(lambda features: features.tone, toned)
    last: Pick = lambda features: features.last  # noqa: E731
    chosen = largest([plain[4], units[2]], genuine)
    scores: dict[str, Score] = {"block 4": plain[4]}
    scores |= {f"block {k}": plain[k] for k in (1, 2, 3, 5)}
    scores |= {f"block {k}, one length": units[k] for k in range(1, 6)}
    scores |= {f"block {k}, one length, toned views": score for k, score in wide.items()}
    banded = {n: gaussian(unit(bands(n)), views) for n in (1, 2, 5, 7)}
    scores |= {f"block 4, one length, {n} bands": score for n, score in banded.items()}
    for rank in (16, 32, 128, 256):
        scores[f"block 4, one length, rank {rank}"] = gaussian(unit(block(4)), views, rank)
    return scores | {
        "block 4 | 4 in 5 bands, one length": largest([units[4], banded[5]], genuine),
        "block 4 in 5 bands | 2, one length": largest([banded[5], units[2]], genuine),
        "block 4 | kNN, one length": largest([units[4], neighbours(block(4), views)], genuine),
        "blocks 4 | 1, both one length": largest([units[4], units[1]], genuine),
        "blocks 4 | 3, both one length": largest([units[4], units[3]], genuine),
        "blocks 4 | 5, both one length": largest([units[4], units[5]], genuine),
        "block 4, one length | texture": largest([units[4], texture], genuine),
        "block 4, one length + doubt": total([units[4], doubt], views),
        "last features, one length": gaussian(unit(last), views),
        "ViM": virtual_logit(training),
        "kNN, block 4": neighbours(block(4), views),
        "kNN, last features": neighbours(last, views),
        "energy": energy,
        "doubt": doubt,
        "texture of the pixels": texture,
        "tone of the pixels": tone,
        "block 4 + doubt": total([plain[4], doubt], views),
        "block 4 | texture": largest([plain[4], texture], genuine),
        "block 4 | tone": largest([plain[4], tone], genuine),
        "block 4 | 1, one length": largest([plain[4], units[1]], genuine),
        "block 4 | 2": largest([plain[4], plain[2]], genuine),
        "block 4 | 2, one length": chosen,
        "block 4 | 2, one length, toned views": largest([plain[4], wide[2]], genuine),
        "block 4 | 3, one length": largest([plain[4], units[3]], genuine),
        "block 4 | 2 | 1, one length": largest([plain[4], units[2], units[1]], genuine),
        "blocks 4 | 2, both one length": largest([units[4], units[2]], genuine),
        "block 4 + 2, one length": total([plain[4], units[2]], views),
        "blocks 1 | 2 | 3 | 4, one length": largest([units[k] for k in (1, 2, 3, 4)], genuine),
        "(block 4 | 2, one length) + doubt": total([chosen, doubt], views),
    }
