"""Percentiles' intervals hold what they promise, and are withheld where the runs are too few."""

import math

import numpy as np
import pytest

from kneeedge.statistics.percentiles import percentile_interval, runs_needed


@pytest.mark.parametrize(("share", "n"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_the_runs_needed_are_the_fewest_whose_extremes_bracket_the_percentile(
    share: float, n: int
) -> None:
    assert runs_needed(share) == n
    assert percentile_interval(list(range(n - 1)), share) is None
    assert percentile_interval(list(range(n)), share) is not None


@pytest.mark.parametrize(
    ("n", "share"), [(6, 0.5), (36, 0.9), (100, 0.5), (200, 0.9), (400, 0.99), (1000, 0.99)]
)
def test_the_ranks_are_those_of_the_binomial_distribution(n: int, share: float) -> None:
    interval = percentile_interval(list(range(1, n + 1)), share)  # each value is its own rank

    def below(k: int) -> float:  # P(B < k) by the definition
        terms = (math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k))
        return math.fsum(terms)

    low = int(interval.low)
    high = int(interval.high)
    assert below(low) <= 0.025 < below(low + 1)
    assert 1 - below(high) <= 0.025 + 1e-12
    assert 1 - below(high - 1) > 0.025


def test_at_least_95_of_100_intervals_hold_the_true_percentile() -> None:
    rng = np.random.default_rng(0)
    truth = -math.log(0.1)  # the 90th percentile of the exponential distribution
    intervals = [percentile_interval(rng.exponential(size=60), 0.9) for _ in range(2000)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_order_of_the_runs_does_not_matter() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert percentile_interval(values, 0.5) == percentile_interval(sorted(values), 0.5)
