"""95 % intervals of shares, where every image stands alone and where several show one patient."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Z_TWO_SIDED = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.9600
Z_ONE_SIDED = NormalDist().inv_cdf(LEVEL)  # 1.6449
WILSON = "Wilson 1927"
WILSON_CLUSTERED = "Wilson 1927 at the effective number of images over {} groups"


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure and how far to trust it."""

    value: float
    interval: Interval
    method: str
    "how the interval was computed"


def wilson(successes: float, n: float, z: float = Z_TWO_SIDED) -> Interval:
    """The score interval of a share (Wilson 1927, JASA 22:209), z standard errors to either side.

    Raises ValueError where n is 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"a share needs 0 ≤ successes ≤ n and n > 0, not {successes} of {n}")
    z2 = z**2
    centre = (successes + z2 / 2) / (n + z2)
    half = z * math.sqrt(successes * (n - successes) / n + z2 / 4) / (n + z2)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def clusters_of(groups: Sequence[str] | None, n: int) -> NDArray[np.intp] | None:
    """The number of each image's group, (N,) from 0; None where no group is known to have two.

    Raises ValueError where there is not one group for each of the `n` images.
    """
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups do not pair with {n} images; give one for each")
    names, index = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    return None if len(names) == n else index.astype(np.intp)


def clusters_among(
    clusters: NDArray[np.intp] | None, among: NDArray[np.bool_]
) -> NDArray[np.intp] | None:
    """The groups of the images `among` (N,); None where no two of these are of one."""
    if clusters is None:
        return None
    chosen = clusters[among]
    return None if len(np.unique(chosen)) == len(chosen) else chosen


def share_estimate(
    hits: NDArray[np.bool_], among: NDArray[np.bool_], clusters: NDArray[np.intp] | None
) -> Estimate | None:
    """The share of the images `among` (N,) that are `hits` (N,); None where there are none.

    With clusters it is Wilson's interval at the effective number of images, `effective_n`. A
    percentile bootstrap over the groups was tried in its place and left: with 30 patients of two
    knees and a true share of 0.98 it holds the truth in 59 to 67 % of draws and is of no width
    where nothing is wrong; this one in 95 to 97 %.
    """
    n = int(among.sum())
    n_hits = int((hits & among).sum())
    if n == 0:
        return None
    if clusters is None:
        return Estimate(n_hits / n, wilson(n_hits, n), WILSON)
    effective = effective_n(hits, among, clusters)
    interval = wilson(effective * n_hits / n, effective)
    method = WILSON_CLUSTERED.format(len(np.unique(clusters)))
    return Estimate(n_hits / n, interval, method)


def effective_n(
    hits: NDArray[np.bool_], among: NDArray[np.bool_], clusters: NDArray[np.intp] | None
) -> float:
    """How many lone images would tell as much of the share as these; never more than there are.

    p(1 - p) over the variance of the ratio estimator with the groups as units (Cochran 1977,
    Sampling Techniques, section 6.4). Where that is 0, as at a share of 0 or 1, the number of
    groups.
    """
    if clusters is None or not among.any():
        return float(among.sum())
    return effective_size(hits[among].astype(np.float64), clusters[among])


def effective_size(
    values: NDArray[np.float64],
    clusters: NDArray[np.intp],
    moves: NDArray[np.floating] | None = None,
) -> float:
    """How many lone images would tell as much of the mean of values (N,) as these of the groups.

    Their variance over that of the mean. Where all values are equal they do not say how alike the
    images of a group are: `moves` (N,), what the values follow from, say it then; without any it is
    the number of groups, as if they were all alike.
    """
    if moves is not None and not np.ptp(values):
        return effective_size(moves.astype(np.float64), clusters)
    n = len(values)
    mean = float(values.mean())
    variance = clustered_variance((values - mean) / n, clusters)
    if not variance:
        return float(len(np.unique(clusters)))
    return min(float(n), max(1.0, float(values.var()) / variance))


def clustered_variance(influence: NDArray[np.float64], clusters: NDArray[np.intp]) -> float | None:
    """The variance of a figure from each image's influence on it (N,), summed within groups.

    The infinitesimal jackknife with its factor of G / (G - 1); None where there is one group.
    """
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=influence)
    n_groups = len(sums)
    if n_groups < 2:
        return None
    return float(n_groups / (n_groups - 1) * (sums**2).sum())
