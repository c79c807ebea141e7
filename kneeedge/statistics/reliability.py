"""Whether probabilities mean what they say: calibration error, Brier score, log loss, bins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.statistics.intervals import Interval, wilson

CALIBRATION_BINS = 15  # Guo et al. 2017
FIGURE_BINS = 10
"of the reliability diagram"


@dataclass(frozen=True)
class ProbabilityErrors:
    """How far probabilities are from the truth."""

    ece: float
    "0 to 1; expected calibration error of the largest probability, in 15 bins of equal width"
    brier: float
    "mean squared error; two classes: of the positive's probability, 0 to 1; more: summed, 0 to 2"
    log_loss: float
    "nats; mean of -log of the true class's probability, which counts as 2e-16 at least"


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose probability of the positive class lies in one bin."""

    n: int
    mean: float
    "0 to 1; of their probabilities"
    observed: float
    "0 to 1; the share of them that is positive"
    interval: Interval
    "of `observed`"


def probability_errors(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64], positive: int
) -> ProbabilityErrors:
    """The errors of probabilities (N, K) against class indices (N,), which need no threshold."""
    return ProbabilityErrors(
        ece=expected_calibration_error(labels, probabilities),
        brier=brier_score(labels, probabilities, positive),
        log_loss=log_loss(labels, probabilities),
    )


def expected_calibration_error(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64]
) -> float:
    """Guo et al. 2017, eq. 3, with the bins of `confidence_gaps`."""
    bins, gaps = confidence_gaps(labels, probabilities)
    sums = np.bincount(bins, weights=gaps, minlength=CALIBRATION_BINS)
    return float(np.abs(sums).sum() / len(labels))


def confidence_gaps(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The bin (N,) and the gap (N,) of each image's largest probability.

    The bins are (0, 1/15] to (14/15, 1]. The gap is 1 where that class is the true one, else 0,
    less the probability.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(np.intp) - 1
    gaps = np.asarray(right - confidence, dtype=np.float64)
    return np.clip(bins, 0, CALIBRATION_BINS - 1), gaps


def brier_score(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64], positive: int
) -> float:
    """The mean squared error; of two classes the positive's alone counts, as is the custom."""
    n_classes = probabilities.shape[1]
    squares = (probabilities - np.eye(n_classes)[labels]) ** 2
    errors = squares[:, positive] if n_classes == 2 else squares.sum(axis=1)
    return float(np.mean(errors))


def log_loss(labels: NDArray[np.integer], probabilities: NDArray[np.float64]) -> float:
    """The mean negative log likelihood, nats."""
    return float(np.mean(log_losses(labels, probabilities)))


def log_losses(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The negative log likelihood of each image (N,), nats; from labels (N,) and (N, K)."""
    true = probabilities[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))
    return losses


def reliability_bins(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> list[ReliabilityBin]:
    """Of ten bins of equal width those that hold a score.

    `scores` (N,) are the probabilities, 0 to 1, that the images are `positive` (N,).
    """
    index = np.minimum((scores * FIGURE_BINS).astype(int), FIGURE_BINS - 1)
    bins = []
    for k in np.unique(index):
        inside = index == k
        n = int(inside.sum())
        n_positive = int(positive[inside].sum())
        mean = float(scores[inside].mean())
        bins.append(ReliabilityBin(n, mean, n_positive / n, wilson(n_positive, n)))
    return bins
