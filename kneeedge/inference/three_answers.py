"""What three answers are worth on labelled images: how many are answered, and how many rightly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.spec import ModelSpec
from kneeedge.statistics.intervals import Estimate, clusters_of, share_estimate


@dataclass(frozen=True, kw_only=True)
class ThreeAnswers:
    """Answers between certified limits left out, beside what was promised of the others."""

    n: int
    "images that the model does not abstain from"
    n_referred: int
    "of these, images between the limits, which `infer` leaves to a person"
    answered: Estimate
    "0 to 1; the share of them that is answered"
    ppv: Estimate | None
    "0 to 1; share of the positive answers that are right; absent where there are none"
    npv: Estimate | None
    "0 to 1; of the negative answers"
    promised_ppv: float
    promised_npv: float
    confidence: float
    "0 to 1; of the promise"
    low: float
    "answered negative below it"
    high: float
    "answered positive from it on"
    prevalence: float
    "0 to 1; for which it was promised"


def three_answers(
    spec: ModelSpec,
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    groups: Sequence[str],
) -> ThreeAnswers | None:
    """What the certified limits come to on class indices (N,) and probabilities (N, 2).

    None where the model has no limits, or there are no images. Intervals allow for several images
    of one group.
    """
    certified = spec.certified
    if certified is None:
        return None
    truths = np.asarray(labels) == spec.positive_index
    scores = np.asarray(probabilities, dtype=np.float64)[:, spec.positive_index]
    clusters = clusters_of(groups, len(truths))
    answered = ~spec.refers(probabilities)
    share = share_estimate(answered, np.ones_like(answered), clusters)
    if share is None:
        return None
    return ThreeAnswers(
        n=len(truths),
        n_referred=int((~answered).sum()),
        answered=share,
        ppv=share_estimate(truths, scores >= certified.high, clusters),
        npv=share_estimate(~truths, scores < certified.low, clusters),
        promised_ppv=certified.ppv,
        promised_npv=certified.npv,
        confidence=certified.confidence,
        low=certified.low,
        high=certified.high,
        prevalence=certified.prevalence,
    )
