"""Intervals of figures over images of groups, each judged by several trainings: both are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kneeedge.statistics.intervals import LEVEL, Interval

N_RESAMPLES = 1000
Figure = Callable[[NDArray[np.intp], int], float | None]
"of the images of rows (M,), by a training counted from 0; None where they have none"


@dataclass(frozen=True)
class CrossedEstimate:
    """The mean of a figure over trainings."""

    value: float
    by_training: tuple[float, ...]
    interval: Interval
    "95 %"


def crossed_estimate(
    figure: Figure, clusters: NDArray[np.intp], n_trainings: int
) -> CrossedEstimate:
    """The mean of a figure over trainings, with an interval for other groups and other trainings.

    `clusters` (N,) are the numbers of the images' groups. Percentile interval of the bootstrap that
    draws groups and trainings with replacement, each for itself (Owen 2007, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1:386), from a fixed seed. It counts what groups and
    trainings have in common twice, so that it is rather too wide; of fewer than about five
    trainings it knows their spread only roughly. Draws in which the figure is not there, as an
    AUROC of one class, are left out. Raises ValueError where it is not there for all images.
    """
    all_rows = np.arange(len(clusters))
    by_training = [figure(all_rows, k) for k in range(n_trainings)]
    values = [value for value in by_training if value is not None]
    if len(values) < n_trainings or not values:
        raise ValueError("the images give no such figure; give some of each class")
    _, index = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(index == group) for group in range(index.max() + 1)]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(N_RESAMPLES):
        groups = random.integers(len(members), size=len(members))
        rows = np.concatenate([members[group] for group in groups])
        trainings, counts = np.unique(
            random.integers(n_trainings, size=n_trainings), return_counts=True
        )
        found = [figure(rows, int(k)) for k in trainings]
        if None not in found:
            drawn.append(float(np.average(np.array(found, dtype=np.float64), weights=counts)))
    value = float(np.mean(values))
    low, high = np.quantile(drawn or [value], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    interval = Interval(min(float(low), value), max(float(high), value))
    return CrossedEstimate(value, tuple(values), interval)
