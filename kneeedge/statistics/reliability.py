"""Whether probabilities mean what they say: calibration error, Brier score, log loss, and the bins
of a figure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.statistics.intervals import Interval, wilson

CALIBRATION_BINS = 15  # Guo et al. 2017
FIGURE_BINS = 10


@dataclass(frozen=True)
class ProbabilityErrors:
    """How far probabilities are from the truth."""

    ece: float
    """0 to 1; expected calibration error of the most probable class's probability in 15 bins of
    equal width
    """
    brier: float
    """mean squared error of the probabilities; two classes: of the positive's, 0 to 1; more:
    summed, 0 to 2
    """
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
    """The three errors of probabilities (N, K) against class indices (N,); they do not depend on a
    threshold.
    """
    return ProbabilityErrors(
        expected_calibration_error(labels, probabilities),
        brier_score(labels, probabilities, positive),
        log_loss(labels, probabilities),
    )


def expected_calibration_error(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64]
) -> float:
    """Guo et al. 2017, eq. 3, with the bins of `confidence_gaps`."""
    bins, gaps = confidence_gaps(labels, probabilities)
    return float(
        np.abs(np.bincount(bins, weights=gaps, minlength=CALIBRATION_BINS)).sum() / len(labels)
    )


def confidence_gaps(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The bin of each image's largest probability (N,), of (0, 1/15] to (14/15, 1], and its gap
    (N,).

    The gap is 1 where that class is the true one, else 0, less the probability.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(
        np.ceil(confidence * CALIBRATION_BINS).astype(np.intp) - 1, 0, CALIBRATION_BINS - 1
    )
    return bins, np.asarray(right - confidence, dtype=np.float64)


def brier_score(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64], positive: int
) -> float:
    """The mean squared error; with two classes of the positive's probability alone, as is the
    custom.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    if probabilities.shape[1] == 2:
        return float(np.mean((probabilities[:, positive] - truth[:, positive]) ** 2))
    return float(np.mean(((probabilities - truth) ** 2).sum(axis=1)))


def log_loss(labels: NDArray[np.integer], probabilities: NDArray[np.float64]) -> float:
    """The mean negative log likelihood, nats."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(np.mean(-np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))))


def reliability_bins(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> list[ReliabilityBin]:
    """The filled ones of ten bins of equal width over `scores` (N,), the probabilities of
    `positive` (N,).
    """
    index = np.minimum((scores * FIGURE_BINS).astype(int), FIGURE_BINS - 1)
    found = []
    for k in np.unique(index):
        chosen = index == k
        hits = int(positive[chosen].sum())
        n = int(chosen.sum())
        found.append(ReliabilityBin(n, float(scores[chosen].mean()), hits / n, wilson(hits, n)))
    return found
