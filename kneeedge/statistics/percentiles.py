"""Percentiles with exact intervals, and how many runs each needs.

Order statistics bracket a percentile whatever the distribution: of n independent runs, the number
below the p-th percentile is binomial (n, p). Hahn & Meeker 1991, Statistical Intervals, section
5.2; Le Boudec 2010, Performance Evaluation, theorem 2.1. Runs of one process are not quite
independent; the windows' spread tells how far.
"""

import math
from collections.abc import Sequence

import numpy as np

from kneeedge.statistics.exact import binomial
from kneeedge.statistics.intervals import LEVEL, Interval

TAIL = (1 - LEVEL) / 2


def percentile_interval(values: Sequence[float], share: float) -> Interval | None:
    """The 95 % interval of the percentile at `share` (0 to 1); None with too few for both ends."""
    n = len(values)
    if n < runs_needed(share):
        return None
    chances = binomial(n, share)
    below = np.cumsum(chances)
    above = np.cumsum(chances[::-1])[::-1]  # P(B ≥ k)
    # Ranks: the largest low with P(B < low) ≤ 2.5 %, the smallest high with P(B ≥ high) ≤ 2.5 %.
    low = int(np.searchsorted(below, TAIL, side="right"))
    high = int(np.argmax(above <= TAIL))
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]))


def runs_needed(share: float) -> int:
    """The fewest runs whose extremes bracket the percentile at `share`.

    The smallest n with shareⁿ ≤ 2.5 % and (1 - share)ⁿ ≤ 2.5 %: 6 for the median, 36 for the 90th
    percentile, 368 for the 99th.
    """
    return math.ceil(math.log(TAIL) / math.log(max(share, 1 - share)))
